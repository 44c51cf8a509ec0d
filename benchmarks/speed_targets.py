"""Target by target: what was wanted, what was measured, and whether it holds."""

from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

from common import Row

from virtualdepth.runs import shown

Results = dict[str, list[Row]]
FULL_RANK = ("regression", "completion", "regression, 4:1", "identity", "near-zero", "clusters")


def target(what: str, wanted: str, measured: Iterable[Any], holds: Callable[[Any], bool]) -> Row:
    """One row; what was not measured is neither met nor missed."""
    values = [value for value in measured if value is not None]
    met = "not measured" if not values else "yes" if all(map(holds, values)) else "no"
    return {
        "target": what,
        "wanted": wanted,
        "measured": ", ".join(shown(value) for value in values) or "-",
        "met": met,
    }


def at_most(what: str, limit: float, measured: Iterable[Any], unit: str = "") -> Row:
    return target(what, f"<= {limit:g}{unit}", measured, lambda value: value <= limit)


def tracked_steps(results: Results) -> list[Row]:
    """From (a): the quiet step. From (c): whole runs from torch's default start."""
    steps = {(row["shape"], row["optimizer"]): row for row in results["steps"]}
    rows = []
    for size, limit in ((256, 8.5), (512, 7.0), (1024, 7.0)):
        found = steps.get((f"{size} x {size}", "tracked"), {})
        with_momentum = steps.get((f"{size} x {size}", "tracked, momentum"), {})
        rows.append(at_most(f"tracked, quiet step, d = {size}", limit, [found.get("quiet step")]))
        rows[-1]["with momentum"] = with_momentum.get("quiet step")
    runs = [
        row
        for row in results["accuracy"]
        if row["solver"] == "tracked" and row["trajectory"] in {"regression", "completion"}
    ]
    for name in ("regression", "completion"):
        for rate in sorted({row["lr"] for row in runs if row["d"] >= 256}):
            own = [r for r in runs if (r["trajectory"], r["lr"]) == (name, rate) and r["d"] >= 256]
            plain = [row for row in own if not row["momentum"]]
            sizes = ", ".join(str(row["d"]) for row in plain)
            what = f"tracked, mean over {name}, lr {rate:g}, d = {sizes}"
            rows.append(at_most(what, 9, [row["cost, mean"] for row in plain]))
            heavy = [shown(row["cost, mean"]) for row in own if row["momentum"]]
            rows[-1]["with momentum"] = ", ".join(heavy)
    everywhere = [row for row in results["accuracy"] if row["solver"] == "tracked"]
    these = [row for row in runs if not row["momentum"]]
    for key, limit in (("error, median", 1e-4), ("p95", 5e-4), ("largest", 1e-2)):
        for where, own in (("these runs", these), ("all of (c)", everywhere)):
            worst = max((row[key] for row in own), default=None)
            what = f"tracked, error in {where}: {key.removeprefix('error, ')}, worst run"
            rows.append(at_most(what, limit, [worst]))
    return rows


def exact_path(results: Results) -> list[Row]:
    errors = [
        row["p95"]
        for row in results["accuracy"]
        if row["solver"] == "svd" and row["trajectory"] in FULL_RANK
    ]
    what = "svd, 95th percentile of the error, full rank, worst run"
    return [at_most(what, 2e-5, [max(errors, default=None)])]


def layers(results: Results) -> list[Row]:
    rows = []
    for depth in (2, 3, 4, 8):
        own = [r for r in results["training"] if (r["model"], r["depth"]) == ("layers", depth)]
        sizes = sorted({row["d"] for row in own})
        costs = [median(row["step alone"] for row in own if row["d"] == size) for size in sizes]
        what = f"layers, N = {depth}, d = {', '.join(map(str, sizes))}"
        rows.append(at_most(what, 1.1 * 3 * (depth - 1), costs))
    return rows


def overhead(results: Results) -> list[Row]:
    rows = []
    for row in results["overhead"]:
        what = row["what"]
        if row.get("kind") == "between decompositions":
            continue  # no target was set for a step of products alone
        if "overhead, us a parameter" in row:
            limit = 100 if " x " in what else 30
            own = [row["overhead, us a parameter"]]
            rows.append(at_most(f"overhead, {what}", limit, own, " us a parameter"))
        elif "ratio" in row:
            rows.append(at_most(f"{what}, against torch.optim.SGD", 1.1, [row["ratio"]]))
        elif row["solver"] == "svd" and row["depth"] == 3:
            peak = [row["peak of a step, matrices"]]
            rows.append(at_most(f"svd, {what}, peak", 10, peak, " matrices"))
            rows.append(at_most(f"svd, {what}, state", 0, [row["state, matrices"]]))
    return rows


def targets(results: Results) -> list[Row]:
    rows = [*tracked_steps(results), *exact_path(results), *layers(results), *overhead(results)]
    return [{**row, "with momentum": row.get("with momentum") or ""} for row in rows]
