"""Depth for an optimizer that exists: any of torch's, or of another package."""

from collections.abc import Mapping, Sequence
from functools import wraps
from typing import Any, TypedDict, TypeVar, Unpack, get_args
from weakref import ref

from torch import nn
from torch.optim import LBFGS, Optimizer

from virtualdepth.maths import StructureName
from virtualdepth.optim._depth_step import check_target
from virtualdepth.optim._depth_subclass import (
    DEPTH_OPTIONS,
    class_with_depth,
    has_depth,
    remember_counts,
)
from virtualdepth.optim._end_to_end_sgd import EndToEndSGD
from virtualdepth.optim._matrices import (
    Counts,
    Group,
    align_counts,
    learn_names,
    matrices,
    parameter_name,
)
from virtualdepth.optim._options import OnName, check_depth_options
from virtualdepth.optim._param_groups import Patterns, matrix_counts, named_counts
from virtualdepth.optim.solvers import StatelessSolverName
from virtualdepth.optim.step_scales import STEP_SCALES, MultiplierName

OptimizerT = TypeVar("OptimizerT", bound=Optimizer)


def with_depth(
    optimizer: OptimizerT,
    depth: float,
    *,
    on: OnName = "update",
    model: nn.Module | None = None,
    include: Patterns = None,
    exclude: Patterns = None,
    step_scale: MultiplierName = "unit",
    cap: float = 0.05,
    solver: StatelessSolverName = "auto",
    rtol: float | None = None,
    structure: StructureName = "matrix",
    imbalance: float = 0.0,
    precondition_frequency: int = 1,
) -> OptimizerT:
    r"""Give depth to an optimizer, in place. Schedulers may be made before or after.

    - ``on="update"``, the default: the optimizer takes its step, and W moves by
      :math:`P_{W}(W_\mathrm{new} - W)` instead. Optimizers that normalise, like Adam, would undo
      most of a preconditioner on their gradients.
    - ``on="gradient"``: each step sees P_W(G) in place of the gradient G. When the step is over,
      ``p.grad`` is as before. With plain SGD and ``step_scale="raw"`` this is
      :class:`virtualdepth.EndToEndSGD`, except for the weight decay.

    With ``step_scale="unit"``, the default, no matrix moves further, in the Frobenius norm, than
    the optimizer would have moved it, so a rate that is stable stays stable. The best rate
    is another one: try a few.

    A weight decay apart from the gradient (of AdamW, Muon, Adafactor, Lion, SGDW) acts on W itself
    in both modes, W -> (1 - lr lambda) W, once and not N times: P_W would shield from it just the
    small singular values. A decay that the optimizer adds to the gradient (of SGD, Adam) passes
    through what the gradient passes through.

    Neither is what Adam does to the factors of a deep network. No rule on W alone does that.

    A step that raises, or would leave a weight or state that is not finite, changes nothing. For
    that, weights and state are copied before each step.

    Options are live: ``group["depth"] = 3`` takes effect at the next step. Checkpoints load whether
    they were saved with depth or without. Without, the depth given here stays.

    Args:
        optimizer: any torch.optim.Optimizer.
        depth: number of layers N, real, 1 <= N <= inf, for groups that have no "depth" of their
            own (those of :func:`virtualdepth.param_groups` have).
        on: "update" or "gradient".
        model: the model that these parameters belong to. Its modules then say what is a matrix, as
            in :func:`virtualdepth.param_groups`.
        include: what gets depth, see :func:`virtualdepth.param_groups`. Without ``model`` the names
            are those that the optimizer was made with.
        exclude: what does not get depth, see :func:`virtualdepth.param_groups`.
        step_scale: "unit", "raw" or, for gradients only, "rms"; as in
            :class:`virtualdepth.EndToEndSGD`, whose default is "raw".
        cap: as in :class:`virtualdepth.EndToEndSGD`.
        solver: "auto" or "svd"; as in :class:`virtualdepth.EndToEndSGD`.
        rtol: as in :class:`virtualdepth.EndToEndSGD`.
        structure: as in :class:`virtualdepth.EndToEndSGD`.
        imbalance: as in :class:`virtualdepth.EndToEndSGD`.
        precondition_frequency: as in :class:`virtualdepth.EndToEndSGD`.

    Returns:
        ``optimizer``.

    Raises:
        TypeError: if ``optimizer`` is not a torch.optim.Optimizer, or wraps one; if it has depth
            already; if something other than torch's schedulers has replaced its ``step``; or if it
            is LBFGS with on="gradient", because LBFGS evaluates several gradients in a step.
        ValueError: if an option is out of range or a pattern matches nothing.

    >>> import torch
    >>> weight = nn.Parameter(torch.diag(torch.tensor([4.0, 9.0])))
    >>> optimizer = with_depth(torch.optim.SGD([weight], lr=0.1), depth=2, step_scale="raw")
    >>> weight.sum().backward()
    >>> optimizer.step()
    >>> weight.detach(), weight.grad
    (tensor([[ 3.2000, -1.3000],
            [-1.3000,  7.2000]]), tensor([[1., 1.],
            [1., 1.]]))
    """
    given = locals()
    options = {name: given[name] for name in DEPTH_OPTIONS}
    give_depth([optimizer], options, on=on, model=model, include=include, exclude=exclude)
    return optimizer


class DepthChoice(TypedDict):
    """What :func:`with_depth` is asked for beside the options of groups."""

    on: OnName
    model: nn.Module | None
    include: Patterns
    exclude: Patterns


