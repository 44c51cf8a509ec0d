"""Layers written out, and signals: against the Fourier transform, autograd and scipy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from virtualdepth.maths import StructureName
from virtualdepth_lab.reproduce.structures.problem import (
    ACTIVE,
    MEASURED,
    Signals,
    convolve,
    draw_signals,
    joined,
)
from virtualdepth_lab.reproduce.structures.programmes import least_block_norms

STRUCTURES = list(ACTIVE)


def drawn(structure: StructureName, active: int = 3, draws: int = 2, seed: int = 0) -> Signals:
    return draw_signals(structure, active, draws, torch.Generator().manual_seed(seed))


def test_convolutions_multiply_frequencies(normal: Callable[..., torch.Tensor]) -> None:
    after, before = normal(7), normal(7)
    found = torch.fft.rfft(convolve(after, before))
    torch.testing.assert_close(found, torch.fft.rfft(after) * torch.fft.rfft(before))
    after, before = normal(3, 2, 5), normal(2, 4, 5)
    found = torch.fft.rfft(convolve(after, before))
    expected = torch.einsum("ijf,jkf->ikf", torch.fft.rfft(after), torch.fft.rfft(before))
    torch.testing.assert_close(found, expected)


@pytest.fixture
def normal() -> Callable[..., torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_both_maps_give_what_is_measured(structure: StructureName) -> None:
    signals = drawn(structure)
    weight = signals.weight(signals.truth)
    torch.testing.assert_close(signals.coefficients(weight), signals.truth)
    assert signals.values.shape == (2, MEASURED[structure])
    measured = signals.weight_maps @ weight.reshape(2, -1, 1)
    torch.testing.assert_close(measured.squeeze(-1), signals.values)
    assert float(signals.gradient(weight).abs().max()) < 1e-14
    assert (signals.truth.norm(dim=-1) > 0).sum(1).tolist() == [3, 3]
    torch.testing.assert_close(signals.truth.norm(dim=-1).amax(1), torch.ones(2).double())


@pytest.mark.parametrize("structure", STRUCTURES)
def test_gradient(structure: StructureName) -> None:
    signals = drawn(structure)
    weight = (1 + signals.weight(signals.truth)).requires_grad_()
    residual = signals.weight_maps @ weight.reshape(2, -1, 1) - signals.values.unsqueeze(-1)
    (expected,) = torch.autograd.grad(residual.square().sum() / 2, weight)
    torch.testing.assert_close(signals.gradient(weight.detach()), expected)


def test_joined_signals_have_the_errors_of_each() -> None:
    first, second = drawn("rows", seed=1), drawn("rows", seed=2)
    both = joined([first, second])
    guess = torch.zeros_like(both.truth)
    guess[:2] = first.truth
    assert both.errors(guess).tolist() == [0, 0, 1, 1]


def test_least_l1_is_that_of_a_linear_programme() -> None:
    signals = drawn("diagonal", active=20, draws=1)
    [maps], [values] = signals.maps, signals.values
    found, reweighted = least_block_norms(maps, values, maps.shape[1])
    matrix = maps.numpy()
    split = linprog(
        np.ones(2 * maps.shape[1]), A_eq=np.hstack([matrix, -matrix]), b_eq=values.numpy()
    )
    assert float(found.abs().sum()) == pytest.approx(split.fun, rel=1e-6)
    for solution in (found, reweighted):
        torch.testing.assert_close(maps @ solution.flatten(), values, rtol=0, atol=1e-7)
    assert float((reweighted - found).norm()) > 1e-3


@pytest.mark.parametrize("structure", STRUCTURES)
def test_few_blocks_are_found_by_the_programme(structure: StructureName) -> None:
    signals = drawn(structure, active=2)
    solutions = [
        least_block_norms(maps, values, signals.truth.shape[1])[0]
        for maps, values in zip(signals.maps, signals.values, strict=True)
    ]
    assert float(signals.errors(torch.stack(solutions)).max()) < 1e-5
