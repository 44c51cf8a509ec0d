"""Read MNIST's training images from the idx files in which it is published.

An idx file is two zero bytes, one for the kind of number (8: unsigned bytes), one for how many
axes, a big-endian 32-bit length for each axis, then the numbers in row-major order.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from virtualdepth.data._files import find_file
from virtualdepth.runs import UnusableError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
SIDE, CLASSES = 28, 10
_UNSIGNED_BYTES = b"\x00\x00\x08"


def load_mnist(data_dir: str | None) -> tuple[Tensor, Tensor]:
    """Load MNIST's training images (samples, 1, 28, 28) and labels (samples,).

    Images are float32 in [-1/2, 1/2], labels int64 in 0..9. The files are
    mnist/train-images-idx3-ubyte and mnist/train-labels-idx1-ubyte, each as it is or with .gz.
    """
    image_file, label_file = (
        find_file(data_dir, f"mnist/{name}", f"mnist/{name}.gz", source="MNIST's own idx file")
        for name in (IMAGES, LABELS)
    )
    images, labels = read_idx(image_file), read_idx(label_file)
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE) or len(images) == 0:
        raise _damaged(image_file, f"images of {SIDE} x {SIDE}", f"shape {tuple(images.shape)}")
    if labels.shape != images.shape[:1]:
        raise _damaged(label_file, f"{len(images)} labels", f"shape {tuple(labels.shape)}")
    if int(labels.max()) >= CLASSES:
        raise _damaged(label_file, f"labels 0 to {CLASSES - 1}", str(int(labels.max())))
    # scaled as in the TensorFlow tutorial
    return (images.float().unsqueeze(1) - 127.5) / 255, labels.long()


def read_idx(path: Path) -> Tensor:
    """Read an idx file of unsigned bytes, uint8 in the file's shape; .gz is decompressed."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        said = f"{type(error).__name__}: {error}"
        raise _damaged(path, "a file that can be read", said) from error
    if content[:3] != _UNSIGNED_BYTES or len(content) < 4:
        first = content[:3].hex(" ") or "no bytes"
        raise _damaged(path, "an idx file (00 00 08 first)", first)
    begin = 4 + 4 * content[3]
    if len(content) < begin:
        raise _damaged(path, f"an idx header of {begin} bytes", f"{len(content)} bytes")
    shape = tuple(int(length) for length in np.frombuffer(content[4:begin], dtype=">u4"))
    expected, got = math.prod(shape), len(content) - begin
    if got != expected:
        raise _damaged(path, f"{expected} bytes for shape {shape}", str(got))
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=begin).reshape(shape).copy())


def _damaged(path: Path, expected: str, got: str) -> UnusableError:
    return UnusableError(
        "data_dir",
        f"expected {expected} in {path} but got {got}; put a whole copy of MNIST's own file there",
    )
