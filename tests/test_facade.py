"""`import virtualdepth as vd`: what it loads, and what it says where an extra is missing."""

import subprocess
import sys

import pytest
from tests.platforms import posix

import virtualdepth as vd


def run(script: str) -> str:
    end = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return end.stdout.strip()


# part of the package, a package that it needs, the extra with both
PARTS = [
    ("plotting", "matplotlib", "plots"),
    ("plotting", "numpy", "plots"),
    ("estimators", "sklearn", "estimators"),
    ("estimators", "scipy", "estimators"),
    ("estimators", "tqdm", "estimators"),
    ("theory", "scipy", "estimators"),
    ("theory", "numpy", "estimators"),
    ("metrics", "torchmetrics", "lightning"),
    ("lightning", "pytorch_lightning", "lightning"),
    ("lightning", "torchmetrics", "lightning"),
    ("lightning_unified", "lightning", "lightning"),
    ("lightning_unified", "fsspec", "lightning"),
]


@posix
@pytest.mark.slow
def test_a_part_without_its_package_names_the_extra() -> None:
    # None in sys.modules makes an import fail as if the package were not installed
    script = (
        "import importlib, os, sys, torch\n"
        "import virtualdepth as vd\n"
        "def tell(part, package):\n"
        "    sys.modules[package] = None\n"
        "    for get in (lambda: getattr(vd, part),\n"
        "                lambda: importlib.import_module('virtualdepth.' + part)):\n"
        "        try: get()\n"
        "        except ModuleNotFoundError as error: print(error.name, '|', error, flush=True)\n"
        f"for part, package in {[case[:2] for case in PARTS]}:\n"
        "    if os.fork() == 0: tell(part, package); os._exit(0)\n"
        "    os.wait()\n"
    )
    lines = run(script).splitlines()
    assert len(lines) == 2 * len(PARTS)
    for (part, package, extra), first, second in zip(PARTS, lines[::2], lines[1::2], strict=True):
        assert first == second
        name, _, text = first.partition(" | ")
        assert name.partition(".")[0] == package
        assert text.startswith(f"virtualdepth.{part} needs ")
        assert package in text
        assert f"pip install 'virtualdepth[{extra}]'" in text


def test_nothing_is_loaded_before_it_is_used() -> None:
    script = (
        "import sys, virtualdepth as vd\n"
        "print('torch' in sys.modules)\n"
        "vd.EndToEndSGD\n"
        "print('torch' in sys.modules, 'EndToEndSGD' in vars(vd))"
    )
    assert run(script) == "False\nTrue True"


def test_every_name_is_there() -> None:
    for name in vd.__all__:
        assert getattr(vd, name) is getattr(vd, name)
    assert {*vd.__all__, "__version__", "theory", "lightning", "optim"} <= set(dir(vd))
    assert vd.maths.precondition is vd.precondition
    assert vd.networks.init is vd.init
    assert vd.__version__


def test_a_star_takes_what_is_public() -> None:
    script = "from virtualdepth import *; print('EndToEndSGD' in dir(), 'theory' in dir())"
    assert run(script) == "True False"


@pytest.mark.parametrize("name", ["EndToEndSDG", "lightening", "_nothing"])
def test_a_misspelled_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"^module 'virtualdepth' has no attribute '{name}'$"):
        getattr(vd, name)
