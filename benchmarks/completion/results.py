"""The rows of a run as tables."""

from collections.abc import Iterable, Sequence
from statistics import geometric_mean, mean, median
from typing import Any

from benchmarks.completion.cells import Row
from benchmarks.completion.methods import CHOOSING, OURS
from benchmarks.completion.parts import MISSING

EXACT, RECOVERED = 1e-8, 1e-4  # relative errors: at rounding level; what the literature counts
LETTERS = {
    "IterativeImputer": "I",
    "IterativeImputer, tuned": "R",
    "SoftImpute": "S",
    "KNN": "K",
    "ALS, tuned": "A",
    "Bayes (Gibbs)": "B",
    "cmfrec": "C",
    "column means": "M",
}
CLOSE = 1.03  # ours counts as level with the best up to this ratio


def select(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """Return the rows with these values; failed ones too."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def values(rows: Iterable[Row], key: str) -> list[float]:
    return [row[key] for row in rows if row.get(key) is not None]


def distinct(rows: Iterable[Row], key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def share_below(rows: Sequence[Row], level: float) -> float | None:
    """Return the share of rows with an error below the level; a failure is above every level."""
    if not rows:
        return None
    return mean(row.get("error") is not None and row["error"] < level for row in rows)


def summary(rows: Sequence[Row], keys: Sequence[str]) -> list[Row]:
    """One line for each setting of the keys: median and range of the error, and of the seconds."""
    lines = []
    for setting in dict.fromkeys(tuple(row[key] for key in keys) for row in rows):
        own = select(rows, **dict(zip(keys, setting, strict=True)))
        line: Row = dict(zip(keys, setting, strict=True))
        errors = values(own, "error")
        if errors:
            line["error"] = median(errors)
            line["largest"] = max(errors)
            line["recovered"] = f"{share_below(own, RECOVERED):.0%}"
            if determined := select(own, determined=True):
                line["determined"] = f"{len(determined) / len(own):.0%}"
                line["exact of these"] = f"{share_below(determined, EXACT):.0%}"
            line["CPU s"] = round(median(values(own, "seconds")), 3)
        for key in ("over_oracle", "covered", "peak_gib"):
            if found := values(own, key):
                line[key] = round(median(found), 3)
        line["draws"] = len(own)
        if failures := [row["failed"] for row in own if "failed" in row]:
            line["failed"] = f"{len(failures)}: {failures[0]}"
        lines.append(line)
    return lines


def real_errors(rows: Sequence[Row], **setting: Any) -> dict[str, float]:
    """Return the mean error of each method that ended every draw of the setting."""
    own = select(rows, **setting)
    errors = {method: values(select(own, method=method), "error") for method in CHOOSING}
    draws = len(distinct(own, "seed"))
    return {method: mean(found) for method, found in errors.items() if len(found) == draws}


def best_rival(errors: dict[str, float]) -> tuple[str, float]:
    return min(((m, e) for m, e in errors.items() if m != OURS), key=lambda pair: pair[1])


def real_settings(rows: Sequence[Row]) -> list[tuple[str, float]]:
    return [s for s in MISSING if select(rows, pattern=s[0], share=s[1])]


def heading(pattern: str, share: float) -> str:
    return f"{pattern}, {share:.0%}" if pattern != "at random" else f"{share:.0%}"


def real_table(rows: Sequence[Row]) -> list[Row]:
    """For each table ours / the best rival and its letter, with a mark where ours is level."""
    rows = select(rows, part="real")
    lines = []
    for name in distinct(rows, "table"):
        shape = next(row["shape"] for row in select(rows, table=name) if "shape" in row)
        line: Row = {"table": f"{name}, {shape[0]} × {shape[1]}"}
        for pattern, share in real_settings(rows):
            errors = real_errors(rows, table=name, pattern=pattern, share=share)
            rival, best = best_rival(errors)
            own = errors.get(OURS)
            shown = "–" if own is None else f"{own:.2f}"
            mark = "✓ " if own is not None and own <= CLOSE * best else ""
            line[heading(pattern, share)] = f"{mark}{shown} / {best:.2f} {LETTERS[rival]}"
        lines.append(line)
    return lines


def standings(rows: Sequence[Row]) -> list[Row]:
    """For each method the geometric mean over all draws of its error over the best method's."""
    rows = select(rows, part="real")
    lines: dict[str, Row] = {method: {"method": method} for method in CHOOSING}
    for pattern, share in real_settings(rows):
        ratios: dict[str, list[float]] = {}
        own = select(rows, pattern=pattern, share=share)
        for name, seed in dict.fromkeys((row["table"], row["seed"]) for row in own):
            errors = real_errors(own, table=name, seed=seed)
            least = min(errors.values())
            for method, error in errors.items():
                ratios.setdefault(method, []).append(error / least)
        for method, found in ratios.items():
            lines[method][heading(pattern, share)] = round(geometric_mean(found), 3)
    for method, line in lines.items():
        if seconds := values(select(rows, method=method), "seconds"):
            line["CPU s, median"] = round(median(seconds), 3)
            line["CPU s, largest"] = round(max(seconds), 3)
    return [line for line in lines.values() if len(line) > 1]


def verdict(rows: Sequence[Row]) -> list[Row]:
    """How often ours is level with the best rival, and how often behind column means."""
    rows = select(rows, part="real")
    lines = []
    for pattern, share in real_settings(rows):
        line: Row = {"missing": heading(pattern, share), "tables": 0, "level": 0, "behind_means": 0}
        for name in distinct(rows, "table"):
            errors = real_errors(rows, table=name, pattern=pattern, share=share)
            if OURS in errors:
                line["tables"] += 1
                line["level"] += errors[OURS] <= CLOSE * best_rival(errors)[1]
                line["behind_means"] += errors[OURS] > errors["column means"]
        own = select(rows, pattern=pattern, share=share, method=OURS)
        if covered := values(own, "covered"):
            line["covered, median"] = round(median(covered), 3)
            line["covered, least"] = round(min(covered), 3)
        lines.append(line)
    return lines


def tables(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return every table of the report that has rows."""
    made = {
        "phase": summary(select(rows, part="phase"), ("size", "rank", "rho", "method")),
        "rivals": summary(select(rows, part="rivals"), ("rho", "method")),
        "noise": summary(select(rows, part="noise"), ("rho", "method")),
        "hard": summary(select(rows, part="hard"), ("case", "method")),
        "scale": summary(
            select(rows, part="scale"), ("m", "n", "rank", "count", "noise", "method")
        ),
    }
    if select(rows, part="real"):
        made |= {"real": real_table(rows), "standings": standings(rows), "verdict": verdict(rows)}
    return {name: lines for name, lines in made.items() if lines}
