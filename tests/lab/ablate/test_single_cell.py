"""A cell of a search, run again from what the table says of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from virtualdepth_lab.ablate.cells import cells_of
from virtualdepth_lab.ablate.single_cell import run_again
from virtualdepth_lab.ablate.study import StudyConfig
from virtualdepth_lab.ablate.table import write_table


def test_numbers_in_a_column_with_words_are_numbers_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[Any] = []

    def factory(x: Any, seed: int) -> Any:
        taken.append(x)
        return SimpleNamespace(train=lambda steps, report: {"loss": 0.5})

    monkeypatch.setattr("tests.lab.ablate.own.made", factory, raising=False)
    study = StudyConfig(
        name="a", problem="tests.lab.ablate.own:made", objective="loss",
        search={"x": [2, "word"]}, budget={"trials": 2},
    )  # fmt: skip
    rows = [
        {"cell": f"trial={n}", "status": "complete", "x": x, "seed": 0, "loss": 0.5, "threads": 1}
        for n, x in enumerate(study.search["x"])
    ]
    write_table(rows, tmp_path)
    for row in rows:
        assert run_again(study, cells_of(study), row["cell"], tmp_path) == 0
    assert taken == [2, "word"]
    assert capsys.readouterr().out.count("the same as recorded") == 2
