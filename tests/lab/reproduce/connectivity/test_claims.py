"""Claims on rows that bear them out, and on rows that do not."""

from copy import deepcopy

import pytest
from tests.lab.reproduce.judge import held

from virtualdepth_lab.reproduce.connectivity.claims import claims

ROWS = [
    {"part": "linear", "hidden": "6 6", "ends": [1e-17, 2e-17], "path": 2e-17,
     "straight_line": 2.0, "slope": -1.01},
    {"part": "lower rank", "hidden": "6 6", "slope": -0.34},
    *({"part": "ReLU", "width": 64, "seed": 0, "way": way, "ends": [0.01, 0.02], "highest": highest}
      for way, highest in (
          ("straight line", 0.5), ("halves, doubled", 0.3), ("halves, trained", 0.025))),
]  # fmt: skip


def test_all_hold() -> None:
    assert all(claim.held for claim in claims(ROWS, quick=False))
    assert len(list(claims(ROWS, quick=True))) == 4


@pytest.mark.parametrize(
    ("place", "change", "words"),
    [
        (0, {"path": 1e-11}, "no loss on the path"),
        (0, {"straight_line": 0.05}, "the straight line rises"),
        (0, {"slope": -0.8}, "falls as 1 over"),
        (1, {"slope": -0.5}, "through a matrix of lower rank"),
        (3, {"highest": 0.6}, "halves, doubled: the highest"),
        (4, {"highest": 0.6}, "halves, trained: the highest loss on"),
        (4, {"highest": 0.04}, "exceeds the larger end by at most"),
    ],
)
def test_each_can_fail(place: int, change: dict, words: str) -> None:
    rows = deepcopy(ROWS)
    rows[place] |= change
    assert not held(list(claims(rows, quick=False)), words)
