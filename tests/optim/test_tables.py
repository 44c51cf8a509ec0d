"""Options, solvers and step scales: one table each, which everything else agrees with."""

import ast
import inspect
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from torch import nn

import virtualdepth as vd
from virtualdepth._lightning import VirtualDepthMixin
from virtualdepth.distributed import Scheme
from virtualdepth.maths import STRUCTURES, StructureName
from virtualdepth.optim import (
    SOLVERS,
    MultiplierName,
    OriginName,
    SchemeName,
    SolverName,
    StatelessSolverName,
    StepScaleName,
)
from virtualdepth.optim._options import OPTIONS
from virtualdepth.optim.solvers import Solver
from virtualdepth.optim.step_scales import STEP_SCALES, StepScale

OPTIM = Path(inspect.getfile(vd.EndToEndSGD)).parent
NAMES = {*SOLVERS, *STEP_SCALES, *STRUCTURES}


# what is given in a group, and not to a constructor
OF_GROUPS = {name for name, option in OPTIONS.items() if option.is_view} | {
    "origin_scale",
    "scheme",
    "hidden_features",
}
# what another optimizer has its own of, or cannot follow
NOT_OF_OTHERS = {name for name, option in OPTIONS.items() if option.of_torch} | {"origin"}


def defaults_in_signature(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    return {name: each.default for name, each in parameters.items() if name in OPTIONS}


def test_the_constructor_lists_the_options_of_the_table() -> None:
    expected = {name: option.default for name, option in OPTIONS.items() if name not in OF_GROUPS}
    assert defaults_in_signature(vd.EndToEndSGD) == expected


@pytest.mark.parametrize("function", [vd.with_depth, VirtualDepthMixin], ids=lambda f: f.__name__)
def test_what_gives_depth_lists_the_options_of_the_table(function: Any) -> None:
    expected = {
        name: option.default
        for name, option in OPTIONS.items()
        if name not in OF_GROUPS | NOT_OF_OTHERS
    }
    expected["depth"] = inspect.Parameter.empty  # it has to be given
    expected["step_scale"] = "unit"  # the rate of the optimizer is the user's own
    assert defaults_in_signature(function) == expected


def test_the_callback_takes_what_with_depth_takes_and_hands_it_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {name: object() for name in inspect.signature(vd.with_depth).parameters}
    del given["optimizer"], given["model"]
    given["depth"] = 3.0
    calls: list[dict[str, Any]] = []
    module = sys.modules[VirtualDepthMixin.__module__]
    monkeypatch.setattr(module, "keeps_depth", lambda *_, **__: False)
    monkeypatch.setattr(
        module, "give_depth", lambda _, options, **choice: calls.append({**options, **choice})
    )
    VirtualDepthMixin(**given).on_fit_start(SimpleNamespace(optimizers=[object()]), "the module")
    assert calls == [{**given, "model": "the module"}]


def test_the_types_of_options_name_what_the_tables_hold() -> None:
    assert get_args(SolverName) == tuple(SOLVERS)
    assert get_args(StepScaleName) == tuple(STEP_SCALES)
    assert get_args(StructureName) == tuple(STRUCTURES)
    stateless = [name for name, solver in SOLVERS.items() if not solver.keeps_state]
    multipliers = [name for name, scale in STEP_SCALES.items() if not scale.chooses_step]
    assert get_args(StatelessSolverName) == tuple(stateless)
    assert get_args(MultiplierName) == tuple(multipliers)
    assert {"auto", *get_args(SchemeName)} == {"auto", *(scheme.value for scheme in Scheme)} - {
        Scheme.LOCAL.value
    }
    for name, choices in (("origin", (None, *get_args(OriginName))), ("scheme", SchemeName)):
        for choice in choices if isinstance(choices, tuple) else get_args(choices):
            OPTIONS[name].check(name, choice)


def test_what_solvers_and_step_scales_cannot_have_is_said_of_options_there_are() -> None:
    for each in (*SOLVERS.values(), *STEP_SCALES.values()):
        assert set(each.cannot) <= set(OPTIONS)
        assert all(each.cannot.values())


def test_every_entry_follows_its_protocol() -> None:
    assert all(isinstance(solver, Solver) for solver in SOLVERS.values())
    assert all(isinstance(scale, StepScale) for scale in STEP_SCALES.values())


@pytest.mark.parametrize("moves", [False, True])
def test_a_solver_that_fills_in_nothing_is_a_clear_error(
    moves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Idle(Solver):
        moves_parameter = moves

        def solve(self, matrices: Any, finite: Any) -> None:
            """Find nothing."""

    layer = nn.Linear(2, 3)
    optimizer = vd.EndToEndSGD(layer.named_parameters(), depth=3, solver="svd")
    layer(torch.ones(2)).sum().backward()
    monkeypatch.setitem(SOLVERS, "svd", Idle())  # type: ignore[misc]
    before = [p.detach().clone() for p in layer.parameters()]
    with pytest.raises(RuntimeError, match=r"^weight: expected Idle\.solve to fill in"):
        optimizer.step()
    assert all(map(torch.equal, before, layer.parameters()))


def compared_names(source: str) -> set[str]:
    """The names of solvers and step scales that a module branches on."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        tested: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            tested = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            tested = [node.value]
        constants = (each for one in tested for each in ast.walk(one))
        found |= {each.value for each in constants if isinstance(each, ast.Constant)} & NAMES
    return found


def test_no_module_branches_on_the_name_of_a_solver_step_scale_or_structure() -> None:
    assert compared_names('if group["solver"] == "layers": pass') == {"layers"}
    assert compared_names('x = solver in {"layers", "tracked"}') == {"layers", "tracked"}
    found = {
        str(path.relative_to(OPTIM)): names
        for path in OPTIM.rglob("*.py")
        if (names := compared_names(path.read_text(encoding="utf-8")))
    }
    # the scheme "auto" of sharded parameters is another one
    assert found == {"sharded/_parameters.py": {"auto"}}
