"""Claims are judged by their numbers: each is turned round by rows made for it."""

import copy
import math
from collections.abc import Callable

import pytest

from virtualdepth_lab.reproduce.convergence import claims as convergence_claims
from virtualdepth_lab.reproduce.lp_regression import claims as lp_claims
from virtualdepth_lab.reproduce.result import Claim, Record

METHODS = {
    "depth 1 (SGD)": (3.1, 1000),
    "depth 1.5": (2.3, 500),
    "depth 2": (2.2, 400),
    "depth 3": (2.2, 400),
    "depth 4": (2.2, 400),
    "depth 8": (2.2, 400),
    "explicit network, depth 2": (2.2, 400),
    "explicit network, depth 3": (2.2, 400),
    "depth 1, scalar normaliser": (2.1, 400),
    "depth 2, gain divided out": (3.8, None),
    "depth 1, gain of depth 2": (2.5, 500),
    "Adam": (1.3, 100),
    "AdaGrad": (3.0, 900),
    "AdaDelta": (2.5, 500),
    "depth 1, Barzilai-Borwein": (1.1, 90),
    "L-BFGS": (1.0, 50),
}


def ethanol(power: int, start: str = "identity") -> list[Record]:
    rows = []
    for method, (loss, steps) in METHODS.items():
        row: Record = {"power": power, "start": start, "method": method, "loss_over_optimum": loss}
        row |= {"to_5": steps, "to_4": steps, "to_3": None, "to_2": None, "to_1.1": None}
        if method not in ("depth 1, Barzilai-Borwein", "L-BFGS"):
            row["inside"] = True
        rows.append(row)
    return rows


def held(claims: list[Claim], words: str) -> bool:
    [claim] = [claim for claim in claims if words in claim.claim]
    return claim.held


@pytest.mark.parametrize(
    ("words", "method", "change"),
    [
        ("depth 2 needs at most half", "depth 2", {"to_4": 501}),
        ("depth 3 needs at most half", "depth 3", {"to_4": None}),
        ("depth 2 needs at most half", "depth 1 (SGD)", {"to_4": None, "to_5": None}),
        ("ends below AdaGrad", "AdaGrad", {"loss_over_optimum": 2.1}),
        ("ends below AdaDelta", "AdaDelta", {"loss_over_optimum": 2.1}),
        ("comes below twice", "depth 8", {"loss_over_optimum": 1.9}),
        ("step schedule", "depth 1, scalar normaliser", {"loss_over_optimum": 2.4}),
        ("step schedule", "depth 2, gain divided out", {"loss_over_optimum": 3.0}),
        ("depth 3 as one vector", "explicit network, depth 3", {"loss_over_optimum": 2.4}),
        ("L-BFGS, end below", "L-BFGS", {"loss_over_optimum": 2.25}),
        ("inside its grid", "Adam", {"inside": False}),
    ],
)
def test_fourth_powers(words: str, method: str, change: Record) -> None:
    rows = ethanol(4)
    assert held(lp_claims.ethanol_claims(rows), words)
    next(row for row in rows if row["method"] == method).update(change)
    assert not held(lp_claims.ethanol_claims(rows), words)


def test_squares() -> None:
    rows = ethanol(2)
    assert not held(lp_claims.ethanol_claims(rows), "depth 2 ends above")
    rows[0]["loss_over_optimum"] = 1.0
    assert held(lp_claims.ethanol_claims(rows), "depth 2 ends above")


def test_prototype() -> None:
    rows = ethanol(4, "near zero")
    assert not held(lp_claims.ethanol_claims(rows), "prototype")
    for row in rows:
        row["loss_over_optimum"] = lp_claims.PROTOTYPE.get(row["method"], 2.2)
    assert held(lp_claims.ethanol_claims(rows), "prototype")


@pytest.mark.parametrize(
    ("power", "steps", "expected"),
    [
        (2, (1, 14, 24), True),
        (2, (1, 14, 13), False),
        (4, (1749, 130, 210), True),
        (4, (1749, 130, 900), False),
        (4, (1749, None, 210), False),
    ],
)
def test_two_samples(power: int, steps: tuple[int | None, ...], expected: bool) -> None:
    rows = [
        {"power": power, "targets": "y", "steps": count, "inside": True, "from": 1, "to": 2}
        for count in steps
    ]
    [claim] = lp_claims.toy_claims(rows)
    assert claim.held == expected
    rows[0]["inside"] = False
    assert not lp_claims.toy_claims(rows)[0].held


def convergence() -> list[Record]:
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
        ("depth 3: a balanced", lambda row: row["part"] == "section 5", {"steps": 19}),
        ("every balanced", lambda row: row.get("steps") == 20, {"converged": "2 of 3"}),
        ("edge", lambda row: row["part"] == "section 5", {"inside": False}),
    ],
)
def test_convergence(words: str, which: Callable[[Record], bool], change: Record) -> None:
    rows = convergence()
    assert held(convergence_claims.claims(rows), words)
    changed = copy.deepcopy(rows)
    next(row for row in changed if which(row)).update(change)
    assert not held(convergence_claims.claims(changed), words)


def test_layers_that_never_converge_count_as_slower() -> None:
    rows = convergence()
    for row in rows:
        if row.get("start") == "layer-wise":
            row["steps"] = None
    assert held(convergence_claims.claims(rows), "depth 8: a balanced")
