"""The command ``reproduce``: its options. What a run needs is imported when it runs."""

import argparse
from dataclasses import replace
from pathlib import Path

from virtualdepth.runs import PASSED, UnusableError
from virtualdepth_lab.reproduce import EXPERIMENTS

HELP = "rerun a published experiment and print its numbers beside the published ones"
DESCRIPTION = (
    f"Rerun a published experiment: {', '.join(EXPERIMENTS)}. Without a name: list them, with what "
    "they show and how long they take. Writes result.json, arrays.npz, report.md and figures."
)
EPILOG = (
    "Exit status: 0 every claim held, 1 one did not, 2 unusable arguments, 130 after Ctrl-C. The "
    "parts that had finished are kept in unfinished.jsonl: the same command with the same --output "
    "goes on after them."
)
EXTRA = "experiments"
TAKES_MORE = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``reproduce``."""
    add = parser.add_argument
    add("name", metavar="NAME", nargs="?", help="name of the experiment (default: list them)")
    add(
        "--seeds",
        type=_seeds,
        metavar="SEED,...",
        help="seeds of problems and starts; parts that cost much use the first only (default: "
        f"0,1,2; with --quick, {' and '.join(_one_seed())}: 0)",
    )
    add("--quick", action="store_true", help="run a small version of about a minute")
    add(
        "--data-dir",
        metavar="DIR",
        help="the folder with images/camera.png, ethanol/ethanol.npz or mnist/ "
        "(default: $VIRTUALDEPTH_DATA)",
    )
    add(
        "--output",
        metavar="DIR",
        help="folder for the results (default: runs/reproduce/<time>)",
    )


def run(options: argparse.Namespace) -> int:
    """Rerun the experiment, and return the exit status."""
    if options.name is None:
        return _list(options)
    if options.name not in EXPERIMENTS:
        raise UnusableError(
            "name", f"expected one of {', '.join(EXPERIMENTS)} but got {options.name!r}"
        )

    from virtualdepth_lab.reproduce.command import reproduce
    from virtualdepth_lab.reproduce.result import ReproduceConfig

    uses_one = EXPERIMENTS[options.name].one_seed
    seeds = options.seeds or ((0,) if options.quick or uses_one else (0, 1, 2))
    config = ReproduceConfig(
        name=options.name, seeds=seeds, quick=options.quick, data_dir=options.data_dir
    )
    if uses_one and len(seeds) > 1:
        print(f"{options.name} uses one seed: {seeds[0]}; the others are left out")
        config = replace(config, seeds=seeds[:1])
    return reproduce(config, options.output)


def _list(options: argparse.Namespace) -> int:
    """Print the experiments; options without a name have nothing to act on."""
    if options.seeds or options.quick or options.data_dir or options.output:
        raise UnusableError(
            "name", f"expected one of {', '.join(EXPERIMENTS)} but got options without a name"
        )
    width = max(map(len, EXPERIMENTS))
    for name, listed in EXPERIMENTS.items():
        needs = f" (needs {listed.data})" if listed.data else ""
        print(f"{name:{width}}  {listed.duration:>6}  {listed.line}{needs}")
    print(
        "\nTimes are CPU time; with --quick an experiment takes about a minute. The folders that\n"
        "some need lie under --data-dir; python -m virtualdepth_lab.prepare_data puts them there."
    )
    return PASSED


def _one_seed() -> list[str]:
    return [name for name, listed in EXPERIMENTS.items() if listed.one_seed]


def report(folder: Path) -> None:
    """Make report and figures again from what :func:`run` left."""
    from virtualdepth_lab.reproduce.command import report_reproduction

    report_reproduction(folder)


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected integers but got {text!r}") from error
