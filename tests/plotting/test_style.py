"""The style that all figures share."""

from virtualdepth.plotting import COLORS, PALETTE, color_cycle, draw_grid, figure_grid


def test_the_palette_repeats_where_there_are_more_curves() -> None:
    assert len(set(PALETTE)) == 7
    assert set(PALETTE) == set(COLORS.values()) - {COLORS["grey"]}
    assert color_cycle(9) == [*PALETTE, *PALETTE[:2]]


def test_a_grid_has_panels_of_one_size() -> None:
    figure, panels = figure_grid(2, 3, size=(4.0, 3.0), sharey=True)
    assert [len(row) for row in panels] == [3, 3]
    assert figure.get_size_inches().tolist() == [12.0, 6.0]
    assert panels[0][0].get_shared_y_axes().joined(panels[0][0], panels[1][2])


def test_grid_lines_are_drawn() -> None:
    _, ((ax,),) = figure_grid()
    draw_grid(ax)
    ax.figure.draw_without_rendering()
    assert ax.xaxis.get_gridlines()[0].get_visible()
