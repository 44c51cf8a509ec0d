"""The claims of matrix completion depend on their numbers: made-up rows make each hold or fail."""

import pytest

from virtualdepth_lab.reproduce.matrix_completion.claims import claims
from virtualdepth_lab.reproduce.matrix_completion.methods import (
    AUTO,
    EXPLICIT,
    FAST,
    FLOW,
    NUCLEAR,
    SINGLE,
    TRUTH,
)
from virtualdepth_lab.reproduce.result import Record

SECONDS = {EXPLICIT: 100.0, FLOW: 2.0, FAST: 1.0, AUTO: 10.0}


def rows() -> list[Record]:
    made = []
    for observed in (1000, 2000, 5000):
        for seed in (0, 1, 2):
            key: Record = {"observed": observed, "seed": seed, "nuclear_norm": 221.0}
            made.append(key | {"method": TRUTH, "effective_rank": 4.9, "error": 0.0})
            convex = {"method": NUCLEAR, "effective_rank": 7.5, "error": 0.04, "gap": 1e-4}
            made.append(key | convex)
            for method, seconds in SECONDS.items():
                for depth in (2, 3, 4):
                    run = {"method": method, "depth": depth, "cpu_seconds": seconds}
                    run |= {"error": 2e-5, "effective_rank": 4.95, "evaluations": 400}
                    made.append(key | run)
    return made


def distances() -> list[Record]:
    return [
        {"method": method, "depth": 3, "distance": 5e-4, "distance_to": "reference"}
        for method in (SINGLE, FLOW, FAST, AUTO)
    ]


def judge(measured: list[Record], ends: list[Record]) -> dict[str, bool]:
    return {claim.claim: claim.held for claim in claims(measured, ends)}


def test_good_numbers_bear_every_claim_out() -> None:
    found = judge(rows(), distances())
    assert all(found.values())
    # convex fails; 4 ways x 2 depths; 3 fast ways x 3 depths x 3 problems; evaluations; distances
    assert len(found) == 1 + 4 * 2 + 3 * 3 * 3 + 3 + 3


@pytest.mark.parametrize(
    ("method", "depth", "change", "words"),
    [
        (NUCLEAR, None, {"error": 0.001}, "visibly fails"),
        (NUCLEAR, None, {"gap": 0.01}, "visibly fails"),
        (FLOW, 3, {"error": 4e-5}, "flow integrator, depth 3: median error"),
        (AUTO, 4, {"effective_rank": 5.1}, "no learning rate, depth 4: median error"),
        (FLOW, 4, {"cpu_seconds": 7.0}, "at 2000 observed, one matrix, flow integrator, depth 4, "),
        (AUTO, 2, {"error": 3e-5}, "at 2000 observed, one matrix, no learning rate, depth 2, "),
        (AUTO, 2, {"evaluations": 401}, "depth 2: at most 400"),
    ],
)
def test_a_bad_number_fails_its_claim(
    method: str, depth: int | None, change: Record, words: str
) -> None:
    measured = [
        row | change
        if (row["method"], row.get("depth"), row["observed"]) == (method, depth, 2000)
        else row
        for row in rows()
    ]
    failed = [claim for claim, held in judge(measured, distances()).items() if not held]
    assert any(words in claim for claim in failed)


@pytest.mark.parametrize(("method", "distance"), [(SINGLE, 2e-3), (FLOW, 2e-3), (AUTO, 2e-2)])
def test_an_end_too_far_fails_its_claim(method: str, distance: float) -> None:
    ends = [row | {"distance": distance} if row["method"] == method else row for row in distances()]
    failed = [claim for claim, held in judge(rows(), ends).items() if not held]
    assert len(failed) == 1
    assert failed[0].startswith(method)
