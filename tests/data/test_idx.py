"""The reader of MNIST's files: what it reads, and how it says what is wrong."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.data.idx_files import IMAGES, LABELS, bars, idx_bytes, write_mnist

from virtualdepth.data import load_mnist, read_idx
from virtualdepth.runs import UnusableError


@pytest.mark.parametrize("packed", [True, False])
def test_round_trip(packed: bool, tmp_path: Path) -> None:
    images, labels = bars(30)
    write_mnist(tmp_path, images, labels, packed=packed)
    found, classes = load_mnist(str(tmp_path))
    assert found.shape == (30, 1, 28, 28)
    assert found.dtype == torch.float32
    assert classes.tolist() == labels.tolist()
    np.testing.assert_array_equal(torch.round(found * 255 + 127.5).squeeze(1).numpy(), images)
    assert -0.5 <= float(found.min()) < float(found.max()) <= 0.5


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path, *bars(5))
    monkeypatch.setenv("VIRTUALDEPTH_DATA", str(tmp_path))
    assert len(load_mnist(None)[0]) == 5


@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 4), (2, 1, 3, 2)])
def test_any_shape(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.arange(np.prod(shape)).reshape(shape)
    (tmp_path / "values").write_bytes(idx_bytes(values))
    np.testing.assert_array_equal(read_idx(tmp_path / "values").numpy(), values)


def test_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIRTUALDEPTH_DATA", raising=False)
    with pytest.raises(UnusableError, match=r"data_dir: expected .*set VIRTUALDEPTH_DATA"):
        load_mnist(None)


@pytest.mark.parametrize("missing", [IMAGES, LABELS])
def test_missing_file(missing: str, tmp_path: Path) -> None:
    write_mnist(tmp_path, *bars(5))
    (tmp_path / "mnist" / f"{missing}.gz").unlink()
    with pytest.raises(UnusableError, match=f"mnist/{missing}.* no such file in .*put it there"):
        load_mnist(str(tmp_path))


WHOLE = idx_bytes(bars(5)[0])
PACKED = gzip.compress(WHOLE)


@pytest.mark.parametrize(
    ("content", "packed", "problem"),
    [
        (PACKED[:-20], True, "expected a file that can be read .* EOFError"),
        (PACKED[:50] + b"?" + PACKED[51:], True, "expected a file that can be read"),
        (b"<html>", True, "expected a file that can be read .* BadGzipFile"),
        (b"<html>", False, r"expected an idx file \(00 00 08 first\) .* got 3c 68 74"),
        (b"", False, "got no bytes"),
        (struct.pack(">HBB", 0, 13, 1), False, "got 00 00 0d"),  # float32
        (WHOLE[:9], False, "expected an idx header of 16 bytes .* got 9 bytes"),
        (WHOLE[:-1], False, r"expected 3920 bytes for shape \(5, 28, 28\) .* got 3919"),
        (WHOLE + b"0", False, "got 3921"),
    ],
)
def test_damaged_file(content: bytes, packed: bool, problem: str, tmp_path: Path) -> None:
    write_mnist(tmp_path, *bars(5))
    (tmp_path / "mnist" / f"{IMAGES}.gz").unlink()
    path = tmp_path / "mnist" / (f"{IMAGES}.gz" if packed else IMAGES)
    path.write_bytes(content)
    with pytest.raises(UnusableError, match=f"data_dir: .*{problem}") as error:
        load_mnist(str(tmp_path))
    assert str(path) in str(error.value)
    assert "put a whole copy" in str(error.value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda images, labels: (images[:, :20], labels), r"images of 28 x 28 .*\(5, 20, 28\)"),
        (lambda images, labels: (images[0], labels), r"images of 28 x 28 .*\(28, 28\)"),
        (lambda images, labels: (images[:0], labels[:0]), "images of 28 x 28"),
        (lambda images, labels: (images, labels[:4]), r"5 labels .*\(4,\)"),
        (lambda images, labels: (images, labels * 0 + 10), "labels 0 to 9 .* got 10"),
    ],
)
def test_files_that_do_not_fit(
    change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    problem: str,
    tmp_path: Path,
) -> None:
    write_mnist(tmp_path, *change(*bars(5)))
    with pytest.raises(UnusableError, match=problem):
        load_mnist(str(tmp_path))
