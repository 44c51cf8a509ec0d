"""How the code may depend on itself and on others: a ladder, doors, no cycles, short files."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import virtualdepth

SOURCE = Path(virtualdepth.__file__).parents[1]
FACADE, LAB = "virtualdepth", "virtualdepth_lab"
LONGEST = 330  # lines of a file

# Lowest first. A part imports from lower rungs only; members of one rung do not import each other.
LADDER = (
    {"_extras", "_interrupt", "_text"},
    {"maths"},
    {"distributed"},
    {"optim", "networks", "metrics", "completion"},
    {"theory"},  # which asks an optimizer for its P_W
    {FACADE},
    {"plotting", "runs"},
    {"_lightning", "data"},  # mixins that know neither flavour of Lightning
    {"lightning", "lightning_unified", "estimators"},
    {"verify"},
    {LAB},
    {f"{LAB}.reproduce", f"{LAB}.ablate", f"{LAB}.prepare_data"},
    {"cli"},
    {"__main__"},
)
RUNG = {name: rung for rung, names in enumerate(LADDER) for name in names}

# What a part may import besides the standard library; a part not listed may import anything.
THIRD_PARTY = {
    "_extras": set(),
    "_interrupt": set(),
    "_text": set(),
    "maths": {"torch"},
    "optim": {"torch"},
    "networks": {"torch"},
    "theory": {"torch", "numpy", "scipy"},
    "completion": {"torch", "numpy", "scipy"},
    "distributed": {"torch"},
    "metrics": {"torch", "torchmetrics"},
    FACADE: {"torch"},
    "plotting": {"torch", "numpy", "matplotlib"},
    "_lightning": {"torch", "torchmetrics", "matplotlib", "fsspec"},  # which Lightning needs
    "lightning": {"torch", "torchmetrics", "pytorch_lightning"},
    "lightning_unified": {"torch", "torchmetrics", "lightning"},
    "estimators": {"torch", "numpy", "scipy", "sklearn", "tqdm"},
    "cli": set(),
    "__main__": set(),
}

HEAVY = (
    "lightning",
    "matplotlib",
    "optuna",
    "pandas",
    "pytorch_lightning",
    "scipy",
    "sklearn",
    "torchmetrics",
)


class Import(NamedTuple):
    """A module that an import statement reaches for."""

    line: int
    target: str
    for_types: bool  # under `if TYPE_CHECKING`, where it loads nothing


def module_paths() -> dict[str, Path]:
    """Every module of both packages by its dotted name; a package by that of its folder."""
    found = {}
    for root in (FACADE, LAB):
        for path in sorted((SOURCE / root).rglob("*.py")):
            parts = path.relative_to(SOURCE).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = module_paths()
EXPERIMENTS = [
    module
    for module, path in MODULES.items()
    if module.startswith(f"{LAB}.reproduce.") and path.name == "__init__.py"
]
SOURCES = {module: path.read_text(encoding="utf-8") for module, path in MODULES.items()}


def package_of(module: str) -> str:
    """What relative imports start from, and what a private module of it belongs to."""
    is_package = module in MODULES and MODULES[module].name == "__init__.py"
    return module if is_package else module.rpartition(".")[0] or module


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


@cache
def imports(source: str, module: str) -> list[Import]:
    """Everything that a module imports, at its top or later."""
    tree = ast.parse(source)
    blocks = [node.body for node in ast.walk(tree) if is_type_checking(node)]
    type_only = {node for block in blocks for line in block for node in ast.walk(line)}
    return [
        Import(node.lineno, target, node in type_only)
        for node in ast.walk(tree)
        for target in targets(node, package_of(module))
    ]


def targets(node: ast.AST, package: str) -> Iterator[str]:
    """The dotted names that an import statement in ``package`` reaches for."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, base] if base else parents)
        # `from virtualdepth import maths` reaches for the part, not for the facade.
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield inner if inner in MODULES else base


def part_of(module: str) -> str:
    """`virtualdepth.maths._kernel` -> `maths`, `virtualdepth_lab.ablate.x` -> that folder."""
    root, _, rest = module.partition(".")
    part = rest.partition(".")[0]
    if root == LAB:
        return f"{LAB}.{part}" if part else LAB
    return part or FACADE


def experiment_of(module: str) -> str:
    """The folder of a published result that a module belongs to; "" for one of none."""
    return next((name for name in EXPERIMENTS if f"{module}.".startswith(f"{name}.")), "")


def is_ours(module: str) -> bool:
    return module.partition(".")[0] in (FACADE, LAB)


def ladder_violations(source: str, module: str) -> list[str]:
    """What the ladder has against the imports of one module."""
    here = part_of(module)
    if here not in RUNG:
        return [f"{module}: {here!r} has no rung; add it to LADDER"]
    return [
        f"{module}:{found.line} imports {found.target}"
        for found in imports(source, module)
        if not (is_below(found, module) if is_ours(found.target) else is_allowed(found, here))
    ]


def is_below(found: Import, module: str) -> bool:
    here, there = part_of(module), part_of(found.target)
    # The command line finds the laboratory by entry point.
    if found.target.startswith(LAB) and not module.startswith(LAB):
        return False
    # For type checkers the facade names even what it loads on first use.
    if here == FACADE and found.for_types:
        return True
    return there == here or RUNG.get(there, len(LADDER)) < RUNG[here]


def is_allowed(found: Import, here: str) -> bool:
    root = found.target.partition(".")[0]
    known = root in sys.stdlib_module_names or found.for_types or here not in THIRD_PARTY
    return known or root in THIRD_PARTY[here]


