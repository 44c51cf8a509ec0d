"""Matrices that lie on two processes move as on one, and what is sent for it: one spawn."""

import re
from typing import Any

import pytest
from tests.distributed.gloo import measured_once
from tests.distributed.two_processes import PLACEMENTS, PROCESSES, measure

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return measured_once(measure, PROCESSES, tmp_path_factory)


@pytest.mark.parametrize("where", PLACEMENTS)
def test_parts_move_as_the_whole(measured: list[Any], where: str) -> None:
    for rank in measured:
        assert {case: error for case, error in rank["errors"][where].items() if error > 1e-12} == {}


@pytest.mark.parametrize("where", PLACEMENTS)
def test_structures_and_unequal_layers_move_as_the_whole(measured: list[Any], where: str) -> None:
    for rank in measured:
        errors = rank["structured"][where]
        assert {case: error for case, error in errors.items() if error > 1e-12} == {}


def test_blocks_that_are_whole_on_a_process_need_no_other(measured: list[Any]) -> None:
    for rank in measured:
        for case in ("whole rows", "whole entries"):
            assert rank[case]["schemes"] == ["local"] * 2
            assert rank[case]["counts"] == {"allreduce_": 1}
        assert rank["one scale"]["schemes"] == ["gather"]
        # sums of W^T W tell a step of unequal layers, but not how far it would go
        assert rank["unequal"]["schemes"] == ["gram"] * 2
        assert rank["unequal, unit"]["schemes"] == ["gather"]


def test_narrow_numbers(measured: list[Any]) -> None:
    for rank in measured:
        assert rank["narrow"]["torch.float32"] < 1e-6
        assert (
            rank["narrow"]["torch.bfloat16"] < 1e-3
        )  # rounding to eight bits may fall differently


def test_kernels_cut_along_any_dimension(measured: list[Any]) -> None:
    for rank in measured:
        assert all(error < 1e-12 for error in rank["kernels"].values())


def test_only_momentum_has_to_fit_into_narrow_numbers(measured: list[Any]) -> None:
    for rank in measured:
        assert all(error < 1e-3 for error in rank["beyond range"].values())


def test_fully_shard_trains_as_one_process(measured: list[Any]) -> None:
    assert all(rank["fully_shard"] < 1e-12 for rank in measured)


@pytest.mark.parametrize(
    ("scheme", "counts", "numbers"),
    [
        # one sum for all; four status words, and for each of two parameters a count and ||G||^2
        ("gram", {"allreduce_": 1}, 4 + 2 + 2),
        # W and G of two parameters, and a second agreement, since an SVD may fail
        ("gather", {"all_gather_into_tensor": 4, "allreduce_": 2}, 4 + 2 + 4),
        # to the owners and back
        ("owner", {"alltoall_base_": 2, "allreduce_": 2}, 4 + 2 + 4),
        ("local", {"allreduce_": 1}, 4 + 2),
    ],
)
def test_what_is_sent(
    measured: list[Any], scheme: str, counts: dict[str, int], numbers: int
) -> None:
    found = [rank[{"local": "copies"}.get(scheme, scheme)] for rank in measured]
    for each in found:
        assert each["schemes"] == [scheme] * 2
        assert each["counts"] == counts
    # 2 (p - 1) / p = 1; the bytes of owners are those of all processes together
    sent = sum(each["sent"] for each in found) / PROCESSES
    assert sent == found[0]["planned"] + 8 * numbers


def test_what_the_sum_does_not_tell_is_gathered(measured: list[Any]) -> None:
    for rank in measured:
        gathered = {"all_gather_into_tensor": 2, "allreduce_": 2}
        assert rank["rank 1"]["counts"] == gathered
        assert rank["rank 1, known"]["counts"] == {"allreduce_": 1}
        assert rank["rank 1"]["schemes"] == rank["rank 1, known"]["schemes"] == ["gram"]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (
            "summands",
            r"TypeError: w: expected placements Shard or Replicate .*Partial.*redistribute",
        ),
        ("rms", "ValueError: step_scale: expected 'raw' or 'unit' for the sharded parameter w"),
        ("auto", "ValueError: step_scale: expected 'raw' or 'unit' for the sharded parameter w"),
        ("frequency", "none"),
        (
            "frequency, gathered",
            "ValueError: precondition_frequency: expected 1 for the sharded parameter w but got 2: "
            "between two decompositions P acts in the basis of the Gram matrix",
        ),
        ("frequency, packed", "ValueError: precondition_frequency: expected 1 for the sharded par"),
        ("frequency, copies", "ValueError: precondition_frequency: expected 1 for the sharded par"),
        ("rows, frequency", "none"),
        ("frequency later", "none"),
        ("origin", "ValueError: origin: expected None for the sharded parameter w but got 'init'"),
        (
            "packed",
            r"ValueError: scheme: expected one of \['auto', 'gather', 'owner'\] for w, 3 of",
        ),
        ("unknown", r"ValueError: scheme: expected one of \('auto', 'gram', .* but got 'ring'"),
        ("changed later", "ValueError: step_scale: expected 'raw' or 'unit' for the sharded"),
        ("tracked", "ValueError: solver: expected 'auto' or 'svd' for the sharded parameter w but"),
        ("layers", "ValueError: solver: .* for the sharded parameter w but got 'layers'"),
        ("tracked later", "ValueError: solver: .* for the sharded parameter w but got 'tracked'"),
        ("layers later", "ValueError: solver: .* for the sharded parameter w but got 'layers'"),
        ("tracked, loaded", "ValueError: solver: .* for the sharded parameter w but got 'tracked'"),
        ("layers, loaded", "ValueError: solver: .* for the sharded parameter w but got 'layers'"),
        (
            "unknown later",
            r"ValueError: scheme: expected one of \('auto', 'gram', .* but got 'ring'",
        ),
        ("no number later", "TypeError: depth: expected a real number >= 1 or inf but got '3'"),
        (
            "whole momentum",
            "TypeError: w: expected a momentum_buffer .* but got a tensor of one process",
        ),
        ("gradient elsewhere", "ValueError: rank 0: w: expected a gradient placed like its"),
        ("gradient on another mesh", "ValueError: rank 0: w: expected a gradient placed like its"),
        ("with_depth", "TypeError: w: expected a parameter that lies whole.* use EndToEndSGD"),
        ("flattened", "TypeError: .*FullyShardedDataParallel .*fully_shard instead"),
        ("flat", "TypeError: .*FullyShardedDataParallel .*fully_shard instead"),
        ("flattened, by module", "TypeError: .*weight: .*FullyShardedDataParallel .*fully_shard"),
    ],
)
def test_refused_by_name(measured: list[Any], case: str, message: str) -> None:
    for rank in measured:
        assert re.match(message, rank["refused"][case]), rank["refused"][case]


def test_routing(measured: list[Any]) -> None:
    for rank, momentum in zip(measured, ("320", "240"), strict=True):
        lines = [line.split() for line in rank["routing"].splitlines()]
        assert lines[0][-6:] == ["solver", "state", "bytes", "scheme", "step", "bytes"]
        table = {line[0]: line[-4:] for line in lines[1:]}
        # 7 x 10 in float64, cut 4 : 3: the momentum here; a quarter of W, G and P_W(G) is sent
        assert table["3.weight"] == ["svd", momentum, "owner", str(3 * 70 * 8 // 4)]
        assert table["3.bias"][0] == "plain"
        assert table["3.bias"][2:] == ["-", "0"]
