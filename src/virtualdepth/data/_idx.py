"""Read MNIST's training images from the idx files in which it is published.

An idx file is two zero bytes, one for the kind of number (8: unsigned bytes), one for how many
axes, a big-endian 32-bit length for each axis, then the numbers in row-major order.
"""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from virtualdepth.data._problems import DATA_VARIABLE
from virtualdepth.runs import UnusableError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
SIDE, CLASSES = 28, 10
_UNSIGNED_BYTES = b"\x00\x00\x08"


def load_mnist(data_dir: str | None) -> tuple[Tensor, Tensor]:
    """Load the training images and labels of MNIST, or of a set in the same format.

    Args:
        data_dir: the folder that holds mnist/train-images-idx3-ubyte and
            mnist/train-labels-idx1-ubyte, each as it is or with .gz; default the environment
            variable VIRTUALDEPTH_DATA.

    Returns:
        Images, (samples, 1, 28, 28), float32 in [-1/2, 1/2], and labels, (samples,), int64 in
        0..9.

    Raises:
        UnusableError: if a file is missing, damaged, or not what its name says.
    """
    folder = data_dir or os.environ.get(DATA_VARIABLE)
    if not folder:
        raise UnusableError(
            "data_dir",
            f"expected the folder that holds mnist/{IMAGES} and mnist/{LABELS} (or .gz) but got "
            f"none; name it, or set {DATA_VARIABLE}",
        )
    image_file, label_file = (_find(Path(folder, "mnist"), name) for name in (IMAGES, LABELS))
    images, labels = read_idx(image_file), read_idx(label_file)
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE) or len(images) == 0:
        raise UnusableError(
            "data_dir",
            _problem(image_file, f"images of {SIDE} x {SIDE}", f"shape {tuple(images.shape)}"),
        )
    if labels.shape != images.shape[:1]:
        raise UnusableError(
            "data_dir",
            _problem(label_file, f"{len(images)} labels", f"shape {tuple(labels.shape)}"),
        )
    if int(labels.max()) >= CLASSES:
        raise UnusableError(
            "data_dir", _problem(label_file, f"labels 0 to {CLASSES - 1}", str(int(labels.max())))
        )
    # as the tutorial scales them
    return (images.float().unsqueeze(1) - 127.5) / 255, labels.long()


def read_idx(path: Path) -> Tensor:
    """Read one idx file of unsigned bytes.

    Args:
        path: of the file; one that ends in .gz is decompressed.

    Returns:
        What it holds, uint8, in the file's shape.

    Raises:
        UnusableError: if it cannot be read, or is no whole idx file of unsigned bytes.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise UnusableError(
            "data_dir",
            _problem(path, "a file that can be read", f"{type(error).__name__}: {error}"),
        ) from error
    if content[:3] != _UNSIGNED_BYTES or len(content) < 4:
        raise UnusableError(
            "data_dir",
            _problem(path, "an idx file (00 00 08 first)", content[:3].hex(" ") or "no bytes"),
        )
    begin = 4 + 4 * content[3]
    if len(content) < begin:
        raise UnusableError(
            "data_dir", _problem(path, f"an idx header of {begin} bytes", f"{len(content)} bytes")
        )
    shape = tuple(int(length) for length in np.frombuffer(content[4:begin], dtype=">u4"))
    if len(content) - begin != math.prod(shape):
        raise UnusableError(
            "data_dir",
            _problem(
                path, f"{math.prod(shape)} bytes for shape {shape}", f"{len(content) - begin}"
            ),
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=begin).reshape(shape).copy())


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise UnusableError(
        "data_dir",
        f"expected a folder with mnist/{name} or mnist/{name}.gz (MNIST's own idx file) but got "
        f"no such file in {folder}; put it there",
    )


def _problem(path: Path, expected: str, got: str) -> str:
    return (
        f"expected {expected} in {path} but got {got}; put a whole copy of MNIST's own file there"
    )
