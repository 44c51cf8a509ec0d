"""The import ladder: a module imports from lower rungs only, and `import virtualdepth` is light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import virtualdepth

SOURCE = Path(virtualdepth.__file__).parent
FACADE = "virtualdepth"

# Lowest first. Members of one rung do not import each other.
LADDER = (
    {"maths"},
    {"distributed"},
    {"optim", "networks", "theory", "metrics"},
    {FACADE},
    {"plotting", "runs"},
    {"_lightning", "data"},  # mixins that know neither flavour of Lightning
    {"lightning", "lightning_unified", "estimators"},
    {"verify"},
    {"cli"},
    {"__main__"},
)
RUNG = {name: rung for rung, names in enumerate(LADDER) for name in names}

# What a part may import besides the standard library; a part not listed may import anything.
THIRD_PARTY = {
    "maths": {"torch"},
    "optim": {"torch"},
    "networks": {"torch"},
    "theory": {"torch", "numpy", "scipy"},
    "distributed": {"torch"},
    "metrics": {"torch", "torchmetrics"},
    FACADE: {"torch"},
    "plotting": {"torch", "numpy", "matplotlib"},
    "_lightning": {"torch", "torchmetrics", "matplotlib"},
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


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def type_only(tree: ast.AST) -> set[ast.AST]:
    """The nodes under `if TYPE_CHECKING`, which load nothing."""
    blocks = [
        node for node in ast.walk(tree) if isinstance(node, ast.stmt) and is_type_checking(node)
    ]
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


def absolute_targets(node: ast.AST, package: str) -> Iterator[str]:
    """The dotted names that an import statement in ``package`` reaches for."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, base] if base else parents)
        # `from virtualdepth import maths` reaches for the part, not for the facade.
        yield from (
            f"{base}.{alias.name}" if base == FACADE and alias.name in RUNG else base
            for alias in node.names
        )


def part_of(name: str) -> str:
    """`virtualdepth.maths._kernel` -> `maths`; the package itself is the facade."""
    return name.split(".")[1] if "." in name else FACADE


def violations(source: str, module: str, package: str) -> list[str]:
    """What the ladder has against the imports of one module.

    Args:
        source: the module's text.
        module: its dotted name.
        package: the package that its relative imports start from.
    """
    tree = ast.parse(source)
    here = part_of(module)
    if here not in RUNG:
        return [f"{module}: {here!r} has no rung; add it to LADDER"]
    loads_nothing = type_only(tree)
    found = []
    for node in ast.walk(tree):
        for target in absolute_targets(node, package):
            root = target.split(".")[0]
            if root == FACADE:
                part = part_of(target)
                # For type checkers the facade names even what it loads on first use.
                if here == FACADE and node in loads_nothing:
                    continue
                if part != here and RUNG.get(part, len(LADDER)) >= RUNG[here]:
                    found.append(f"{module}:{node.lineno} imports {target}")
            elif node not in loads_nothing and not allowed_third_party(root, here):
                found.append(f"{module}:{node.lineno} imports {root}")
    return found


def allowed_third_party(root: str, here: str) -> bool:
    return root in sys.stdlib_module_names or here not in THIRD_PARTY or root in THIRD_PARTY[here]


def modules() -> Iterator[tuple[Path, str, str]]:
    for path in sorted(SOURCE.rglob("*.py")):
        parts = [FACADE, *path.relative_to(SOURCE).with_suffix("").parts]
        if parts[-1] == "__init__":
            yield path, ".".join(parts[:-1]), ".".join(parts[:-1])
        else:
            yield path, ".".join(parts), ".".join(parts[:-1])


MODULES = list(modules())


@pytest.mark.parametrize(
    ("path", "module", "package"), MODULES, ids=[module for _, module, _ in MODULES]
)
def test_imports_stay_below(path: Path, module: str, package: str) -> None:
    assert violations(path.read_text(encoding="utf-8"), module, package) == []


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from virtualdepth.optim import EndToEndSGD", "virtualdepth.maths._kernel"),
        ("from ..optim import EndToEndSGD", "virtualdepth.maths._kernel"),
        ("from .. import optim", "virtualdepth.maths._kernel"),
        ("import virtualdepth as vd", "virtualdepth.maths._kernel"),
        ("from virtualdepth import precondition", "virtualdepth.optim.sgd"),
        ("def late():\n    import virtualdepth.optim", "virtualdepth.maths._kernel"),
        ("import numpy", "virtualdepth.maths._kernel"),
        ("from virtualdepth.networks import DeepLinear", "virtualdepth.optim.sgd"),
        ("from virtualdepth import networks", "virtualdepth.optim.sgd"),
        ("from virtualdepth.lightning import EquivalenceModule", "virtualdepth"),
        ("import pytorch_lightning", "virtualdepth._lightning.mixin"),
        (
            "from virtualdepth.lightning import EquivalenceModule",
            "virtualdepth.lightning_unified.x",
        ),
        ("import lightning.pytorch", "virtualdepth.lightning.module"),
        ("import sklearn", "virtualdepth"),
        ("import sklearn", "virtualdepth.optim.sgd"),
        ("from virtualdepth.estimators import MatrixCompletion", "virtualdepth"),
        (
            "from virtualdepth_lab.reproduce.convex import shrink",
            "virtualdepth.estimators._descent",
        ),
        ("from virtualdepth.cli import main", "virtualdepth.verify._check"),
        ("import torch", "virtualdepth.helpers"),
        ("from virtualdepth.helpers import f", "virtualdepth.verify._check"),
    ],
)
def test_ladder_catches(source: str, module: str) -> None:
    assert violations(source, module, module.rpartition(".")[0] or module)


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import math\nimport torch\nfrom .kernel import depth_kernel", "virtualdepth.maths.x"),
        ("from virtualdepth.maths import precondition", "virtualdepth.optim.sgd"),
        ("from ..maths.precondition import precondition", "virtualdepth.optim.sgd"),
        ("from virtualdepth import EndToEndSGD", "virtualdepth.verify._check"),
        (
            "import sklearn\nimport tqdm\nfrom virtualdepth.theory import integrate_flow",
            "virtualdepth.estimators._descent",
        ),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pytorch_lightning",
            "virtualdepth._lightning.mixin",
        ),
    ],
)
def test_ladder_allows(source: str, module: str) -> None:
    assert violations(source, module, module.rpartition(".")[0] or module) == []


def test_import_is_light() -> None:
    script = f"import sys, virtualdepth; print(*(m for m in {HEAVY!r} if m in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []
