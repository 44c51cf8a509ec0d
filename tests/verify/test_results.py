"""The verdict follows from the numbers."""

import numpy as np
import pytest

from virtualdepth.verify._results import Curve, Row, VerifyResult, order_of_gap

LRS = (0.1, 0.05, 0.025)


def result(gaps: tuple[float | None, ...], lrs: tuple[float, ...] = LRS) -> VerifyResult:
    """What a run that asked for LRS has after as many of ``lrs`` as there are gaps."""
    rows = [
        Row(lr=lr, steps=8, gap=gap, loss_single=gap, loss_deep=gap, seconds=1.0)
        for lr, gap in zip(lrs, gaps, strict=False)
    ]
    curves = [
        Curve(
            lr=row.lr,
            loss_single=[1.0] * 4,
            loss_deep=[1.0] * 4,
            gap=[0.0] * 4,
            balancedness=[0.0] * 4,
        )
        for row in rows
    ]
    return VerifyResult(
        config={"lrs": list(lrs)}, versions={}, rows=rows, curves=curves, parameters={}
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("runs", [2, 3, 7])
def test_order_is_the_least_squares_slope(seed: int, runs: int) -> None:
    draw = np.random.default_rng(seed)
    lrs, gaps = draw.uniform(1e-4, 1, runs), draw.uniform(1e-6, 1, runs)
    slope = np.polyfit(np.log(lrs), np.log(gaps), 1)[0]
    assert order_of_gap(lrs.tolist(), gaps.tolist()) == pytest.approx(slope, rel=1e-10)


@pytest.mark.parametrize("gaps", [(), (0.1,), (0.1, None), (0.1, 0.0), (None, None)])
def test_order_is_undefined(gaps: tuple[float | None, ...]) -> None:
    assert order_of_gap(LRS[: len(gaps)], gaps) is None


@pytest.mark.parametrize(
    ("gaps", "passed", "failures"),
    [
        ((0.4, 0.2, 0.1), True, []),
        ((0.4, 0.21, 0.114), True, []),  # order 0.906
        ((0.4, 0.183, 0.0815), True, []),  # order 1.148
        ((0.4, 0.2, 0.12), False, ["the order 0.868 is not between 0.9 and 1.15"]),
        ((0.4, 0.2, 0.08), False, ["the order 1.16 is not between 0.9 and 1.15"]),
        ((0.14, 0.141, 0.139), False, ["the order", "the gap does not fall"]),
        ((0.1, 0.2, 0.4), False, ["the order -1", "the gap does not fall"]),
        ((0.4, 0.1, 0.1), False, ["the gap does not fall"]),
        ((0.0, 0.0, 0.0), False, ["the gap does not fall"]),
        ((None, 0.2, 0.1), False, ["at learning rate 0.1 training diverged: in step 4 of 8"]),
        ((None, 0.2, 0.3), False, ["at learning rate 0.1", "the gap does not fall"]),
        ((0.4, 0.2), None, []),
        ((), None, []),
    ],
)
def test_verdict(gaps: tuple[float, ...], passed: bool | None, failures: list[str]) -> None:
    found = result(gaps)
    assert found.passed is passed
    assert len(found.failures) == len(failures)
    for failure, start in zip(found.failures, failures, strict=True):
        assert failure.startswith(start)


def test_an_order_between_the_bounds_is_not_enough() -> None:
    lrs = (0.8, 0.4, 0.2, 0.1)
    found = result((0.8, 0.3, 0.31, 0.09), lrs)
    assert found.order is not None
    assert 0.9 < found.order < 1.15
    assert found.passed is False
