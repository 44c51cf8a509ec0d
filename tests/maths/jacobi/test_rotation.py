"""The rotation of all pairs of rows at once, against its formula in numpy."""

import numpy as np
import pytest
import torch
from tests.maths.jacobi.moved import identity, moved

from virtualdepth.maths.jacobi import exact_basis
from virtualdepth.maths.jacobi._blocks import BlockRotation
from virtualdepth.maths.jacobi._rotation import Rotation


@pytest.mark.parametrize("shifted", [None, False, True])
@pytest.mark.parametrize("size", [1e-5, 3e-3, 3e-2], ids=["first", "second", "fourth"])
def test_a_rotation_is_the_formula(size: float, shifted: bool | None) -> None:
    before, weight = moved("spread", size)
    rows = exact_basis(before).left.mT @ weight
    rotation = Rotation(rows)
    between = (rows @ rows.mT).numpy()
    between /= between.diagonal().max()
    of_blocks = identity(64)
    if shifted is not None:
        rotation.rotate_blocks(shifted=shifted)
        within = torch.from_numpy(between.copy())
        of_blocks = BlockRotation(within, shifted=shifted).then_(of_blocks)
        between = (of_blocks.mT @ torch.from_numpy(between) @ of_blocks).numpy()
    found = rotation.find_angles()
    gaps = np.subtract.outer(between.diagonal(), between.diagonal()).T
    off = between - np.diag(between.diagonal())
    angles = off * gaps / (gaps**2 + 36 * off**2 + 1e-58)
    square = np.mean(np.sum(angles**2, axis=1))
    assert found == pytest.approx(square**0.5, rel=1e-6)
    assert (square > 5e-6, square > 1e-3) == (size > 1e-3, size > 1e-2), "another order is tested"
    expected = np.eye(64) + angles
    if square > 5e-6:
        expected += angles @ angles / 2
    if square > 1e-3:
        expected -= angles @ angles @ angles @ angles / 8
    torch.testing.assert_close(
        rotation.matrix(), of_blocks @ torch.from_numpy(expected), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("shifted", [None, True])
def test_a_rotation_is_orthogonal_to_the_sixth_power(shifted: bool | None) -> None:
    before, weight = moved("spread", 0.03)
    rotation = Rotation(exact_basis(before).left.mT @ weight)
    if shifted is not None:
        rotation.rotate_blocks(shifted=shifted)
    size = rotation.find_angles()
    matrix = rotation.matrix()
    defect = (matrix.mT @ matrix - identity(64)).norm() / 8
    assert size > 0.04
    assert defect < 20 * size**6