def give_depth(
    optimizers: Sequence[Optimizer], options: Mapping[str, Any], **choice: Unpack[DepthChoice]
) -> None:
    """Give depth to all of several optimizers, or to none if one is refused."""
    check_depth_options(options)
    completed = [_completed(optimizer, options, choice) for optimizer in optimizers]
    made = [class_with_depth(type(optimizer), choice["on"]) for optimizer in optimizers]
    for optimizer, deep, (groups, counts) in zip(optimizers, made, completed, strict=True):
        for group, complete in zip(optimizer.param_groups, groups, strict=True):
            group.update(complete)
        optimizer.defaults.update(options)
        patched_by_scheduler = vars(optimizer).pop("step", None) is not None
        optimizer.__class__ = deep
        remember_counts(optimizer, counts)
        if patched_by_scheduler:
            _let_schedulers_count(optimizer)


def _completed(
    optimizer: Optimizer, options: Mapping[str, Any], choice: DepthChoice
) -> tuple[list[Group], Counts | None]:
    """Return what the groups will be, checked before anything changes, and the counts."""
    on = choice["on"]
    _check_optimizer(optimizer, on)
    counts = _counts(optimizer, options["structure"], choice)
    groups = [{**options, **group} for group in optimizer.param_groups]
    for number, group in enumerate(groups):
        learn_names(zip(group.get("param_names", ()), group["params"], strict=False))
        if counts is not None:
            group["matrix_counts"] = [counts.setdefault(p, 1) for p in group["params"]]
        check_target(group, number, on=on)
        STEP_SCALES[group["step_scale"]].init_memory(group)
        matrices(group, number, {})
    return groups, counts


def keeps_depth(
    optimizer: Optimizer, options: Mapping[str, Any], **choice: Unpack[DepthChoice]
) -> bool:
    """Tell whether an optimizer got this depth before, by modules; refuse one that got another."""
    groups = [group for group in optimizer.param_groups if "matrix_counts" in group]
    if not has_depth(optimizer) or not groups:
        return False
    for group in groups:
        align_counts(group, vars(optimizer).get("_depth_counts", {}))
    counts = _counts(optimizer, options["structure"], choice) or {}
    asked: dict[str, Any] = {**options, "on": choice["on"]}
    asked["include, exclude"] = [
        [
            counts.get(p, count)
            for p, count in zip(group["params"], group["matrix_counts"], strict=True)
        ]
        for group in groups
    ]
    kept = {**optimizer.defaults, "on": type(optimizer)._on}  # type: ignore[attr-defined]
    kept["include, exclude"] = [group["matrix_counts"] for group in groups]
    for name, value in asked.items():
        if kept[name] != value:
            raise ValueError(
                f"{name}: expected {kept[name]!r}, with which this optimizer got depth before, but "
                f"got {value!r}; change optimizer.param_groups, or make a new optimizer"
            )
    remember_counts(optimizer, counts)
    return True


def _check_optimizer(optimizer: Optimizer, on: OnName) -> None:
    if on not in get_args(OnName):
        raise ValueError(f"on: expected one of {get_args(OnName)} but got {on!r}")
    if not isinstance(optimizer, Optimizer) or any(
        isinstance(value, Optimizer) for value in vars(optimizer).values()
    ):
        raise TypeError(
            f"optimizer: expected a torch.optim.Optimizer but got {type(optimizer).__name__}; give "
            "depth to the optimizer inside a wrapper, before it is wrapped"
        )
    if has_depth(optimizer) or isinstance(optimizer, EndToEndSGD):
        raise TypeError(
            f"optimizer: expected one without depth but got {type(optimizer).__name__}; its depth "
            'is optimizer.param_groups[i]["depth"]'
        )
    if on == "gradient" and isinstance(optimizer, LBFGS):
        raise TypeError(
            "optimizer: expected one that takes one gradient per step but got LBFGS; use "
            "on='update'"
        )
    patch = vars(optimizer).get("step")
    # a scheduler's patch wraps the class's step; one on top of it would copy its mark
    by_scheduler = hasattr(patch, "_wrapped_by_lr_sched")
    if patch is not None and not (by_scheduler and patch.__wrapped__ is type(optimizer).step):
        raise TypeError(
            "optimizer: expected its class's own step but got one patched on the object; call "
            "with_depth first"
        )


def _counts(optimizer: Optimizer, structure: StructureName, choice: DepthChoice) -> Counts | None:
    model, include, exclude = choice["model"], choice["include"], choice["exclude"]
    if model is not None:
        return matrix_counts(model, include, exclude, structure)
    if include is None and exclude is None:
        return None
    if not all("param_names" in group for group in optimizer.param_groups):
        raise ValueError(
            "include, exclude: expected an optimizer of named parameters but got one without "
            "names; make it of model.named_parameters(), or pass model="
        )
    named = {
        parameter_name(group, number, index): parameter
        for number, group in enumerate(optimizer.param_groups)
        for index, parameter in enumerate(group["params"])
    }
    return named_counts(named, include, exclude, structure)


def _let_schedulers_count(optimizer: Optimizer) -> None:
    """Patch the new step as a scheduler had patched the old: to know whether it was called."""
    weak, function = ref(optimizer), type(optimizer).step

    @wraps(function)
    def step(*args: Any, **kwargs: Any) -> Any:
        alive = weak()
        assert alive is not None  # it is being called
        alive._opt_called = True  # type: ignore[attr-defined]
        return function(alive, *args, **kwargs)

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
    optimizer.step = step  # type: ignore[method-assign]
