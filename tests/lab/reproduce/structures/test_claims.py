"""The claims depend on their numbers: made-up rows make each hold or fail."""

import copy
from collections.abc import Callable

import pytest
from tests.lab.reproduce.judge import held

from virtualdepth_lab.reproduce.result import Record
from virtualdepth_lab.reproduce.structures.claims import claims
from virtualdepth_lab.reproduce.structures.summary import summarised

SHARES = {"depth 1": 0.0, "depth 2": 0.4, "depth 3": 0.6, "depth 4": 0.5, "convex": 0.5}
ERRORS = {
    "Adam": 1.0, "SGD": 1.1, "Adam, group penalty": 0.5, "columns, depth 2": 0.9,
    "columns, depth 3": 0.6,
}  # fmt: skip


def every_part() -> list[Record]:
    rows: list[Record] = [
        {"part": "slopes", "structure": "rows", "start": "zero", "depth": 2, "imbalance": 0.4,
         "seed": 0, "gaps": [0.02, 0.01], "slope": 1.0, "wrong_depth": 0.3,
         "wrong_imbalance": 0.2},
    ]  # fmt: skip
    for method, share in (SHARES | {"reweighted": 0.9}).items():
        rows.append(
            {"part": "recovery", "structure": "rows", "active": 3, "method": method, "seed": 0,
             "draws": 10, "share": share, "median_error": 0.1}
        )  # fmt: skip
    for method, error in ERRORS.items():
        rows.append(
            {"part": "features", "method": method, "seed": 0, "test_mse": error, "trial": 1,
             "share_of_relevant": 0.5, "cpu_s": 1.0}
        )  # fmt: skip
    for imbalance, turned in ((1e-3, 0.5), (1.0, 0.1), (100.0, 1e-5)):
        rows.append(
            {"part": "lazy to rich", "depth": 2, "imbalance": imbalance, "seed": 0, "steps": 9,
             "kernel_distance": turned, "of_the_network": turned, "kernels_apart": 1e-15}
        )  # fmt: skip
    for width, gap in ((100, 0.1), (400, 0.05)):
        rows.append(
            {"part": "infinite width", "width": width, "imbalance": 0.6, "seed": 0, "gap": gap,
             "gap_without_imbalance": 0.5}
        )  # fmt: skip
    return rows


def of(part: str, **entries: object) -> Callable[[Record], bool]:
    wanted = {"part": part, **entries}
    return lambda row: all(row.get(name) == value for name, value in wanted.items())


@pytest.mark.parametrize(
    ("words", "which", "change"),
    [
        ("rows: the gap", of("slopes"), {"slope": 0.89}),
        ("rows: the gap", of("slopes"), {"slope": 1.11}),
        ("wrong depth", of("slopes"), {"wrong_depth": 0.09}),
        ("wrong imbalance", of("slopes"), {"wrong_imbalance": 0.09}),
        ("than depth 1", of("recovery", method="depth 1"), {"share": 0.4}),
        ("of the convex", of("recovery", method="depth 3"), {"share": 0.4}),
        ("every depth", of("recovery", method="reweighted"), {"share": 0.6}),
        ("end a fifth", of("features", method="SGD"), {"test_mse": 0.7}),
        ("within a quarter", of("features", method="Adam, group penalty"), {"test_mse": 0.4}),
        ("kernel turns", of("lazy to rich", imbalance=1.0), {"kernel_distance": 0.6}),
        ("kernel turns", of("lazy to rich", imbalance=100.0), {"kernel_distance": 1e-3}),
        ("tangent kernel of", of("lazy to rich", imbalance=1.0), {"kernels_apart": 1e-8}),
        ("tangent kernel of", of("lazy to rich", imbalance=1.0), {"of_the_network": 0.2}),
        ("Gaussian", of("infinite width", width=400), {"gap": 0.09}),
        ("Gaussian", of("infinite width", width=400), {"gap_without_imbalance": 0.2}),
    ],
)
def test_a_bad_number_fails_its_claim(
    words: str, which: Callable[[Record], bool], change: Record
) -> None:
    rows = every_part()
    assert held([*claims(rows)], words)
    changed = copy.deepcopy(rows)
    if words == "of the convex":  # the other depth is judged too
        next(filter(of("recovery", method="depth 4"), changed)).update(share=0.4)
    next(filter(which, changed)).update(change)
    assert not held([*claims(changed)], words)


def test_the_summary_has_a_row_for_all_seeds() -> None:
    rows = [{**row, "seed": seed} for seed in (0, 1) for row in every_part()]
    [found] = summarised([row for row in rows if row["part"] == "slopes"])
    assert found == {
        "part": "slopes", "structure": "rows", "start": "zero", "depth": 2, "imbalance": 0.4,
        "slope": "1.000 to 1.000", "gap": "0.02 to 0.02", "gap_at_wrong_depth": "0.3 to 0.3",
        "gap_at_wrong_imbalance": "0.2 to 0.2",
    }  # fmt: skip
    shares = list(summarised([row for row in rows if row["part"] == "recovery"]))
    assert [(row["share"], row["draws"]) for row in shares[:2]] == [(0.0, 20), (0.4, 20)]
