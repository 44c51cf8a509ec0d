"""Tables for the reader: the rows of all seeds in one."""

from collections.abc import Iterable, Iterator
from statistics import fmean, median

from virtualdepth_lab.reproduce.result import Record
from virtualdepth_lab.reproduce.rows import grouped, spread

_KEYS = {
    "slopes": ("structure", "start", "depth", "imbalance"),
    "recovery": ("structure", "active", "method"),
    "features": ("method",),
    "lazy to rich": ("depth", "imbalance"),
    "infinite width": ("width",),
}


def summarised(part: list[Record]) -> Iterator[Record]:
    """Yield one row for all seeds of each setting of one part."""
    name = part[0]["part"]
    keys = _KEYS[name]
    for key, rows in grouped(part, *keys).items():
        row: Record = {"part": name, **dict(zip(keys, key, strict=True))}
        yield row | _SUMMARIES[name](rows)


def _slopes(rows: list[Record]) -> Record:
    return {
        "slope": spread(_column(rows, "slope"), ".3f"),
        "gap": spread([row["gaps"][0] for row in rows]),
        "gap_at_wrong_depth": _spread_or_none(rows, "wrong_depth"),
        "gap_at_wrong_imbalance": _spread_or_none(rows, "wrong_imbalance"),
    }


def _spread_or_none(rows: list[Record], name: str) -> str | None:
    values = [row[name] for row in rows if row[name] is not None]
    return spread(values) if values else None


def _recovery(rows: list[Record]) -> Record:
    return {
        "share": round(fmean(_column(rows, "share")), 3),
        "draws": sum(row["draws"] for row in rows),
        "median_error": spread(_column(rows, "median_error")),
    }


def _features(rows: list[Record]) -> Record:
    return {
        "test_mse": f"{median(_column(rows, 'test_mse')):.3f}",
        "range": spread(_column(rows, "test_mse"), ".3f"),
        "share_of_relevant": f"{median(_column(rows, 'share_of_relevant')):.3f}",
        "best_trials": ", ".join(str(row["trial"]) for row in rows),
        "cpu_s": f"{median(_column(rows, 'cpu_s')):.0f}",
    }


def _lazy(rows: list[Record]) -> Record:
    return {
        "kernel_distance": f"{median(_column(rows, 'kernel_distance')):.3g}",
        "range": spread(_column(rows, "kernel_distance"), ".3g"),
        "of_the_network": f"{median(_column(rows, 'of_the_network')):.3g}",
        "kernels_apart_at_start": f"{max(_column(rows, 'kernels_apart')):.1e}",
    }


def _width(rows: list[Record]) -> Record:
    gap = fmean(_column(rows, "gap"))
    return {
        "gap": f"{gap:.4f}",
        "gap_times_root_width": f"{gap * rows[0]['width'] ** 0.5:.3f}",
        "range": spread(_column(rows, "gap")),
        "gap_without_imbalance": f"{fmean(_column(rows, 'gap_without_imbalance')):.3f}",
    }


def _column(rows: Iterable[Record], name: str) -> list[float]:
    return [row[name] for row in rows]


_SUMMARIES = {
    "slopes": _slopes,
    "recovery": _recovery,
    "features": _features,
    "lazy to rich": _lazy,
    "infinite width": _width,
}
