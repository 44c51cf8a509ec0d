"""The claims of convergence depend on their numbers: made-up rows make each hold or fail."""

import copy
import math
from collections.abc import Callable

import pytest
from tests.lab.reproduce.judge import held

from virtualdepth_lab.reproduce.convergence.claims import claims
from virtualdepth_lab.reproduce.result import Record


def every_part() -> list[Record]:
    rows: list[Record] = [
        {"part": "scalar", "depth": 2, "bound": 534_215, "steps": 121_878},
        {"part": "scalar", "depth": 3, "bound": 1_934_169, "steps": 285_359},
        {"part": "Lemma 1", "depth": 2, "violations": 0, "steps_checked": 10},
    ]
    for name, share in (("0.5 / d", (0.4, 0.4)), ("0.5 / sqrt(d)", (0.2, 0.01))):
        for dimension, value in zip((20, 100), share, strict=True):
            row: Record = {"part": "Theorem 2", "deviation": name, "dimension": dimension}
            row |= {"share": value, "from": 0.9 * value, "to": 1.1 * value, "exact": value}
            row |= {"certified": 9, "certified_converged": 9, "others_converged": 2}
            rows.append(row)
    for start, loss in (("balanced", 1e-20), ("unbalanced", math.inf)):
        row = {"part": "Claim 4", "depth": 2, "start": start, "loss": loss, "margin": 0.9}
        rows.append(row | {"imbalance": 1.0, "delta": 0.1})
    rows.append({"part": "Claim 5", "depth": 2, "loss": 0.5, "bound": 0.5})
    for depth, least in ((2, -1.5), (3, 1e-17)):
        row = {"part": "saddle at 0", "depth": depth, "least_eigenvalue": least, "sigma_1": 1.5}
        rows.append(row)
    for depth in (3, 8):
        for start, steps, converged in (("layer-wise", 90, "2 of 3"), ("balanced", 20, "3 of 3")):
            row = {"part": "section 5", "depth": depth, "start": start, "deviation": 0.1}
            rows.append(row | {"steps": steps, "converged": converged, "inside": True})
    return rows


@pytest.mark.parametrize(
    ("words", "which", "change"),
    [
        ("scalar, depth 2", lambda row: row["part"] == "scalar", {"steps": 1}),
        ("Lemma 1", lambda row: row["part"] == "Lemma 1", {"violations": 1}),
        ("above 0.25", lambda row: row["part"] == "Theorem 2", {"from": 0.24}),
        ("that satisfies it", lambda row: row["part"] == "Theorem 2", {"certified_converged": 8}),
        ("not constant", lambda row: row.get("share") == 0.01, {"to": 0.19}),
        ("Claim 4", lambda row: row.get("loss") == math.inf, {"loss": 1.0}),
        ("Claim 4", lambda row: row.get("loss") == 1e-20, {"loss": 1e-3}),
        ("Claim 5", lambda row: row["part"] == "Claim 5", {"loss": 0.4999}),
        ("at 0", lambda row: row.get("least_eigenvalue") == -1.5, {"sigma_1": 1.6}),
        ("at 0", lambda row: row.get("least_eigenvalue") == 1e-17, {"least_eigenvalue": -1e-3}),
        ("depth 3: a balanced", lambda row: row["part"] == "section 5", {"steps": 19}),
        ("every balanced", lambda row: row.get("steps") == 20, {"converged": "2 of 3"}),
        ("edge", lambda row: row["part"] == "section 5", {"inside": False}),
    ],
)
def test_a_bad_number_fails_its_claim(
    words: str, which: Callable[[Record], bool], change: Record
) -> None:
    rows = every_part()
    assert held(claims(rows), words)
    changed = copy.deepcopy(rows)
    next(row for row in changed if which(row)).update(change)
    assert not held(claims(changed), words)


def test_layers_that_never_converge_count_as_slower() -> None:
    rows = every_part()
    for row in rows:
        if row.get("start") == "layer-wise":
            row["steps"] = None
    assert held(claims(rows), "depth 8: a balanced")
