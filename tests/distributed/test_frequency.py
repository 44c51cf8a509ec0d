"""`precondition_frequency` of matrices that lie on two processes: as on one; one spawn."""

from typing import Any

import pytest
from tests.distributed.frequency_processes import FREQUENCY, PROCESSES, measure
from tests.distributed.gloo import measured_once

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return measured_once(measure, PROCESSES, tmp_path_factory)


@pytest.mark.parametrize("where", ["rows", "columns"])
def test_parts_move_as_the_whole_in_the_last_basis(measured: list[Any], where: str) -> None:
    for rank in measured:
        assert {case: error for case, error in rank[where].items() if error > 1e-10} == {}


def test_matrices_take_turns(measured: list[Any]) -> None:
    for rank in measured:
        assert rank["turns"]["error"] < 1e-10
        for alone, parts in rank["turns"]["turns"]:
            assert alone == parts
        second_round = rank["turns"]["turns"][2 : 2 + FREQUENCY]
        assert [sum(parts) for _, parts in second_round].count(2) == 0


def test_a_change_on_one_process_refreshes_all(measured: list[Any]) -> None:
    for rank in measured:
        counts = rank["changed"]["counts"]
        assert all(alone == parts for alone, parts in counts)
        # the third step because of the change, the fourth in turn, the fifth because of the depth
        assert [parts for _, parts in counts] == [[1], [3], [4]]
        assert max(rank["changed"]["errors"]) < 1e-10


@pytest.mark.parametrize("where", ["rows", "columns"])
def test_it_resumes_to_the_last_bit(measured: list[Any], where: str) -> None:
    for rank in measured:
        assert rank[f"resumed, {where}"] == {"state_dict": True, "file": True}


def test_between_decompositions_less_is_sent(measured: list[Any]) -> None:
    # in one sum: four status words, a count, ||G||^2, and W^T W with W^T G, or ||W||^2 with U^T G
    gram, kept = 8 * (4 + 1 + 1 + 6 + 9), 8 * (4 + 1 + 1 + 1 + 9)
    for rank in measured:
        assert rank["sent"]["scheme"] == ["gram"]
        assert all(counts == {"allreduce_": 1} for counts, _ in rank["sent"]["sent"])
        assert [each for _, each in rank["sent"]["sent"]] == [kept, kept, gram]


def test_what_the_sum_does_not_tell_is_decomposed_whole(measured: list[Any]) -> None:
    for rank in measured:
        assert rank["undetermined"]["error"] < 1e-12
        assert rank["undetermined"]["counts"] == [1]
        assert rank["undetermined"]["depth"] == 0  # the next step tries again


def test_narrow_numbers(measured: list[Any]) -> None:
    for rank in measured:
        assert rank["narrow"]["torch.float32"] < 1e-6
        assert rank["narrow"]["torch.bfloat16"] < 1e-2  # rounded at every step


def test_a_missing_gradient_reaches_all(measured: list[Any]) -> None:
    for rank in measured:
        assert "expected a gradient on every process or on none" in rank["missing"]
