"""Tables, medians and figures of hand-made rows, whose numbers are known."""

import csv
import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import create_trial

from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.cells import cells_of
from virtualdepth_lab.ablate.figures import (
    MOST_PANELS,
    draw_heat_map,
    draw_lines,
    draw_search,
    panels_left_out,
)
from virtualdepth_lab.ablate.report import count, write_report, write_result
from virtualdepth_lab.ablate.study import StudyConfig
from virtualdepth_lab.ablate.summary import by_configuration, varying
from virtualdepth_lab.ablate.table import (
    argument_column,
    metric_column,
    metrics_of,
    read_table,
    rows_of,
    write_table,
)

DEPTHS, SCALES, SEEDS = (math.inf, 1, 1.5), (0.1, 0.001), (0, 1, 2, 3)


def rows_of_hand(**more: Any) -> list[dict[str, Any]]:
    """The error is depth's rank plus scale, times 1, 2, 3 and 4 for the seeds."""
    rows = [
        {
            "cell": f"depth={depth},init_scale={scale},seed={seed}",
            "status": "complete",
            "reason": None,
            "problem": "regression",
            "depth": depth,
            "init_scale": scale,
            **more,
            "seed": seed,
            "error": (1 + DEPTHS.index(depth) + scale) * (1 + seed),
            "seconds": 1.0,
            "threads": 1,
            "version_torch": "2",
        }
        for depth in DEPTHS
        for scale in SCALES
        for seed in SEEDS
    ]
    for row in rows[:4]:  # depth inf, scale 0.1
        row |= {"status": "diverged", "reason": "the loss is inf", "error": None}
    return rows


STUDY = StudyConfig(
    name="hand",
    problem="regression",
    grid={"depth": DEPTHS, "init_scale": SCALES},
    seeds=SEEDS,
)


def test_medians_and_quartiles() -> None:
    found = by_configuration(rows_of_hand(), ["depth", "init_scale"], "error")
    assert set(found) == {(math.inf, 0.001), *((d, s) for d in (1, 1.5) for s in SCALES)}
    over_seeds = found[1.5, 0.1]
    assert (over_seeds.low, over_seeds.median, over_seeds.high) == pytest.approx(
        (3.1 * 1.75, 3.1 * 2.5, 3.1 * 3.25)
    )


def test_lines_show_them() -> None:
    (ax,) = draw_lines(rows_of_hand(), ["depth", "init_scale"], "error").axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "1.5", "∞"]
    small, large = ax.get_lines()
    assert (small.get_label(), large.get_label()) == ("0.001", "0.1")
    assert list(small.get_ydata()) == pytest.approx([2.001 * 2.5, 3.001 * 2.5, 1.001 * 2.5])
    assert list(large.get_ydata())[:2] == pytest.approx([2.1 * 2.5, 3.1 * 2.5])
    assert math.isnan(large.get_ydata()[2])  # a gap where every cell diverged
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(1.001 * 1.75)
    assert band[:, 1].max() == pytest.approx(3.001 * 3.25)
    assert ax.get_xlabel() == "depth"


def test_heat_map_shows_them() -> None:
    ax = draw_heat_map(rows_of_hand(), ["depth", "init_scale"], "error").axes[0]
    shown = ax.images[0].get_array()
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0.1", "0.001"]  # rising
    assert list(shown[1]) == pytest.approx([2.001 * 2.5, 3.001 * 2.5, 1.001 * 2.5])
    assert [text.get_text() for text in ax.texts][2] == "×"


def test_a_third_axis_makes_panels() -> None:
    rows = [row for rank in range(12) for row in rows_of_hand(rank=rank)]
    axes = varying(rows, ["init_scale", "rank", "depth"])
    assert axes == ["depth", "init_scale", "rank"]
    panels = draw_lines(rows, axes, "error").axes
    assert len(panels) == MOST_PANELS
    assert panels[3].get_title() == "rank 3"
    assert panels_left_out(rows, axes) == 12 - MOST_PANELS


def test_search_shows_every_complete_cell() -> None:
    figure = draw_search(rows_of_hand(start="balanced"), ["init_scale", "depth", "start"], "error")
    scale, depth, start = figure.axes
    assert len(scale.get_lines()[0].get_xdata()) == 20
    assert scale.get_xscale() == "log"
    assert [tick.get_text() for tick in depth.get_xticklabels()] == ["1", "1.5", "∞"]
    assert [tick.get_text() for tick in start.get_xticklabels()] == ["balanced"]


