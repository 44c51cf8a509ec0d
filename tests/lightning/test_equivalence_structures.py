"""The check with structures and imbalance, in real runs of a trainer."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from tests.lightning.conftest import IN_FEATURES, OUT_FEATURES, Flavour, Repeated
from torch import Tensor

Make = Callable[..., Any]
Data = tuple[Tensor, Tensor]
SIZES = (IN_FEATURES, OUT_FEATURES)
STRUCTURES = ("matrix", "rows", "columns", "diagonal", "circulant")
EVERY = pytest.mark.parametrize("structure", STRUCTURES)


def gaps(trainer: Make, flavour: Flavour, data: Data, **options: Any) -> list[float]:
    """The largest gaps at two learning rates, over the time 1."""
    found = []
    for lr in (0.02, 0.01):
        module = flavour.vd.EquivalenceModule(*SIZES, 3, lr, **options)
        trainer(max_epochs=1).fit(module, Repeated(data, round(1 / lr)))
        found.append(module.largest_gap.item())
    return found


def order(found: list[float]) -> float:
    return math.log2(found[0] / found[1])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("structure", "start"),
    [*((structure, {}) for structure in STRUCTURES), ("rows", {"init_scale": 0.0})],
    ids=str,
)
def test_one_layer_follows(
    flavour: Flavour, trainer: Make, data: Data, structure: str, start: dict[str, float]
) -> None:
    found = gaps(trainer, flavour, data, structure=structure, imbalance=0.5, **start)
    assert 0.9 < order(found) < 1.1


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "wrong",
    [{"optimizer_imbalance": 0.0}, {"optimizer_structure": "matrix"}, {"optimizer_depth": 2}],
    ids=str,
)
def test_another_rule_is_caught(
    flavour: Flavour, trainer: Make, data: Data, wrong: dict[str, Any]
) -> None:
    found = gaps(trainer, flavour, data, structure="rows", imbalance=0.5, **wrong)
    assert abs(order(found)) < 0.2


@pytest.mark.usefixtures("float64")
@EVERY
def test_groups_and_measures(flavour: Flavour, structure: str) -> None:
    module = flavour.vd.EquivalenceModule(
        *SIZES, 3, 0.1, structure=structure, imbalance=0.5, optimizer_imbalance=0.25
    )
    single, deep = module.configure_optimizers().param_groups
    assert [single[name] for name in ("depth", "structure", "imbalance")] == [3, structure, 0.25]
    assert deep["depth"] == 1
    assert module.deep.structure == structure
    measures = module.measure()
    assert measures["gap"] < 1e-14
    blocks = {"rows": 3, "matrix": 3}.get(structure, 5 if structure == "columns" else 15)
    torch.testing.assert_close(
        measures["balancedness"], torch.tensor(0.5 * math.sqrt(blocks)), rtol=1e-12, atol=0
    )


@pytest.mark.usefixtures("float64")
def test_a_start_of_zero(flavour: Flavour, trainer: Make, data: Data) -> None:
    module = flavour.vd.EquivalenceModule(*SIZES, 2, 0.01, imbalance=0.5, init_scale=0)
    assert module.single.weight.abs().max() == 0
    assert module.measure()["gap"] == 0
    (before, after), *_ = pairwise(module.deep.factors)
    assert torch.equal(before, torch.zeros(3, 5))
    torch.testing.assert_close(after.detach() @ after.detach().T, 0.5 * torch.eye(3))
    trainer(max_epochs=1).fit(module, Repeated(data, 1))
    # the first step is that of plain gradient descent at the rate lr lambda
    gradient = -data[1].T @ data[0] / len(data[0])
    torch.testing.assert_close(
        module.single.weight.detach(), -0.01 * 0.5 * gradient, rtol=1e-12, atol=1e-15
    )


@pytest.mark.usefixtures("float64")
def test_a_checkpoint_knows_structure_and_imbalance(
    flavour: Flavour, trainer: Make, data: Data, tmp_path: Any
) -> None:
    options = {"structure": "columns", "imbalance": 0.5, "optimizer_imbalance": 0.25}
    module = flavour.vd.EquivalenceModule(*SIZES, 3, 0.01, **options)
    run = trainer(max_epochs=1)
    run.fit(module, Repeated(data, 3))
    run.save_checkpoint(tmp_path / "run.ckpt")
    again = flavour.vd.EquivalenceModule.load_from_checkpoint(tmp_path / "run.ckpt")
    assert {name: again.hparams[name] for name in options} == options
    assert torch.equal(again.deep.end_to_end(), module.deep.end_to_end())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"structure": "toeplitz"}, "^structure: expected one of"),
        ({"optimizer_structure": "toeplitz"}, "^optimizer_structure: expected one of"),
        ({"imbalance": -0.5}, "^imbalance: expected a finite number >= 0"),
        ({"optimizer_imbalance": math.nan}, "^optimizer_imbalance: expected a finite number >= 0"),
        (
            {"imbalance": 0.5, "optimizer_depth": math.inf},
            "^optimizer_imbalance: expected 0 at infinite depth but got 0.5",
        ),
        ({"structure": "rows", "hidden_features": 4}, "^hidden_features: expected None"),
        ({"imbalance": 0.5, "init_scale": -1.0}, "^init_scale: expected a finite number > 0"),
    ],
    ids=str,
)
def test_options_out_of_range(flavour: Flavour, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flavour.vd.EquivalenceModule(*SIZES, 3, 0.1, **options)
