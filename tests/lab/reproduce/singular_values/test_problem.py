"""The example of one measurement: trained, and in closed form."""

import pytest

from virtualdepth_lab.reproduce.singular_values import problem
from virtualdepth_lab.reproduce.singular_values.problem import (
    START,
    TARGET,
    closed_form,
    solve_one_measurement,
)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_training_follows_the_closed_form(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem, "RATES", {depth: 2e-3})
    first, second = solve_one_measurement(depth, most=0.05)
    assert 0.6 * first + second == pytest.approx(TARGET, abs=0.06)
    assert START < first < second
    assert first == pytest.approx(closed_form(second, depth), rel=0.05)


def test_closed_form_saturates_at_depth_3() -> None:
    assert closed_form(1e9, 3) == pytest.approx(0.15625, rel=1e-2)
    assert closed_form(1e9, 4) == pytest.approx(0.0625, rel=1e-3)
