"""The command line: find the commands, parse, dispatch, and nothing else.

A command is a module that fulfils :class:`Command`. ``verify`` is one; those of other packages are
found by the entry points of the group "virtualdepth.commands", name to module. What a command
needs is imported when it runs, so that help and most errors come at once.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn, Protocol

from virtualdepth import __version__, verify
from virtualdepth._interrupt import name_program
from virtualdepth.runs import (
    INTERRUPTED,
    PASSED,
    RESULT,
    UNUSABLE,
    UnusableError,
    command_of,
    masked,
    one_line,
    patient_streams,
)

_GROUP = "virtualdepth.commands"


class Command(Protocol):
    """The module of a command, which imports little by itself."""

    HELP: str  # a line in `virtualdepth --help`
    DESCRIPTION: str  # the start of the command's own help
    EPILOG: str  # its end
    EXTRA: str  # the extra of the package to install when an import fails
    TAKES_MORE: bool  # whether `run` gets the words that the parser does not know, as options.more

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's options."""

    def run(self, options: argparse.Namespace) -> int:
        """Run the command, and return its exit status."""

    def report(self, folder: Path) -> None:
        """Make report and figures again from what a run left."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Answer unusable arguments in one line, without the usage."""
        if message.startswith("argument "):
            name, _, problem = message.removeprefix("argument ").partition(": ")
            message = f"{name.removeprefix('--').replace('-', '_')}: {problem}"
        if message.startswith("COMMAND: ") and not entry_points(group=_GROUP):
            message += (
                "; the metadata of the installed package names no other commands: in a source "
                "tree, pip install -e ."
            )
        self.exit(UNUSABLE, f"{self.prog}: error: {masked(one_line(message))}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after ``virtualdepth``; default those of the process.

    Returns:
        The exit status: 0 passed, 1 the check failed, 130 after Ctrl-C. Unusable arguments end
        the process with status 2.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with patient_streams():
        try:
            return _run_words(words)
        finally:
            _flush()


def _run_words(words: Sequence[str]) -> int:
    options, more = _parser(_commands()).parse_known_args(words)
    parser: _Parser = options.parser
    name_program(parser.prog)
    if more and not options.takes_more:
        parser.error(f"unrecognized arguments: {' '.join(more)}; see {parser.prog} --help")
    _check_once(parser, words)
    options.more = more
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        status = run(options)
        _flush()  # now, while a full disk can be told of
    except UnusableError as error:
        parser.error(str(error))
    except OSError as error:  # a disk that is full, a file that may not be written
        parser.error(f"expected files that can be read and written but got {error}")
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def _flush() -> None:
    if sys.stdout:  # None if it was closed when the process began
        sys.stdout.flush()


def _check_once(parser: _Parser, words: Sequence[str]) -> None:
    """Refuse an option that is there twice, of which one would be lost."""
    options = [word.partition("=")[0] for word in words if re.match("--.", word)]
    for option in options:
        if options.count(option) > 1:
            parser.error(
                f"argument {option}: expected once but got it {options.count(option)} times; give "
                "all that it takes in one"
            )


def _commands() -> dict[str, Command]:
    found: dict[str, Command] = {"verify": verify}
    for entry in sorted(entry_points(group=_GROUP), key=lambda entry: entry.name):
        found[entry.name] = entry.load()
    return found


def _run(command: Command, options: argparse.Namespace) -> int:
    with _extra_of(command):
        return command.run(options)


def _report(commands: Mapping[str, Command], options: argparse.Namespace) -> int:
    folder = Path(options.folder)
    command = commands.get(command_of(folder) or "")
    if command is None:
        raise UnusableError(
            "folder", f"expected the folder of a run, with its {RESULT}, but got {folder}"
        )
    with _extra_of(command):
        try:
            command.report(folder)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            if isinstance(error, UnusableError):
                raise
            raise UnusableError(
                "folder",
                f"expected the files of a run as {command_of(folder)} leaves them but got, in "
                f"{folder}, {type(error).__name__}: {error}",
            ) from error
    return PASSED


@contextmanager
def _extra_of(command: Command) -> Iterator[None]:
    """Say which extra to install when a package of other authors is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "virtualdepth").partition(".")[0]
        if package in {"virtualdepth", "virtualdepth_lab"}:
            raise  # an error of this package, not of what is installed
        raise UnusableError(
            "package",
            f"expected {package} but it is not installed; "
            f"pip install 'virtualdepth[{command.EXTRA}]'",
        ) from error


def _parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="virtualdepth",
        description="Train a layer as if it were N layers deep, without adding a parameter.",
        epilog="Exit status: 0 passed, 1 the check failed, 2 unusable arguments, 130 after Ctrl-C.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    added = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in commands.items():
        own = added.add_parser(
            name,
            help=command.HELP,
            description=command.DESCRIPTION,
            epilog=command.EPILOG,
            allow_abbrev=False,
        )
        own.set_defaults(run=partial(_run, command), parser=own, takes_more=command.TAKES_MORE)
        command.add_arguments(own)
    report = added.add_parser(
        "report",
        help="make report and figures again from the files of a run",
        description="Make report.md and the figures again from the files that a command left.",
        epilog="Exit status: 0, whatever the run found; 2 if there is nothing to report on.",
        allow_abbrev=False,
    )
    report.set_defaults(run=partial(_report, commands), parser=report, takes_more=False)
    report.add_argument("folder", metavar="DIR", help="the folder of the run")
    return parser
