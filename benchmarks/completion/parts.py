"""What is measured: exact recovery, noise, hard draws, size, real tables."""

import resource
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from benchmarks.completion.cells import Cell, Part, Row, solve
from benchmarks.completion.draws import Draw, is_determined, make_draw, oracle, sparse_low_rank
from benchmarks.completion.methods import CHOOSING, GIVEN_RANK, OURS
from benchmarks.completion.tables import TABLES, hide, load_table

from virtualdepth.estimators import MatrixCompletion

RHOS = (1.05, 1.1, 1.2, 1.35, 1.5, 2.0, 3.0)
SIZES, RANKS = (30, 50, 100, 200), (1, 2, 3, 5, 8, 12)
# Draws of every setting, and of ours where the claim is about shares of draws.
FEW, MANY = 5, 50
Folders = Sequence[Path]


def phase_cells(quick: bool, folders: Folders) -> list[Cell]:
    """rho against size at rank 5, and against rank at size 100; more draws where both meet."""
    shapes = [(size, 5) for size in SIZES] + [(100, rank) for rank in RANKS if rank != 5]
    if quick:
        shapes = [(30, 2)]
    return [
        {"size": size, "rank": rank, "rho": rho, "seed": seed, "method": OURS}
        for seed, (size, rank), rho in product(range(1 if quick else MANY), shapes, RHOS)
        if seed < FEW or (size, rank) == (100, 5)
    ]


def rival_cells(quick: bool, folders: Folders) -> list[Cell]:
    """The methods that can be exact, on one shape."""
    slow = "penalty of 2306.00342"
    methods = [*GIVEN_RANK, "nuclear norm", "Bayes (Gibbs)", slow]
    size, rank = (20, 2) if quick else (100, 5)
    return [
        {"size": size, "rank": rank, "rho": rho, "seed": seed, "method": method}
        for seed, rho, method in product(
            range(1 if quick else 3), (2.0, 3.0) if quick else RHOS[1:], methods
        )
        if method != slow or (seed == 0 and rho in {2.0, 3.0})
    ]


def recover(cell: Cell, folders: Folders) -> Row:
    size = cell["size"]
    draw = make_draw(cell["seed"], m=size, n=size, rank=cell["rank"], rho=cell["rho"])
    answer, seconds = solve(cell, draw)
    error = draw.error(answer.completed)
    row: Row = {"error": error, "seconds": seconds, "note": answer.note}
    if cell["method"] == OURS:
        row["determined"] = is_determined(draw)
    return row


NOISE = 0.1


def noise_cells(quick: bool, folders: Folders) -> list[Cell]:
    methods = [OURS, "Bayes (Gibbs)", "ALS, tuned", "SoftImpute", "IterativeImputer, tuned"]
    rhos = (3.0,) if quick else (1.35, 1.5, 2.0, 3.0, 5.0)
    return [
        {"size": 30 if quick else 100, "rho": rho, "seed": seed, "method": method}
        for seed, rho, method in product(range(1 if quick else MANY), rhos, methods)
        if method == OURS or seed < FEW
        if seed == 0 or method != "IterativeImputer, tuned"  # ten seconds each
    ]


@cache
def noisy_draw(size: int, rho: float, seed: int) -> tuple[Draw, float]:
    """Return a draw and the oracle's error over its hidden entries."""
    draw = make_draw(seed, m=size, n=size, rank=5, rho=rho, noise=NOISE)
    return draw, draw.hidden_error(oracle(draw))


def with_noise(cell: Cell, folders: Folders) -> Row:
    draw, ideal = noisy_draw(cell["size"], cell["rho"], cell["seed"])
    answer, seconds = solve(cell, draw)
    error = draw.hidden_error(answer.completed)
    return {
        "error": error,
        "over_oracle": error / ideal,
        "seconds": seconds,
        "covered": answer.covers(draw.truth, draw.hidden),
    }


HARD: dict[str, dict[str, Any]] = {
    "condition 10, rho 1.5": {"rank": 5, "rho": 1.5, "condition": 10.0},
    "condition 1000, rho 1.5": {"rank": 5, "rho": 1.5, "condition": 1000.0},
    "condition 1000, rho 3": {"rank": 5, "rho": 3.0, "condition": 1000.0},
    "power law, rho 2": {"rank": 5, "rho": 2.0, "power": 0.7},
    "power law, rho 3, noise 0.1": {"rank": 5, "rho": 3.0, "power": 0.7, "noise": 0.1},
    "singular values 1/k, 30 %": {"rank": None, "share": 0.3, "decay": 1.0},
    "singular values 1/k^2, 30 %": {"rank": None, "share": 0.3, "decay": 2.0},
    "singular values 1/k^2, 60 %": {"rank": None, "share": 0.6, "decay": 2.0},
}


