"""Arguments are judged before anything runs."""

import dataclasses
import json
import math
import re

import pytest

from virtualdepth import maths
from virtualdepth.runs import UnusableError
from virtualdepth.verify._config import STRUCTURES, VerifyConfig


@pytest.mark.parametrize("depth", [1, 0, -2, 2.5, math.inf, math.nan, True])
def test_depth_without_an_explicit_network(depth: float) -> None:
    with pytest.raises(UnusableError, match=r"^depth: .*there is no explicit network to compare"):
        VerifyConfig(depth=depth)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer_depth": 0.5}, "optimizer_depth: expected a number from 1 to inf but got 0.5"),
        ({"optimizer_depth": math.nan}, "optimizer_depth: expected a number from 1 to inf but got"),
        ({"lrs": ()}, "lrs: expected two or more different learning rates, which a slope needs, "
         "but got none"),
        ({"lrs": (0.1,)}, "lrs: expected two or more different learning rates"),
        ({"lrs": (0.1, 0.1)}, "lrs: expected two or more different learning rates"),
        ({"lrs": (0.1, 0.05, 0.1)}, "lrs: expected two or more different learning rates"),
        ({"lrs": (0.1, -0.05)}, "lrs: expected a finite number > 0 but got -0.05"),
        ({"lrs": (0.1, 0.0)}, "lrs: expected a finite number > 0 but got 0.0"),
        ({"lrs": (0.1, math.nan)}, "lrs: expected a finite number > 0 but got nan"),
        ({"lrs": (0.1, math.inf)}, "lrs: expected a finite number > 0 but got inf"),
        ({"lrs": (50.0, 0.1)}, "lrs: expected time / learning rate between 1 and 10000000 steps "
         "but got 20 / 50 = 0.4"),
        ({"lrs": (0.1, 1e-9)}, "lrs: expected time / learning rate between 1 and 10000000 steps"),
        ({"time": 1e308, "lrs": (0.1, 1e-9)}, "lrs: expected time / learning rate between 1 and"),
        ({"time": 0.0}, "time: expected a finite number > 0 but got 0.0"),
        ({"time": -1.0}, "time: expected a finite number > 0 but got -1.0"),
        ({"time": math.inf}, "time: expected a finite number > 0 but got inf"),
        ({"init_scale": 0.0}, "init_scale: expected a number from 1e-12 to 1e12 but got 0.0"),
        ({"init_scale": math.nan}, "init_scale: expected a number from 1e-12 to 1e12 but got nan"),
        ({"init_scale": 1e99}, "init_scale: expected a number from 1e-12 to 1e12 but got 1e+99"),
        ({"init_scale": -1.0, "imbalance": 0.5}, "init_scale: expected a number from 1e-12 to 1e12 "
         "but got -1.0; 0 needs an imbalance"),
        ({"structure": "toeplitz"}, "structure: expected one of matrix, rows, columns, diagonal, "
         "circulant but got 'toeplitz'"),
        ({"optimizer_structure": "x"}, "optimizer_structure: expected one of matrix, rows"),
        ({"imbalance": -0.5}, "imbalance: expected a number from 0 to 1e12 but got -0.5"),
        ({"imbalance": math.nan}, "imbalance: expected a number from 0 to 1e12 but got nan"),
        ({"optimizer_imbalance": math.inf}, "optimizer_imbalance: expected a number from 0 to 1e12 "
         "but got inf"),
        ({"imbalance": 0.5, "optimizer_depth": math.inf}, "optimizer_imbalance: expected 0 at "
         "infinite depth but got 0.5"),
        ({"seed": -1}, "seed: expected an integer >= 0 and < 2^63 but got -1"),
        ({"seed": 1.5}, "seed: expected an integer >= 0 and < 2^63 but got 1.5"),
        ({"seed": 2**63}, "seed: expected an integer >= 0 and < 2^63 but got"),
        ({"dtype": "bfloat16"}, "dtype: expected one of float64, float32 but got 'bfloat16'"),
    ],
)  # fmt: skip
def test_refuses(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UnusableError, match=f"^{re.escape(message)}") as caught:
        VerifyConfig(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_steps_are_rounded() -> None:
    config = VerifyConfig(time=1.0, lrs=(0.3, 0.7, 0.0125))
    assert [config.steps(lr) for lr in config.lrs] == [1, 3, 80]


def test_whole_numbers_may_be_written_as_floats() -> None:
    config = VerifyConfig(depth=4.0, seed=2.0)  # type: ignore[arg-type]
    assert repr((config.depth, config.seed)) == "(4, 2)"


@pytest.mark.parametrize(
    ("optimizer_depth", "shown"), [(None, 3), (2, 2), (1.5, 1.5), (math.inf, "inf")]
)
def test_json(optimizer_depth: float | None, shown: object) -> None:
    config = VerifyConfig(optimizer_depth=optimizer_depth, targets=("y",))
    found = json.loads(json.dumps(config.to_json(), allow_nan=False))
    assert found["optimizer_depth"] == shown
    assert found["targets"] == ["y"]
    assert found["lrs"] == [0.1, 0.05, 0.025, 0.0125]
    assert set(found) == {field.name for field in dataclasses.fields(VerifyConfig)}


def test_json_of_structure_and_imbalance() -> None:
    found = VerifyConfig(structure="rows", imbalance=0.5, optimizer_imbalance=0).to_json()
    assert [found[name] for name in ("structure", "optimizer_structure")] == ["rows", "rows"]
    assert [found[name] for name in ("imbalance", "optimizer_imbalance")] == [0.5, 0]


def test_structures_are_those_of_the_mathematics() -> None:
    assert tuple(maths.STRUCTURES) == STRUCTURES


def test_a_start_of_zero_needs_an_imbalance() -> None:
    assert VerifyConfig(init_scale=0.0, imbalance=0.5).init_scale == 0
