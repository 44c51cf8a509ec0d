"""Rotations of blocks of neighbours, against the definition."""

import pytest
import torch
from tests.maths.jacobi.moved import identity
from tests.maths.matrices import gaussian
from torch import Tensor

from virtualdepth.maths.jacobi._blocks import BlockRotation


def nearly_diagonal(*batch: int, size: int, off: float = 0.02) -> Tensor:
    noise = gaussian(*batch, size, size, seed=size)
    falling = torch.linspace(1, 0.1, size, dtype=torch.float64)
    return torch.diag_embed(falling.expand(*batch, size)) + off * (noise + noise.mT) / size**0.5


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.parametrize("size", [3, 16, 17, 24, 40, 63, 64])
def test_close_pairs_rotate_until_nothing_is_left_between_them(
    size: int, batch: tuple[int, ...], shifted: bool
) -> None:
    before = nearly_diagonal(*batch, size=size)
    after = before.clone()
    blocks = BlockRotation(after, shifted=shifted)
    rotation = blocks.then_(identity(size).expand(*batch, -1, -1).clone())
    torch.testing.assert_close(
        rotation.mT @ rotation, identity(size).expand_as(rotation), rtol=0, atol=1e-13
    )
    torch.testing.assert_close(rotation.mT @ before @ rotation, after, rtol=0, atol=1e-13)
    last = size - 8 * shifted
    places = [slice(end - 16, end) for end in range(last, 15, -16)]
    for block in places:
        inside = after[..., block, block]
        diagonal = inside.diagonal(dim1=-2, dim2=-1)
        assert torch.equal(inside, torch.diag_embed(diagonal))
        assert (diagonal.diff() <= 0).all(), "not in falling order"
    if not places:
        assert torch.equal(after, before)


def test_both_kinds_of_blocks_cover_all_neighbours() -> None:
    met = set()
    for shifted in (False, True):
        between = nearly_diagonal(size=64)
        BlockRotation(between, shifted=shifted)
        met |= {i for i in range(63) if between[i, i + 1] == 0}
    assert met == set(range(63))


def test_what_is_diagonal_already_does_not_rotate() -> None:
    between = torch.diag(torch.linspace(2, 1, 32, dtype=torch.float64))
    rotation = BlockRotation(between, shifted=False).then_(identity(32))
    assert torch.equal(rotation, identity(32))
