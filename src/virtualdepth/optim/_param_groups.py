"""Which parameter of a model gets depth, and as which matrices: by the type of its module."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from virtualdepth.distributed import check_not_flattened, is_flattened
from virtualdepth.maths import STRUCTURES, Structure, StructureName, check_depth
from virtualdepth.optim._matrices import check_structure, learn_names
from virtualdepth.optim._options import OPTIONS

Pattern = str | type[nn.Module] | Callable[[str, nn.Module | None, Tensor], bool]
Patterns = Pattern | Iterable[Pattern] | None

_PLAIN_VIEW = {name: option.default for name, option in OPTIONS.items() if option.is_view}
_MATRIX: StructureName = OPTIONS["structure"].default
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_GATES: dict[type[nn.Module], int] = {nn.LSTM: 4, nn.LSTMCell: 4, nn.GRU: 3, nn.GRUCell: 3}
_PLAIN = (
    nn.Embedding,
    nn.EmbeddingBag,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._NormBase,
)


class _Place(NamedTuple):
    """A parameter where a model uses it, with the modules around it from the outside in."""

    name: str
    modules: dict[str, nn.Module]
    parameter: Tensor

    @property
    def leaf(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def module(self) -> nn.Module | None:
        return next(reversed(self.modules.values()), None)


def param_groups(
    model: nn.Module,
    depth: float,
    *,
    include: Patterns = None,
    exclude: Patterns = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Sort a model's named parameters into groups: some with depth, the others plain (depth 1).

    Depth goes to every weight of two dimensions or more. The weight is seen as its module uses it:

    - [out, in] of a linear layer,
    - [out, in * height * width] of a convolution, transposed for a transposed convolution,
    - one matrix for each group of a grouped convolution,
    - one matrix for each block of packed weights: query, key and value of attention, or the gates
      of an LSTM or GRU.

    Biases, norms and embeddings stay plain; an embedding gets depth if ``include`` names it. A
    parameter that is used in several places appears once. It is plain if it is plain in one of
    them.

    With another ``structure`` than "matrix", depth goes to every weight that has such blocks:
    vectors too with "diagonal" and "circulant". Biases and norms get it if ``include`` names them.

    Args:
        model: whose parameters to sort.
        depth: number of layers N, real, 1 <= N <= inf.
        include: what gets depth; default: all that is said above. One pattern, or several. A
            pattern is the name of a parameter or module with wildcards ("head*", "*.attention"), a
            type of module, or a callable of (name, module, parameter).
        exclude: what does not get depth; patterns of the same kind.
        **options: any other options of the optimizer, for all groups.

    Returns:
        Groups for :class:`virtualdepth.EndToEndSGD`, or for another optimizer that
        :func:`virtualdepth.with_depth` then gives depth.

    Raises:
        TypeError: if ``model`` is not a module, if a pattern is of another kind, or if
            FullyShardedDataParallel has flattened a weight that would get depth.
        ValueError: if a pattern matches nothing, if a weight that would get depth is parametrized,
            or if the structure has no meaning for its module.

    >>> model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Flatten(), nn.Linear(8, 2))
    >>> for group in param_groups(model, 3, exclude="2"):
    ...     print(group["depth"], group["conv_groups"], [name for name, _ in group["params"]])
    3 2 ['0.weight']
    1.0 1 ['0.bias', '2.weight', '2.bias']
    """
    check_depth(depth)
    structure = options.get("structure", _MATRIX)
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for place, view in _sorted_places(list(_places(model)), include, exclude, structure):
        keys = {"depth": 1.0, **_PLAIN_VIEW} if view is None else {"depth": depth, **view}
        group = groups.setdefault(tuple(keys.values()), {"params": [], **keys, **options})
        group["params"].append((place.name, place.parameter))
    return list(groups.values())


def matrix_counts(
    model: nn.Module, include: Patterns, exclude: Patterns, structure: StructureName
) -> dict[Tensor, int]:
    """Count the matrices that each parameter of a model is; 0 for a plain one."""
    return _counts(list(_places(model)), include, exclude, structure)


def named_counts(
    named: Mapping[str, Tensor], include: Patterns, exclude: Patterns, structure: StructureName
) -> dict[Tensor, int]:
    """Count the same for parameters known by name alone: 1, or 0 for a plain one."""
    places = [_Place(name, {}, p) for name, p in named.items()]
    return _counts(places, include, exclude, structure)


def _counts(
    places: list[_Place], include: Patterns, exclude: Patterns, structure: StructureName
) -> dict[Tensor, int]:
    return {
        place.parameter: 0 if view is None else view["conv_groups"] * view["blocks"]
        for place, view in _sorted_places(places, include, exclude, structure)
    }


