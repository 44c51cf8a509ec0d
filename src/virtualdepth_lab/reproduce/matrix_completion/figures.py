"""The matrix completion rows in a table of medians, and drawn against their CPU time."""

from statistics import median

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from virtualdepth_lab.reproduce.matrix_completion.claims import AUTO, EXPLICIT, FAST, FLOW, NUCLEAR
from virtualdepth_lab.reproduce.result import Record, Reproduction


def summary(measured: list[Record]) -> list[Record]:
    """Take medians over seeds, with the range of the error.

    Args:
        measured: rows of single runs.

    Returns:
        One row for each number observed, method and depth.
    """
    groups: dict[tuple[object, ...], list[Record]] = {}
    for row in measured:
        key = (row["size"], row["observed"], row["method"], row.get("depth"))
        groups.setdefault(key, []).append(row)
    table = []
    for (size, observed, method, depth), rows in groups.items():
        errors = [row["error"] for row in rows]
        line: Record = {"size": size, "observed": observed, "method": method, "depth": depth}
        line |= {"error": median(errors), "from": min(errors), "to": max(errors)}
        for name in ("nuclear_norm", "effective_rank", "evaluations", "cpu_seconds"):
            if name in rows[0]:
                line[name] = median(row[name] for row in rows)
        table.append(line | {"finished": sum(row.get("finished", True) for row in rows)})
    return table


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw error against CPU seconds, one marker for each run.

    Args:
        result: of :func:`run`.

    Returns:
        Caption to figure.
    """
    problems = sorted({(row["size"], row["observed"]) for row in result.measured})
    figure = Figure(figsize=(max(11, 5 * len(problems)), 5), layout="constrained")
    panels = figure.subplots(1, len(problems), squeeze=False, sharey=True)[0]
    colours = {EXPLICIT: "#000000", FLOW: "#D55E00", FAST: "#009E73", AUTO: "#56B4E9"}
    markers = {2: "o", 3: "^", 4: "s"}
    for ax, (size, count) in zip(panels, problems, strict=True):
        for row in result.measured:
            if row["observed"] == count and "distance" not in row and row.get("depth") in markers:
                ax.plot(
                    row["cpu_seconds"],
                    row["error"],
                    marker=markers[row["depth"]],
                    color=colours[row["method"]],
                    linestyle="none",
                )
        convex = [
            row["error"]
            for row in result.measured
            if row["method"] == NUCLEAR and row["observed"] == count
        ]
        convex_line = ax.axhline(median(convex), color="0.5", linestyle="--", label=NUCLEAR)
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="CPU seconds",
            title=f"{size} × {size}, {count} observed",
        )
        ax.grid(color="0.9")
    panels[0].set_ylabel("error over all entries")
    handles = [
        *(Patch(color=colour, label=method) for method, colour in colours.items()),
        convex_line,
        *(
            Line2D([], [], color="0.5", marker=marker, linestyle="none", label=f"depth {depth}")
            for depth, marker in markers.items()
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return {"Error of each run against the CPU time that it took.": figure}
