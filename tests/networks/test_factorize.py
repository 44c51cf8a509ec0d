"""Thin copies of models against Eckart and Young, by numpy."""

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import virtualdepth as vd
from virtualdepth.networks import ThinPair


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=seeded(seed))


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 12)).double()


def best(matrix: Tensor, rank: int) -> Tensor:
    """The nearest matrix of a rank."""
    u, sigma, vh = np.linalg.svd(matrix.detach().numpy(), full_matrices=False)
    return torch.from_numpy((u[:, :rank] * sigma[:rank]) @ vh[:rank])


def effective(layer: nn.Module) -> Tensor:
    """The matrix by which a layer without a bias multiplies."""
    columns = layer.weight.shape[1]
    bias = layer.bias if layer.bias is not None else 0.0
    return (layer(torch.eye(columns, dtype=torch.float64)) - bias).mT


@pytest.mark.parametrize("rank", [1, 4, 7])
@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (20, 20)])
def test_without_inputs_it_is_the_nearest_matrix(shape: tuple[int, int], rank: int) -> None:
    model = nn.Linear(*shape).double()
    thin = vd.factorize(model, rank=rank)
    expected = best(model.weight, rank)
    torch.testing.assert_close(effective(thin), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(thin.weight, expected, rtol=0, atol=1e-12)
    (row,) = thin.factorization
    error = torch.linalg.norm(model.weight - expected) / torch.linalg.norm(model.weight)
    assert row.error == pytest.approx(error.item(), rel=1e-10)
    assert (row.rank, row.after) == (rank, rank * sum(shape))


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_with_inputs_outputs_are_the_nearest_of_their_rank(rank: int) -> None:
    model, inputs = mlp(), randn(500, 20) @ randn(20, 20, seed=1)
    thin = vd.factorize(model, rank=rank, inputs=inputs.split(120))
    hidden = model[:2](inputs)  # what the second layer sees in the model itself
    for index, seen in ((0, inputs), (2, hidden)):
        expected = best(seen @ model[index].weight.mT, rank)
        torch.testing.assert_close(
            thin[index](seen) - model[index].bias, expected, atol=1e-8, rtol=0
        )
        whole = seen @ model[index].weight.mT
        error = torch.linalg.norm(whole - expected) / torch.linalg.norm(whole)
        assert thin.factorization.layers[index // 2].error == pytest.approx(error.item(), rel=1e-8)


def test_inputs_of_a_subspace_need_no_more_than_its_dimension() -> None:
    model = nn.Linear(40, 30, bias=False).double()
    inputs = randn(200, 3) @ randn(3, 40, seed=1)
    thin = vd.factorize(model, tolerance=1e-6, inputs=[inputs])
    assert thin.factorization.layers[0].rank == 3
    torch.testing.assert_close(thin(inputs), model(inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_energy_and_tolerance_take_the_least_rank(share: float) -> None:
    model = nn.Linear(60, 60).double()
    with torch.no_grad():
        model.weight.mul_(0.7 ** torch.arange(60))
    squares = np.linalg.svd(model.weight.detach().numpy(), compute_uv=False) ** 2
    kept = np.cumsum(squares) / squares.sum()
    expected = int(np.argmax(kept >= share)) + 1
    assert vd.factorize(model, energy=share).factorization.layers[0].rank == expected
    by_tolerance = vd.factorize(model, tolerance=(1 - share) ** 0.5)
    assert by_tolerance.factorization.layers[0].rank == expected


CONVOLUTIONS = {
    1: (nn.Conv1d, {"stride": 3, "padding": 1}),
    2: (nn.Conv2d, {"stride": (2, 3), "padding": (1, 0)}),
    3: (nn.Conv3d, {"stride": (1, 2, 1)}),
}


@pytest.mark.parametrize("dimensions", CONVOLUTIONS)
@pytest.mark.parametrize("batched", [True, False])
def test_convolutions_of_one_pixel(dimensions: int, batched: bool) -> None:
    kind, options = CONVOLUTIONS[dimensions]
    model = kind(9, 8, 1, **options).double()
    inputs = randn(*([4] if batched else []), 9, *[7] * dimensions)
    thin = vd.factorize(model, rank=3, inputs=[inputs])
    (row,) = thin.factorization
    before, after = model(inputs), thin(inputs)
    bias = model.bias.reshape(-1, *[1] * dimensions)
    lost = torch.linalg.vector_norm(after - before) / torch.linalg.vector_norm(before - bias)
    assert row.error == pytest.approx(lost.item(), rel=1e-8)
    assert thin.weight.shape == model.weight.shape
    pixels = (before - bias).movedim(-dimensions - 1, -1).reshape(-1, 8)
    assert row.error == pytest.approx(
        (torch.linalg.norm(pixels - best(pixels, 3)) / torch.linalg.norm(pixels)).item(), rel=1e-8
    )


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 40)
        self.inner = self.again = nn.Linear(40, 40)
        self.head = nn.Linear(40, 10)
        self.head.weight = self.embedding.weight
        self.watched, self.unused, self.grouped = (
            nn.Linear(40, 40),
            nn.Linear(40, 40),
            nn.Conv1d(4, 4, 1, groups=2),
        )
        self.watched.register_forward_hook(lambda *_: None)

    def forward(self, words: Tensor, *, scale: float = 1.0) -> Tensor:
        x = self.inner(self.embedding(words) * scale)
        return self.head(self.watched(self.again(input=x)))


def test_layers_that_have_to_stay() -> None:
    model, words = Tied(), torch.arange(10)
    batch = {"words": words, "scale": 2.0}
    thin = vd.factorize(model, rank=5, inputs=[batch])
    notes = {layer.name: layer.note for layer in thin.factorization}
    assert notes == {
        "inner": "",
        "head": "shares its weight",
        "watched": "has hooks",
        "unused": "saw no inputs",
    }
    assert isinstance(thin.inner, ThinPair)
    assert thin.again is thin.inner  # one layer in two places stays one
    assert thin.head.weight is thin.embedding.weight
    assert thin(**batch).shape == (10, 10)


@pytest.mark.parametrize("grad", [True, False])
def test_layers_that_torch_reads_by_name_go_on(grad: bool) -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 64, dropout=0.0, batch_first=True).double().eval()
    thin = vd.factorize(layer, energy=0.8)
    assert {row.name for row in thin.factorization if not row.note} == {"linear1", "linear2"}
    dense = copy.deepcopy(layer)
    with torch.no_grad():
        for name in ("linear1", "linear2"):
            getattr(dense, name).weight.copy_(getattr(thin, name).weight)
    inputs = randn(3, 5, 16)
    with torch.set_grad_enabled(grad):  # without gradients torch takes a path of its own
        torch.testing.assert_close(thin(inputs), dense(inputs), rtol=0, atol=1e-12)


def test_the_model_and_the_generator_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(20, 20), nn.BatchNorm1d(20), nn.Dropout(), nn.Linear(20, 20))
    model[0].weight.requires_grad_(False)
    model[3].eval()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    thin = vd.factorize(model, rank=2, inputs=[torch.randn(50, 20, generator=seeded())])
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    torch.testing.assert_close(thin[1].running_mean, model[1].running_mean, rtol=0, atol=0)
    assert [each.training for each in thin] == [True, True, True, False]
    assert [p.requires_grad for p in thin[0].parameters()] == [False, False, True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_dtypes(dtype: torch.dtype) -> None:
    model = nn.Linear(30, 20, dtype=dtype)
    thin = vd.factorize(model, rank=6)
    assert {p.dtype for p in thin.parameters()} == {dtype}
    expected = best(model.weight.double(), 6)
    close = {"rtol": 0, "atol": 4 * torch.finfo(dtype).eps}
    torch.testing.assert_close(thin.weight.double(), expected, **close)


def test_it_ships_by_file_and_by_ranks() -> None:
    model, file = mlp(), io.BytesIO()
    thin = vd.factorize(model, energy=0.6)
    torch.save(thin, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    again = vd.factorize(mlp(), rank=thin.factorization.ranks)
    again.load_state_dict(thin.state_dict())
    inputs = randn(7, 20)
    for other in (loaded, again, copy.deepcopy(thin)):
        assert torch.equal(other(inputs), thin(inputs))


def test_pairs_are_trained_and_exported() -> None:
    thin = vd.factorize(mlp(), rank=3)
    inputs = randn(16, 20)
    optimizer = vd.EndToEndSGD(vd.param_groups(thin, depth=2), lr=0.05)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = thin(inputs).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    exported = torch.export.export(thin, (inputs,)).module()
    torch.testing.assert_close(exported(inputs), thin(inputs), rtol=0, atol=1e-12)


def test_a_rank_that_saves_nothing_leaves_the_layer() -> None:
    thin = vd.factorize(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 100)), rank=4)
    assert [row.note for row in thin.factorization] == ["rank 4 saves nothing", ""]
    named = vd.factorize(nn.Sequential(nn.Linear(8, 8)), rank={"0": 8})
    assert named.factorization.layers[0].after == 128  # asked for by name
    assert "rank 4 saves nothing" in str(thin.factorization)


def test_an_explicit_network_stays_whole() -> None:
    model = nn.Sequential(vd.DeepLinear(30, 30, 2), nn.Linear(30, 30)).double()
    thin = vd.factorize(model, rank=3)
    notes = [row.note for row in thin.factorization]
    assert notes == ["belongs to a DeepLinear: take its to_linear()"] * 2 + [""]
    torch.testing.assert_close(thin[0].end_to_end(), model[0].end_to_end(), rtol=0, atol=0)


def test_zeros_and_empty_layers() -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 1))
    model[1].weight = nn.Parameter(torch.empty(0, 10))
    nn.init.zeros_(model[0].weight)
    thin = vd.factorize(model, energy=0.9, inputs=[torch.zeros(3, 10)])
    assert [(row.rank, row.note) for row in thin.factorization] == [(1, ""), (0, "is empty")]
    assert torch.count_nonzero(thin[0].weight) == 0


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "nothing": ({}, ValueError, "expected one of rank, energy, tolerance but got none"),
    "two": ({"rank": 1, "energy": 0.9}, ValueError, "but got rank, energy"),
    "zero": ({"rank": 0}, ValueError, "rank: expected an integer >= 1 but got 0"),
    "real": ({"rank": 2.0}, TypeError, "rank: expected an integer >= 1 but got 2.0"),
    "flag": ({"energy": True}, TypeError, "energy: expected a number but got True"),
    "word": ({"tolerance": "small"}, TypeError, "tolerance: expected a number but got 'small'"),
    "energy": ({"energy": 1.1}, ValueError, r"energy: expected a share in \(0, 1\] but got 1.1"),
    "nan": ({"tolerance": float("nan")}, ValueError, "tolerance: expected a relative error"),
    "name": ({"rank": {"1": 2}}, ValueError, "rank: expected names among '0', '2' but got '1'"),
    "large": ({"rank": {"0": 21}}, ValueError, r"rank\['0'\]: expected at most 20 but got 21"),
    "tensor": ({"rank": 1, "inputs": randn(3, 20)}, TypeError, "inputs: expected an iterable"),
    "none": ({"rank": 1, "inputs": []}, ValueError, "inputs: expected at least one batch"),
    "inf": (
        {"rank": 1, "inputs": [torch.full((2, 20), torch.inf, dtype=torch.float64)]},
        ValueError,
        "inputs of 0: expected finite numbers",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    options, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        vd.factorize(mlp(), **options)


def test_what_is_refused_of_models() -> None:
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module but got Tensor"):
        vd.factorize(torch.ones(2, 2), rank=1)  # type: ignore[type-var]
    broken = mlp()
    with torch.no_grad():
        broken[2].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="weight of 2: expected finite numbers"):
        vd.factorize(broken, rank=1)
    with pytest.raises(ValueError, match=r"rank\['head'\]: .* this one shares its weight; leave"):
        vd.factorize(Tied(), rank={"head": 2})
