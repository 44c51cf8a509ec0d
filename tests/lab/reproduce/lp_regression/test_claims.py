"""The claims of the regressions depend on their numbers: made-up rows make each hold or fail."""

import pytest
from tests.lab.reproduce.judge import held

from virtualdepth_lab.reproduce.lp_regression.claims import PROTOTYPE, ethanol_claims, toy_claims
from virtualdepth_lab.reproduce.result import Record

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
    assert held(ethanol_claims(rows), words)
    next(row for row in rows if row["method"] == method).update(change)
    assert not held(ethanol_claims(rows), words)


def test_squares() -> None:
    rows = ethanol(2)
    assert not held(ethanol_claims(rows), "depth 2 ends above")
    rows[0]["loss_over_optimum"] = 1.0
    assert held(ethanol_claims(rows), "depth 2 ends above")


def test_prototype() -> None:
    rows = ethanol(4, "near zero")
    assert not held(ethanol_claims(rows), "prototype")
    for row in rows:
        row["loss_over_optimum"] = PROTOTYPE.get(row["method"], 2.2)
    assert held(ethanol_claims(rows), "prototype")


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
    [claim] = toy_claims(rows)
    assert claim.held == expected
    rows[0]["inside"] = False
    assert not toy_claims(rows)[0].held
