"""The command line: parse, dispatch, and nothing else.

What a command needs is imported when it runs, so that help and most errors come at once.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

from virtualdepth import __version__
from virtualdepth.runs import INTERRUPTED, UNUSABLE, UnusableError, command_of
from virtualdepth.verify._config import VerifyConfig
from virtualdepth_lab.ablate import arguments as ablate_arguments


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Answer unusable arguments in one line, without the usage."""
        if message.startswith("argument "):
            name, _, problem = message.removeprefix("argument ").partition(": ")
            message = f"{name.removeprefix('--').replace('-', '_')}: {problem}"
        self.exit(UNUSABLE, f"{self.prog}: error: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after ``virtualdepth``; default those of the process.

    Returns:
        The exit status: 0 passed, 1 the check failed, 130 after Ctrl-C. Unusable arguments end
        the process with status 2.
    """
    options, more = _parser().parse_known_args(arguments)
    parser: _Parser = options.parser
    if more and not options.takes_more:
        parser.error(f"unrecognized arguments: {' '.join(more)}; see {parser.prog} --help")
    options.more = more
    try:
        status: int = options.command(options)
    except UnusableError as error:
        parser.error(str(error))
    except ModuleNotFoundError as error:
        parser.error(
            f"expected the package {error.name} but it is not installed; "
            "pip install 'virtualdepth[experiments]'"
        )
    except OSError as error:  # a disk that is full, a file that may not be written
        parser.error(f"expected files that can be read and written but got {error}")
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def _verify(options: argparse.Namespace) -> int:
    config = VerifyConfig(
        **{field.name: getattr(options, field.name) for field in fields(VerifyConfig)}
    )
    from virtualdepth.verify import _command as commands

    return commands.verify(config, options.output)


def _reproduce(options: argparse.Namespace) -> int:
    from virtualdepth_lab.reproduce.command import reproduce
    from virtualdepth_lab.reproduce.result import ReproduceConfig

    config = ReproduceConfig(
        name=options.name, seeds=options.seeds, quick=options.quick, data_dir=options.data_dir
    )
    return reproduce(config, options.output)


def _ablate(options: argparse.Namespace) -> int:
    from virtualdepth_lab.ablate.commands import AblateOptions, ablate

    return ablate(
        AblateOptions(
            study=options.study,
            overrides=options.more,
            output=options.output,
            storage=options.storage,
            workers=options.workers,
            dry_run=options.dry_run,
            cell=options.cell,
        )
    )


def _report(options: argparse.Namespace) -> int:
    from virtualdepth.verify import _command as commands

    if command_of(Path(options.folder)) == "ablate":
        from virtualdepth_lab.ablate.report import write_report

        print(write_report(Path(options.folder)))
        return 0
    return commands.report(options.folder)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="virtualdepth",
        description="Train a layer as if it were N layers deep, without adding a parameter.",
        epilog="Exit status: 0 passed, 1 the check failed, 2 unusable arguments, 130 after Ctrl-C.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.set_defaults(takes_more=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_verify(commands)
    _add_reproduce(commands)
    _add_ablate(commands)
    _add_report(commands)
    return parser


def _add_verify(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "verify",
        help="train one layer beside an explicit N-layer network and measure the gap",
        description="Train one linear layer as if it were N layers deep, beside an explicit "
        "N-layer network from the same start, at several learning rates. The largest gap between "
        "the two is of first order in the learning rate: the check passes if the measured order "
        "is between 0.9 and 1.15 and the gap falls with the learning rate. Leaves result.json, "
        "curves.csv, report.md, loss.png and gap.png.",
        epilog="Exit status: 0 passed, 1 the check failed or a run diverged, 2 unusable arguments, "
        "130 after Ctrl-C, with the learning rates finished by then kept.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=_verify, parser=parser)
    add, default = parser.add_argument, VerifyConfig
    add(
        "--data",
        default=default.data,
        metavar="DATA",
        help="digits, ethanol, synthetic, or a CSV file of numbers with a header "
        "(default: %(default)s)",
    )
    add(
        "--data-dir",
        metavar="DIR",
        help="the folder with ethanol/ethanol.npz (default: $VIRTUALDEPTH_DATA)",
    )
    add(
        "--targets",
        type=_names,
        default=default.targets,
        metavar="NAME,...",
        help="the columns of the CSV file to predict from the others",
    )
    add(
        "--depth",
        type=_number,
        default=default.depth,
        metavar="N",
        help="number of layers, 2 or more (default: %(default)s)",
    )
    add(
        "--optimizer-depth",
        type=_number,
        metavar="N",
        help="train the one layer with a depth of its own, to see the check fail (default: N)",
    )
    add(
        "--lrs",
        type=_numbers,
        default=",".join(map(str, default.lrs)),
        metavar="LR,LR,...",
        help="learning rates, two or more (default: %(default)s)",
    )
    add(
        "--time",
        type=_number,
        default=default.time,
        metavar="T",
        help="learning rate times steps (default: %(default)s)",
    )
    add(
        "--init-scale",
        type=_number,
        default=default.init_scale,
        metavar="S",
        help="scale of the random start (default: %(default)s)",
    )
    add(
        "--seed",
        type=_number,
        default=default.seed,
        metavar="K",
        help="of the start, and of synthetic data (default: %(default)s)",
    )
    add(
        "--dtype",
        default=default.dtype,
        metavar="DTYPE",
        help="float64 or float32 (default: %(default)s)",
    )
    add(
        "--output",
        metavar="DIR",
        help="where the files go; those of an earlier verify there are replaced "
        "(default: runs/verify/<time>)",
    )


def _add_reproduce(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "reproduce",
        help="rerun a published experiment and set its numbers beside the published ones",
        description="Rerun a published experiment: convergence, image-inpainting, lp-regression, "
        "margin, matrix-completion, mnist, no-regulariser, norms or singular-values. Leaves "
        "result.json, arrays.npz, report.md and figures.",
        epilog="Exit status: 0 every claim held, 1 one did not, 2 unusable arguments, 130 after "
        "Ctrl-C, with the rows finished by then kept in unfinished.jsonl.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=_reproduce, parser=parser)
    parser.add_argument("name", metavar="NAME", help="of the experiment")
    parser.add_argument(
        "--seeds",
        type=_seeds,
        default=(0, 1, 2),
        metavar="SEED,...",
        help="of problems and starts (default: 0,1,2)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small version for a look, of about a minute"
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="the folder with images/camera.png, ethanol/ethanol.npz or mnist/ "
        "(default: $VIRTUALDEPTH_DATA)",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="the folder for the files (default: runs/reproduce/<time>)",
    )


def _add_ablate(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "ablate",
        help="run a study over depth, initial scale, seeds and more, on one machine or many",
        description=ablate_arguments.DESCRIPTION,
        epilog=ablate_arguments.EPILOG,
        allow_abbrev=False,
    )
    parser.set_defaults(command=_ablate, parser=parser, takes_more=True)
    ablate_arguments.add_arguments(parser)


def _add_report(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "report",
        help="make report and figures again from what a run left",
        description="Make report.md and the figures again from what any of the commands left.",
        epilog="Exit status: 0, whatever the run found; 2 if there is nothing to report on.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=_report, parser=parser)
    parser.add_argument("folder", metavar="DIR", help="the folder of the run")


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected integers but got {text!r}") from error


def _number(text: str) -> float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise argparse.ArgumentTypeError(f"expected a number but got {text!r}")


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_number(part) for part in text.split(",")) if text.strip() else ()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in next(csv.reader([text])))
