"""What a problem of the user's own may return as metrics."""

from typing import Any

import numpy as np
import pytest
import torch

from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.matrix import Metrics
from virtualdepth_lab.ablate.problems import run_cell
from virtualdepth_lab.ablate.study import StudyConfig


def metrics_of(found: Any, monkeypatch: pytest.MonkeyPatch) -> Metrics:
    class Cell:
        def train(self, steps: int | None, report: Any = None) -> Any:
            return found

    monkeypatch.setattr("tests.lab.ablate.own.made", lambda seed: Cell(), raising=False)
    study = StudyConfig(name="a", problem="tests.lab.ablate.own:made", objective="loss")
    return run_cell(study, {}, 0)


@pytest.mark.parametrize(
    "number",
    [1, 1.5, True, np.float32(1.5), np.int64(3), np.array(1.5), np.array([2.5]), torch.tensor(2)],
)
def test_a_scalar_of_any_library_is_a_plain_number(
    number: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = metrics_of({"loss": number}, monkeypatch).values()
    assert type(found) in {bool, int, float}
    assert found == float(number.item() if hasattr(number, "item") else number)


@pytest.mark.parametrize(
    ("found", "error"),
    [
        (None, "problem: expected train to return names and numbers but got None"),
        (0.5, "problem: expected train to return names and numbers but got 0.5"),
        ({"loss": None}, "problem: expected a name and a number but got 'loss': None"),
        ({"loss": 0.1, "run": "b"}, "problem: expected a name and a number but got 'run': 'b'"),
        (
            {"loss": 0.1, "curve": [1.0]},
            r"problem: expected a name and a number but got 'curve': \[1",
        ),
        (
            {"loss": torch.ones(2)},
            r"problem: expected a name and a number but got 'loss': tensor\(",
        ),
        ({"loss": np.ones(2)}, r"problem: expected a name and a number but got 'loss': array\("),
        ({"loss": 0.1, 3: 0.1}, "problem: expected a name and a number but got 3: 0.1"),
    ],
)
def test_anything_else_is_told(found: Any, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnusableError, match=error):
        metrics_of(found, monkeypatch)
