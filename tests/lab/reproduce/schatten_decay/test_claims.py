"""The claims depend on their numbers: made-up rows make each hold or fail."""

import pytest
from tests.lab.reproduce.judge import held

from virtualdepth_lab.reproduce.result import Record
from virtualdepth_lab.reproduce.schatten_decay.claims import best_of, claims, summary


def rows() -> list[Record]:
    path = [
        {"part": "path", "seed": seed, "share": share, "method": method, "rank": rank + seed,
         "error": error * (1 + share), "objective": 1.0, "from_convex": 1e-6}
        for seed in (0, 1)
        for share in (0.1, 0.5)
        for method, rank, error in (("depth 2", 7, 0.3), ("depth 3", 4, 0.2), ("depth 4", 3, 0.1))
    ]  # fmt: skip
    time = [
        {"part": "time", "share": 0.1, "method": method, "steps": 9, "milliseconds": taken}
        for method, taken in (("proximal gradient, accelerated", 1.0), ("depth 2", 5.0))
    ]
    return path + time


def test_the_best_is_chosen_of_each_seed() -> None:
    found = best_of([row for row in rows() if row.get("method") == "depth 2"][:4])
    assert found == pytest.approx({"share": 0.1, "rank": 7.5, "error": 0.33})
    lines = summary(rows())
    assert [line["part"] for line in lines].count("at the decay of least error") == 3


@pytest.mark.parametrize(
    ("words", "method", "change"),
    [
        ("convex programme's solution", "depth 2", {"from_convex": 1e-3}),
        ("smaller rank", "depth 3", {"rank": 9}),
        ("smaller rank", "depth 4", {"rank": 9}),
        ("smaller error", "depth 3", {"error": 0.5}),
        ("proximal method is faster", "depth 2", {"milliseconds": 0.5}),
    ],
)
def test_each_claim_can_fail(words: str, method: str, change: Record) -> None:
    assert held(claims(rows()), words)
    changed = [
        row | {name: value for name, value in change.items() if name in row}
        if row["method"] == method
        else row
        for row in rows()
    ]
    assert not held(claims(changed), words)


def test_a_depth_that_does_not_arrive_is_slower() -> None:
    late = rows()
    late[-1]["milliseconds"] = None
    [claim] = [each for each in claims(late) if "proximal method is faster" in each.claim]
    assert claim.held
    assert "does not arrive at 1 of 1 decays" in claim.evidence
