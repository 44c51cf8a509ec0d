"""Measures of the sizes of a structure: by numpy, out of range, and their derivatives."""

import numpy as np
import pytest
import torch
from tests.maths.matrices import gaussian
from tests.maths.sizes import SHAPES, literal_sizes

import virtualdepth as vd
from virtualdepth.maths import spectral_norm

EACH = pytest.mark.parametrize("name", SHAPES)


@EACH
@pytest.mark.parametrize("exponent", [0, 1000, -1000])
def test_against_numpy(name: str, exponent: int) -> None:
    weight, kind = gaussian(*SHAPES[name]), name.split()[0]
    sizes = literal_sizes(weight, name)
    share = sizes / sizes.sum()
    found = {
        "nuclear": vd.nuclear_norm(weight * 2.0**exponent, structure=kind),
        "spectral": spectral_norm(weight * 2.0**exponent, structure=kind),
        "schatten": vd.schatten_norm(weight * 2.0**exponent, 0.5, structure=kind),
        "stable rank": vd.stable_rank(weight * 2.0**exponent, structure=kind),
        "effective rank": vd.effective_rank(weight * 2.0**exponent, structure=kind),
    }
    truth = {
        "nuclear": sizes.sum() * 2.0**exponent,
        "spectral": sizes.max() * 2.0**exponent,
        "schatten": np.sqrt(sizes).sum() ** 2 * 2.0**exponent,
        "stable rank": (sizes**2).sum() / sizes.max() ** 2,
        "effective rank": np.exp(-(share * np.log(share)).sum()),
    }
    for measure, value in truth.items():
        assert found[measure].shape == ()
        assert found[measure].item() == pytest.approx(value, rel=1e-12), measure


@EACH
def test_derivatives_are_right_and_finite_at_zeros(name: str) -> None:
    kind = name.split()[0]

    def measures(weight: torch.Tensor) -> torch.Tensor:
        return torch.stack(
            [
                vd.nuclear_norm(weight, structure=kind),
                vd.effective_rank(weight, structure=kind),
                vd.schatten_norm(weight, 0.5, structure=kind),
            ]
        )

    weight = gaussian(*SHAPES[name]).requires_grad_()
    assert torch.autograd.gradcheck(measures, weight)
    zero = torch.zeros(SHAPES[name], dtype=torch.float64, requires_grad=True)
    measures(zero).sum().backward()
    assert zero.grad.isfinite().all()


def test_what_a_structure_has_no_meaning_for_is_named() -> None:
    with pytest.raises(ValueError, match=r"weight: expected a matrix .* 'rows', but got shape"):
        vd.effective_rank(torch.ones(3), structure="rows")
    with pytest.raises(ValueError, match="structure: expected one of matrix, rows"):
        vd.nuclear_norm(torch.ones(3), structure="entries")