def _sorted_places(
    places: list[_Place], include: Patterns, exclude: Patterns, structure: StructureName
) -> Iterator[tuple[_Place, dict[str, Any] | None]]:
    """Yield each parameter once, where it is used first, with its view; None if it is plain."""
    OPTIONS["structure"].check("structure", structure)
    blocks = STRUCTURES[structure]
    has_blocks = partial(_has_blocks, structure=blocks)
    included = None if include is None else _matches("include", include, places, has_blocks)
    excluded = _matches("exclude", exclude, places)
    plain = {
        id(place.parameter)
        for place in places
        if not _gets_depth(place, included, blocks) or _in(place, excluded)
    }
    seen: set[int] = set()
    for place in places:
        if _in(place, seen):
            continue
        seen.add(id(place.parameter))
        if _in(place, plain):
            yield place, None
        else:
            _check_place(place)
            view = {**_PLAIN_VIEW, **_view(place)}
            check_structure(place.name, view, structure)
            yield place, view


def _places(model: nn.Module) -> Iterator[_Place]:
    """Find every parameter of a model, by each of its names."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model: expected an nn.Module but got {type(model).__name__}; pass the model itself, "
            "since its modules tell how each parameter is used"
        )
    learn_names(model.named_parameters())
    around = dict(model.named_modules(remove_duplicate=False))
    for name, parameter in model.named_parameters(remove_duplicate=False):
        parts = name.split(".")[:-1]
        paths = [".".join(parts[:length]) for length in range(len(parts) + 1)]
        yield _Place(name, {path: around[path] for path in paths}, parameter)


def _in(place: _Place, parameters: set[int]) -> bool:
    return id(place.parameter) in parameters


def _gets_depth(place: _Place, included: set[int] | None, structure: Structure) -> bool:
    if included is None:
        wanted = not isinstance(place.module, _PLAIN) and not place.leaf.startswith("bias")
    else:
        wanted = _in(place, included)
    return wanted and _has_blocks(place, structure)


def _has_blocks(place: _Place, structure: Structure) -> bool:
    # a lazy parameter has no shape yet, a flattened one no longer: wanted, and then refused
    p = place.parameter
    return is_lazy(p) or is_flattened(p) or p.ndim >= structure.least_dimensions


def _anything(place: _Place) -> bool:
    return True


def _matches(
    option: str,
    patterns: Patterns,
    places: list[_Place],
    counts: Callable[[_Place], bool] = _anything,
) -> set[int]:
    if patterns is None:
        return set()
    if isinstance(patterns, str | type) or callable(patterns):
        patterns = [patterns]
    if not isinstance(patterns, Iterable):
        raise _no_pattern(option, patterns)
    matched: set[int] = set()
    for pattern in patterns:
        found = [place for place in places if _match(option, pattern, place)]
        if not any(counts(place) for place in found):
            raise ValueError(
                f"{option}: expected a pattern that matches a weight but got {pattern!r}; names "
                f"are like {[place.name for place in places if counts(place)][:3]}"
            )
        matched |= {id(place.parameter) for place in found}
    return matched


def _match(option: str, pattern: Pattern, place: _Place) -> bool:
    if isinstance(pattern, str):
        # torch.compile puts a module around the one that it compiles
        names = [each.replace("_orig_mod.", "") for each in (place.name, *place.modules)]
        return any(fnmatchcase(name, pattern) for name in (place.name, *place.modules, *names))
    if isinstance(pattern, type):
        return any(isinstance(module, pattern) for module in place.modules.values())
    if callable(pattern):
        return bool(pattern(place.name, place.module, place.parameter))
    raise _no_pattern(option, pattern)


def _no_pattern(option: str, given: Any) -> TypeError:
    return TypeError(
        f"{option}: expected names with wildcards, types of modules or callables but got {given!r}"
    )


def _view(place: _Place) -> dict[str, Any]:
    module = place.module
    if isinstance(module, _CONVOLUTIONS):
        return {"conv_groups": module.groups}
    if isinstance(module, _TRANSPOSED):
        return {"conv_groups": module.groups, "transposed": True}
    if isinstance(module, nn.MultiheadAttention) and place.leaf == "in_proj_weight":
        return {"blocks": 3}
    gates = next((count for kind, count in _GATES.items() if isinstance(module, kind)), 1)
    if place.leaf.startswith(("weight_ih", "weight_hh")):
        return {"blocks": gates}
    return {}


def _check_place(place: _Place) -> None:
    check_not_flattened(place.name, place.parameter)
    hooks = () if place.module is None else place.module._forward_pre_hooks.values()
    # these keep (weight_g, weight_v) or weight_orig, and make the weight before each forward pass
    old_style = any(
        (isinstance(hook, WeightNorm | SpectralNorm) and place.leaf.startswith(f"{hook.name}_"))
        or (isinstance(hook, BasePruningMethod) and place.leaf == f"{hook._tensor_name}_orig")
        for hook in hooks
    )
    inside = any(
        isinstance(module, parametrize.ParametrizationList) for module in place.modules.values()
    )
    if old_style or inside:
        raise ValueError(
            f"{place.name}: expected the weight itself but got a part of its parametrization "
            "(weight_norm, spectral_norm, pruning, ...), and depth acts on the weight as a whole; "
            "remove the parametrization, or exclude this parameter"
        )
