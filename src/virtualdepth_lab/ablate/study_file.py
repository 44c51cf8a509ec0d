"""The study file: YAML or TOML, with keys overridden from the command line."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, set_loader
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from virtualdepth.runs import UnusableError, replacing
from virtualdepth_lab.ablate.checks import check_mapping
from virtualdepth_lab.ablate.study import SECTIONS, StudyConfig

STUDY = "study.yaml"  # the study as a run leaves it in its folder
KEYS = tuple(field.name for field in fields(StudyConfig))
EXCLUSIVE = {"settings", "grid", "search"}  # an argument is in one of them at most


class _Constructor(SafeConstructor):
    """Reads a date as a word."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)

# YAML 1.2: 1:4 is a word, 1e-3 is a number, and a key that appears twice is an error.
_YAML = YAML(typ="safe", pure=True)
_YAML.Constructor = _Constructor
_YAML.resolver.add_implicit_resolver(  # as in YAML 1.1, which study files were written in
    "tag:yaml.org,2002:bool", re.compile(r"(yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)$"), "yYnNoO"
)
_YAML.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # annotated as None
_YAML.default_flow_style = False

set_loader("virtualdepth-study", _YAML.load, (YAMLError,))


def read_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read and check the study in a file, or in the folder of an earlier run.

    ``overrides`` are words such as ``--grid.depth 1,2,inf`` or ``--seeds=0,1``.
    """
    path = path / STUDY if path.is_dir() else path
    given = _content(path)
    unknown = [key for key in given if key not in KEYS]
    if unknown:
        raise UnusableError(
            "study", f"expected keys among {', '.join(KEYS)} but got {unknown[0]!r} in {path}"
        )
    merged = merge(given, parse_overrides(overrides))
    if "problem" not in merged:
        raise UnusableError("problem", f"expected the problem to study but got none in {path}")
    beside = {"modules": str(path.parent.resolve())} if ":" in str(merged["problem"]) else {}
    return StudyConfig(**{"name": path.stem, **beside, **merged})


def write_study(study: StudyConfig, folder: Path) -> None:
    """Write a study, with its overrides, as :func:`read_study` reads it."""
    with replacing(folder, STUDY) as path:
        _YAML.dump(study.to_json(), path)


def _content(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
        raise UnusableError(
            "study", f"expected a YAML or TOML file but got {path}: {reason}"
        ) from error
    try:
        content = tomllib.loads(text) if path.suffix == ".toml" else _YAML.load(text)
    except (tomllib.TOMLDecodeError, YAMLError) as error:
        kind = "TOML" if path.suffix == ".toml" else "YAML"
        raise UnusableError(
            "study", f"expected {kind} but got, in {path}: {_what_is_wrong(error)}"
        ) from error
    if not content:
        raise UnusableError(
            "study", f"expected the keys {', '.join(KEYS[1:7])}, ... but got an empty file, {path}"
        )
    if not isinstance(content, dict):
        raise UnusableError("study", f"expected keys with values but got other text in {path}")
    return content


def _what_is_wrong(error: Exception) -> str:
    """Say what and where in one line, without the advice to programmers that ruamel.yaml adds."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark, problem = error.problem_mark, str(error.problem).partition(" with value ")[0]
    context = f"{error.context}, " if error.context else ""
    return f"{context}{problem}, line {mark.line + 1}, column {mark.column + 1}"


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Parse the words of the command line into keys and values; a name keeps its dots.

    >>> parse_overrides(["--search.lr.high", "0.1", "--budget.steps=7"])
    {'search': {'lr.high': 0.1}, 'budget': {'steps': 7}}
    """
    parser = ArgumentParser(exit_on_error=False, add_help=False, parser_mode="virtualdepth-study")
    for key in KEYS:
        parser.add_argument(f"--{key}", type=dict[str, Any] if key in SECTIONS else Any)
    try:
        parsed = parser.parse_args(list(words))
    except ArgumentError as error:
        problem = " ".join(str(error).split())
        raise UnusableError(
            "arguments", f"expected --KEY VALUE with keys of a study but got: {problem}"
        ) from error
    return {key: entry for key, entry in parsed.as_dict().items() if entry is not None}


def merge(given: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Replace what a file says by what the command line says.

    An argument that the command line varies is no longer a setting, and the other way round.

    >>> merge({"grid": {"depth": [1, 2], "lr": [1]}}, {"settings": {"depth": 3}})
    {'grid': {'lr': [1]}, 'settings': {'depth': 3}}
    """
    merged = {**given}
    for key in SECTIONS:
        if key in given:
            check_mapping(key, given[key])
            merged[key] = {**given[key]}
    for key, entry in overrides.items():
        if key not in SECTIONS:
            merged[key] = entry
            continue
        section = merged.setdefault(key, {})
        for name, new in entry.items():
            argument, dot, end = name.partition(".")
            update = {end: new} if dot else new
            old = section.get(argument)
            both = isinstance(old, Mapping) and isinstance(update, Mapping)
            section[argument] = {**old, **update} if both else update  # an end of a range may stay
            if key in EXCLUSIVE:
                for other in EXCLUSIVE - {key}:
                    merged.get(other, {}).pop(argument, None)
    return merged
