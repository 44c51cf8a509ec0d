"""Results of the check on little data: one of each outcome."""

import dataclasses
import math

import pytest

from virtualdepth.verify._check import check
from virtualdepth.verify._config import VerifyConfig
from virtualdepth.verify._results import VerifyResult


@pytest.fixture(scope="session")
def passed() -> VerifyResult:
    return check(VerifyConfig(data="synthetic", lrs=(0.1, 0.05, 0.025), time=1.0))


@pytest.fixture(scope="session")
def failed() -> VerifyResult:
    """The rule of infinite depth, which is no 3-layer network's."""
    return check(
        VerifyConfig(data="synthetic", lrs=(0.1, 0.05), time=1.0, optimizer_depth=math.inf)
    )


@pytest.fixture(scope="session")
def diverged() -> VerifyResult:
    return check(VerifyConfig(data="synthetic", lrs=(5.0, 0.25), time=50.0))


@pytest.fixture(scope="session")
def interrupted(passed: VerifyResult) -> VerifyResult:
    return dataclasses.replace(passed, rows=passed.rows[:2], curves=passed.curves[:2])


@pytest.fixture(scope="session")
def unstarted(passed: VerifyResult) -> VerifyResult:
    return dataclasses.replace(passed, rows=[], curves=[])


@pytest.fixture(scope="session")
def unlearned() -> VerifyResult:
    """From so near to zero that depth 4 stands still."""
    return check(
        VerifyConfig(data="synthetic", lrs=(0.1, 0.05), time=0.5, depth=4, init_scale=1e-4)
    )


OUTCOMES = ["passed", "failed", "diverged", "interrupted", "unstarted"]


@pytest.fixture(params=OUTCOMES)
def outcome(request: pytest.FixtureRequest) -> VerifyResult:
    return request.getfixturevalue(request.param)
