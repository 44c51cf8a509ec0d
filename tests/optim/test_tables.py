"""Options, solvers and step scales: one table each, which everything else agrees with."""

import ast
import inspect
from pathlib import Path
from typing import Any, get_args

import pytest

import virtualdepth as vd
from virtualdepth.distributed import Scheme
from virtualdepth.optim import (
    SOLVERS,
    OriginName,
    SchemeName,
    SolverName,
    StepScaleName,
)
from virtualdepth.optim._options import OPTIONS
from virtualdepth.optim.solvers import Solver
from virtualdepth.optim.step_scales import STEP_SCALES, StepScale

OPTIM = Path(inspect.getfile(vd.EndToEndSGD)).parent
NAMES = {*SOLVERS, *STEP_SCALES}


@pytest.mark.parametrize("function", [vd.EndToEndSGD, vd.with_depth])
def test_a_signature_has_the_defaults_of_the_table(function: Any) -> None:
    parameters = inspect.signature(function).parameters
    found = {name: each.default for name, each in parameters.items() if name in OPTIONS}
    expected = {name: OPTIONS[name].default for name in found}
    if function is vd.with_depth:  # its depth has no default
        found.pop("depth")
        expected.pop("depth")
    assert len(found) >= 4
    assert found == expected


def test_the_types_of_options_name_what_the_tables_hold() -> None:
    assert get_args(SolverName) == tuple(SOLVERS)
    assert get_args(StepScaleName) == tuple(STEP_SCALES)
    assert {"auto", *get_args(SchemeName)} == {"auto", *(scheme.value for scheme in Scheme)} - {
        Scheme.LOCAL.value
    }
    for name, choices in (("origin", (None, *get_args(OriginName))), ("scheme", SchemeName)):
        for choice in choices if isinstance(choices, tuple) else get_args(choices):
            OPTIONS[name].check(name, choice)


def test_every_entry_follows_its_protocol() -> None:
    assert all(isinstance(solver, Solver) for solver in SOLVERS.values())
    assert all(isinstance(scale, StepScale) for scale in STEP_SCALES.values())


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


def test_no_module_branches_on_the_name_of_a_solver_or_step_scale() -> None:
    assert compared_names('if group["solver"] == "layers": pass') == {"layers"}
    assert compared_names('x = solver in {"polar", "tracked"}') == {"polar", "tracked"}
    found = {
        str(path.relative_to(OPTIM)): names
        for path in OPTIM.rglob("*.py")
        if (names := compared_names(path.read_text(encoding="utf-8")))
    }
    # the scheme "auto" of sharded parameters is another one
    assert found == {"sharded/_parameters.py": {"auto"}}
