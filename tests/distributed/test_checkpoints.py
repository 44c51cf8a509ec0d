"""Saved by two processes, loaded by four and by one, through torch.distributed.checkpoint."""

from typing import Any

import pytest
from tests.distributed.checkpoint_processes import PROCESSES, measure
from tests.distributed.gloo import measured_once

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return measured_once(measure, PROCESSES, tmp_path_factory)


@pytest.mark.parametrize("processes", ["four", "one"])
def test_loaded_bitwise_and_goes_on(measured: list[Any], processes: str) -> None:
    for rank in measured:
        assert rank[processes]["same"]  # weights, momenta, counts
        assert rank[processes]["goes on"] < 1e-12


def test_what_made_late_would_be_lost(measured: list[Any]) -> None:
    """Where a gradient exists already torch makes no state to load into: SGD's momentum is lost."""
    for rank in measured:
        assert not rank["torch.optim.SGD, four"]["same"]
        assert rank["torch.optim.SGD, four"]["goes on"] > 1e-6