def hard_cells(quick: bool, folders: Folders) -> list[Cell]:
    methods = [OURS, "flow, depth 2", "Bayes (Gibbs)", "ALS, tuned", "SoftImpute"]
    return [
        {"case": case, "size": 20 if quick else 100, "seed": seed, "method": method}
        for seed, case, method in product(range(1 if quick else 3), HARD, methods)
        if not quick or "1/k" in case
    ]


def hard(cell: Cell, folders: Folders) -> Row:
    draw = make_draw(cell["seed"], m=cell["size"], n=cell["size"], **HARD[cell["case"]])
    answer, seconds = solve(cell, draw)
    return {"error": draw.error(answer.completed), "seconds": seconds}


# m, n, rank, observed entries, noise
SQUARE = [(size, size, 5, 3 * 5 * (2 * size - 5), 0.0) for size in (30, 100, 300, 1000, 3000)]
LARGE = [(1000, 1000, 10, 50_000, 0.0), (50_000, 5000, 10, 5_000_000, 0.0)]
LARGE += [(50_000, 5000, 10, 5_000_000, NOISE)]


def scale_cells(quick: bool, folders: Folders) -> list[Cell]:
    fastest = {"SoftImpute": 300, "IterativeImputer": 100, "nuclear norm": 300, "KNN": 300}
    limits = {OURS: 10**9, "Bayes (Gibbs)": 1000, "ALS, tuned": 1000, "cmfrec": 1000, **fastest}
    return [
        {"m": m, "n": n, "rank": r, "count": count, "noise": noise, "seed": 0, "method": method}
        for (m, n, r, count, noise), method in product(
            SQUARE[:1] if quick else SQUARE + LARGE, limits
        )
        if m <= limits[method] and (method in CHOOSING or method == "nuclear norm")
        if method == OURS or r == 5
    ]


def scale(cell: Cell, folders: Folders) -> Row:
    """Ours takes the entries alone; the error is over a million random places."""
    m, n, rank = cell["m"], cell["n"], cell["rank"]
    data = sparse_low_rank(m, n, rank, cell["count"], cell["noise"], cell["seed"])
    rng = np.random.default_rng(1)
    rows, columns = (rng.integers(0, size, 10**6) for size in (m, n))
    truth = np.einsum("ij,ij->i", data["left"][rows], data["right"][columns])
    row: Row = {}
    if cell["method"] == OURS:
        model = MatrixCompletion(random_state=0)
        begin = process_time()
        model.fit_entries(data["rows"], data["columns"], data["values"], shape=(m, n))
        row["seconds"] = process_time() - begin
        found, deviation = model.predict(rows, columns, return_std=True)
        if cell["noise"]:
            row["covered"] = float(np.mean(abs(found - truth) <= 1.96 * deviation))
        row["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    else:
        known = np.full((m, n), np.nan)
        known[data["rows"], data["columns"]] = data["values"]
        answer, row["seconds"] = solve(cell, Draw(known, known, rank))
        found = answer.completed[rows, columns]
    row["error"] = float(np.linalg.norm(found - truth) / np.linalg.norm(truth))
    return row


# pattern, share observed
MISSING = (
    ("at random", 0.2),
    ("at random", 0.5),
    ("at random", 0.8),
    ("stretches", 0.5),
    ("above a threshold", 0.7),
)


@cache
def table(name: str, folders: tuple[Path, ...]) -> Any:
    return load_table(name, folders)


def real_cells(quick: bool, folders: Folders) -> list[Cell]:
    names = ["iris"] if quick else [n for n in TABLES if table(n, tuple(folders)) is not None]
    return [
        {"table": name, "pattern": pattern, "share": share, "seed": seed, "method": method}
        for seed, (pattern, share), name, method in product(
            range(1 if quick else 5), MISSING[1:2] if quick else MISSING, names, CHOOSING
        )
        if seed < 2 or pattern == "at random"
        if method != "cmfrec" or (seed < 2 and (pattern, share) == ("at random", 0.5))  # it is slow
    ]


def real(cell: Cell, folders: Folders) -> Row:
    name = cell["table"]
    full = table(name, tuple(folders))
    draw = hide(full, name, cell["pattern"], cell["share"], cell["seed"])
    answer, seconds = solve(cell, draw)
    return {
        "error": draw.hidden_error(answer.completed),
        "seconds": seconds,
        "covered": answer.covers(draw.truth, draw.hidden, observed=True),
        "note": answer.note,
        "shape": list(full.shape),
    }


PARTS = (
    Part("phase", phase_cells, recover),
    Part("rivals", rival_cells, recover),
    Part("noise", noise_cells, with_noise),
    Part("hard", hard_cells, hard),
    Part("real", real_cells, real),
    Part("scale", scale_cells, scale),
)
