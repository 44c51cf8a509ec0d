"""What one process cannot do, all refuse; on copies of shards, 2 x 2 processes: one spawn."""

import re
from typing import Any

import pytest
from tests.distributed.faulty_processes import FAULTS, FAULTY, LATER, PROCESSES, SHAPES, measure
from tests.distributed.gloo import measured_once

pytestmark = pytest.mark.slow

REFUSED = {
    "NaN, gram": f"FloatingPointError: rank {FAULTY}: long: expected a finite gradient",
    "Inf, owner": f"FloatingPointError: rank {FAULTY}: square: expected a finite gradient",
    "NaN, gather": f"FloatingPointError: rank {FAULTY}: gathered: expected a finite gradient",
    "NaN, not sharded": f"FloatingPointError: rank {FAULTY}: plain: expected a finite gradient",
    "Inf in a weight": f"FloatingPointError: rank {FAULTY}: other: expected a finite weight",
    # found where the part is, or its owner, which another copy of the shard may share
    "update overflows, gram": "FloatingPointError: rank [0-3]: long: expected a finite update",
    "update overflows, owner": "FloatingPointError: rank [0-3]: square: expected a finite update",
    "update overflows in one copy": "FloatingPointError: rank [23]: long: .* finite update",
    "exception": f"TypeError: rank {FAULTY}: plain: expected a dense real gradient",
    "no gradient": f"RuntimeError: long: expected a gradient .* none but rank {FAULTY} has none",
    "no gradient anywhere": "none",
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return measured_once(measure, PROCESSES, tmp_path_factory)


def survivors(measured: list[Any]) -> list[Any]:
    return [answer for answer in measured if answer is not None]


def test_every_scheme_is_there(measured: list[Any]) -> None:
    schemes = {"long": "gram", "square": "owner", "other": "owner", "gathered": "gather"}
    assert all(each["schemes"] == {**schemes, "plain": "-"} for each in survivors(measured))
    assert {*FAULTS, "update overflows in one copy"} == set(REFUSED)


@pytest.mark.parametrize("fault", REFUSED)
def test_all_processes_refuse_what_one_cannot_do(measured: list[Any], fault: str) -> None:
    found = [each["faults"][fault] for each in survivors(measured)]
    assert len({each["message"] for each in found}) == 1
    assert re.match(REFUSED[fault], found[0]["message"])
    assert all(each["same"] == (REFUSED[fault] != "none") for each in found)
    assert all(each["goes on"] for each in found)


@pytest.mark.parametrize(
    ("difference", "first", "other"),
    [
        ("other shape", r"rank 0 has w1 \(4, 3\)", rf"rank {FAULTY} has w1 \(4, 4\)"),
        (
            "other option",
            "rank 0 has group 0 with rtol=None",
            f"rank {FAULTY} has group 0 with rtol=0.1",
        ),
        ("one more", "rank 0 has no further parameter", rf"rank {FAULTY} has w2 \(2, 2\)"),
    ],
)
def test_different_parameters_are_told_at_the_first_step(
    measured: list[Any], difference: str, first: str, other: str
) -> None:
    for each in survivors(measured):
        assert re.search(first + ".* where " + other, each[difference]["message"])


@pytest.mark.parametrize("case", LATER)
def test_an_option_that_one_process_changes_later_is_told_to_all(
    measured: list[Any], case: str
) -> None:
    ((option, value),) = LATER[case].items()
    expected = f"rank 0 has group 0 with {option}=.* where rank {FAULTY} .* {option}={value!r}"
    for each in survivors(measured):
        assert re.search(expected, each["changed"][case]["message"])
        assert each["changed"][case]["same"]


@pytest.mark.parametrize("case", LATER)
def test_an_option_that_all_change_takes_effect(measured: list[Any], case: str) -> None:
    message = "ValueError: depth" if case == "out of range" else "none"
    for each in survivors(measured):
        assert each["changed alike"][case]["message"].startswith(message)
        assert each["changed alike"][case]["same"] == (case == "out of range")


def test_depth_that_one_process_gives_to_what_had_none_is_told_to_all(measured: list[Any]) -> None:
    """At depth 1 a step sends nothing of the matrices, and yet nobody is to wait."""
    for each in survivors(measured):
        assert re.search(
            f"rank 0 has group 0 with depth=1 where rank {FAULTY} .* depth=3",
            each["deepened"]["message"],
        )
        assert each["deepened"]["same"]
        assert each["deepened alike"] == {"message": "none", "same": False}


@pytest.mark.parametrize("name", SHAPES)
def test_a_new_weight_out_of_range_is_refused_by_all(measured: list[Any], name: str) -> None:
    found = [each["overflowing"][name] for each in survivors(measured)]
    assert len({each["message"] for each in found}) == 1
    assert re.search(f"{name}: expected a finite new weight", found[0]["message"])
    assert all(each["same"] for each in found)


def test_a_killed_process_ends_the_others(measured: list[Any]) -> None:
    assert measured[FAULTY] is None
    left = [each["killed"] for each in survivors(measured)]
    assert len(left) == PROCESSES - 1
    for each in left:
        assert each["message"] != "none"
        assert each["same"]
