"""Starting points: balanced, identity-like, near zero."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from virtualdepth import DeepLinear, init, param_groups
from virtualdepth.maths import gaussian_start
from virtualdepth.optim._matrices import MatrixView

SHAPES = ((1, 1), (1, 6), (6, 1), (4, 4), (3, 7), (7, 3))
RANDOM = pytest.mark.parametrize("start", [init.balanced_, init.near_zero_])
EVERY = pytest.mark.parametrize("start", [init.balanced_, init.identity_, init.near_zero_])
Start = Callable[..., nn.Module]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def defects(network: DeepLinear) -> list[float]:
    return [
        float((after.T @ after - before @ before.T).detach().norm())
        for before, after in pairwise(network.factors)
    ]


def standard_deviation_is(entries: Tensor, expected: float) -> bool:
    """Two-sided chi-squared test of n Gaussian entries of mean 0, at the level 1e-4."""
    statistic = float(entries.square().sum()) / expected**2
    low, high = scipy.stats.chi2.ppf([0.5e-4, 1 - 0.5e-4], entries.numel())
    return low < statistic < high


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_balanced_is_balanced_with_the_product_a_single_layer_gets(
    shape: tuple[int, int], depth: int, scale: float
) -> None:
    m, n = shape
    hidden = None if depth == 1 else m + n
    deep = DeepLinear(n, m, depth, hidden, dtype=torch.float64)
    single = nn.Linear(n, m, dtype=torch.float64)
    init.balanced_(deep, scale, generator=seeded(3))
    init.balanced_(single, scale, generator=seeded(3))
    assert torch.allclose(deep.end_to_end(), single.weight, rtol=0, atol=1e-13 * scale)
    largest = float(torch.linalg.matrix_norm(single.weight.detach(), 2)) ** (2 / depth)
    assert max(defects(deep), default=0) <= 1e-13 * largest


def test_balanced_has_the_standard_deviation_it_says() -> None:
    """scale / sqrt(n) in each entry; so outputs have root mean square `scale`."""
    scale, n = 0.05, 100
    for layer in (nn.Linear(n, 200), DeepLinear(n, 200, 3)):
        init.balanced_(layer, scale, generator=seeded())
        weight = (layer.weight if isinstance(layer, nn.Linear) else layer.end_to_end()).detach()
        assert standard_deviation_is(weight, scale / math.sqrt(n))
        assert scipy.stats.kstest(weight.flatten() * math.sqrt(n) / scale, "norm").pvalue > 1e-3
    inputs = torch.randn(2000, n, generator=seeded(1))
    assert layer(inputs).square().mean().sqrt().item() == pytest.approx(scale, rel=0.05)


def test_near_zero_has_the_standard_deviation_it_says_in_every_factor() -> None:
    single = init.near_zero_(nn.Linear(100, 200), 1e-3, generator=seeded())
    assert standard_deviation_is(single.weight.detach(), 1e-3)
    network = init.near_zero_(DeepLinear(60, 50, 3, [70, 80]), 1e-3, generator=seeded())
    for factor in network.factors:
        assert standard_deviation_is(factor.detach(), 1e-3)
        assert scipy.stats.kstest(factor.detach().flatten() / 1e-3, "norm").pvalue > 1e-3
    assert min(defects(network)) > 0  # independent layers are balanced approximately only
    assert len({float(factor.detach()[0, 0]) for factor in network.factors}) == 3


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("depth", [1, 2, 3, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_identity(shape: tuple[int, int], depth: int, scale: float) -> None:
    m, n = shape
    expected = scale * np.eye(m, n)
    single = init.identity_(nn.Linear(n, m, dtype=torch.float64), scale)
    assert np.array_equal(single.weight.detach(), expected)
    deep = init.identity_(DeepLinear(n, m, depth, dtype=torch.float64), scale)
    assert np.allclose(deep.end_to_end().detach(), expected, rtol=0, atol=1e-13 * scale)
    assert max(defects(deep), default=0) <= 1e-13
    for factor in deep.factors:
        values = np.linalg.svd(factor.detach().numpy(), compute_uv=False)
        assert values == pytest.approx(scale ** (1 / depth), rel=1e-12)


def test_identity_has_scale_one_unless_told() -> None:
    assert torch.equal(init.identity_(nn.Linear(3, 3)).weight, torch.eye(3))


@EVERY
def test_returns_the_module_and_keeps_its_parameters(start: Start) -> None:
    for module in (nn.Linear(3, 2), DeepLinear(3, 2, 2), nn.Sequential(nn.Linear(3, 2))):
        parameters = list(module.parameters())
        versions = weights(module)
        assert start(module, 0.1) is module
        assert all(a is b for a, b in zip(parameters, module.parameters(), strict=True))
        assert all(p.requires_grad and p.is_leaf and p.grad is None for p in parameters)
        assert not torch.equal(parameters[0], versions[0])


@EVERY
def test_nested_modules_and_biases(start: Start) -> None:
    model = nn.ModuleDict(
        {
            "trunk": nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.LayerNorm(4), nn.Linear(4, 3)),
            "head": nn.ModuleList([DeepLinear(3, 2, 3), nn.Conv1d(1, 1, 1)]),
        }
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    start(model, 0.1)
    changed = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {
        "trunk.0.weight",
        "trunk.3.weight",
        *(f"head.0.layers.{j}.weight" for j in range(3)),
        "head.1.weight",
    }


@RANDOM
def test_layers_of_one_module_differ(start: Start) -> None:
    model = start(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), 0.1, generator=seeded())
    assert not torch.equal(model[0].weight, model[1].weight)


def test_a_deep_and_a_single_model_start_from_one_function() -> None:
    """Layer by layer, in one pass over the generator."""
    single = nn.Sequential(nn.Linear(5, 4, bias=False), nn.Linear(4, 3, bias=False)).double()
    deep = nn.Sequential(DeepLinear(5, 4, 3), DeepLinear(4, 3, 2)).double()
    for model in (single, deep):
        init.balanced_(model, 0.5, generator=seeded(7))
    inputs = torch.randn(6, 5, dtype=torch.float64, generator=seeded())
    assert torch.allclose(single(inputs), deep(inputs), rtol=0, atol=1e-13)


@RANDOM
def test_a_given_generator_leaves_the_global_one_alone(start: Start) -> None:
    for layer in (nn.Linear(3, 2), DeepLinear(3, 2, 3)):
        before = torch.get_rng_state()
        generator = seeded()
        start(layer, 0.1, generator=generator)
        assert torch.equal(torch.get_rng_state(), before)
        assert not torch.equal(generator.get_state(), seeded().get_state())
        first = weights(layer)
        start(layer, 0.1, generator=seeded())
        assert all(torch.equal(a, b) for a, b in zip(first, weights(layer), strict=True))


@RANDOM
def test_without_a_generator_the_global_one_draws(start: Start) -> None:
    layer = nn.Linear(3, 2)
    torch.manual_seed(5)
    first = weights(start(layer, 0.1))[0]
    second = weights(start(layer, 0.1))[0]
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(weights(start(layer, 0.1))[0], first)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtype_is_kept(start: Start, dtype: torch.dtype) -> None:
    for layer in (nn.Linear(3, 2, dtype=dtype), DeepLinear(3, 2, 2, dtype=dtype)):
        start(layer, 0.1)
        assert all(p.dtype == dtype and p.isfinite().all() for p in layer.parameters())


@EVERY
@pytest.mark.parametrize("scale", [0, -1.0, math.nan, math.inf])
def test_refuses_scales(start: Start, scale: float) -> None:
    layer = nn.Linear(3, 2)
    before = weights(layer)
    with pytest.raises(ValueError, match=r"^scale: expected a finite number > 0 but got"):
        start(layer, scale)
    assert torch.equal(weights(layer)[0], before[0])


@EVERY
@pytest.mark.parametrize("scale", ["0.1", None, True, torch.tensor(0.1)])
def test_refuses_scales_that_are_no_number(start: Start, scale: object) -> None:
    with pytest.raises(TypeError, match=r"^scale: expected a finite number > 0 but got"):
        start(nn.Linear(3, 2), scale)


@EVERY
def test_refuses_modules_without_a_linear_layer(start: Start) -> None:
    for module in (nn.ReLU(), nn.Sequential(), nn.Embedding(2, 2)):
        with pytest.raises(
            ValueError, match=f"^module: expected an nn.Linear, .* but got {type(module).__name__}"
        ):
            start(module, 0.1)


CONVOLUTIONS: tuple[tuple[type[nn.Module], int, int], ...] = (
    (nn.Conv1d, 1, 1),
    (nn.Conv2d, 1, 2),
    (nn.Conv3d, 1, 3),
    (nn.Conv2d, 2, 2),
    (nn.ConvTranspose1d, 1, 1),
    (nn.ConvTranspose2d, 2, 2),
    (nn.ConvTranspose3d, 1, 3),
)
CONVOLUTION = pytest.mark.parametrize(("kind", "groups", "axes"), CONVOLUTIONS)


def as_depth_sees(layer: nn.Module) -> Tensor:
    """The matrices of a convolution, (groups, m, n), by the view of the optimizer itself."""
    (group,) = (group for group in param_groups(layer, 3) if group["depth"] == 3)
    view = MatrixView.of({**group, "params": [layer.weight]}, 0)
    matrices = view.split(layer.weight.detach())
    return matrices if matrices.ndim == 3 else matrices.unsqueeze(0)


@CONVOLUTION
def test_convolutions_start_as_the_matrices_that_depth_sees(
    kind: type[nn.Module], groups: int, axes: int
) -> None:
    layer = kind(16, 24, 3, groups=groups, dtype=torch.float64)
    bias = layer.bias.detach().clone()
    assert init.balanced_(layer, 0.1, generator=seeded()) is layer
    matrices = as_depth_sees(layer)
    assert standard_deviation_is(matrices, 0.1 / math.sqrt(matrices.shape[-1]))
    # drawn as one matrix a group, so that a linear layer of that shape starts from the same
    assert torch.equal(matrices, gaussian_start(matrices, 0.1, seeded()))
    init.near_zero_(layer, 1e-3, generator=seeded())
    assert standard_deviation_is(as_depth_sees(layer), 1e-3)
    assert torch.equal(layer.bias, bias)


@CONVOLUTION
def test_an_identity_convolution_passes_its_channels_on(
    kind: type[nn.Module], groups: int, axes: int
) -> None:
    layer = init.identity_(kind(4, 4, 3, padding=1, groups=groups, bias=False), 0.5)
    inputs = torch.randn(2, 4, *[5] * axes, generator=seeded())
    assert torch.equal(layer(inputs), 0.5 * inputs)
    sigma = torch.linalg.svdvals(as_depth_sees(layer))
    torch.testing.assert_close(sigma, torch.full_like(sigma, 0.5))


@EVERY
def test_a_kernel_in_any_memory_format(start: Start) -> None:
    layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    torch.manual_seed(0)
    expected = start(nn.Conv2d(3, 4, 3), 0.1, **({} if start is init.identity_ else given()))
    found = start(layer, 0.1, **({} if start is init.identity_ else given()))
    assert torch.equal(found.weight, expected.weight)


def given() -> dict[str, torch.Generator]:
    return {"generator": seeded()}


@EVERY
def test_says_what_to_pass_for_a_weight(start: Start) -> None:
    weight = nn.Linear(3, 2).weight
    with pytest.raises(
        TypeError, match=r"^module: expected an nn.Linear, .* but got Parameter; pass the layer"
    ):
        start(weight, 0.1)
    with pytest.raises(TypeError, match=r"^module: .* but got generator; pass the layer"):
        start(nn.Linear(3, 2).parameters(), 0.1)


@EVERY
def test_refuses_weights_that_it_cannot_set_and_changes_none(start: Start) -> None:
    for out_of_reach, message in (
        (nn.LazyLinear(2), r"^1: expected an initialised layer but got a lazy one"),
        (nn.LazyConv2d(2, 1), r"^1: expected an initialised layer but got a lazy one"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), r"^1: .* a parametrized one"),
        (nn.utils.prune.identity(nn.Linear(2, 2), "weight"), r"^1: .* a parametrized one"),
    ):
        model = nn.Sequential(nn.Linear(2, 2), out_of_reach)
        before = model[0].weight.detach().clone()
        with pytest.raises(ValueError, match=message):
            start(model, 0.1)
        assert torch.equal(model[0].weight, before)
