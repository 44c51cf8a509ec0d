"""Start and train one matrix, or the explicit network it stands for, on a full-batch loss."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.optim import Optimizer

from virtualdepth.maths import (
    balanced_factors,
    effective_rank,
    end_to_end_product,
    gaussian_start,
    layer_sizes,
    nuclear_norm,
)
from virtualdepth.optim import EndToEndSGD, with_depth
from virtualdepth_lab.ablate.options import MatrixOptions

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]  # W -> gradient and loss
Metrics = dict[str, float]
Report = Callable[[int, Metrics], None]  # takes a step number and the metrics so far

REPORTS = 20  # how often a cell that may be pruned reports
TORCH_OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}


def train(
    options: MatrixOptions,
    shape: tuple[int, int],
    objective: Objective,
    smoothness: float,
    measure: Callable[[Tensor], Metrics],
    *,
    steps: int,
    report: Report | None = None,
) -> Metrics:
    """Train W of ``shape`` until the loss asked for, for at most ``steps`` gradients.

    ``smoothness`` is the largest curvature of the loss in W; ``measure`` takes W. The metrics are
    those of ``measure``, "loss", "effective_rank", "nuclear_norm", "evaluations" and "reached".
    """
    factors = [factor.requires_grad_() for factor in start_of(options, shape)]
    optimizer = _optimizer(options, factors, smoothness)
    loss, evaluations = math.inf, 0

    def closure() -> float:
        nonlocal loss, evaluations
        product = end_to_end_product(factors) if len(factors) > 1 else factors[0]
        gradient, value = objective(product.detach())
        loss, evaluations = float(value), evaluations + 1
        optimizer.zero_grad()
        if loss > options.stop_loss:  # without gradients nothing moves
            torch.autograd.backward(product, gradient)
        return loss

    def measured(weight: Tensor) -> Metrics:
        return {
            **measure(weight),
            "loss": loss,
            "effective_rank": float(effective_rank(weight.double())),
            "nuclear_norm": float(nuclear_norm(weight.double())),
        }

    while loss > options.stop_loss and evaluations < steps:
        end = end_to_end_product([factor.detach().clone() for factor in factors])
        optimizer.step(closure)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at evaluation {evaluations}")
        if report is not None and evaluations % max(1, steps // REPORTS) == 0:
            report(evaluations, measured(end))
    return {**measured(end), "evaluations": evaluations, "reached": loss <= options.stop_loss}


def start_of(options: MatrixOptions, shape: tuple[int, int]) -> list[Tensor]:
    """Draw [W(0)] of shape (m, n), or the layers of an explicit network, first applied first.

    >>> options = MatrixOptions(seed=0, depth=3, start="identity", init_scale=0.5)
    >>> start_of(options, (2, 2))
    [tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]], dtype=torch.float64)]
    """
    # The truth of a problem is drawn from the seed itself.
    generator = torch.Generator().manual_seed(options.seed + 1)
    explicit = options.model == "explicit"
    if options.start == "layers":
        layers = _gaussian_layers(options, shape, generator)
        factors = layers if explicit else [end_to_end_product(layers)]
    else:
        weight = torch.eye(*shape, dtype=torch.float64) * options.init_scale
        if options.start == "balanced":
            weight = gaussian_start(weight, options.init_scale, generator)
        factors = (
            balanced_factors(weight, int(options.depth), hidden_features=options.width)
            if explicit
            else [weight]
        )
    return [factor.to(getattr(torch, options.dtype)) for factor in factors]


def _gaussian_layers(
    options: MatrixOptions, shape: tuple[int, int], generator: torch.Generator
) -> list[Tensor]:
    depth = int(options.depth)
    sizes = layer_sizes(shape[1], shape[0], depth, options.width)
    return [
        gaussian_start(
            torch.empty(rows, columns, dtype=torch.float64),
            options.init_scale ** (1 / depth),
            generator,
        )
        for columns, rows in pairwise(sizes)
    ]


def _optimizer(options: MatrixOptions, factors: list[Tensor], smoothness: float) -> Optimizer:
    depth = options.depth if options.model == "single" else 1
    if options.step_scale == "auto":
        if depth == 1:
            return EndToEndSGD(factors, lr=1 / smoothness, depth=1)
        return EndToEndSGD(factors, depth=depth, step_scale="auto", cap=options.cap)
    lr = float(options.lr)  # type: ignore[arg-type]  # checked: only "auto" has none
    if options.optimizer == "sgd":
        return EndToEndSGD(
            factors, lr=lr, depth=depth, step_scale=options.step_scale, cap=options.cap
        )
    optimizer: Optimizer = TORCH_OPTIMIZERS[options.optimizer](factors, lr=lr)
    if depth == 1:
        return optimizer
    return with_depth(
        optimizer, depth, step_scale=options.step_scale, cap=options.cap, on="gradient"
    )
