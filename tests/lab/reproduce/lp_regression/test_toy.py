"""Steps of the two samples against a literal loop."""

import pytest

from virtualdepth_lab.reproduce.lp_regression.toy import (
    RATES,
    starts,
    steps_to_converge,
    two_samples,
)


@pytest.mark.parametrize(("power", "depth"), [(2, 1), (2, 3), (4, 2)])
def test_toy_by_hand(power: int, depth: int) -> None:
    [found, *others] = steps_to_converge(two_samples(power, 3.0, 0.5), depth, starts([0, 1]))
    counts = {}
    for rate in RATES:
        w = [1e-2, 1e-2]
        for step in range(400):
            errors = [w[0] - 3.0, w[1] - 0.5]
            if max(map(abs, errors)) > 1e20:
                break
            loss = sum(error**power for error in errors) / power
            if loss <= 1e-6:
                counts[rate] = step
                break
            g = [error ** (power - 1) for error in errors]
            square, inner = w[0] ** 2 + w[1] ** 2, w[0] * g[0] + w[1] * g[1]
            gain = square ** (1 - 1 / depth)
            w = [
                a - rate * gain * (b + (depth - 1) * inner * a / square)
                for a, b in zip(w, g, strict=True)
            ]
    assert found is not None
    assert found[0] == min(counts.values())
    assert counts[found[1]] == found[0]
    assert len(others) == 2
    assert None not in others