def private_violations(source: str, module: str) -> list[str]:
    """Imports of another package's private modules, past its door."""
    package = f"{package_of(module)}."
    return [
        f"{module}:{found.line} imports {found.target}"
        for found in imports(source, module)
        if is_ours(found.target) and not package.startswith(owner_of(found.target))
    ]


def owner_of(module: str) -> str:
    """The package, with a dot, whose modules may import this one; "" for everybody's."""
    parts = module.split(".")
    private = [number for number, part in enumerate(parts) if part.startswith("_")]
    # virtualdepth._lightning is private to virtualdepth, and a door to what is in it
    return "".join(f"{part}." for part in parts[: private[-1]]) if private else ""


def a_cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """Modules that import one another in a circle, the first one again at the end; or none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_imports_stay_below() -> None:
    assert [each for name in SOURCES for each in ladder_violations(SOURCES[name], name)] == []


def test_imports_go_through_doors() -> None:
    assert [each for name in SOURCES for each in private_violations(SOURCES[name], name)] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        module: {
            found.target
            for found in imports(source, module)
            if found.target in MODULES and not found.for_types
        }
        for module, source in SOURCES.items()
    }
    assert sum(map(len, graph.values())) > len(graph)  # they were found
    assert a_cycle(graph) == []
    assert a_cycle({**graph, "virtualdepth.maths": {"virtualdepth.optim"}}) != []


def test_experiments_do_not_import_each_other() -> None:
    assert len(EXPERIMENTS) >= 9
    for module, source in SOURCES.items():
        here = experiment_of(module)
        for found in imports(source, module) if here else ():
            assert experiment_of(found.target) in ("", here), f"{module}:{found.line}"


def test_no_file_is_too_long_to_read_at_once() -> None:
    lines = {module: source.count("\n") for module, source in SOURCES.items()}
    assert {module: count for module, count in lines.items() if count > LONGEST} == {}


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from virtualdepth.optim import EndToEndSGD", "virtualdepth.maths._kernel"),
        ("from ..optim import EndToEndSGD", "virtualdepth.maths._kernel"),
        ("from .. import optim", "virtualdepth.maths._kernel"),
        ("import virtualdepth as vd", "virtualdepth.maths._kernel"),
        ("from virtualdepth import precondition", "virtualdepth.optim._sgd"),
        ("def late():\n    import virtualdepth.optim", "virtualdepth.maths._kernel"),
        ("import numpy", "virtualdepth.maths._kernel"),
        ("from virtualdepth.networks import DeepLinear", "virtualdepth.optim._sgd"),
        ("from virtualdepth import networks", "virtualdepth.optim._sgd"),
        ("from virtualdepth.lightning import EquivalenceModule", "virtualdepth"),
        ("import pytorch_lightning", "virtualdepth._lightning._mixin"),
        ("from virtualdepth.lightning import GapMonitor", "virtualdepth.lightning_unified"),
        ("import lightning.pytorch", "virtualdepth.lightning"),
        ("import sklearn", "virtualdepth"),
        ("import sklearn", "virtualdepth.optim._sgd"),
        ("from virtualdepth.estimators import MatrixCompletion", "virtualdepth"),
        ("from virtualdepth_lab.reproduce import convex", "virtualdepth.estimators._descent"),
        ("from virtualdepth_lab.ablate import command", "virtualdepth.cli"),
        ("from virtualdepth.cli import main", "virtualdepth.verify._check"),
        ("from virtualdepth.cli import main", "virtualdepth_lab.ablate.command"),
        ("from virtualdepth_lab.reproduce import search", "virtualdepth_lab.ablate.command"),
        ("import torch", "virtualdepth.helpers"),
        ("from virtualdepth.helpers import f", "virtualdepth.verify._check"),
    ],
)
def test_ladder_catches(source: str, module: str) -> None:
    assert ladder_violations(source, module)


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import math\nimport torch\nfrom ._kernel import depth_kernel", "virtualdepth.maths._x"),
        ("from virtualdepth.maths import precondition", "virtualdepth.optim._sgd"),
        ("from virtualdepth import EndToEndSGD", "virtualdepth.verify._check"),
        ("import optuna\nimport virtualdepth as vd", "virtualdepth_lab.ablate.problems"),
        ("import sklearn\nfrom virtualdepth.theory import f", "virtualdepth.estimators._descent"),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pytorch_lightning",
            "virtualdepth._lightning._mixin",
        ),
    ],
)
def test_ladder_allows(source: str, module: str) -> None:
    assert ladder_violations(source, module) == []


@pytest.mark.parametrize(
    ("source", "module", "allowed"),
    [
        ("from virtualdepth.maths._kernel import f", "virtualdepth.maths._svd", True),
        ("from virtualdepth.maths._kernel import f", "virtualdepth.maths.jacobi._basis", True),
        ("from virtualdepth.maths._kernel import f", "virtualdepth.optim._step", False),
        ("from virtualdepth.maths._kernel import f", "virtualdepth_lab.ablate.problems", False),
        ("from virtualdepth.maths.jacobi._basis import f", "virtualdepth.maths._svd", False),
        ("from virtualdepth.maths.jacobi import f", "virtualdepth.maths._svd", True),
        ("from virtualdepth._lightning import GapMixin", "virtualdepth.lightning", True),
        ("from virtualdepth._lightning import GapMixin", "virtualdepth_lab.ablate.cell", False),
        ("from virtualdepth._lightning._losses import mse", "virtualdepth.lightning", False),
        ("from virtualdepth.maths import precondition", "virtualdepth_lab.ablate.cell", True),
    ],
)
def test_a_door_is_the_only_way_in(source: str, module: str, allowed: bool) -> None:
    assert (private_violations(source, module) == []) == allowed


def test_import_is_light() -> None:
    script = f"import sys, virtualdepth; print(*(m for m in {HEAVY!r} if m in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []
