"""Meshes of one and two dimensions over four processes: one spawn."""

import re
from typing import Any

import pytest
from tests.distributed.four_processes import (
    PLACES,
    PROCESSES,
    STRUCTURED,
    VERY_UNEQUAL,
    measure,
)
from tests.distributed.gloo import measured_once

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return measured_once(measure, PROCESSES, tmp_path_factory)


@pytest.mark.parametrize("where", PLACES)
def test_parts_move_as_the_whole(measured: list[Any], where: str) -> None:
    for rank in measured:
        assert {case: error for case, error in rank["errors"][where].items() if error > 1e-12} == {}


@pytest.mark.parametrize("where", STRUCTURED)
def test_structures_and_unequal_layers_move_as_the_whole(measured: list[Any], where: str) -> None:
    for rank in measured:
        errors = rank["structured"][where]
        assert len(errors) == 10
        assert {case: error for case, error in errors.items() if error > 1e-12} == {}


@pytest.mark.parametrize("where", VERY_UNEQUAL)
def test_imbalances_of_any_size(measured: list[Any], where: str) -> None:
    for rank in measured:
        errors = rank["very unequal"][where]
        assert len(errors) == 3
        assert {case: error for case, error in errors.items() if error > 1e-12} == {}


@pytest.mark.parametrize(
    "kind",
    [
        "fully_shard",
        "hybrid",
        "tensor parallel",
        "fully_shard x tensor parallel",
        "replicated, rows",
        "replicated, unequal",
        "fully_shard, diagonal",
        "hybrid, circulant",
    ],
)
def test_models_train_as_on_one_process(measured: list[Any], kind: str) -> None:
    assert all(rank["models"][kind] < 1e-12 for rank in measured)


@pytest.mark.parametrize(
    ("where", "counts"),
    [
        ("gram", {"allreduce_": 1}),
        # one in each process group of the mesh, and another where copies might find otherwise
        ("gram, rows twice", {"allreduce_": 2}),
        ("gram, copies", {"allreduce_": 4}),
        # along both dimensions of the mesh, W and G of two parameters; two agreements
        ("gather, blocks", {"all_gather_into_tensor": 8, "allreduce_": 4}),
        ("owner", {"alltoall_base_": 2, "allreduce_": 2}),
    ],
)
def test_collectives_and_bytes(measured: list[Any], where: str, counts: dict[str, int]) -> None:
    found = [rank["traffic"][where] for rank in measured]
    assert all(each["counts"] == counts for each in found)
    sent = sum(each["sent"] for each in found) / PROCESSES
    # status words, counts of gradients and squared norms: at most twelve numbers a reduction
    assert found[0]["planned"] <= sent <= found[0]["planned"] + 2 * 8 * 12 * counts["allreduce_"]


def test_one_matrix_alone_has_no_owner(measured: list[Any]) -> None:
    for rank in measured:
        assert rank["by number"] == {"1": ["gather"], "3": ["owner"] * 3}


def test_routing_over_two_dimensions(measured: list[Any]) -> None:
    for rank in measured:
        weights = {name: scheme for name, scheme in rank["routing"].items() if "weight" in name}
        # interleaved rows; blocks; a layer on a part of the mesh, which only fully_shard cuts
        assert weights == {"0.weight": "gram", "2.weight": "gather", "3.weight": "gather"}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("two meshes", "ValueError: a: expected one mesh, or .* use one optimizer per"),
        ("gram of blocks", r"ValueError: scheme: expected one of \['auto', 'gather'\] for w"),
        ("owner of blocks", r"ValueError: scheme: expected one of \['auto', 'gather'\] for w"),
    ],
)
def test_refused_by_name(measured: list[Any], case: str, message: str) -> None:
    assert all(re.match(message, rank["refused"][case]) for rank in measured)
