"""MNIST-like idx files, written by the format's own description."""

import gzip
import struct
from pathlib import Path

import numpy as np

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx_bytes(values: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def write_mnist(
    folder: Path, images: np.ndarray, labels: np.ndarray, *, packed: bool = True
) -> Path:
    (folder / "mnist").mkdir(parents=True, exist_ok=True)
    for name, values in ((IMAGES, images), (LABELS, labels)):
        if packed:
            (folder / "mnist" / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(values)))
        else:
            (folder / "mnist" / name).write_bytes(idx_bytes(values))
    return folder


def bars(samples: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Ten classes: a bright bar at a height of its own, in noise."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, samples)
    images = generator.integers(0, 60, (samples, 28, 28))
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 3 : 2 * label + 6] += 180
    return images, labels
