"""The command ``verify``: its options, its run, and its report."""

import argparse
from dataclasses import fields
from pathlib import Path

from virtualdepth.runs import FAILED, INTERRUPTED, PASSED, claim_folder, column_names
from virtualdepth.verify._config import VerifyConfig

HELP = "train one layer beside an explicit N-layer network and measure the gap"
DESCRIPTION = (
    "Train one linear layer as if it were N layers deep, beside an explicit N-layer network from "
    "the same start, at several learning rates. The largest gap between the two is of first order "
    "in the learning rate. The check passes if the measured order is between 0.9 and 1.15 and the "
    "gap falls with the learning rate. Writes result.json, curves.csv, report.md, loss.png and "
    "gap.png."
)
EPILOG = (
    "Exit status: 0 passed, 1 the check failed or a run diverged, 2 unusable arguments, 130 after "
    "Ctrl-C; the learning rates that had finished are kept."
)
EXTRA = "experiments"
TAKES_MORE = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``verify``."""
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
        help="the columns of the CSV file to predict from the others; a name with a comma in it "
        "needs quotes: --targets '\"a,b\",c'",
    )
    add(
        "--depth",
        type=_number,
        default=default.depth,
        metavar="N",
        help="number of layers, 2 or more (default: %(default)s)",
    )
    add(
        "--structure",
        default=default.structure,
        metavar="S",
        help="layers of the network: matrix, rows (gates of outputs above a matrix), columns "
        "(gates of inputs below a matrix), diagonal (gates of entries) or circulant (filters as "
        "long as the input) (default: %(default)s)",
    )
    add(
        "--imbalance",
        type=_number,
        default=default.imbalance,
        metavar="L",
        help="by how much one layer is smaller than the others, in squared singular values "
        "(default: 0)",
    )
    add(
        "--optimizer-depth",
        type=_number,
        metavar="N",
        help="another depth for the single layer, to see the check fail (default: N)",
    )
    add(
        "--optimizer-structure",
        metavar="S",
        help="another structure for the single layer, to see the check fail (default: S)",
    )
    add(
        "--optimizer-imbalance",
        type=_number,
        metavar="L",
        help="another imbalance for the single layer, to see the check fail (default: L)",
    )
    add(
        "--precondition-frequency",
        type=_number,
        default=default.precondition_frequency,
        metavar="STEPS",
        help="decompose the single layer at every so many steps; between, the rule acts in its "
        "last singular basis (default: %(default)s)",
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
        help="scale of the random start, 0 with an imbalance only (default: %(default)s)",
    )
    add(
        "--seed",
        type=_number,
        default=default.seed,
        metavar="K",
        help="seed of the start, and of synthetic data (default: %(default)s)",
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
        help="folder for the results; results of an earlier run there are replaced "
        "(default: runs/verify/<time>)",
    )


def run(options: argparse.Namespace) -> int:
    """Run the check, print its table, leave its files, and return the exit status."""
    config = VerifyConfig(
        **{field.name: getattr(options, field.name) for field in fields(VerifyConfig)}
    )
    from virtualdepth.data import load_problem

    problem = load_problem(
        config.data, targets=config.targets, data_dir=config.data_dir, seed=config.seed
    )
    # Lightning takes seconds to import, so data that cannot be used are refused before
    from virtualdepth.verify._artifacts import OWN, save
    from virtualdepth.verify._check import check
    from virtualdepth.verify._report import terminal_table, verdict, write_report

    with claim_folder(options.output, "verify", OWN) as folder:
        print(problem, *problem.notes, sep="\n", flush=True)
        result = check(config, problem)
        save(result, folder)
        write_report(result, folder)
    print(f"\n{terminal_table(result)}\n\n{verdict(result)}; files in {folder}")
    return {True: PASSED, False: FAILED, None: INTERRUPTED}[result.passed]


def report(folder: Path) -> None:
    """Make report and figures again from what :func:`run` left."""
    from virtualdepth.verify._artifacts import OWN, load
    from virtualdepth.verify._report import terminal_table, verdict, write_report

    with claim_folder(folder, "verify", OWN):
        result = load(folder)
        write_report(result, folder)
    print(f"{terminal_table(result)}\n\n{verdict(result)}; report and figures in {folder}")


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
    try:
        return column_names(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
