"""The claims of the kernels depend on their numbers: made-up rows make each hold or fail."""

import copy
from collections.abc import Callable

import pytest
from tests.lab.reproduce.judge import held

from virtualdepth_lab.reproduce.kernels.claims import claims, power, summarised
from virtualdepth_lab.reproduce.result import Record


def every_part() -> list[Record]:
    rows: list[Record] = []
    for width, gap in ((16, 0.4), (256, 0.1)):
        head = {"width": width, "seed": 0}
        rows.append(head | {"part": "width", "activation": "relu", "layers": 2, "gap": gap})
        row = {"part": "imbalance", "gap_start": gap, "gap_end": gap, "balanced_gap_end": 1.0}
        rows.append(head | row | {"turned": 0.3})
        row = {"part": "digits", "layers": 2, "predictor": "network", "distance": gap}
        rows.append(head | row | {"accuracy": 0.95, "cpu_s": 1.0})
    rows += [
        {"part": "deep twin", "depth": 2, "seed": 0, "gap": 1e-15, "plain_gap": 0.2},
        {"part": "zeros", "depth": 2, "gap": 1e-15},
    ]
    row = {"part": "digits", "layers": 2, "seed": 0, "predictor": "kernel, as many steps"}
    rows.append(row | {"accuracy": 0.94})
    return sorted(rows, key=lambda row: row["part"])


def of(part: str, **entries: object) -> Callable[[Record], bool]:
    wanted = {"part": part, **entries}
    return lambda row: all(row.get(name) == value for name, value in wanted.items())


@pytest.mark.parametrize(
    ("words", "which", "change"),
    [
        ("relu, 2 layers", of("width", width=256), {"gap": 0.2}),
        ("relu, 2 layers", of("width", width=256), {"gap": 0.05}),
        ("end-to-end rule", of("deep twin"), {"gap": 1e-11}),
        ("end-to-end rule", of("deep twin"), {"plain_gap": 1e-3}),
        ("layer of zeros", of("zeros"), {"gap": 1e-11}),
        ("two Gaussian layers", of("imbalance", width=256), {"gap_end": 0.3}),
        ("control", of("imbalance", width=256), {"balanced_gap_end": 0.4}),
        ("tends to the regression", of("digits", width=256), {"distance": 0.3}),
        ("in accuracy", of("digits", width=256), {"accuracy": 0.97}),
    ],
)
def test_a_bad_number_fails_its_claim(
    words: str, which: Callable[[Record], bool], change: Record
) -> None:
    rows = every_part()
    assert held([*claims(rows)], words)
    changed = copy.deepcopy(rows)
    next(filter(which, changed)).update(change)
    assert not held([*claims(changed)], words)


def test_the_power_is_that_of_the_width() -> None:
    assert power({10: 3.0, 1000: 0.3}) == pytest.approx(-0.5, abs=1e-12)


def test_the_summary_has_a_row_for_all_seeds() -> None:
    rows = [{**row, "seed": seed} for seed in (0, 1) for row in every_part()]
    found = [row for row in summarised(rows) if row["part"] == "width"]
    assert [row["gap"] for row in found] == ["0.4 to 0.4", "0.1 to 0.1"]
