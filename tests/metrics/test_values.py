"""Values worked out by hand, and what matrices of zeros or without full rank give."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from virtualdepth import metrics

F64 = torch.float64
ZERO = torch.zeros(2, 3, dtype=F64)
ONES = torch.ones(2, 3, dtype=F64)
# rank 1 of 2 x 3, sigma = 5
RANK_ONE = torch.tensor([[3.0], [4.0]], dtype=F64) @ torch.tensor([[0.0, 1.0, 0.0]], dtype=F64)


def value(make: Callable[[], Metric], *update: Any) -> Any:
    metric = make()
    metric.update(*update)
    return metric.compute()


@pytest.mark.parametrize(
    ("make", "of_zero", "of_rank_one"),
    [
        (metrics.EffectiveRank, 0, 1),
        (metrics.StableRank, 0, 1),
        (metrics.NuclearNorm, 0, 5),
        (metrics.SpectralNorm, 0, 5),
        (lambda: metrics.SchattenNorm(0.5), 0, 5),
        (lambda: metrics.SchattenNorm(math.inf), 0, 5),
        (lambda: metrics.DecayPenalty(2), 0, 5),
    ],
)
def test_measures_of_degenerate_matrices(
    make: Callable[[], Metric], of_zero: float, of_rank_one: float
) -> None:
    assert value(make, ZERO).item() == of_zero
    # an exact rank: one entry is what its column holds
    assert value(make, RANK_ONE).item() == pytest.approx(of_rank_one, rel=1e-7)
    both = torch.stack([ZERO, RANK_ONE])
    assert value(make, both).item() == pytest.approx(of_rank_one / 2, rel=1e-7)


@pytest.mark.parametrize(
    ("weight", "reference", "gap"),
    [(ZERO, ZERO, 0.0), (ONES, ZERO, math.inf), (ZERO, ONES, 1.0), (RANK_ONE, 2 * RANK_ONE, 0.5)],
)
def test_gap_of_degenerate_matrices(weight: Tensor, reference: Tensor, gap: float) -> None:
    assert value(metrics.EndToEndGap, weight, reference).item() == pytest.approx(gap, rel=1e-12)


def test_margin_of_degenerate_targets() -> None:
    assert value(metrics.DeficiencyMargin, ZERO, ZERO).item() == 0
    assert value(metrics.DeficiencyMargin, ZERO, RANK_ONE).item() == pytest.approx(-5, rel=1e-12)
    assert value(metrics.DeficiencyMargin, RANK_ONE, RANK_ONE).item() == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("relative", [False, True])
def test_balancedness_of_zero_layers(relative: bool) -> None:
    def defects(*factors: Tensor) -> Any:
        return value(lambda: metrics.Balancedness(len(factors), relative), list(factors)).tolist()

    zero, eye = torch.zeros(2, 2, dtype=F64), torch.eye(2, dtype=F64)
    assert defects(zero, zero, zero) == [0, 0]
    # ||I||_F = sqrt 2, ||I||_F^2 + 0 = 2
    expected = math.sqrt(2) / (2 if relative else 1)
    assert defects(zero, eye, eye) == pytest.approx([expected, 0])


@pytest.mark.parametrize(
    ("weight", "diagonal", "off_diagonal"),
    # u_1 = (.6, .8), v_1 = e_2: u_1^T ones v_1 = 1.4
    [(ZERO, 0, 0), (RANK_ONE, 1.4, 0)],
)
def test_alignment_leaves_out_zero_singular_values(
    weight: Tensor, diagonal: float, off_diagonal: float
) -> None:
    result = value(metrics.GradientAlignment, weight, ONES)
    assert result["diagonal"].item() == pytest.approx(diagonal, rel=1e-12)
    assert result["off_diagonal"].item() == off_diagonal


def test_alignment_without_entries_beside_the_diagonal() -> None:
    result = value(metrics.GradientAlignment, torch.tensor([[3.0, 4.0]]), torch.ones(1, 2))
    assert result["diagonal"].item() == pytest.approx(1.4)
    assert result["off_diagonal"].item() == 0


def test_reconstruction_error_without_a_kind_of_entry() -> None:
    result = value(metrics.ReconstructionError, ZERO, ONES, torch.ones(2, 3, dtype=torch.bool))
    assert (result["all"].item(), result["observed"].item()) == (1, 1)
    assert math.isnan(result["unobserved"].item())


def test_reconstruction_error_where_the_truth_is_unknown() -> None:
    observed = torch.tensor([[True, False]])
    result = value(
        metrics.ReconstructionError, torch.zeros(1, 2), torch.tensor([[2.0, math.nan]]), observed
    )
    assert result["observed"].item() == 4
    assert math.isnan(result["all"].item())
    assert math.isnan(result["unobserved"].item())


def test_reconstruction_error_weighs_entries_not_updates() -> None:
    metric = metrics.ReconstructionError()
    metric.update(torch.zeros(1, 3), torch.ones(1, 3), torch.tensor([[True, True, True]]))
    metric.update(torch.zeros(1, 1), 3 * torch.ones(1, 1), torch.tensor([[True]]))
    assert metric.compute()["observed"].item() == 3  # (1 + 1 + 1 + 9) / 4


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(half: torch.dtype) -> None:
    """Numbers that the inputs' dtype holds exactly, and whose squares and sums it does not."""
    big, zero = torch.full((100, 100), 768.0, dtype=half), torch.zeros(100, 100, dtype=half)
    observed = torch.ones(100, 100, dtype=torch.bool)
    assert value(metrics.ReconstructionError, big, zero, observed)["all"].item() == 768**2
    assert value(metrics.EndToEndGap, big, big / 2).item() == 1
    assert value(metrics.DeficiencyMargin, big, zero).item() == -76800
    scores, labels = torch.tensor([768.0, -768.0], dtype=half), torch.tensor([1, 0])
    assert value(metrics.NormalizedMargin, scores, labels, big).item() == pytest.approx(0.01)
    # (I a)^T (I a) - b b^T, a = 1 + 2^-7: rounded, its square would be 1 + 2^-6
    first, second = torch.eye(2, dtype=half), (1 + 2**-7) * torch.eye(2, dtype=half)
    defect = math.sqrt(2) * (2**-6 + 2**-14)
    found = value(lambda: metrics.Balancedness(2), [first, second]).item()
    assert found == pytest.approx(defect, rel=1e-5)
    relative = value(lambda: metrics.Balancedness(2, relative=True), [first, second]).item()
    assert relative == pytest.approx(defect / (4 + 2**-5 + 2**-13), rel=1e-5)


