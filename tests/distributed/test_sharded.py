"""Steps of sharded parameters on two gloo processes: one spawn, judged here."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch.multiprocessing
from tests.distributed.two_processes import DEPTHS, OPTIONS, PLACEMENTS, PROCESSES, run

REFUSED = {
    "nan in gram": "FloatingPointError: rank 1: long: expected a finite gradient",
    "inf in gathered": "FloatingPointError: rank 1: square: expected a finite gradient",
    "nan in plain": "FloatingPointError: rank 1: plain: expected a finite gradient",
    "overflow": "FloatingPointError: rank [01]: long: expected a finite update",
    "exception": "TypeError: rank 1: plain: expected a dense real gradient",
    "missing": "RuntimeError: long: expected a gradient on every process or on none but rank 1",
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("gloo")
    torch.multiprocessing.spawn(run, (folder,), nprocs=PROCESSES)
    return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(PROCESSES)]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("where", PLACEMENTS)
def test_parts_move_as_the_whole(
    measured: list[dict[str, Any]], where: str, depth: float, option: str
) -> None:
    assert all(rank["steps"][f"{where} {depth} {option}"] < 1e-12 for rank in measured)


def test_fully_shard_trains_as_one_process(measured: list[dict[str, Any]]) -> None:
    assert all(rank["fully_shard"] < 1e-12 for rank in measured)


def test_collectives(measured: list[dict[str, Any]]) -> None:
    for rank in measured:
        # one sum for all long matrices, and nothing else
        assert rank["gram"] == {"allreduce_": 1} or rank["gram"] == {"all_reduce": 1}
        assert sum(rank["gather"].values()) > 1


def test_gathers_what_sums_of_squares_cannot_tell(measured: list[dict[str, Any]]) -> None:
    for rank in measured:
        error, counts = rank["singular"]
        assert error < 1e-12
        assert any("gather" in kind for kind in counts)


@pytest.mark.parametrize("fault", REFUSED)
def test_all_processes_refuse_what_one_cannot_do(
    measured: list[dict[str, Any]], fault: str
) -> None:
    found = [rank["faults"][fault] for rank in measured]
    assert found[0]["message"] == found[1]["message"]
    for each in found:
        assert re.match(REFUSED[fault], each["message"])
        assert each["same"]
        assert each["goes on"]


def test_a_gradient_that_nobody_has_is_skipped(measured: list[dict[str, Any]]) -> None:
    assert all(rank["faults"]["missing everywhere"]["message"] == "none" for rank in measured)


def test_different_parameters_are_told(measured: list[dict[str, Any]]) -> None:
    for rank in measured:
        assert "rank 0 has w1 (4, 3)" in rank["different"]
        assert "rank 1 has w1 (4, 4)" in rank["different"]
