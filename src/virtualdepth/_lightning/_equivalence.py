"""The equivalence check: one matrix beside the explicit network that it should follow.

Source: arXiv 1802.06509, Theorem 1.
"""

import math
from collections.abc import Sequence
from numbers import Real
from operator import index
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from virtualdepth._lightning._losses import check_power, lp, mse
from virtualdepth.maths import (
    StructureName,
    balancedness,
    check_depth,
    check_imbalance,
    check_structure,
    end_to_end_gap,
)
from virtualdepth.networks import DeepLinear, init
from virtualdepth.optim import EndToEndSGD

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule
else:
    LightningModule = object

LOSSES = ("mse", "lp")


class EquivalenceMixin(LightningModule):
    r"""Train one matrix by the end-to-end rule beside the N-layer network it should follow.

    ``single``, an ``nn.Linear`` without bias, is trained by :class:`virtualdepth.EndToEndSGD`;
    ``deep``, a :class:`virtualdepth.DeepLinear`, by plain gradient descent on its factors. Both
    start from one product, see the same batches and share the learning rate, in two groups of one
    optimizer. Then

    .. math:: \mathrm{gap} = \|W - W_N \cdots W_1\|_F \,/\, \|W_N \cdots W_1\|_F

    is of first order in the learning rate over a fixed time (steps times learning rate): half the
    rate, half the gap.

    Logged at every step: ``gap`` and ``balancedness`` (the largest
    :math:`\|W_{j+1}^\top W_{j+1} - W_j W_j^\top\|_F`) after the step, ``loss_single`` and
    ``loss_deep`` before it. The start is drawn on the CPU, in torch's default dtype: for float64
    build the module under ``trainer.init_module()`` of ``Trainer(precision="64-true")``.

    Clipping the gradient by norm scales both models alike, and accumulating gradients makes a
    larger batch. Clipping by value breaks the equivalence and is refused.

    Args:
        in_features: n.
        out_features: m.
        depth: number of layers N, an integer >= 2.
        lr: learning rate, >= 0.
        structure: what the layers of ``deep`` are, see :class:`virtualdepth.DeepLinear`; the rule
            of ``single`` acts in the same blocks.
        imbalance: lambda >= 0, by how much one layer of ``deep`` is smaller than the others.
        optimizer_depth: depth that ``single`` is trained with; default N. Any other breaks the
            equivalence, which shows that the check can fail.
        optimizer_structure: the same for the structure.
        optimizer_imbalance: the same for the imbalance.
        precondition_frequency: of the optimizer, see :class:`virtualdepth.EndToEndSGD`.
        loss: "mse": the mean over samples of ||W x - y||^2 / 2; "lp": of sum_i |(W x - y)_i|^p / p.
        p: the exponent of "lp", >= 1.
        init_scale: scale of the start, see :func:`virtualdepth.init.balanced_`; with imbalance it
            may be 0, for a start of zero.
        hidden_features: hidden widths of ``deep``, each >= min(m, n), the default; None with any
            ``structure`` but "matrix".
        seed: seed of the start.

    Attributes:
        single: the layer that is trained as if it were deep.
        deep: the explicit network.
        largest_gap: the largest gap after any step so far; checkpoints keep it.

    Raises:
        TypeError: if a width, the seed or ``precondition_frequency`` is no integer, or an imbalance
            no real number.
        ValueError: if an argument is out of range, or ``depth`` has no explicit network to compare
            with.

    :meth:`fit` of a trainer that clips by value raises ValueError.

    Source: arXiv 1802.06509, Theorem 1; arXiv 1810.02281, Procedure 1 (the start).

    >>> from virtualdepth.lightning import EquivalenceModule
    >>> module = EquivalenceModule(in_features=8, out_features=3, depth=4, lr=0.1)
    >>> groups = module.configure_optimizers().param_groups
    >>> [(group["depth"], len(group["params"])) for group in groups]
    [(4, 1), (1, 4)]
    >>> module.measure()["gap"] < 1e-6  # both start from one product
    tensor(True)
    """

    single: nn.Linear
    deep: DeepLinear
    largest_gap: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        depth: int,
        lr: float,
        *,
        structure: StructureName = "matrix",
        imbalance: float = 0.0,
        optimizer_depth: float | None = None,
        optimizer_structure: StructureName | None = None,
        optimizer_imbalance: float | None = None,
        precondition_frequency: int = 1,
        loss: Literal["mse", "lp"] = "mse",
        p: float = 2,
        init_scale: float = 0.3,
        hidden_features: int | Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        depth = _check_twin_depth(depth)
        structure, imbalance = check_structure(structure), check_imbalance(imbalance)
        if optimizer_depth is not None:
            optimizer_depth = check_depth(optimizer_depth, "optimizer_depth")
        if optimizer_structure is not None:
            optimizer_structure = check_structure(optimizer_structure, "optimizer_structure")
        if optimizer_imbalance is not None:
            optimizer_imbalance = check_imbalance(optimizer_imbalance, name="optimizer_imbalance")
        check_imbalance(
            imbalance if optimizer_imbalance is None else optimizer_imbalance,
            depth if optimizer_depth is None else optimizer_depth,
            "optimizer_imbalance",
        )
        if loss not in LOSSES:
            raise ValueError(f"loss: expected one of {LOSSES} but got {loss!r}")
        p = check_power(p)
        # a checkpoint takes plain numbers only, not numpy's
        in_features = _integer("in_features", in_features)
        out_features = _integer("out_features", out_features)
        seed = _integer("seed", seed)
        precondition_frequency = _integer("precondition_frequency", precondition_frequency)
        lr, init_scale = float(lr), float(init_scale)
        if not lr >= 0:
            raise ValueError(f"lr: expected a number >= 0 but got {lr!r}")
        moves_zeros = init_scale == 0 and imbalance > 0
        if not moves_zeros and not 0 < init_scale < math.inf:
            raise ValueError(
                "init_scale: expected a finite number > 0, or 0 with an imbalance, but got "
                f"{init_scale!r}"
            )
        if hidden_features is not None:
            hidden_features = _plain_widths(hidden_features)
        self.save_hyperparameters()
        self.single = nn.Linear(in_features, out_features, bias=False, device="cpu")
        if moves_zeros:
            nn.init.zeros_(self.single.weight)
        else:
            init.balanced_(self.single, init_scale, generator=torch.Generator().manual_seed(seed))
        self.deep = DeepLinear.from_weight(
            self.single.weight, depth, hidden_features, structure=structure, imbalance=imbalance
        )
        self.register_buffer("largest_gap", torch.zeros((), device="cpu"))

    def configure_optimizers(self) -> Optimizer:
        """Make one optimizer with a group for each model: with depth, and plain.

        Returns:
            The optimizer; its parameters have names, which its errors use.
        """
        rule = {"precondition_frequency": self.hparams["precondition_frequency"]}
        for name in ("depth", "structure", "imbalance"):
            another = self.hparams[f"optimizer_{name}"]
            rule[name] = self.hparams[name] if another is None else another
        groups = [
            {"params": list(self.single.named_parameters("single")), **rule},
            {"params": list(self.deep.named_parameters("deep")), "depth": 1},
        ]
        return EndToEndSGD(groups, lr=self.hparams["lr"])

    def on_fit_start(self) -> None:
        """Refuse what would break the equivalence.

        Raises:
            ValueError: if the trainer clips gradients by value.
        """
        if self.trainer.gradient_clip_val and self.trainer.gradient_clip_algorithm == "value":
            raise ValueError(
                "gradient_clip_algorithm: expected 'norm' but got 'value', which changes the "
                "directions of both models differently: the gap would not shrink with the "
                "learning rate; use 'norm', or no clipping"
            )

    def losses(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the loss of each model on one batch.

        Args:
            inputs: x, (samples, n).
            targets: y, (samples, m).

        Returns:
            The losses of ``single`` and of ``deep``, scalars.

        Raises:
            ValueError: if ``targets`` has another shape than the models' outputs.
        """
        single, deep = self.single(inputs), self.deep(inputs)
        if targets.shape != single.shape:  # broadcasting would compare the wrong pairs
            raise ValueError(
                f"targets: expected shape {tuple(single.shape)} but got {tuple(targets.shape)}"
            )
        return self._loss(single - targets), self._loss(deep - targets)

    def _loss(self, residual: Tensor) -> Tensor:
        return mse(residual) if self.hparams["loss"] == "mse" else lp(residual, self.hparams["p"])

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the sum of the losses; neither model's gradient depends on the other.

        Args:
            batch: inputs (samples, n) and targets (samples, m).
            batch_idx: not used.

        Returns:
            The sum, a scalar.
        """
        single, deep = self.losses(*batch)
        self.log_dict({"loss_single": single.detach(), "loss_deep": deep.detach()})
        return single + deep

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take the step, then measure: after accumulation, before a checkpoint is written."""
        super().optimizer_step(*args, **kwargs)
        measures = self.measure()
        self.largest_gap.copy_(torch.maximum(self.largest_gap, measures["gap"]))
        self.log_dict(measures)

    @torch.no_grad()
    def measure(self) -> dict[str, Tensor]:
        """Compare the two models as they are now.

        Returns:
            The scalars ``gap`` and ``balancedness``, which are logged under these names.
        """
        gap = end_to_end_gap(self.single.weight, self.deep.end_to_end())  # 0 for two zeros
        defects = balancedness(self.deep.factors, structure=self.deep.structure)
        return {"gap": gap, "balancedness": defects.max()}


def _check_twin_depth(depth: float) -> int:
    is_number = isinstance(depth, Real) and not isinstance(depth, bool)
    if not is_number or not depth >= 2 or depth % 1 != 0:  # inf % 1 is NaN
        raise ValueError(
            f"depth: expected an integer >= 2 but got {depth!r}: there is no explicit network to "
            "compare with"
        )
    return int(depth)


def _integer(name: str, value: int) -> int:
    """Return a plain integer; refuse anything else by ``name``."""
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer but got {value!r}") from None


def _plain_widths(widths: int | Sequence[int]) -> int | list[int]:
    if isinstance(widths, Sequence):
        return [_integer("hidden_features", width) for width in widths]
    return _integer("hidden_features", widths)
