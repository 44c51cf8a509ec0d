"""Matrix completion against its rivals.

`python -m benchmarks.completion` measures every cell that the output folder does not hold yet, then
draws the figures and the tables. Stop it at any time; the next run goes on from there. `--docs`
puts a table and the figures into docs/completion.md.
"""

import sys
from pathlib import Path

from benchmarks.common import (
    DOTS_PER_INCH,
    arguments,
    as_json,
    into_docs,
    parse,
    save_figure,
    write,
)
from benchmarks.completion.cells import Row, run_cells
from benchmarks.completion.figures import FIGURES
from benchmarks.completion.methods import METHODS
from benchmarks.completion.parts import PARTS
from benchmarks.completion.results import tables
from threadpoolctl import threadpool_limits

from virtualdepth.runs import in_words, markdown_table, versions

CELLS, QUICK_CELLS = "completion_cells.jsonl", "completion_cells_quick.jsonl"
RESULTS = ("completion.json", "completion.md", *FIGURES)
DOCS = Path(__file__).parents[2] / "docs"


def report(rows: list[Row], output: Path, docs: bool) -> None:
    made = tables(rows)
    text = {name: markdown_table(in_words(lines)) for name, lines in made.items()}
    for name, table in text.items():
        print(f"{name}\n\n{table}\n")
    ran = {"versions": versions("virtualdepth", "torch", "scikit-learn")}
    write(output, "completion.json", as_json({**ran, "tables": made}))
    write(output, "completion.md", "\n".join(f"## {n}\n\n{t}\n" for n, t in text.items()))
    figures = {name: draw(rows) for name, draw in FIGURES.items()}
    for name, figure in figures.items():
        save_figure(output, name, figure)
    if docs:  # its files are under version control
        into_docs(text, DOCS / "completion.md")
        assets = DOCS / "assets" / "completion"
        for name, figure in figures.items():
            figure.savefig(assets / name, dpi=DOTS_PER_INCH)
        (assets / "completion.json").write_text(as_json({**ran, "tables": made}), encoding="utf-8")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--data-dir", type=Path, nargs="+", default=[], metavar="DIR", help="folders of real tables"
    )
    names = [part.name for part in PARTS]
    parser.add_argument("--parts", nargs="+", choices=names, default=names, help="measure these")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), help="measure these alone")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="at most so many draws")
    parser.add_argument("--docs", action="store_true", help="write into the documentation too")
    options = parse(parser, CELLS, QUICK_CELLS, *RESULTS)
    try:
        with threadpool_limits(1):
            rows = run_cells(
                PARTS,
                options.output,
                QUICK_CELLS if options.quick else CELLS,
                quick=options.quick,
                folders=options.data_dir,
                wanted=options.parts,
                methods=options.methods,
                seeds=options.seeds,
            )
    except KeyboardInterrupt:
        sys.exit("interrupted: what was measured is kept; the same command goes on from there")
    report(rows, options.output, options.docs)


if __name__ == "__main__":
    main()
