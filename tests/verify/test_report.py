"""What a reader sees: numbers that are those of result.json, and figures with something in them."""

import dataclasses
import json
from pathlib import Path

import pytest
from matplotlib.image import imread

from virtualdepth.verify._artifacts import save
from virtualdepth.verify._check import check
from virtualdepth.verify._config import VerifyConfig
from virtualdepth.verify._report import (
    conclusion,
    figures,
    terminal_table,
    verdict,
    write_report,
)
from virtualdepth.verify._results import VerifyResult


def reported(result: VerifyResult, folder: Path) -> str:
    save(result, folder)
    write_report(result, folder)
    return (folder / "report.md").read_text(encoding="utf-8")


def table_rows(report: str) -> list[list[str]]:
    lines = [line for line in report.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_numbers_are_those_of_result_json(outcome: VerifyResult, tmp_path: Path) -> None:
    report = reported(outcome, tmp_path)
    found = json.loads((tmp_path / "result.json").read_text())
    rows = table_rows(report)
    assert len(rows) == len(found["rows"])
    for cells, row in zip(rows, found["rows"], strict=True):
        assert float(cells[0]) == row["lr"]
        assert int(cells[1]) == row["steps"]
        for cell, key, accuracy in zip(
            cells[2:],
            ("gap", "loss_single", "loss_deep", "seconds"),
            (5e-3, 5e-5, 5e-5, 0),
            strict=True,
        ):
            if row[key] is None:
                assert cell == "-"
            else:
                assert float(cell) == pytest.approx(
                    row[key], rel=accuracy, abs=0.051 * (not accuracy)
                )
    order = "undefined" if found["order"] is None else f"{found['order']:.3f}"
    assert f"order of the gap in the learning rate: {order} " in report
    words = {True: "passed", False: "failed", None: "interrupted"}
    assert report.startswith(f"# virtualdepth verify: {words[found['passed']]}\n")
    for name, count in found["parameters"].items():
        assert f"{count:,} parameters" in report, name
    for name, text in found["versions"].items():
        assert f"{name} {text}" in report


def test_terminal_table_has_the_same_cells(outcome: VerifyResult, tmp_path: Path) -> None:
    rows = table_rows(reported(outcome, tmp_path))
    table, _, sentences = terminal_table(outcome).rpartition("\n\n")
    lines = table.splitlines()
    assert [line.split() for line in lines[1:]] == rows
    assert len({len(line) for line in lines}) == bool(rows)  # columns are aligned
    assert sentences.splitlines() == conclusion(outcome)


@pytest.mark.parametrize(
    ("name", "word", "sentence"),
    [
        ("passed", "passed", "both losses before training: "),
        ("failed", "failed", "is not between 0.9 and 1.15"),
        ("diverged", "failed", "at learning rate 5 training diverged: in step "),
        ("interrupted", "interrupted", "interrupted: 2 of 3 learning rates were finished"),
        ("unstarted", "interrupted", "interrupted: 0 of 3 learning rates were finished"),
    ],
)
def test_words(
    name: str, word: str, sentence: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    result: VerifyResult = request.getfixturevalue(name)
    assert verdict(result) == word
    assert any(sentence in line for line in conclusion(result))
    assert sentence in reported(result, tmp_path)


def test_structure_and_imbalance_are_named(tmp_path: Path) -> None:
    result = check(
        VerifyConfig(
            data="synthetic",
            lrs=(0.1, 0.05),
            time=0.5,
            structure="rows",
            imbalance=0.5,
            optimizer_imbalance=0.0,
        )
    )
    report = reported(result, tmp_path)
    assert "trained as if it were 3 layers deep, structure rows, beside an explicit" in report
    assert "network of 3 layers, structure rows, imbalance 0.5 with 56 parameters" in report
    title = "synthetic, depth 3, structure rows, imbalance 0.5"
    titles = [figure.get_suptitle() or figure.axes[0].get_title()
              for _, figure in figures(result).values()]  # fmt: skip
    assert len(titles) == 2
    for text in titles:
        assert text.startswith(f"{title}, single layer trained at depth 3, structure rows")


def test_a_network_that_hardly_learns_is_pointed_out(
    passed: VerifyResult, unlearned: VerifyResult
) -> None:
    assert any("hardly learned" in line for line in conclusion(unlearned))
    assert not any("hardly learned" in line for line in conclusion(passed))


FIGURES = {
    "passed": {"loss.png", "gap.png"},
    "failed": {"loss.png", "gap.png"},
    "diverged": {"loss.png"},  # one gap makes no slope
    "interrupted": {"loss.png", "gap.png"},
    "unstarted": set(),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    report = reported(request.getfixturevalue(name), tmp_path)
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == FIGURES[name]
    for figure in drawn:
        assert f"]({figure})" in report
        image = imread(tmp_path / figure)
        assert image.shape[0] > 400
        assert image.shape[1] > 400
        assert image[..., :3].std() > 0.05  # not one colour
    assert report.count("![") == len(drawn)


def test_nothing_is_drawn_when_all_diverged(diverged: VerifyResult, tmp_path: Path) -> None:
    result = dataclasses.replace(
        diverged,
        config=diverged.config | {"lrs": [5.0]},
        rows=diverged.rows[:1],
        curves=diverged.curves[:1],
    )
    assert "![" not in reported(result, tmp_path)
    assert list(tmp_path.glob("*.png")) == []
