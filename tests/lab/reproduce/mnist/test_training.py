"""Networks that are trained side by side."""

import math

import pytest
import torch

from virtualdepth_lab.reproduce.mnist.problem import NETWORKS, PLAIN, Sizes
from virtualdepth_lab.reproduce.mnist.training import train

SMALL = Sizes(first=3, second=4, hidden=12)


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(100, 1, 28, 28, generator=generator) - 0.5
    return images, torch.randint(0, 10, (100,), generator=generator)


def test_training_is_side_by_side(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    state = torch.get_rng_state()
    seen: list[int] = []
    pairs = [(kind, 0.01) for kind in NETWORKS] + [(PLAIN, 0.01), (PLAIN, 1e8)]
    curves = train(data, pairs, seed=0, steps=4, sizes=SMALL, on_step=seen.append)
    assert seen == [0, 1, 2, 3]
    assert torch.equal(torch.get_rng_state(), state)
    assert [(curve.kind, curve.lr) for curve in curves] == pairs
    plain, drawn, balanced, virtual, again, diverged = curves
    assert again.loss == plain.loss
    assert len(set(plain.loss)) == 4
    for same in (balanced, virtual):  # one function, one batch, the same units dropped
        assert same.loss[0] == pytest.approx(plain.loss[0], rel=1e-5)
        assert same.loss[3] != plain.loss[3]
    assert drawn.loss[0] != pytest.approx(plain.loss[0], rel=1e-5)
    assert len(diverged.loss) < 4
    assert all(map(math.isfinite, diverged.loss))
    for curve in curves:
        assert len(curve.cpu_seconds) == len(curve.wall_seconds) == len(curve.loss)


def test_other_seed_other_curve(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    first, second = (
        train(data, [(PLAIN, 0.01)], seed=seed, steps=2, sizes=SMALL, on_step=lambda _: None)[0]
        for seed in (0, 1)
    )
    assert first.loss != second.loss
