"""Read a study from a YAML or TOML file, with keys overridden from the command line."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser, set_loader

from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.config import StudyConfig

STUDY = "study.yaml"  # what a run leaves of its study
KEYS = tuple(field.name for field in fields(StudyConfig))
SECTIONS = ("settings", "grid", "search", "budget", "trainer")
EXCLUSIVE = ("settings", "grid", "search")

_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$")


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML, but ``1:4`` and ``2026-01-31`` are words, and no key stands twice.

    YAML 1.1 reads 64 and a date, and PyYAML the last of several values.
    """

    yaml_implicit_resolvers: ClassVar = {
        first: [
            ("tag:yaml.org,2002:str", _BASE_60),  # the first to match decides
            *(each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"),
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    # as it is composed: what is merged into a mapping later may repeat its keys
    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        """Refuse a key that stands twice."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        last = {key.value: key for key in keys}
        for key in keys:
            if key is not last[key.value]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"found the key {key.value!r} twice", last[key.value].start_mark
                )
        return node


def _load_yaml(text: str) -> Any:
    return yaml.load(text, _Loader)


set_loader("virtualdepth-study", _load_yaml, (yaml.YAMLError,))


def read_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read and check a study.

    Args:
        path: a file, or the folder that a run of a study left.
        overrides: words like ``--grid.depth 1,2,inf`` or ``--seeds=0,1``.

    Returns:
        The study; its name is that of the file unless it says another.

    Raises:
        UnusableError: if a key is unknown or a value impossible.
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
    return StudyConfig(**{"name": path.stem, **merged})


def write_study(study: StudyConfig, folder: Path) -> None:
    """Write a study as :func:`read_study` reads it.

    Args:
        study: with its overrides.
        folder: where.
    """
    text = yaml.safe_dump(study.to_json(), sort_keys=False, allow_unicode=True)
    (folder / STUDY).write_text(text, encoding="utf-8")


def _content(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
        raise UnusableError(
            "study", f"expected a YAML or TOML file but got {path}: {reason}"
        ) from error
    try:
        content = tomllib.loads(text) if path.suffix == ".toml" else _load_yaml(text)
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        kind = "TOML" if path.suffix == ".toml" else "YAML"
        raise UnusableError(
            "study", f"expected {kind} but got, in {path}: {' '.join(str(error).split())}"
        ) from error
    if not content:
        raise UnusableError(
            "study", f"expected the keys {', '.join(KEYS[1:7])}, ... but got an empty file, {path}"
        )
    if not isinstance(content, dict):
        raise UnusableError("study", f"expected keys with values but got other text in {path}")
    return content


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Parse the words that override keys of the file.

    Args:
        words: of the command line.

    Returns:
        Key -> value, nested as in a file.

    Raises:
        UnusableError: if they name no key of a study.

    >>> parse_overrides(["--grid.depth", "[1, 2]", "--budget.steps=7"])
    {'grid': {'depth': [1, 2]}, 'budget': {'steps': 7}}
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
    given = {key: entry for key, entry in parsed.as_dict().items() if entry is not None}
    return {key: _nested(entry) if key in SECTIONS else entry for key, entry in given.items()}


def _nested(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Take ``depth.high`` for a key within a key."""
    found: dict[str, Any] = {}
    for name, entry in entries.items():
        outer, dot, inner = name.partition(".")
        found[outer] = {**found.get(outer, {}), inner: entry} if dot else entry
    return found


def merge(given: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Put overrides in place of what a file says.

    What was a setting becomes an axis if a grid or search of the command line has it, and the
    other way round.

    Args:
        given: of the file.
        overrides: of the command line.

    Returns:
        Both.

    Raises:
        UnusableError: if a section of the file has no names.

    >>> merge({"grid": {"depth": [1, 2], "lr": [1]}}, {"settings": {"depth": 3}})
    {'grid': {'lr': [1]}, 'settings': {'depth': 3}}
    """
    merged = {
        key: dict(entry) if key in SECTIONS and isinstance(entry, Mapping) else entry
        for key, entry in given.items()
    }
    for key, entry in overrides.items():
        if key not in SECTIONS:
            merged[key] = entry
            continue
        section = merged.setdefault(key, {})
        if not isinstance(section, dict):
            raise UnusableError(key, f"expected names with values but got {section!r}")
        for name, new in entry.items():
            old = section.get(name)
            if isinstance(old, Mapping) and isinstance(new, Mapping):
                new = {**old, **new}
            section[name] = new
        for other in set(EXCLUSIVE) - {key} if key in EXCLUSIVE else ():
            if isinstance(merged.get(other), dict):
                for name in entry:
                    merged[other].pop(name, None)
    return merged
