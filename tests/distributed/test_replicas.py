"""DistributedDataParallel: replicas stay equal, or all processes are told why they would not."""

import re
from typing import Any

import pytest
from tests.distributed.gloo import measured_once
from tests.distributed.replica_processes import DIFFERENT, OPTIONS, PROCESSES, STEPS, measure

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return measured_once(measure, PROCESSES, tmp_path_factory)


@pytest.mark.parametrize("option", OPTIONS)
def test_replicas_are_equal_to_the_last_bit(measured: list[Any], option: str) -> None:
    first, second = (rank[option] for rank in measured)
    assert first["moved"]
    assert first["end"] == second["end"]
    for each in (first, second):  # two numbers of eight bytes a step, to compare the options
        assert each["collectives"] == {"allreduce_": STEPS}
        assert each["sent"] == 16 * STEPS


@pytest.mark.parametrize("case", DIFFERENT)
def test_another_option_on_one_process_is_an_error_on_both(measured: list[Any], case: str) -> None:
    _, options, since = DIFFERENT[case]
    first, second = (rank["different"][case] for rank in measured)
    for each in (first, second):
        assert each["step"] == since
        assert each["same"]
        (option,) = options
        expected = f"rank 0 has group 0 with {option}=.* where rank 1 has group 0 with {option}="
        assert re.search(expected, each["message"])
    assert first["message"] == second["message"]
    assert first["end"] == second["end"]


def test_a_process_that_has_no_more_data_keeps_nobody_waiting(measured: list[Any]) -> None:
    assert [rank["joined"] for rank in measured] == [[0, 1, 2], [0, 1, 2, 3, 4]]


def test_models_that_nothing_keeps_equal_are_not_compared(measured: list[Any]) -> None:
    assert all(rank["alone"] for rank in measured)
