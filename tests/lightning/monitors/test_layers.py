"""Which matrices a pattern chooses."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

import virtualdepth as vd
from virtualdepth._lightning.monitors._layers import find_layers, refuse_sharded


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.deep = vd.DeepLinear(4, 3, depth=2)
        self.chain = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
        self.mixed = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
        self.conv = nn.Conv2d(2, 3, 5)
        self.grouped = nn.Conv2d(2, 2, 3, groups=2)
        self.transposed = nn.ConvTranspose2d(2, 3, 5)
        self.embedding = nn.Embedding(7, 2)
        self.norm = nn.LayerNorm(2)
        self.attention = nn.MultiheadAttention(4, 2)


ALL = ["deep", "chain", "mixed.0", "mixed.2", "conv", "attention.out_proj"]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ("*", ALL),
        ("deep", ["deep"]),
        ("deep*", ["deep"]),
        ("deep.layers.*", ["deep.layers.0", "deep.layers.1"]),
        ("*.0", ["deep.layers.0", "chain.0", "mixed.0"]),
        ("chain.?", ["chain.0", "chain.1"]),
        (["conv", "deep"], ["deep", "conv"]),
        (["deep", "deep.layers.1"], ["deep", "deep.layers.1"]),
        (["*", "deep.layers.1"], ["deep", "deep.layers.1", *ALL[1:]]),
        ("mixed*", ["mixed.0", "mixed.2"]),
    ],
)
def test_patterns(patterns: str | list[str], names: list[str]) -> None:
    assert [layer.name for layer in find_layers(Model(), patterns)] == names


def test_products_only() -> None:
    assert [layer.name for layer in find_layers(Model(), "*", products_only=True)] == [
        "deep",
        "chain",
    ]


@pytest.mark.parametrize("patterns", ["Deep", "", "conv.weight", "grouped", ["*", "embedding"]])
def test_unmatched_pattern_is_an_error_that_lists_the_names(patterns: str | list[str]) -> None:
    with pytest.raises(ValueError, match=r"layers: expected .* matches none of \['deep', 'deep.la"):
        find_layers(Model(), patterns)


def test_no_pattern_is_an_error() -> None:
    with pytest.raises(ValueError, match="layers: expected one pattern or several but got none"):
        find_layers(Model(), [])


def test_single_layers_are_no_products() -> None:
    with pytest.raises(ValueError, match="name of a DeepLinear or a Sequential of Linear layers"):
        find_layers(Model(), "conv", products_only=True)


def test_matrices() -> None:
    model = Model()
    found = {layer.name: layer for layer in find_layers(model, "*")}
    weight = model.chain[1].weight @ model.chain[0].weight
    assert torch.equal(found["chain"].matrix(), weight)
    assert torch.equal(found["deep"].matrix(), model.deep.end_to_end())
    assert torch.equal(found["conv"].matrix(), model.conv.weight.reshape(3, 50))
    assert not any(layer.matrix().requires_grad for layer in found.values())
    assert {name for name, layer in found.items() if layer.has_bias} == set(ALL) - {"deep"}


def test_half_precision_is_measured_in_float32() -> None:
    (layer,) = find_layers(nn.ModuleDict({"x": nn.Linear(3, 2, dtype=torch.bfloat16)}), "x")
    assert layer.matrix().dtype == torch.float32


def test_parametrized_weights_are_left_out() -> None:
    """They are made anew at each access, which moves the buffers of spectral_norm."""
    model = Model()
    for layer in (model.deep.layers[0], model.chain[0], model.mixed[0], model.conv):
        nn.utils.parametrizations.spectral_norm(layer)
    names = [layer.name for layer in find_layers(model, "*")]
    assert names == ["deep.layers.1", "chain.1", "mixed.2", "attention.out_proj"]


def test_diverged_weights_are_named() -> None:
    model = Model()
    nn.init.constant_(model.conv.weight, torch.nan)
    (layer,) = find_layers(model, "conv")
    with pytest.raises(ValueError, match="conv: expected finite numbers"):
        layer.matrix()


def test_replaced_parameters_are_seen() -> None:
    model = Model()
    (layer,) = find_layers(model, "chain")
    model.chain[0].weight = nn.Parameter(torch.ones(5, 3))
    assert torch.equal(layer.matrix(), model.chain[1].weight @ torch.ones(5, 3))


def test_sharded_weights_are_refused(tmp_path: Path) -> None:
    model = Model()
    refuse_sharded(find_layers(model, "*"))
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        mesh = init_device_mesh("cpu", (1,))
        whole = model.chain[1].weight.detach()
        model.chain[1].weight = nn.Parameter(distribute_tensor(whole, mesh, [Shard(0)]))
        with pytest.raises(TypeError, match="chain: expected weights that are whole on each proc"):
            refuse_sharded(find_layers(model, "*"))
    finally:
        torch.distributed.destroy_process_group()