def test_the_table_survives_both_formats(tmp_path: Path) -> None:
    rows = rows_of_hand()
    write_table(rows, tmp_path)
    assert read_table(tmp_path) == rows
    assert metrics_of(rows) == ["error"]
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert lines[0].startswith('"cell","status","reason","problem","depth","init_scale","seed"')
    assert lines[1].startswith('"depth=inf,init_scale=0.1,seed=0","diverged","the loss is inf"')
    assert ",inf,0.1,0,," in lines[1]
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.csv", "results.parquet", ".virtualdepth-run"
    }  # fmt: skip


def test_text_of_a_table_runs_in_no_spreadsheet(tmp_path: Path) -> None:
    rows = rows_of_hand(start="=1+1")
    rows[0] |= {"reason": '=HYPERLINK("http://a/";"b")\nsecond "line", quoted'}
    rows[1] |= {"reason": "@SUM(A1)"}
    rows[2] |= {"reason": "-inf"}
    rows[3] |= {"reason": "\N{FULLWIDTH EQUALS SIGN}1+1"}
    write_table(rows, tmp_path)
    assert read_table(tmp_path) == rows
    with (tmp_path / "results.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert found[0]["start"] == "'=1+1"
    assert [row["reason"] for row in found[:4]] == [
        "'" + rows[0]["reason"], "'@SUM(A1)", "-inf", "'\N{FULLWIDTH EQUALS SIGN}1+1"
    ]  # fmt: skip
    assert len(found) == len(rows)


def renamed(rows: list[dict[str, Any]], **names: str) -> list[dict[str, Any]]:
    return [{names.get(name, name): entry for name, entry in row.items()} for row in rows]


@pytest.mark.parametrize(
    "metric", ["val/loss", "../loss", "a\\b", "loss|x", "top 5 (%)", "l" * 300]
)
@pytest.mark.parametrize("axis", ["model/depth", "..", "<b>"])
def test_names_become_files_of_the_folder(metric: str, axis: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    rows = renamed(rows_of_hand(), error=metric, depth=axis)
    for row in rows:
        row[metric.replace("/", "-")] = row[metric]  # the same name but for a separator
    study = StudyConfig(
        name="hand",
        problem="tests.lab.ablate.own:factory",
        objective=metric,
        grid={axis: DEPTHS, "init_scale": SCALES},
        seeds=SEEDS,
    )
    write_table(rows, folder)
    write_result(study, metric, folder)
    write_report(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    text = (folder / "report.md").read_text()
    figures = re.findall(r"\]\(([^)]*\.png)\)", text)
    assert (
        len(set(figures))
        == len(figures)
        == len(set(rows[0]) & {metric, metric.replace("/", "-")}) * 2
    )
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in figures)
    assert "<b>" not in text.replace(r"\<b", "")


def test_text_of_others_means_nothing_to_markdown(tmp_path: Path) -> None:
    rows = rows_of_hand(start="a|b <script>")
    rows[0] |= {"reason": "no | such\n\n# Heading\n[x](http://a)", "cell": "x=`a`,seed=0"}
    study = StudyConfig(
        name="hand | [x]",
        problem="tests.lab.ablate.own:factory",
        objective="error",
        grid={"depth": DEPTHS, "init_scale": SCALES},
        settings={"start": "a|b <script>"},
        seeds=SEEDS,
    )
    write_table(rows, tmp_path)
    write_result(study, "error", tmp_path)
    write_report(tmp_path)
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert lines[0].startswith(r"# virtualdepth ablate hand \| [x]: 24 cells")
    assert r"- ``x=`a`,seed=0``: diverged: no \| such # Heading [x\](http://a)" in lines
    assert any(r"a\|b \<script\>" in line for line in lines)
    assert not any(line.startswith("# Heading") for line in lines)


@pytest.mark.parametrize(
    ("key", "value"), [("name", "../../evil"), ("name", "a/b"), ("name", ".."), ("seeds", "x"),
                       ("grid", 3), ("direction", "up")],
)  # fmt: skip
def test_a_result_that_is_half_valid_is_refused(key: str, value: object, tmp_path: Path) -> None:
    write_table(rows_of_hand(), tmp_path)
    write_result(STUDY, "error", tmp_path)
    content = json.loads((tmp_path / "result.json").read_text())
    content["study"][key] = value
    (tmp_path / "result.json").write_text(json.dumps(content))
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(UnusableError, match=r"^folder: expected result\.json as `virtualdepth abl"):
        write_report(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_report(tmp_path: Path) -> None:
    write_table(rows_of_hand(), tmp_path)
    write_result(STUDY, "error", tmp_path)
    found = write_report(tmp_path)
    assert found.splitlines()[0] == "24 cells: 4 diverged, 20 complete"
    assert "Best cell: `depth=inf,init_scale=0.001,seed=0` with error 1.001." in found
    assert "over its seeds: depth ∞, init_scale 0.001 with error 2.5 (1.75 to 3.25)" in found
    text = (tmp_path / "report.md").read_text()
    assert "| 1.5 | 0.1 | 7.75 (5.42 to 10.1) |" in text
    assert "| ∞ | 0.1 | – |" in text
    assert "- `depth=inf,init_scale=0.1,seed=3`: diverged: the loss is inf" in text
    for name in ("error-by-depth.png", "error-heat-map.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert f"]({name})" in text


@pytest.mark.parametrize("axis", ["part", "init_rank"])
def test_an_axis_is_named_as_it_is(axis: str, tmp_path: Path) -> None:
    study = StudyConfig(
        name="hand",
        problem="tests.lab.ablate.own:factory",
        grid={axis: DEPTHS, "init_scale": SCALES},
        seeds=SEEDS,
    )
    write_table(renamed(rows_of_hand(), depth=axis), tmp_path)
    write_result(study, "error", tmp_path)
    write_report(tmp_path)
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert lines.count(f"| {axis} | init_scale | error |") == 1
    assert lines.count("| --: | --: | --: |") == 1


def test_no_two_columns_have_one_name() -> None:
    study = StudyConfig(
        name="a",
        problem="tests.lab.ablate.own:factory",
        grid={"seconds": [1], "argument_seconds": [2], "metric_loss": [3], "cell": [4]},
    )
    metrics = {
        name: float(number)
        for number, name in enumerate(
            ("metric_seconds", "seconds", "loss", "metric_loss", "cell", "version_torch")
        )
    }
    result = {"status": "complete", "metrics": metrics, "seconds": 9.0}
    (cell,) = cells_of(study)
    trial = create_trial(value=1.0, user_attrs={"result": result})
    (row,) = rows_of(study, [cell], {cell.name: trial})
    assert {name: row[argument_column(name)] for name in study.grid} == cell.config
    assert {name: row[metric_column(name, row)] for name in metrics} == metrics
    assert (row["cell"], row["seconds"]) == (cell.name, 9.0)
    assert metrics_of([row]) == [metric_column(name, row) for name in metrics]


def test_the_command_in_a_report_takes_a_folder_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("-a b")
    folder.mkdir()
    write_table(rows_of_hand(), folder)
    write_result(STUDY, "error", folder)
    write_report(folder)
    text = (folder / "report.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("virtualdepth ablate")]
    assert shlex.split(line)[2:] == ["./-a b", "--cell=depth=inf,init_scale=0.1,seed=0"]


def test_an_objective_named_like_a_column_of_the_run(tmp_path: Path) -> None:
    rows = rows_of_hand()  # each of which took a second
    for row in rows:
        row["metric_seconds"] = row["error"]
    write_table(rows, tmp_path)
    write_result(STUDY, "seconds", tmp_path)
    assert "with metric_seconds 1.001." in write_report(tmp_path)
    assert (tmp_path / "metric_seconds-by-depth.png").exists()


def test_an_objective_with_a_slash_in_its_name(tmp_path: Path) -> None:
    rows = [
        {("val/error" if k == "error" else k): v for k, v in row.items()} for row in rows_of_hand()
    ]
    study = StudyConfig(
        name="hand",
        problem="regression",
        search={"depth": DEPTHS, "init_scale": SCALES},
        budget={"trials": len(rows)},
    )
    write_table(rows, tmp_path)
    write_result(study, "val/error", tmp_path)
    assert "with val/error 1.001." in write_report(tmp_path)
    assert (tmp_path / "val-error-search.png").exists()


def test_nothing_to_report_on(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=r"folder: expected result\.json as `virtualdepth abl"):
        write_report(tmp_path)
    write_result(STUDY, "error", tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["study"]["grid"]["depth"][0] == "inf"
    with pytest.raises(UnusableError, match=r"folder: expected results\.parquet as `virtualdepth"):
        write_report(tmp_path)
    write_table(rows_of_hand(status="# up"), tmp_path)
    with pytest.raises(UnusableError, match=r"got: '# up' is not a valid Status"):
        write_report(tmp_path)
    (tmp_path / "results.parquet").write_text("no table")
    with pytest.raises(UnusableError, match=r"folder: expected results\.parquet"):
        write_report(tmp_path)


def test_a_study_without_a_complete_cell_has_a_report(tmp_path: Path) -> None:
    rows = rows_of_hand()
    for row in rows:
        row |= {"status": "failed", "reason": "no", "error": None}
    write_table(rows, tmp_path)
    write_result(STUDY, "error", tmp_path)
    assert write_report(tmp_path) == "24 cells: 24 failed"
    assert count(rows[:1]) == "1 cell: 1 failed"
    assert [path for path in tmp_path.iterdir() if path.suffix == ".png"] == []
