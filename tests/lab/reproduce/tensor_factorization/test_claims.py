"""Claims on rows that bear them out, and on rows that do not."""

from copy import deepcopy

import pytest
from tests.lab.reproduce.judge import held

from virtualdepth_lab.reproduce.tensor_factorization.claims import claims

GROWN = {"steps": 100, "share_left": 1e-5, "rise_at_step": [1, 9, 3, 5, 7], "most_at_once": 1}
ROWS = [
    {"part": "ranks", "order": 4, "dimension": 3, "channels": 3, "seed": 0, "theory": 9,
     "deep_odd_even": 9, "shallow_odd_even": 3},
    {"part": "law", "kind": "tree", "rates": [2, 1], "gaps": [2.0, 1.0], "slope": 1.0},
    {"part": "least squares", "error": 1e-4, "cpu_s": 1.0, "starts": 2},
    *({"part": "components", "start": start, "axes": "1 2 3 4", "error": error, "cpu_s": 20.0,
       "norms": [0.6, 0.5, 0.4, 0.3, 0.2, 0.001], **GROWN}
      for start, error in ((5e-2, 0.07), (1e-2, 0.02), (5e-3, 0.004))),
    {"part": "hierarchical", "start": 5e-3, "axes": "1 2", "error": 0.1, "cpu_s": 9.0,
     "norms": [9, 4, 2, 1, 0.5, 0.01], **GROWN},
]  # fmt: skip


def test_all_hold() -> None:
    assert all(claim.held for claim in claims(ROWS, quick=False))
    assert len(list(claims(ROWS, quick=True))) == 1


@pytest.mark.parametrize(
    ("place", "change", "words"),
    [
        (0, {"deep_odd_even": 8}, "odd-even"),
        (1, {"slope": 0.5}, "law of norms"),
        (2, {"cpu_s": 3.0}, "alternating least squares"),
        (2, {"error": 0.1}, "alternating least squares"),
        (3, {"error": 0.1}, "from 0.05: an error"),
        (4, {"error": 0.071}, "a smaller start"),
        (5, {"most_at_once": 3}, "components from 0.005, axes 1 2 3 4: they rise"),
        (5, {"norms": [1, 1, 1, 1, 1, 0.1]}, "from 0.005: five grow"),
        (6, {"rise_at_step": [1, 1, 3]}, "local components from 0.005, axes 1 2: they rise"),
        (6, {"norms": [9, 4, 2, 1, 0.5, 0.1]}, "local components, axes 1 2: five"),
    ],
)
def test_each_can_fail(place: int, change: dict, words: str) -> None:
    rows = deepcopy(ROWS)
    rows[place] |= change
    assert not held(list(claims(rows, quick=False)), words)
