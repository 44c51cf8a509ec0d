"""What is made of the curves: rows, and a summary over seeds."""

import numpy as np
import pytest
from tests.lab.reproduce.mnist.curves import curve

from virtualdepth_lab.reproduce.mnist.claims import BEST
from virtualdepth_lab.reproduce.mnist.problem import BALANCED_START, DRAWN_START, PLAIN, VIRTUAL
from virtualdepth_lab.reproduce.mnist.tables import rows, smoothed, summary


@pytest.mark.parametrize("span", [1, 3, 50])
def test_smoothed(span: int) -> None:
    loss = [5.0, 3.0, 4.0, 1.0, 0.0, 2.0]
    expected = [np.mean(loss[max(0, i + 1 - span) : i + 1]) for i in range(len(loss))]
    np.testing.assert_allclose(smoothed(loss, span), expected, atol=1e-14)


def test_rows() -> None:
    plain = curve(PLAIN, [8.0, 6.0, 4.0, 2.0])  # ends at 3, the mean of its last two
    fast = curve(DRAWN_START, [8.0, 2.0, 2.0, 2.0])
    never = curve(VIRTUAL, [8.0, 8.0, 8.0, 8.0])
    gone = curve(BALANCED_START, [0.0])  # diverged; one low batch is no mean of two
    found = rows(BEST, [plain, fast, never, gone], 7, 4, 2)
    assert [row["loss"] for row in found] == [3.0, 2.0, 8.0, None]
    assert [row["steps_to_plain"] for row in found] == [4, 3, None, None]
    assert [row["cpu_to_plain"] for row in found] == [2.0, 1.5, None, None]
    assert found[1]["mean_loss"] == 3.5
    assert {(row["seed"], row["cpu_per_step"], row["wall_per_step"]) for row in found} == {
        (7, 0.5, 1.0)
    }


def test_a_plain_network_that_diverged_is_not_reached() -> None:
    gone, other = curve(PLAIN, [4.0, 9.0]), curve(DRAWN_START, [4.0, 3.0, 2.0])
    found = rows(BEST, [gone, other], 0, 3, 1)
    assert [row["steps_to_plain"] for row in found] == [None, None]
    assert [row["loss"] for row in found] == [None, 2.0]


def test_summary() -> None:
    plain = curve(PLAIN, [4.0, 2.0])
    measured = [
        row
        for seed, last in enumerate((1.0, 2.0, 3.0))
        for row in rows(BEST, [plain, curve(VIRTUAL, [4.0, last])], seed, 2, 1)
    ]
    first, second = summary(measured)
    assert (first["network"], second["network"]) == (PLAIN, VIRTUAL)
    assert (second["loss"], second["least"], second["greatest"]) == (2.0, 1.0, 3.0)
    assert second["steps_to_plain"] == 2  # 2, 2, never
    assert second["diverged"] == 0
