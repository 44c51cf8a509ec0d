"""The claims of the margins depend on their numbers: made-up rows make each hold or fail."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
from tests.lab.reproduce.judge import held

from virtualdepth_lab.reproduce.margin.claims import claims, curve_name
from virtualdepth_lab.reproduce.margin.summary import summarised
from virtualdepth_lab.reproduce.result import Record


def every_part() -> list[Record]:
    rows: list[Record] = [
        {"part": "direction", "problem": "gaussian", "seed": 0, "network": "one vector", "depth": 2,
         "angle": 0.001, "shortfall": 1e-4, "apart": 0.01},
    ]  # fmt: skip
    for depth, ratios in ((1, (0.99, 0.8)), (2, (0.8, 0.99)), (3, (0.7, 0.9))):
        rows.append(
            {"part": "norms", "problem": "matrix", "seed": 0, "method": f"depth {depth}",
             "depth": depth, "of_largest_1": ratios[0], "of_largest_2": ratios[1],
             "margin_3": 0.2, "residual": 0.01, "counting": 3}
        )  # fmt: skip
    for step, outside, share in ((0, 0.6, 0.5), (100, 1e-5, 1e-4)):
        row = {"part": "layers", "seed": 0, "step": step, "outside_rank_one": outside}
        rows.append(row | {"least_aligned": 1 - outside})
        rows.append({"part": "depths added", "seed": 0, "step": step, "share": share})
    return rows


def curves(rows: list[Record]) -> dict[str, np.ndarray]:
    return {curve_name(rows[0]): np.linspace(3, 1, 33).reshape(3, 11)}


def of(part: str, **entries: object) -> Callable[[Record], bool]:
    wanted = {"part": part, **entries}
    return lambda row: all(row.get(name) == value for name, value in wanted.items())


@pytest.mark.parametrize(
    ("words", "which", "change"),
    [
        ("within 0.01 rad", of("direction"), {"angle": 0.02}),
        ("within 0.01 rad", of("direction"), {"shortfall": 0.02}),
        ("stay within", of("direction"), {"apart": 0.06}),
        ("matrix, depth 1", of("norms", depth=1), {"of_largest_1": 0.89}),
        ("matrix, depth 1", of("norms", depth=2), {"of_largest_1": 0.995}),
        ("matrix, depth 2", of("norms", depth=2), {"of_largest_2": 0.89}),
        ("matrix, depth 2", of("norms", depth=1), {"of_largest_2": 0.995}),
        ("critical point", of("norms", depth=3), {"residual": 0.06}),
        ("unbalanced layers", of("layers", step=100), {"outside_rank_one": 0.01}),
        ("unbalanced layers", of("layers", step=100), {"least_aligned": 0.9}),
        ("deeper takes over", of("depths added", step=100), {"share": 0.02}),
    ],
)
def test_a_bad_number_fails_its_claim(
    words: str, which: Callable[[Record], bool], change: Record
) -> None:
    rows = every_part()
    assert held([*claims(rows, curves(rows))], words)
    changed = copy.deepcopy(rows)
    next(filter(which, changed)).update(change)
    assert not held([*claims(changed, curves(changed))], words)


def test_the_summary_has_a_row_for_all_seeds() -> None:
    rows = [{**row, "seed": seed} for seed in (0, 1) for row in every_part()]
    found = list(summarised(rows))
    assert [row["step"] for row in found if row["part"] == "layers"] == [0, 100]
    assert [row["of_largest_1"] for row in found if row["part"] == "norms"] == [
        "0.990 to 0.990", "0.800 to 0.800", "0.700 to 0.700",
    ]  # fmt: skip
