"""The thin SVD: each rung of the ladder is right, and they are tried in order."""

from collections.abc import Callable

import pytest
import torch
from tests.maths.matrices import gaussian
from torch import Tensor

from virtualdepth.maths import LinAlgError, thin_svd

SHAPES = ((1, 1), (1, 5), (5, 1), (4, 4), (3, 7), (7, 3), (2, 40), (40, 2), (2, 3, 4, 6), (3, 6, 4))
KINDS = ("full rank", "rank deficient", "zero", "equal", "tiny", "huge")
REAL_SVD = torch.linalg.svd


class FailingSVD:
    """torch.linalg.svd that does not converge in its first calls, as no matrix makes it surely."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls: list[tuple[tuple[int, ...], torch.dtype, str | None]] = []

    def __call__(
        self, matrix: Tensor, full_matrices: bool = True, *, driver: str | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert not full_matrices
        self.calls.append((tuple(matrix.shape), matrix.dtype, driver))
        if len(self.calls) <= self.failures:
            raise LinAlgError(f"failure {len(self.calls)}")
        return REAL_SVD(matrix, full_matrices, driver=driver)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], FailingSVD]:
    def install(failures: int) -> FailingSVD:
        flaky = FailingSVD(failures)
        monkeypatch.setattr(torch.linalg, "svd", flaky)
        return flaky

    return install


def sample(shape: tuple[int, ...], kind: str, dtype: torch.dtype) -> Tensor:
    matrix = gaussian(*shape, seed=1)
    if kind == "rank deficient":
        matrix = matrix[..., :1] @ matrix[..., :1, :]
    elif kind == "equal":
        matrix = torch.eye(*shape[-2:], dtype=torch.float64).expand(shape).clone()
    scale = {"zero": 0.0, "tiny": 1e-30, "huge": 1e30}.get(kind, 1.0)
    return (scale * matrix).to(dtype)


def assert_thin_svd_of(matrix: Tensor, parts: tuple[Tensor, Tensor, Tensor]) -> None:
    u, sigma, vh = parts
    *batch, m, n = matrix.shape
    k = min(m, n)
    assert (u.shape, sigma.shape, vh.shape) == ((*batch, m, k), (*batch, k), (*batch, k, n))
    assert u.dtype == sigma.dtype == vh.dtype == matrix.dtype
    tolerance = 50 * torch.finfo(matrix.dtype).eps
    eye = torch.eye(k, dtype=matrix.dtype).expand(*batch, k, k)
    assert torch.allclose(u.mT @ u, eye, rtol=0, atol=tolerance)
    assert torch.allclose(vh @ vh.mT, eye, rtol=0, atol=tolerance)
    assert (sigma >= 0).all()
    assert (sigma.diff(dim=-1) <= 0).all()
    scale = float(sigma.max())
    assert torch.allclose(u * sigma.unsqueeze(-2) @ vh, matrix, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("failures", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_rung_decomposes(
    fail: Callable[[int], FailingSVD],
    shape: tuple[int, ...],
    kind: str,
    dtype: torch.dtype,
    failures: int,
) -> None:
    if failures == 3 and max(shape[-2:]) < 2 * min(shape[-2:]):
        pytest.skip("has three rungs")
    matrix = sample(shape, kind, dtype)
    before = matrix.clone()
    flaky = fail(failures)
    parts = thin_svd(matrix)
    assert len(flaky.calls) == failures + 1
    assert_thin_svd_of(matrix, parts)
    assert torch.equal(matrix, before)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (4, 4), (4, 5), (5, 2, 6)])
def test_order_of_the_rungs(fail: Callable[[int], FailingSVD], shape: tuple[int, ...]) -> None:
    """A long matrix's triangle, the matrix, its transpose, then the triangle in float64."""
    *batch, m, n = shape
    k, is_long = min(m, n), max(m, n) >= 2 * min(m, n)
    flaky = fail(2 + is_long)
    thin_svd(gaussian(*shape, dtype=torch.float32))
    assert flaky.calls == [
        *([((*batch, k, k), torch.float32, None)] if is_long else []),
        (shape, torch.float32, None),
        ((*batch, n, m), torch.float32, None),
        ((*batch, k, k), torch.float64, None),
    ]


def test_the_error_after_the_last_rung(fail: Callable[[int], FailingSVD]) -> None:
    flaky = fail(100)
    with pytest.raises(LinAlgError) as caught:
        thin_svd(torch.ones(3, 7))
    message = str(caught.value)
    assert message.startswith("expected the SVD of a (3, 7) matrix to converge but got ")
    rungs = ("after_qr", "thin", "of_transpose", "in_float64_after_qr")
    for number, rung in enumerate(rungs, start=1):
        assert f"{rung}: failure {number}" in message
    assert len(flaky.calls) == len(rungs)


def test_other_errors_are_not_swallowed() -> None:
    with pytest.raises(RuntimeError, match="at least 2 dimensions") as caught:
        thin_svd(torch.ones(3))
    assert not isinstance(caught.value, LinAlgError)


def test_not_finite_ends_in_the_error() -> None:
    with pytest.raises(LinAlgError, match=r"expected the SVD of a \(2, 2\) matrix to converge"):
        thin_svd(torch.full((2, 2), torch.nan))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="drivers can be chosen on CUDA only")
def test_last_rung_on_a_device(fail: Callable[[int], FailingSVD]) -> None:
    matrix = gaussian(4, 6, dtype=torch.float32).cuda()
    flaky = fail(3)
    parts = thin_svd(matrix)
    assert flaky.calls[-1] == ((4, 6), torch.float32, "gesvd")
    assert_thin_svd_of(matrix.cpu(), tuple(part.cpu() for part in parts))
