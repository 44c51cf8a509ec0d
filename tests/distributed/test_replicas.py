"""DistributedDataParallel: replicas stay equal, and the optimizer sends nothing for it."""

from typing import Any

import pytest
from tests.distributed.gloo import measured_once
from tests.distributed.replica_processes import OPTIONS, PROCESSES, measure


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return measured_once(measure, PROCESSES, tmp_path_factory)


@pytest.mark.parametrize("option", OPTIONS)
def test_replicas_are_equal_to_the_last_bit(measured: list[Any], option: str) -> None:
    first, second = (rank[option] for rank in measured)
    assert first["moved"]
    assert first["end"] == second["end"]
    assert first["collectives"] == second["collectives"] == {}
