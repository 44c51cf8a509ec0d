"""Each part of the experiment, in few steps."""

import math

import pytest
import torch

from virtualdepth.maths import balanced_factors
from virtualdepth_lab.reproduce.structures import lazy, recovery, slopes, width
from virtualdepth_lab.reproduce.structures.features import RELEVANT, draw_data, train
from virtualdepth_lab.reproduce.structures.lazy import distance, network_kernel, rule_kernel
from virtualdepth_lab.reproduce.structures.problem import NETWORKS, draw_signals

BY_NAME = {network.name: network for network in NETWORKS}


def test_the_gap_halves_with_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slopes, "NETWORKS", [BY_NAME["circulant"]])
    monkeypatch.setattr(slopes, "TIME", 0.04)
    *rows, difference = slopes.slope_rows([0], [2], (2e-3, 1e-3))
    assert [row["start"] for row in rows] == ["random", "random", "zero"]
    for row in [*rows, difference]:
        assert 0.75 < row["slope"] < 1.1  # of so few steps
        for wrong in (row["wrong_depth"], row["wrong_imbalance"]):
            assert wrong is None or wrong > 5 * row["gaps"][0]


def test_layers_of_every_structure_multiply_to_the_start() -> None:
    generator = torch.Generator().manual_seed(0)
    for network in NETWORKS:
        weight = torch.randn(network.shape, generator=generator, dtype=torch.float64)
        layers = balanced_factors(weight, 3, structure=network.structure, imbalance=0.5)
        torch.testing.assert_close(network.product(layers), weight)


@pytest.mark.parametrize(("depth", "imbalance"), [(2, 0.0), (3, 0.0), (2, 0.7), (3, 0.7)])
def test_the_matrix_of_the_rule_is_the_kernel_of_the_layers(depth: int, imbalance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    layers = balanced_factors(weight, depth, imbalance=imbalance)
    expected = rule_kernel(weight, depth, imbalance)
    torch.testing.assert_close(network_kernel(layers), expected, rtol=1e-10, atol=1e-10)


def test_distance_of_kernels() -> None:
    first = torch.diag(torch.tensor([1.0, 0.0]))
    assert distance(first, 3 * first) == 0
    assert distance(first, torch.diag(torch.tensor([0.0, 2.0]))) == 1


def test_a_large_imbalance_is_lazy() -> None:
    rich, lazy_row = lazy.lazy_rows([0], (0.01, 100.0), (2,))
    assert rich["kernel_distance"] > 0.1 > 1e-3 > lazy_row["kernel_distance"]
    assert rich["kernel_distance"] == pytest.approx(rich["of_the_network"], abs=0.02)


def test_a_wide_network_is_closer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(width, "TIME", 0.2)
    narrow, wide = width.width_rows([0], (50, 3200))
    assert wide["gap"] < narrow["gap"] / 4
    assert wide["gap_without_imbalance"] > 5 * wide["gap"]


def test_few_frequencies_are_found_by_depth_and_not_without() -> None:
    signals = draw_signals("circulant", 2, 3, torch.Generator().manual_seed(0))
    deep = signals.errors(recovery.follow_rule(signals, 3, 1e-3, 400))
    shallow = signals.errors(recovery.follow_rule(signals, 1, 0.0, 400))
    assert float(deep.max()) < recovery.FOUND < 0.5 < float(shallow.min())


@pytest.mark.parametrize(
    "trial", [{"lr": 3e-3, "penalty": 3.0}, {"lr": 0.02, "depth": 3, "imbalance": 0.03}]
)
def test_training_lowers_the_error(trial: dict[str, float]) -> None:
    few, many = train(0, 0, **trial), train(0, 400, **trial)
    assert few["step"] == 0 < many["step"] <= 400
    assert many["validation_mse"] < few["validation_mse"]
    assert few["share_of_relevant"] < 0.1 < 0.3 < many["share_of_relevant"] <= 1


def test_the_targets_depend_on_the_relevant_features_alone() -> None:
    inputs, targets = draw_data(0)
    assert targets.shape == (len(inputs),)
    assert float(targets.var()) == pytest.approx(1.01, abs=0.05)
    linear = torch.linalg.lstsq(inputs, targets[:, None]).solution.squeeze(-1)
    assert float(linear[RELEVANT:].abs().max()) < 5 / math.sqrt(len(inputs))
