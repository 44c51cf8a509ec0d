"""What it costs not to know that a table has no offsets, and what ours adds to that.

    python -m benchmarks.completion.offsets           # 5 minutes
    python -m benchmarks.completion.offsets --docs    # writes the table into docs/completion.md too

Errors of one table without offsets, and of the same with large ones, over those of two oracles.
Both know the tangent space of the table; one is told that there are no offsets, the other is not.
"""

from statistics import mean, median
from time import process_time

import numpy as np
from benchmarks.common import DOCS, Row, arguments, into_docs, parse, report
from benchmarks.completion.draws import Draw, make_draw, oracle
from benchmarks.completion.methods import ours
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from virtualdepth.runs import in_words, markdown_table

RHOS, DRAWS, NOISE = (1.35, 1.5, 2.0, 3.0, 5.0), 10, 0.1
OFFSETS = (0.0, 10.0, 1e6)
FIRST = 1000  # seeds that no other part has


def measure(seed: int, rho: float, size: int) -> Row:
    """Return the errors of one table over those of both oracles, with every size of offsets."""
    draw = make_draw(seed, m=size, n=size, rank=5, rho=rho, noise=NOISE)
    told, untold = (draw.hidden_error(oracle(draw, offsets=each)) for each in (False, True))
    row: Row = {"rho": rho, "price": untold / told}
    places = np.random.default_rng(seed).normal(size=size)
    for offset in OFFSETS:
        moved = Draw(draw.truth + offset * places, draw.known + offset * places, draw.rank)
        begin = process_time()
        answer = ours(moved.known, moved.rank, 0)
        row[f"seconds {offset:g}"] = process_time() - begin
        row[f"error {offset:g}"] = moved.hidden_error(answer.completed) / (
            untold if offset else told
        )
        row[f"covered {offset:g}"] = answer.covers(moved.truth, moved.hidden)
    return row


def spread(numbers: list[float]) -> str:
    return f"{median(numbers):.2f} ({min(numbers):.2f} to {max(numbers):.2f})"


def line(rho: float, rows: list[Row]) -> Row:
    """Return medians and ranges over the draws of one rho; coverage as its mean."""

    def all_of(name: str) -> list[float]:
        return [row[name] for row in rows]

    shown: Row = {"rho": rho, "oracle not told / told": spread(all_of("price"))}
    names = {0.0: "b = 0 / told", 10.0: "b ~ 10 / not told", 1e6: "b ~ 1e6 / not told"}
    shown |= {name: spread(all_of(f"error {offset:g}")) for offset, name in names.items()}
    shown["covered, b ~ 10"] = f"{mean(all_of('covered 10')):.3f}"
    shown["CPU s, b = 0"] = f"{median(all_of('seconds 0')):.1f}"
    shown["CPU s, b ~ 10"] = f"{median(all_of('seconds 10')):.1f}"
    return shown


def main() -> None:
    parser = arguments(__doc__, docs=True)
    options = parse(parser, "offsets.json")
    size, draws, rhos = (30, 1, (3.0,)) if options.quick else (100, DRAWS, RHOS)
    with threadpool_limits(1):
        cells = [(rho, FIRST + seed) for rho in rhos for seed in range(draws)]
        rows = [measure(seed, rho, size) for rho, seed in tqdm(cells, disable=None)]
    lines = [line(rho, [row for row in rows if row["rho"] == rho]) for rho in rhos]
    report("offsets", options.output, lines, draws=rows)
    if options.docs:
        into_docs({"offsets": markdown_table(in_words(lines))}, DOCS / "completion.md")


if __name__ == "__main__":
    main()
