"""The check passes where it should, and fails where it should."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import virtualdepth
from virtualdepth.data import DATA_VARIABLE
from virtualdepth.verify._artifacts import load, save
from virtualdepth.verify._check import check
from virtualdepth.verify._config import STRUCTURES, VerifyConfig
from virtualdepth.verify._report import write_report

SMALL = {"data": "synthetic", "lrs": (0.1, 0.05, 0.025), "time": 1.0}


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_one_layer_follows(depth: int, seed: int) -> None:
    result = check(VerifyConfig(**SMALL, depth=depth, seed=seed))
    assert result.passed is True
    assert result.failures == []
    assert result.order == pytest.approx(1, abs=0.05)
    assert [(row.lr, row.steps) for row in result.rows] == [(0.1, 10), (0.05, 20), (0.025, 40)]
    for row, curve in zip(result.rows, result.curves, strict=True):
        assert len(curve.gap) == row.steps + 1
        assert row.gap == max(curve.gap)
        assert (row.loss_single, row.loss_deep) == (curve.loss_single[-1], curve.loss_deep[-1])
        assert curve.loss_deep[-1] < 0.7 * curve.loss_deep[0]
    slope = np.polyfit(np.log(SMALL["lrs"]), np.log([row.gap for row in result.rows]), 1)[0]
    assert result.order == pytest.approx(slope, rel=1e-10)


@pytest.mark.parametrize("optimizer_depth", [1, 2, 2.5, 4, np.inf])
def test_another_depth_does_not(optimizer_depth: float) -> None:
    result = check(VerifyConfig(**SMALL, depth=3, optimizer_depth=optimizer_depth))
    assert result.passed is False
    assert abs(result.order) < 0.3
    assert min(row.gap for row in result.rows) > 0.02


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("depth", [2, 3])
def test_one_layer_follows_every_structure(structure: str, depth: int) -> None:
    result = check(VerifyConfig(**SMALL, depth=depth, structure=structure, imbalance=0.5))
    assert result.passed is True
    assert result.order == pytest.approx(1, abs=0.1)
    for curve in result.curves:
        assert curve.loss_deep[-1] < 0.7 * curve.loss_deep[0]


def test_a_start_of_zero() -> None:
    result = check(
        VerifyConfig(data="synthetic", lrs=(0.02, 0.01), time=1.0, imbalance=0.5, init_scale=0.0)
    )
    assert result.passed is True
    assert [curve.gap[0] for curve in result.curves] == [0, 0]


@pytest.mark.parametrize(
    "wrong", [{"optimizer_imbalance": 0.1}, {"optimizer_structure": "matrix"}], ids=str
)
def test_another_imbalance_or_structure_does_not(wrong: dict[str, Any]) -> None:
    result = check(VerifyConfig(**SMALL, structure="rows", imbalance=0.5, **wrong))
    assert result.passed is False
    assert abs(result.order) < 0.3
    assert min(row.gap for row in result.rows) > 0.02


def test_parameters_are_counted() -> None:
    result = check(VerifyConfig(**SMALL, depth=4))
    # 12 inputs, 4 outputs, hidden layers of min(12, 4)
    assert result.parameters == {"single": 12 * 4, "deep": 12 * 4 + 4 * 4 + 4 * 4 + 4 * 4}
    result = check(VerifyConfig(**SMALL, depth=4, structure="columns"))
    assert result.parameters == {"single": 12 * 4, "deep": 12 * 4 + 3 * 12}


def test_versions() -> None:
    versions = check(VerifyConfig(**SMALL)).versions
    assert versions["virtualdepth"] == virtualdepth.__version__
    assert set(versions) >= {"python", "torch", "pytorch-lightning"}


def test_the_same_again() -> None:
    first, again = check(VerifyConfig(**SMALL)), check(VerifyConfig(**SMALL))
    assert first.curves == again.curves


def test_divergence_fails() -> None:
    result = check(VerifyConfig(data="synthetic", lrs=(5.0, 0.25), time=50.0))
    diverged, finished = result.rows
    assert (diverged.gap, diverged.loss_single, diverged.loss_deep) == (None, None, None)
    assert finished.gap is not None
    assert result.order is None
    assert result.passed is False
    (failure,) = result.failures
    assert failure.startswith("at learning rate 5 training diverged: in step ")


def test_a_start_that_is_not_finite_fails(tmp_path: Path) -> None:
    """Fifty layers multiply to more than float64 holds."""
    result = check(
        VerifyConfig(**SMALL, depth=50, structure="circulant", imbalance=1e12, init_scale=1e12)
    )
    assert result.passed is False
    assert [failure.partition(":")[0] for failure in result.failures] == [
        f"at learning rate {lr} the start is not finite" for lr in SMALL["lrs"]
    ]
    save(result, tmp_path)
    write_report(load(tmp_path), tmp_path)
    assert "the start is not finite" in (tmp_path / "report.md").read_text()


def test_digits() -> None:
    result = check(VerifyConfig(data="digits", lrs=(0.1, 0.05), time=5.0))
    assert result.passed is True
    assert result.order == pytest.approx(1, abs=0.05)
    assert result.parameters == {"single": 610, "deep": 610 + 100 + 100}
    for row, curve in zip(result.rows, result.curves, strict=True):
        assert row.loss_deep < 0.4 < 0.9 < curve.loss_deep[0]


@pytest.mark.skipif(DATA_VARIABLE not in os.environ, reason=f"{DATA_VARIABLE} is not set")
def test_ethanol() -> None:
    result = check(VerifyConfig(data="ethanol", lrs=(0.1, 0.05), time=3.0))
    assert result.passed is True
    # one row of 128 weights beside 1 x 1 layers above the first
    assert result.parameters == {"single": 128, "deep": 130}
    assert result.rows[-1].loss_deep < 0.1 < 0.5 < result.curves[-1].loss_deep[0]


def test_own_data(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(80, 5)) * [1, 10, 100, 0.1, 1] + 3
    targets = features @ draw.normal(size=(5, 2)) + draw.normal(size=(80, 2))
    path = tmp_path / "own.csv"
    np.savetxt(path, np.hstack([features, targets]), delimiter=",", header="a,b,c,d,e,y,z",
               comments="")  # fmt: skip
    result = check(VerifyConfig(**{**SMALL, "data": str(path)}, targets=("z", "y")))
    assert result.passed is True
    assert result.parameters["single"] == 10
