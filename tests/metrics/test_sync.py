"""Over two gloo processes with different updates, each metric gives what one process gives."""

from typing import Any

import pytest
from tests.distributed.gloo import measured_once
from tests.metrics.cases import CASES, numbers
from tests.metrics.two_processes import PROCESSES, measure

pytestmark = pytest.mark.slow

each_metric = pytest.mark.parametrize("name", CASES)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return measured_once(measure, PROCESSES, tmp_path_factory)


def agrees(found: dict[str, Any], truth: dict[str, Any], tolerance: float) -> bool:
    return found.keys() == truth.keys() and all(
        found[key] == pytest.approx(truth[key], rel=tolerance, abs=1e-6 if tolerance > 1e-6 else 0)
        for key in truth
    )


@each_metric
def test_processes_agree_with_the_truth(name: str, measured: list[Any]) -> None:
    case = CASES[name]
    truth = numbers(case.truth(case.updates))
    own = [numbers(case.truth(case.updates[rank::PROCESSES])) for rank in range(PROCESSES)]
    assert any(value != truth for value in own) or "one score" in name  # else nothing is shown
    for rank in measured:
        assert agrees(rank[name]["all"], truth, 1e-12)


@each_metric
def test_each_step_can_combine_all_processes(name: str, measured: list[Any]) -> None:
    case = CASES[name]
    truth = numbers(case.truth(case.updates[:PROCESSES]))
    for rank in measured:
        assert agrees(rank[name]["each step"], truth, 1e-12)


@each_metric
def test_processes_may_differ_in_dtype_or_have_seen_nothing(name: str, measured: list[Any]) -> None:
    case = CASES[name]
    truth = numbers(case.truth(case.updates[:1]))
    for rank in measured:
        assert agrees(rank[name]["mixed"], truth, 2e-5)
        assert agrees(rank[name]["one-sided"], truth, 1e-12)
        assert agrees(rank[name]["there and back"], truth, 1e-12)
