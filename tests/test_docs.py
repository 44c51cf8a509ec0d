"""Every public name is documented, every Python example runs, and every file named exists."""

import importlib
import inspect
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from benchmarks import numbers_in_docs

from virtualdepth.cli import main
from virtualdepth.optim._options import OPTIONS

ROOT = Path(__file__).parents[1]
API_PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
DOCUMENTED = set(re.findall(r"^::: (\S+)", API_PAGE, re.MULTILINE))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# Subpackages whose names are public besides those of `virtualdepth` itself.
PUBLIC_PARTS = [
    "estimators",
    "lightning",
    "lightning_unified",
    "metrics",
    "plotting",
    "theory",
]


def public_modules() -> list[str]:
    found = [f"virtualdepth.{part}" for part in PUBLIC_PARTS]
    return ["virtualdepth", *(name for name in found if find_spec(name) is not None)]


def names_of(module: str) -> list[str]:
    """Return the names in ``__all__``, or the public names that the module defines."""
    loaded = importlib.import_module(module)
    defined = [
        name
        for name, value in vars(loaded).items()
        if getattr(value, "__module__", None) == module and not name.startswith("_")
    ]
    return list(getattr(loaded, "__all__", defined))


def public_names() -> list[str]:
    return [f"{module}.{name}" for module in public_modules() for name in names_of(module)]


def resolve(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def undocumented(name: str, thing: object) -> list[str]:
    """Return the names at and below ``thing`` that have no docstring."""
    missing = [] if (inspect.getdoc(thing) or "").strip() else [name]
    if isinstance(thing, type):
        members = {key: value for key, value in vars(thing).items() if not key.startswith("_")}
    elif isinstance(thing, ModuleType):
        members = {
            key: value
            for key, value in vars(thing).items()
            if inspect.isfunction(value)
            and value.__module__ == thing.__name__
            and not key.startswith("_")
        }
    else:
        members = {}
    for key, value in members.items():
        if (callable(value) or isinstance(value, property)) and not inspect.getdoc(value):
            missing.append(f"{name}.{key}")
    return missing


@pytest.mark.parametrize("name", public_names())
def test_public_name_is_documented(name: str) -> None:
    # both flavours of Lightning have the same names, which the page documents once
    place = name.replace("lightning_unified", "lightning")
    assert place in DOCUMENTED, f"add '::: {place}' to docs/api.md"
    assert undocumented(name, resolve(name)) == []


def test_both_flavours_of_lightning_have_the_same_names() -> None:
    assert names_of("virtualdepth.lightning") == names_of("virtualdepth.lightning_unified")
    assert "`vd.lightning_unified` has the same names" in API_PAGE


def test_no_private_module_is_documented() -> None:
    assert [name for name in DOCUMENTED if "._" in name] == []


def test_undocumented_names_are_found() -> None:
    class Bare:
        def method(self) -> None: ...

    assert undocumented("Bare", Bare) == ["Bare", "Bare.method"]


# What a page shows right below an example.
OUTPUT = re.compile(r"^```python\n(?:.*?)^```\n\n```text\n(.*?)^```", re.M | re.S)


def python_blocks(page: Path) -> str:
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    return "\n".join(blocks)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if python_blocks(page)], ids=lambda p: p.name
)
def test_examples_run_and_print_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(python_blocks(page), str(page), "exec"), {"__name__": "example"})
    printed = capsys.readouterr().out
    for shown in OUTPUT.findall(page.read_text(encoding="utf-8")):
        assert shown in printed


def test_options_are_documented(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["verify", "--help"])
    offered = set(re.findall(r"^ +(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert offered == set(re.findall(r"^\| `(--[a-z-]+)`", page, re.MULTILINE))


def test_table_of_options_is_complete() -> None:
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    first_cells = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    listed = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert listed == {name for name, option in OPTIONS.items() if not option.is_view}


def test_faults_of_a_page_are_found() -> None:
    sys.path.insert(0, str(ROOT / "docs" / "_extensions"))
    try:
        faults = importlib.import_module("check_site").faults
    finally:
        sys.path.pop(0)
    assert faults("<p id='a'>\\(a :math: b\\) <code>``x``</code></p><img>") == []
    assert faults("<p>the mean of <G, P_W(G)></p>") == ["text swallowed as the tag <g,>"]
    assert faults("<p id='a'><b id='a'>") == ["the id a is given twice"]
    assert faults("<p>see [x][virtualdepth.x]</p>")[0].startswith("left as it was written")
    assert faults("<p>a \\(b c</p>") == ["a formula without its end: \\(b c"]


def test_documented_names_exist() -> None:
    for name in DOCUMENTED:
        assert resolve(name) is not None


# A file or folder of the repository in backticks, as in `src/virtualdepth/maths/`.
NAMED_PATH = re.compile(r"`((?:src|tests|benchmarks|examples|docs)/[\w./-]+)`")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_named_files_exist(page: Path) -> None:
    named = NAMED_PATH.findall(page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_cheap_numbers_belong_to_sections_that_name_their_command() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in numbers_in_docs.CHEAP.values() if name not in text] == []
    assert numbers_in_docs.NUMBER.findall("1.5e-02, 0.044 and arXiv 1802.06509") == [
        "1.5e-02",
        "0.044",
    ]


def test_named_files_are_found() -> None:
    assert NAMED_PATH.findall("see `tests/test_docs.py` and `src/virtualdepth/`") == [
        "tests/test_docs.py",
        "src/virtualdepth/",
    ]
