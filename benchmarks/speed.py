"""Everything about speed in one command: tables, figures and a JSON file.

`python benchmarks/speed.py` takes about ten minutes of CPU time, `--quick` under one at toy sizes.
`--docs` puts tables, figures and JSON into the documentation. The parts also run by themselves.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import solver_accuracy
import speed_overhead
import speed_processes
import speed_scaling
import speed_steps
import speed_training
from common import DOCS, DOTS_PER_INCH, Row, as_json, into_docs, parse, save_figure, write
from speed_common import Job, alike, arguments, machine
from speed_figures import FIGURES, NAMES
from speed_targets import Results, targets
from tqdm import tqdm

from virtualdepth.runs import markdown_table, replacing

PARTS: dict[str, Callable[[argparse.Namespace], list[Job]]] = {
    "steps": speed_steps.jobs,
    "training": speed_training.jobs,
    "accuracy": solver_accuracy.jobs,
    "scaling": speed_scaling.jobs,
    "processes": speed_processes.jobs,
    "overhead": speed_overhead.jobs,
}
FILES = ("speed.json", "speed.md", "speed_rows.json", *(f"{name}.png" for name in FIGURES))


def measure(options: argparse.Namespace) -> Results:
    jobs = [(name, job) for name, make in PARTS.items() for job in make(options)]
    if options.device == "cuda":
        jobs = [(name, job) for name, job in jobs if name != "processes"]
    results: Results = {name: [] for name in PARTS}
    with tqdm(jobs, unit="measurement", disable=None) as bar:
        for name, job in bar:
            bar.set_postfix_str(name)
            results[name] += job()
            # what was measured stays, whatever happens to the rest
            with replacing(options.output, "speed_rows.json") as path:
                path.write_text(as_json(results), encoding="utf-8")
    return results


def by_shape(rows: list[Row]) -> list[Row]:
    """Optimizers down, shapes across."""
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    found = {(row["optimizer"], row["shape"]): row["products"] for row in rows}
    return [
        {"optimizer": name} | {shape: found.get((name, shape), "-") for shape in shapes}
        for name in dict.fromkeys(row["optimizer"] for row in rows)
    ]


def short(rows: list[Row]) -> list[Row]:
    """The same of square matrices from 256 to 1024, without momentum."""
    shapes = {f"{d} x {d}" for d in (256, 512, 1024)}
    own = [r for r in rows if r["shape"] in shapes and "momentum" not in r["optimizer"]]
    return [
        {**row, "optimizer": NAMES.get(row["optimizer"], row["optimizer"])} for row in by_shape(own)
    ]


def units(rows: list[Row]) -> list[Row]:
    first = {row["shape"]: row for row in rows}
    return [
        {"shape": shape, "product, ms": row["product, ms"], "auto takes": row["auto takes"]}
        for shape, row in first.items()
    ]


def trajectories(rows: list[Row]) -> list[Row]:
    """Kinds of run down, solvers across: median, 95th percentile and largest error."""
    size = min(row["d"] for row in rows)
    own = [row for row in rows if row["d"] == size]
    solvers = dict.fromkeys(row["solver"] for row in own)
    found: dict[tuple[str, int], Row] = {}
    for row in own:
        errors = ", ".join(f"{row[key]:.1e}" for key in ("error, median", "p95", "largest"))
        if row["solver"] == "tracked":
            errors += f" ({row['decomposed']} of {row['steps']} steps by SVD)"
        key = (row["trajectory"], row["depth"])
        kind = {"run": key[0], "lr": row["lr"], "N": key[1], **dict.fromkeys(solvers, "-")}
        found.setdefault(key, kind)[row["solver"]] = errors
    return list(found.values())


def runs(rows: list[Row]) -> list[Row]:
    """What the larger runs cost, without what the other table has."""
    left_out = {"depth", "error, median", "largest"}
    least = min(row["d"] for row in rows)
    own = [row for row in rows if row["d"] > least] or rows
    return [{key: value for key, value in row.items() if key not in left_out} for row in own]


def tables(results: Results) -> dict[str, str]:
    scaling = [row for row in results["scaling"] if row["against"] in {"depth", "d"}]
    profiled = [row for row in results["scaling"] if row["against"] == "profile"]
    return {
        "targets": markdown_table(targets(results)),
        "short": markdown_table(short(results["steps"])),
        "steps": markdown_table(by_shape(results["steps"])),
        "units": markdown_table(units(results["steps"])),
        "break-even": markdown_table(speed_training.break_even(results["training"])),
        "trajectories": markdown_table(trajectories(results["accuracy"])),
        "runs": markdown_table(runs(results["accuracy"])),
        "slopes": markdown_table(speed_scaling.slopes(scaling)),
        "profile": markdown_table(profiled) or "not measured",
        "processes": markdown_table(results["processes"]) or "not measured",
        **{
            name: markdown_table(rows)
            for name, rows in zip(
                ("overhead", "depth-1", "memory"), alike(results["overhead"]), strict=True
            )
        },
    }


def main() -> None:
    parser = arguments(__doc__, docs=True)
    parser.add_argument("--again", type=Path, metavar="JSON", help="no run: from an earlier file")
    options = parse(parser, *FILES)
    if options.again:
        result: dict[str, Any] = read(options.again)
    else:
        before = machine(options.device)
        result = {"machine": before, "quick": options.quick, "results": measure(options)}
    made = tables(result["results"])
    for name, text in made.items():
        print(f"{name}\n\n{text}\n")
    write(options.output, "speed.json", as_json(result))
    lines = (f"## {name}\n\n{text}\n" for name, text in made.items())
    write(options.output, "speed.md", "\n".join(lines))
    figures = {f"{name}.png": draw(result["results"][name]) for name, draw in FIGURES.items()}
    for name, figure in figures.items():
        save_figure(options.output, name, figure)
    if options.docs:  # its files are under version control
        for page in ("benchmarks.md", "benchmarks_appendix.md"):
            into_docs(made, DOCS / page)
        assets = DOCS / "assets" / "benchmarks"
        for name, figure in figures.items():
            figure.savefig(assets / name, dpi=DOTS_PER_INCH)
        (assets / "speed.json").write_text(as_json(result), encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """A result as it was; depth inf is a string in JSON."""
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for rows in result["results"].values():
        for row in rows:
            row.update({k: float(v) for k, v in row.items() if k == "depth" and v == "inf"})
    return result


if __name__ == "__main__":
    main()
