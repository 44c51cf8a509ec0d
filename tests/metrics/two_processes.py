"""What each of two processes computes for `test_sync.py`."""

import warnings
from pathlib import Path
from typing import Any

import torch
from tests.metrics.cases import CASES, Case, converted, numbers
from torchmetrics import Metric

PROCESSES = 2


def measure(rank: int, folder: Path) -> dict[str, Any]:
    """What every metric computes of the updates of all processes, which differ."""
    warnings.filterwarnings("ignore", "The ``compute`` method of metric")
    found = {}
    for name, case in CASES.items():
        metric = case.make()
        for update in case.updates[rank::PROCESSES]:
            metric.update(*update)
        found[name] = {
            "all": numbers(metric.compute()),
            "mixed": numbers(mixed(case, rank).compute()),
            "one-sided": numbers(one_sided(case, rank).compute()),
            "there and back": numbers(there_and_back(one_sided(case, rank)).compute()),
            "each step": numbers(each_step(case, rank)),
        }
    return found


def mixed(case: Case, rank: int) -> Metric:
    """The first update in float64 here and in float32 there."""
    metric, update = case.make(), case.updates[0]
    metric.update(*(update if rank == 0 else converted(update, torch.float32)))
    return metric


def one_sided(case: Case, rank: int) -> Metric:
    """The first update in float64 here and nothing there."""
    metric = case.make()
    if rank == 0:
        metric.update(*case.updates[0])
    return metric


def there_and_back(metric: Metric) -> Metric:
    """A metric that has taken the states of all processes, and given them back."""
    metric.sync()
    metric.unsync()
    return metric


def each_step(case: Case, rank: int) -> Any:
    """What `forward` returns where it combines all processes in each step."""
    metric = case.make()
    metric.dist_sync_on_step = True
    return metric(*case.updates[rank])
