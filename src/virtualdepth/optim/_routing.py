"""What an optimizer does with each parameter, as a table."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from virtualdepth._text import aligned
from virtualdepth.distributed import Plan, Scheme, local_part
from virtualdepth.optim._matrices import align_counts, matrix_of, parameter_name
from virtualdepth.optim._options import OPTIONS
from virtualdepth.optim._step import Session
from virtualdepth.optim.sharded import parts
from virtualdepth.optim.solvers import solver_label, solver_of


@dataclass(frozen=True)
class Route:
    """What happens to one parameter.

    Attributes:
        parameter: its name, or its place if the optimizer was given no names.
        shape: of the parameter.
        matrix: what depth acts on, as "m x n" or "count of m x n"; "-" for a plain parameter. For a
            structure these are its blocks.
        depth: number of layers N; 1 for a plain parameter.
        structure: the blocks that depth acts in, see :class:`virtualdepth.EndToEndSGD`; "-" for a
            plain parameter.
        imbalance: how much smaller one layer is than the others; 0 for a plain parameter.
        precondition_frequency: at every how many steps W is decomposed; 1 where no decomposition is
            needed.
        solver: "svd", "tracked" or "layers"; "closed form" for a single row or column;
            "eigh", of sums of W^T W, with the scheme "gram"; "plain" for torch's own step.
        state_bytes: what the optimizer keeps for it now, in this process.
        scheme: for a parameter that lies on several processes "local", "gram", "gather" or "owner",
            see :class:`virtualdepth.distributed.Scheme`; "-" for others.
        step_bytes: what this process sends in a step because of the scheme, by the ring model.
        note: what else a user should know; printed below the table.
    """

    parameter: str
    shape: tuple[int, ...]
    matrix: str
    depth: float
    solver: str
    state_bytes: int
    scheme: str = "-"
    step_bytes: int = 0
    structure: str = "-"
    imbalance: float = 0.0
    precondition_frequency: int = 1
    note: str = ""


# each column of the table, and what has to have other values than these to show it
_COLUMNS: Mapping[str, tuple[str, Collection[object]]] = {
    "parameter": ("parameter", ()),
    "shape": ("shape", ()),
    "matrix": ("matrix", ()),
    "depth": ("depth", ()),
    "structure": ("structure", ("-", OPTIONS["structure"].default)),
    "imbalance": ("imbalance", (OPTIONS["imbalance"].default,)),
    "precondition_frequency": (
        "precondition_frequency",
        (OPTIONS["precondition_frequency"].default,),
    ),
    "solver": ("solver", ()),
    "state_bytes": ("state_bytes", ()),
    "scheme": ("scheme", ("-",)),
    "step_bytes": ("scheme", ("-",)),
}


@dataclass(frozen=True)
class RoutingTable:
    """One :class:`Route` for each parameter; ``print`` it.

    Attributes:
        routes: in the order of the optimizer's groups.
    """

    routes: tuple[Route, ...]

    def __iter__(self) -> Iterator[Route]:
        return iter(self.routes)

    def __len__(self) -> int:
        return len(self.routes)

    def __str__(self) -> str:
        shown = [
            name
            for name, (decisive, usual) in _COLUMNS.items()
            if not usual or any(getattr(each, decisive) not in usual for each in self.routes)
        ]
        header = [name.replace("_", " ") for name in shown]
        cells = [[_cell(getattr(route, name)) for name in shown] for route in self.routes]
        lines = aligned([header, *cells])
        lines += [f"{route.parameter}: {route.note}" for route in self.routes if route.note]
        if any(route.depth == float("inf") for route in self.routes):
            lines.append(
                "depth inf freezes the row and column spaces of a weight: use it for square "
                "weights of full rank"
            )
        return "\n".join(lines)


def routing(optimizer: Optimizer) -> RoutingTable:
    """Show what an optimizer with depth does with each of its parameters.

    For parameters that lie on several processes the table shows the scheme, and what a step sends.
    It is made from shapes and placements alone: nothing is sent for it.

    Args:
        optimizer: an :class:`virtualdepth.EndToEndSGD`, or one that got depth by
            :func:`virtualdepth.with_depth`. With any other, a group without a "depth" is plain.

    Returns:
        A table to print or to iterate over.

    Raises:
        TypeError: if ``optimizer`` has no parameter groups, or a sharded parameter is placed in a
            way that is not supported.
        ValueError: if an option of a group was changed to what sharded parameters cannot follow.

    >>> import torch
    >>> from virtualdepth.optim import EndToEndSGD, param_groups
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3, groups=2), torch.nn.Linear(8, 1))
    >>> print(routing(EndToEndSGD(param_groups(model, depth=3))))
    parameter  shape         matrix       depth  solver       state bytes
    0.weight   (8, 2, 3, 3)  2 of 4 x 18  3      svd          0
    0.bias     (8,)          -            1      plain        0
    1.bias     (1,)          -            1      plain        0
    1.weight   (1, 8)        1 x 8        3      closed form  0
    """
    if not hasattr(optimizer, "param_groups"):
        raise TypeError(f"optimizer: expected an optimizer but got {type(optimizer).__name__}")
    for group in optimizer.param_groups:
        align_counts(group, vars(optimizer).get("_depth_counts", {}))
    plans = {part.parameter: part.plan for part in parts(optimizer.param_groups)}
    return RoutingTable(
        tuple(
            _route(optimizer, number, index, plans.get(parameter))
            for number, group in enumerate(optimizer.param_groups)
            for index, parameter in enumerate(group["params"])
        )
    )


def _route(optimizer: Optimizer, number: int, index: int, plan: Plan | None) -> Route:
    group = optimizer.param_groups[number]
    parameter = group["params"][index]
    state = optimizer.state.get(parameter, {})
    shown, depth, label, note = "-", 1.0, "plain", ""
    structure, imbalance, frequency = "-", 0.0, 1
    tensors = [value for value in state.values() if isinstance(value, Tensor)]
    session = getattr(optimizer, "_depth_session", None)
    caches = session.caches if isinstance(session, Session) else None
    matrix = matrix_of(group, number, index, optimizer.state, caches)
    if matrix is not None:
        depth, label = float(group["depth"]), solver_label(matrix)
        count, rows, columns = matrix.view.blocks(parameter)
        structure, imbalance = (
            group.get(name, OPTIONS[name].default) for name in ("structure", "imbalance")
        )
        if matrix.decomposes:
            frequency = group.get("precondition_frequency", 1)
        shown = f"{count} of " * (count > 1) + f"{rows} x {columns}"
        note = solver_of(matrix).note(state)
        tensors += solver_of(matrix).cached_tensors(matrix)
    route = Route(
        parameter_name(group, number, index),
        () if is_lazy(parameter) else tuple(parameter.shape),
        shown,
        depth,
        label,
        sum(local_part(value).nbytes for value in tensors),
        structure=structure,
        imbalance=float(imbalance),
        precondition_frequency=frequency,
        note=note,
    )
    if plan is None:
        return route
    if plan.scheme is Scheme.GRAM:
        route = replace(route, solver="eigh")
    return replace(route, scheme=plan.scheme.value, step_bytes=plan.step_bytes)


def _cell(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