def test_alignment_under_autocast() -> None:
    source = torch.Generator().manual_seed(0)
    weight, grad = torch.randn(2, 8, 8, generator=source)
    exact = value(metrics.GradientAlignment, weight.double(), grad.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = value(metrics.GradientAlignment, weight, grad)
    for key, truth in exact.items():
        assert found[key].item() == pytest.approx(truth.item(), rel=1e-5)


EMPTY, NONE = torch.zeros(0, 3), torch.zeros(0, 3, 3)


@pytest.mark.parametrize(
    ("make", "update", "expected"),
    [
        (metrics.EffectiveRank, [EMPTY], 0),
        (metrics.SpectralNorm, [EMPTY], 0),
        (metrics.EndToEndGap, [EMPTY, EMPTY], 0),
        (metrics.DeficiencyMargin, [EMPTY, EMPTY], 0),
        (lambda: metrics.Balancedness(2), [[EMPTY, EMPTY.T]], 0),
        (metrics.EndToEndGap, [NONE, NONE], 0),
        (metrics.DeficiencyMargin, [NONE, NONE], math.inf),
        (lambda: metrics.Balancedness(2), [[NONE, NONE]], 0),
    ],
)
def test_matrices_without_entries_and_batches_without_matrices(
    make: Callable[[], Metric], update: list[Any], expected: float
) -> None:
    assert value(make, *update).item() == expected


def test_nan_is_no_margin() -> None:
    nan = torch.full((2, 2), math.nan)
    scores, labels = torch.ones(1, 2), torch.tensor([0])
    assert math.isnan(value(metrics.NormalizedMargin, scores, labels, nan).item())
    assert math.isnan(value(metrics.NormalizedMargin, nan[:1], labels, torch.eye(2)).item())


def test_normalized_margin_does_not_see_the_scale() -> None:
    weight, inputs = torch.tensor([[3.0, 4.0]], dtype=F64), torch.eye(2, dtype=F64)
    labels = torch.tensor([1, 1])

    def margin(weight: Tensor) -> float:
        scores = (inputs @ weight.T).squeeze(-1)
        return value(metrics.NormalizedMargin, scores, labels, weight).item()

    assert margin(weight) == pytest.approx(0.6, rel=1e-14)
    assert margin(1e6 * weight) == pytest.approx(0.6, rel=1e-14)
    assert margin(0 * weight) == 0


@pytest.mark.parametrize(
    ("make", "update", "error", "words"),
    [
        (metrics.EffectiveRank, [torch.ones(3)], ValueError, "weight: expected a matrix"),
        (metrics.NuclearNorm, [torch.ones(2, 2).int()], TypeError, "weight: expected a dense"),
        (metrics.SpectralNorm, [torch.full((2, 2), math.nan)], ValueError, "weight: .*finite"),
        (lambda: metrics.DecayPenalty(0.5), [torch.eye(2)], ValueError, "depth: expected a real"),
        (lambda: metrics.SchattenNorm(0), [torch.eye(2)], ValueError, "p: expected a number > 0"),
        (metrics.EndToEndGap, [torch.eye(2), torch.ones(2, 3)], ValueError, "reference: expected"),
        (
            metrics.DeficiencyMargin,
            [torch.eye(2), torch.full((2, 2), math.inf)],
            ValueError,
            "target: .*finite",
        ),
        (
            lambda: metrics.Balancedness(3),
            [[torch.eye(2)] * 2],
            ValueError,
            "expected 3 matrices but got 2",
        ),
        (metrics.GradientAlignment, [torch.eye(2), torch.eye(3)], ValueError, "grad: expected"),
        (
            metrics.GradientAlignment,
            [torch.eye(2), torch.full((2, 2), math.nan)],
            ValueError,
            "grad: .*finite",
        ),
        (
            metrics.ReconstructionError,
            [torch.eye(2), torch.eye(2), torch.ones(2, 2)],
            TypeError,
            "observed: expected a boolean",
        ),
        (
            metrics.ReconstructionError,
            [torch.eye(2), torch.eye(2), torch.ones(1, 2, dtype=torch.bool)],
            ValueError,
            "observed: expected the shape",
        ),
        (
            metrics.NormalizedMargin,
            [torch.ones(2), torch.tensor([-1, 1]), torch.eye(2)],
            ValueError,
            "labels: expected classes 0 to 1",
        ),
        (
            metrics.NormalizedMargin,
            [torch.ones(2), torch.tensor([0.0, 1.0]), torch.eye(2)],
            TypeError,
            "labels: expected integer",
        ),
        (
            metrics.NormalizedMargin,
            [torch.ones(2, 1), torch.tensor([0, 0]), torch.eye(2)],
            ValueError,
            "two or more classes",
        ),
        (
            metrics.NormalizedMargin,
            [torch.ones(2, 3), torch.tensor([0]), torch.eye(3)],
            ValueError,
            "labels: expected shape",
        ),
        (
            metrics.NormalizedMargin,
            [torch.ones(0, 3), torch.ones(0).long(), torch.eye(3)],
            ValueError,
            "at least one sample",
        ),
        (
            metrics.NormalizedMargin,
            [torch.ones(1), torch.ones(1).long(), torch.ones(1, 1, 1)],
            ValueError,
            "weight: expected one matrix",
        ),
    ],
)
def test_bad_input_is_named(
    make: Callable[[], Metric], update: list[Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        make().update(*update)


def test_balancedness_needs_two_layers() -> None:
    for depth in (1, 2.5):
        with pytest.raises(ValueError, match=f"depth: expected an integer >= 2 but got {depth}"):
            metrics.Balancedness(depth)
