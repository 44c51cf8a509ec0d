"""The wheel and the sdist, each installed into a clean environment that has torch alone."""

import email
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from benchmarks.download_sizes import closure
from packaging.requirements import Requirement
from tests.clean_install import CHECKS

ROOT = Path(__file__).parents[1]
VERSION = importlib.metadata.version("virtualdepth")
COMMANDS = (
    "ablate = virtualdepth_lab.ablate.arguments",
    "reproduce = virtualdepth_lab.reproduce.arguments",
)


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    # without PYTHONPATH, by which another copy of the package would be found
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def installed_closure(*names: str) -> set[str]:
    """The distributions that ``names`` require, extras left out."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def link_distributions(names: set[str], site_packages: Path) -> None:
    """Link what is installed here into another environment: torch is too large to copy."""
    here = Path(sysconfig.get_path("purelib"))
    for name in names:
        files = importlib.metadata.files(name) or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            link = site_packages / top
            if not link.exists():
                link.symlink_to(here / top)


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("dist")
    # The sdist first, then the wheel from it, so the sdist is known to be complete.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def tracked(*folders: str) -> set[str]:
    """The files under ``folders`` that git knows."""
    words = ["git", "ls-files", *folders]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a checkout of git")
    return set(listed.stdout.splitlines())


@pytest.mark.slow
def test_the_wheel_holds_both_packages_and_nothing_else(artefacts: dict[str, Path]) -> None:
    packed = set(zipfile.ZipFile(artefacts["wheel"]).namelist())
    own = {f"src/{name}" for name in packed if ".dist-info/" not in name}
    assert own == tracked("src")
    (listing,) = (name for name in packed if name.endswith("/entry_points.txt"))
    text = zipfile.ZipFile(artefacts["wheel"]).read(listing).decode()
    assert {"[virtualdepth.commands]", *COMMANDS} <= set(text.splitlines())


@pytest.mark.slow
def test_the_sdist_holds_what_git_tracks(artefacts: dict[str, Path]) -> None:
    with tarfile.open(artefacts["sdist"]) as archive:
        packed = {member.name.partition("/")[2] for member in archive if member.isfile()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]
    # what hatchling always adds
    added = {".gitignore", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}
    assert packed == tracked(*included) | added


@pytest.mark.slow
def test_the_index_would_take_both(artefacts: dict[str, Path]) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", *artefacts.values()]
    said = run(*command, cwd=artefacts["wheel"].parent)
    assert said.count("PASSED") == 2


@pytest.mark.slow
def test_the_wheel_tells_what_it_is(artefacts: dict[str, Path]) -> None:
    (listing,) = (
        name
        for name in zipfile.ZipFile(artefacts["wheel"]).namelist()
        if name.endswith(".dist-info/METADATA")
    )
    found = email.message_from_bytes(zipfile.ZipFile(artefacts["wheel"]).read(listing))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert found["Version"] == project["version"]
    assert found["License-Expression"] == project["license"]
    assert found["Requires-Python"] == project["requires-python"]
    assert set(found.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    assert found["Description-Content-Type"] == "text/markdown"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_installs_into_clean_environment(
    artefacts: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    site_packages = environment / "lib" / f"python{sysconfig.get_python_version()}/site-packages"
    # hatchling is there to build the sdist.
    link_distributions(installed_closure("torch", "hatchling"), site_packages)
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps"),
        *("--no-build-isolation", "--disable-pip-version-check", artefacts[kind]),
        cwd=tmp_path,
    )

    script = (
        "import importlib.util, pathlib, virtualdepth as vd; "
        "home = pathlib.Path(vd.__file__).parent; "
        "print(vd.__version__, home, (home / 'py.typed').is_file(), "
        "importlib.util.find_spec('scipy'))"
    )
    expected = f"{VERSION} {site_packages / 'virtualdepth'} True None"
    assert expected in run(python, "-c", script, cwd=tmp_path).splitlines()
    if kind == "sdist":
        return  # the same files, as the tests above say; each start of Python takes seconds
    program = environment / "bin" / "virtualdepth"
    offered = run(program, "--help", cwd=tmp_path)
    assert all(command in offered for command in ("verify", "reproduce", "ablate", "report"))
    refusal = run(python, "-m", "virtualdepth", "verify", cwd=tmp_path, status=2)
    assert "pip install 'virtualdepth[experiments]'" in refusal.splitlines()[-1]
    refusal = run(program, "ablate", "a.yaml", cwd=tmp_path, status=2)
    assert "pip install 'virtualdepth[studies]'" in refusal.splitlines()[-1]


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {project['version']}\n" in citation
    (released,) = re.findall(r'^date-released: "(.*)"$', citation, re.MULTILINE)
    assert f"\n## [{project['version']}] - {released}\n" in changes
    assert project["version"] == VERSION, "the metadata is of another version: install again"


def test_every_extra_is_installed_and_used_before_a_release() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(CHECKS) == {"none", *project["optional-dependencies"]} - {"dev"}


def test_a_package_counts_once_among_the_downloads() -> None:
    def entry(name: str, *needs: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "requires_dist": list(needs)}}

    installs = {
        "own": entry("own", "torch", "plot; extra == 'plots'", "own[plots]; extra == 'all'"),
        "torch": entry("torch", "numpy"),
        "plot": entry("plot", "numpy", "Server_x[fast]>=1"),
        "server-x": entry("server-x", "quick; extra == 'fast'", "other; extra == 'slow'"),
        "numpy": entry("numpy"),
        "quick": entry("quick"),
    }
    assert closure(installs, "own") == {"own", "torch", "numpy"}
    plots = {"own", "torch", "numpy", "plot", "server-x", "quick"}
    assert closure(installs, "own", ["plots"]) == closure(installs, "own", ["all"]) == plots
