"""The claims about MNIST depend on the curves."""

from tests.lab.reproduce.mnist.curves import curve

from virtualdepth_lab.reproduce.mnist.claims import BEST, TUTORIAL, claims
from virtualdepth_lab.reproduce.mnist.problem import (
    BALANCED_START,
    DRAWN_START,
    NETWORKS,
    PLAIN,
    VIRTUAL,
)
from virtualdepth_lab.reproduce.mnist.tables import rows


def judged(explicit_hit: int, virtual_parameters: int, gap: float) -> list[bool]:
    """Judge runs of 40 steps in which the plain network ends at 1 and the explicit is sooner."""
    plain = curve(PLAIN, [2.0] * 39 + [1.0], 1000)
    sooner = [2.0] * (explicit_hit - 1) + [1.0] * (41 - explicit_hit)
    drawn = curve(DRAWN_START, sooner, 1150)
    others = [curve(BALANCED_START, [2.0] * 40, 1150), curve(VIRTUAL, sooner, virtual_parameters)]
    measured = rows(TUTORIAL, [plain, drawn], 0, 40, 1)
    measured += rows(BEST, [plain, drawn, *others], 0, 40, 1)
    twins = [1.0 + gap] * 4, [1.0] * 4
    return [claim.held for claim in claims(measured, [twins])]


def test_claims() -> None:
    # parameters, two published, drawn, balanced, virtual in steps, in time, free, follows
    assert judged(4, 1000, 0.04) == [True, True, True, True, False, True, True, True, True]
    assert judged(5, 1000, -0.06) == [True, False, False, True, False, True, True, True, False]
    assert judged(40, 1150, 0.0) == [True, False, False, False, False, False, False, False, True]


def test_a_twin_that_diverged_follows_nothing() -> None:
    plain = curve(PLAIN, [2.0, 1.0])
    networks = [plain, *(curve(kind, [2.0, 1.0]) for kind in NETWORKS[1:])]
    measured = rows(TUTORIAL, networks[:2], 0, 2, 1) + rows(BEST, networks, 0, 2, 1)
    last = claims(measured, [([2.0], [2.0, 2.0])])[-1]
    assert not last.held
    assert "diverged" in last.evidence
