"""What entries determine, against the rank of the whole Jacobian."""

import numpy as np
import pytest
from tests.completion.problems import entries_of, jacobian, table

from virtualdepth.completion._determined import core, extend, freedom, is_locally_unique


def is_unique_by_rank(u: np.ndarray, v: np.ndarray, mask: np.ndarray) -> bool:
    sigma = np.linalg.svd(jacobian(u, v, mask), compute_uv=False)
    needed = freedom(len(u), len(v), u.shape[1])
    return bool(len(sigma) >= needed and sigma[needed - 1] > 1e-9 * sigma[0])


def test_uniqueness_is_the_rank_of_the_jacobian() -> None:
    said = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        u, v = random.normal(size=(9, 2)), random.normal(size=(8, 2))
        mask = random.random((9, 8)) < random.uniform(0.35, 0.8)
        entries = entries_of(u @ v.T, mask)
        said.append(is_locally_unique(entries, u, v))
        assert said[-1] == is_unique_by_rank(u, v, mask), seed
    assert 10 < sum(said) < 50


@pytest.mark.parametrize("condition", [1e3, 1e6])
def test_a_small_singular_value_is_no_null_direction(condition: float) -> None:
    truth, mask = table(20, 15, 3)
    u, sigma, vh = np.linalg.svd(truth, full_matrices=False)
    left = u[:, :3] * np.geomspace(condition, 1, 3)
    assert is_locally_unique(entries_of(left @ vh[:3], mask), left, vh[:3].T)
    assert sigma[3] < 1e-10


def test_the_core_drops_lines_that_hang_on_nothing() -> None:
    mask = np.ones((6, 5), bool)
    mask[5, 1:] = False  # one entry
    mask[:, 4] = [True, False, False, False, False, True]  # its second is in that row
    mask[5, 4] = True
    mask[5, :4] = False
    inside = core(entries_of(np.ones((6, 5)), mask), 2)
    np.testing.assert_array_equal(inside.rows, [True] * 5 + [False])
    np.testing.assert_array_equal(inside.columns, [True] * 4 + [False])
    assert inside.entries.count == 20
    assert inside.entries.shape == (5, 4)
    assert inside.determines(2, 1.4)
    assert not inside.determines(2, 1.5)  # 20 entries, 2 (5 + 4 - 2) degrees of freedom


def test_lines_outside_get_the_entries_that_they_have() -> None:
    truth, mask = table(20, 15, 2, 0.9)
    mask[3, 1:] = False
    mask[3, 0] = True
    entries = entries_of(truth, mask)
    inside = core(entries, 2)
    u, sigma, vh = np.linalg.svd(truth, full_matrices=False)
    left, right, spread, others = extend(
        entries, inside, (u[:, :2] * sigma[:2])[inside.rows], vh[:2].T
    )
    found = left @ right.T
    np.testing.assert_allclose(found[3, 0], truth[3, 0], rtol=1e-6)
    rest = np.arange(20) != 3
    np.testing.assert_allclose(found[rest], truth[rest], atol=1e-10)
    assert spread is not None
    assert others is not None
    # of the row's two directions one is seen
    values = np.linalg.eigvalsh(spread[3])
    assert values[0] < 1e-6 * values[1]
    assert not spread[rest].any()
    assert not others.any()
    whole = core(entries_of(truth, np.ones((20, 15), bool)), 2)
    assert extend(entries, whole, left, right)[2:] == (None, None)


def test_a_line_of_as_many_entries_as_the_rank_is_determined_by_the_others() -> None:
    truth, mask = table(20, 15, 2, 0.9)
    mask[3] = [True, True] + [False] * 13
    mask[:, 5] = False
    mask[[3, 4], 5] = True  # one of them in that row: it hangs on it
    entries = entries_of(truth, mask)
    inside = core(entries, 2)
    assert not inside.rows[3]
    assert not inside.columns[5]
    u, sigma, vh = np.linalg.svd(truth, full_matrices=False)
    left, right, spread, _ = extend(
        entries, inside, (u[:, :2] * sigma[:2])[inside.rows], vh[:2].T[inside.columns]
    )
    assert spread is None
    np.testing.assert_allclose(left @ right.T, truth, atol=1e-10)


@pytest.mark.parametrize("direct", [0, 1500])
def test_rounding_does_not_hide_a_null_direction(
    direct: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtualdepth.completion._determined.DIRECT", direct)
    for seed in range(20):
        random = np.random.default_rng(seed)
        u, v = random.normal(size=(40, 3)), random.normal(size=(30, 3))
        mask = random.random((40, 30)) < 0.5
        assert is_locally_unique(entries_of(u @ v.T, mask), u, v)
        # a row and a column of three entries each, one of them in common
        mask[0], mask[:, 0] = False, False
        mask[0, :3] = mask[:3, 0] = True
        assert not is_locally_unique(entries_of(u @ v.T, mask), u, v), seed
