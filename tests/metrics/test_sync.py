"""Over two gloo processes with different updates, each metric gives what one process gives."""

import json
from pathlib import Path

import pytest
import torch.multiprocessing
from tests.metrics.cases import CASES, numbers
from tests.metrics.gloo import PROCESSES, compute_on


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, list[float]]]]:
    folder = tmp_path_factory.mktemp("gloo")
    torch.multiprocessing.spawn(compute_on, (folder,), nprocs=PROCESSES)
    return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(PROCESSES)]


@pytest.mark.parametrize("name", CASES)
def test_processes_agree_with_the_truth(
    name: str, results: list[dict[str, dict[str, list[float]]]]
) -> None:
    case = CASES[name]
    truth = numbers(case.truth(case.updates))
    own = [numbers(case.truth(case.updates[rank::PROCESSES])) for rank in range(PROCESSES)]
    assert any(value != truth for value in own) or "one score" in name  # else nothing is shown
    for result in results:
        assert result[name].keys() == truth.keys()
        for key, expected in truth.items():
            assert result[name][key] == pytest.approx(expected, rel=1e-12)
