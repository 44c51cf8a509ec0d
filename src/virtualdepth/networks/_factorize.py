"""A copy of a model whose linear layers are pairs of thin layers."""

import copy
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any, TypeGuard, TypeVar, cast

from torch import Tensor, nn

from virtualdepth.distributed import is_distributed
from virtualdepth.maths import (
    Truncation,
    check_finite,
    largest_thin_rank,
    most_exact,
    truncate,
)
from virtualdepth.networks._deep_linear import DeepLinear
from virtualdepth.networks._factorization import Factorization, FactorizedLayer
from virtualdepth.networks._second_moments import second_moments
from virtualdepth.networks._thin_pair import LinearLayer, ThinPair

Model = TypeVar("Model", bound=nn.Module)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def factorize(
    model: Model,
    *,
    rank: int | Mapping[str, int] | None = None,
    energy: float | None = None,
    tolerance: float | None = None,
    inputs: Iterable[Any] | None = None,
) -> Model:
    r"""Copy a model, with pairs of thin layers in place of its linear layers.

    A layer :math:`x \mapsto W x + b`, W (m, n), becomes :math:`x \mapsto A (B x) + b` with A (m, r)
    and B (r, n), where that saves weights, r (m + n) < m n. With the second moment C of the layer's
    inputs and :math:`W C^{1/2} = U \Sigma V^\top` it is :math:`A = U_r,\ B = U_r^\top W`: of all
    pairs of rank r this one changes the layer's outputs on ``inputs`` least. Without ``inputs`` C
    is the identity, and A B the truncated singular value decomposition of W.

    Give exactly one of ``rank``, ``energy`` and ``tolerance``.

    Args:
        model: with ``nn.Linear`` layers, or convolutions of one pixel without groups. Any other
            layer stays as it is: also a layer that shares its weight with another one, that has
            hooks, whose weight lies on several processes, and those of ``nn.MultiheadAttention``
            and :class:`virtualdepth.DeepLinear`. The model itself is not changed.
        rank: r of each layer; or of those named, and no others.
        energy: in (0, 1]. Of each layer the least r that keeps this share of
            :math:`\sum_k \sigma_k^2` of :math:`W C^{1/2}`.
        tolerance: in [0, 1). Of each layer the least r whose relative error, that of
            :class:`FactorizedLayer`, is at most this. It is the energy 1 - tolerance^2.
        inputs: batches to run the copy on, for instance a DataLoader; a few hundred samples are
            enough where n is a few hundred. A batch is the input; a tuple or list that begins with
            it; or a mapping of the arguments of ``forward``. They run in ``eval`` mode. Layers that
            see none of them stay as they are.

    Returns:
        The copy, of the same class; a pair, if the model is one layer. Its attribute
        ``factorization`` is a table to print, with the rank and the error of each layer. The pairs
        are ordinary modules: train, save, export them.

    Raises:
        TypeError: if ``model`` is no module, a number is none, or ``inputs`` are no batches.
        ValueError: if not exactly one of the three is given, it is out of range, a name is none of
            the model's linear layers or of one that has to stay as it is, a weight or an input is
            not finite, or ``inputs`` are empty.

    Source: Eckart and Young (1936); Chen et al., DRONE (NeurIPS 2021).

    >>> import torch
    >>> layer = torch.nn.Linear(6, 6)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.diag(torch.tensor([4.0, 3.0, 0.0, 0.0, 0.0, 0.0])))
    >>> thin = factorize(layer, rank=1)
    >>> print(thin.factorization)
    layer        shape   rank  weights  kept  error
    (the model)  (6, 6)  1     36       12    0.6
    parameters: 42 before, 18 kept (42.9%)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module but got {type(model).__name__}")
    error = _allowed_error(rank, energy, tolerance)
    result = copy.deepcopy(model)
    layers = {name: module for name, module in result.named_modules() if _is_linear(module)}
    ranks = _ranks(rank, layers)
    notes = _reasons_to_stay(result, layers)
    notes |= dict.fromkeys(layers.keys() - ranks, "no rank was given")
    moments: Mapping[str, Tensor] = {}
    if inputs is not None:
        watched = {name: layer for name, layer in layers.items() if name not in notes}
        moments = second_moments(result, watched, inputs)
        notes |= dict.fromkeys(watched.keys() - moments, "saw no inputs")
    if isinstance(rank, Mapping):
        _check_named(rank, notes)
    pairs: dict[nn.Module | None, ThinPair] = {}
    rows = []
    for name, layer in layers.items():
        thin = None if name in notes else _truncation(name, layer, ranks[name], error, moments)
        if thin is not None and not isinstance(rank, Mapping) and not _saves(layer, thin):
            notes[name] = f"rank {len(thin.right)} saves nothing"
        elif thin is not None:
            pairs[layer] = ThinPair.of(layer, thin.left, thin.right)
        rows.append(_row(name, layer, thin, notes.get(name, "")))
    before = _size(result)
    result = _replaced(result, pairs)
    result.factorization = Factorization(tuple(rows), (before, _size(result)))  # type: ignore[assignment]
    return result


def _allowed_error(rank: object, energy: object, tolerance: object) -> float:
    """Translate energy or tolerance into the relative error to allow; 0 where a rank is given."""
    given = {
        name: value
        for name, value in (("rank", rank), ("energy", energy), ("tolerance", tolerance))
        if value is not None
    }
    if len(given) != 1:
        names = ", ".join(given) or "none of them"
        raise ValueError(f"factorize: expected one of rank, energy, tolerance but got {names}")
    ((name, value),) = given.items()
    if name == "rank":
        return 0.0
    if isinstance(value, bool) or not isinstance(value, Real):
        kind = type(value).__name__
        raise TypeError(f"{name}: expected a number but got {value!r} of type {kind}")
    number = float(value)
    if name == "energy":
        if not 0 < number <= 1:
            raise ValueError(f"energy: expected a share in (0, 1] but got {value!r}")
        return math.sqrt(1 - number)
    if not 0 <= number < 1:
        raise ValueError(f"tolerance: expected a relative error in [0, 1) but got {value!r}")
    return number


def _ranks(
    rank: int | Mapping[str, int] | None, layers: Mapping[str, LinearLayer]
) -> dict[str, int | None]:
    """Find the rank of each layer that may be replaced; None where the error decides."""
    if not isinstance(rank, Mapping):
        least = None if rank is None else _checked_rank("rank", rank)
        return dict.fromkeys(layers, least)
    for name, value in rank.items():
        if name not in layers:
            known = ", ".join(repr(each) for each in layers) or "none"
            raise ValueError(f"rank: expected names among {known} but got {name!r}")
        sides = _sides(layers[name])
        if _checked_rank(f"rank[{name!r}]", value) > min(sides):
            raise ValueError(f"rank[{name!r}]: expected at most {min(sides)} but got {value}")
    return dict(rank)


def _check_named(rank: Mapping[str, int], notes: Mapping[str, str]) -> None:
    """Refuse a rank for a layer that has to stay as it is."""
    for name in rank.keys() & notes.keys():
        raise ValueError(
            f"rank[{name!r}]: expected a layer that can be replaced but this one {notes[name]}; "
            "leave it out"
        )


def _checked_rank(name: str, rank: object) -> int:
    if isinstance(rank, bool) or not isinstance(rank, Integral):
        raise TypeError(
            f"{name}: expected an integer >= 1 but got {rank!r} of type {type(rank).__name__}"
        )
    if rank < 1:
        raise ValueError(f"{name}: expected an integer >= 1 but got {rank}")
    return int(rank)


def _is_linear(module: nn.Module) -> TypeGuard[LinearLayer]:
    """Tell whether a module multiplies vectors by a matrix; subclasses may do something else."""
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        one_pixel = set(module.kernel_size) == {1} and module.groups == 1
        return type(module) in _CONVOLUTIONS and one_pixel and module.padding_mode == "zeros"
    return type(module) is nn.Linear


def _reasons_to_stay(model: nn.Module, layers: Mapping[str, LinearLayer]) -> dict[str, str]:
    """Say why layers cannot be replaced; those that can are left out."""
    uses = Counter(id(p) for module in model.modules() for p in module._parameters.values())
    deep = [module for module in model.modules() if isinstance(module, DeepLinear)]
    explicit = {layer for network in deep for layer in network.layers}
    reasons = {}
    for name, layer in layers.items():
        weight = layer.weight
        if not weight.is_floating_point():
            reasons[name] = "has no real weight"
        elif is_distributed(weight):
            reasons[name] = "lies on several processes"
        elif layer in explicit:  # whose product is what counts
            reasons[name] = "belongs to a DeepLinear: take its to_linear()"
        elif uses[id(weight)] > 1:
            reasons[name] = "shares its weight"
        elif any(value for key, value in vars(layer).items() if key.endswith("_hooks")):
            reasons[name] = "has hooks"
        elif min(_sides(layer)) == 0:
            reasons[name] = "is empty"
    return reasons


def _sides(layer: LinearLayer) -> tuple[int, int]:
    return layer.weight.shape[0], layer.weight.shape[1]


def _truncation(
    name: str,
    layer: LinearLayer,
    rank: int | None,
    error: float,
    moments: Mapping[str, Tensor],
) -> Truncation:
    """Compute the thin factors of a layer's weight."""
    weight = layer.weight.detach().flatten(1)
    check_finite(weight, f"weight of {name or 'the model'}")
    return truncate(most_exact(weight), rank=rank, error=error, second_moment=moments.get(name))


def _saves(layer: LinearLayer, thin: Truncation) -> bool:
    return len(thin.right) <= largest_thin_rank(*_sides(layer))


def _row(name: str, layer: LinearLayer, thin: Truncation | None, note: str) -> FactorizedLayer:
    weight = layer.weight
    shape, count = tuple(weight.shape), weight.numel()
    if note or thin is None:
        return FactorizedLayer(name, shape, min(_sides(layer)), count, count, 0.0, note)
    rank = len(thin.right)
    return FactorizedLayer(name, shape, rank, count, rank * sum(_sides(layer)), thin.error)


def _replaced(model: Model, pairs: Mapping[nn.Module | None, ThinPair]) -> Model:
    """Put pairs in the place of layers, wherever a layer stands."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child in pairs:
                setattr(parent, name, pairs[child])
    return cast(Model, pairs.get(model, model))


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
