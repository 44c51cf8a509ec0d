"""report.md and its figures."""

from pathlib import Path

from matplotlib.figure import Figure

from virtualdepth.runs import save_figures, settings, write_report


def test_a_figure_is_a_file_and_a_paragraph(tmp_path: Path) -> None:
    figures = {"loss.png": ("The loss.", Figure()), "gap.png": ("The gap.", Figure())}
    assert save_figures(figures, tmp_path) == [
        "![The loss.](loss.png)\n\nThe loss.",
        "![The gap.](gap.png)\n\nThe gap.",
    ]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in figures)


def test_report(tmp_path: Path) -> None:
    ends = settings({"depth": 3, "lrs": [0.1]}, {"python": "3", "torch": "2"})
    write_report(tmp_path, ["# Title", "", *ends])
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == (
        "# Title\n\n## Settings\n\n- depth: 3\n- lrs: [0.1]\n\nVersions: python 3, torch 2.\n"
    )


def test_a_figure_whose_name_is_taken_gets_a_number(tmp_path: Path) -> None:
    """What names there will be is known when the cells have run: too late to refuse the folder."""
    (tmp_path / "loss.png").write_text("mine")
    figures = {name: (name, Figure()) for name in ("loss.png", "loss-2.png")}
    for _ in range(2):
        assert save_figures(figures, tmp_path)[0].startswith("![loss.png](loss-3.png)")
    assert (tmp_path / "loss.png").read_text() == "mine"
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "loss.png", "loss-2.png", "loss-3.png"
    }  # fmt: skip
