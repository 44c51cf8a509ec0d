"""The image to fill in: what is read, and what is refused in one line."""

import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from virtualdepth.runs import UnusableError
from virtualdepth_lab.reproduce.image_inpainting.problem import load_image

GREY = np.random.default_rng(0).integers(0, 256, (512, 512), dtype=np.uint8)


def written(folder: Path, image: Image.Image, **options: int) -> Path:
    path = folder / "images" / "camera.png"
    path.parent.mkdir(exist_ok=True)
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("image", "exact"),
    [
        (Image.fromarray(GREY), GREY / 255),
        (Image.fromarray(GREY.astype(np.uint16) * 256 + 7), (GREY * 256.0 + 7) / 65535),
        (Image.fromarray(GREY > 127), np.where(GREY > 127, 1.0, 0.0)),
    ],
    ids=["8 bits", "16 bits", "1 bit"],
)
@pytest.mark.parametrize("size", [1, 64, 256])
def test_grey_values_are_averaged(
    image: Image.Image, exact: np.ndarray, size: int, tmp_path: Path
) -> None:
    written(tmp_path, image)
    side = 512 // size
    expected = [
        [exact[i * side : (i + 1) * side, j * side : (j + 1) * side].mean() for j in range(size)]
        for i in range(size)
    ]
    found = load_image(str(tmp_path), size)
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_colours_are_refused(mode: str, tmp_path: Path) -> None:
    written(tmp_path, Image.fromarray(GREY).convert(mode))
    with pytest.raises(
        UnusableError, match=r"data_dir: expected 512 x 512 grey .* \(512, 512, [34]\)"
    ):
        load_image(str(tmp_path), 64)


@pytest.mark.parametrize("shape", [(1, 1), (300, 300), (256, 512), (512, 256), (1024, 1024)])
def test_other_sizes_are_refused(shape: tuple[int, int], tmp_path: Path) -> None:
    path = written(tmp_path, Image.fromarray(np.resize(GREY, shape)))
    with pytest.raises(
        UnusableError, match=f"data_dir: .*got an array of shape {re.escape(str(shape))}"
    ):
        load_image(str(tmp_path), 64)
    assert path.exists()


def test_pixels_of_four_bits_are_right_or_refused(tmp_path: Path) -> None:
    written(tmp_path, Image.fromarray(GREY), bits=4)
    with suppress(UnusableError):
        found = load_image(str(tmp_path), 512)
        torch.testing.assert_close(found, torch.from_numpy(GREY // 16 / 15), rtol=0, atol=1e-7)


@pytest.mark.parametrize("kept", [0, 20, 5000], ids=["nothing", "a header", "a part"])
def test_a_broken_file_is_refused(kept: int, tmp_path: Path) -> None:
    path = written(tmp_path, Image.fromarray(GREY))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UnusableError, match=r"data_dir: expected a PNG .*camera\.png: ") as caught:
        load_image(str(tmp_path), 64)
    assert "\n" not in str(caught.value)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, Image.fromarray(GREY))
    Image.fromarray(GREY).save(path, format="JPEG")
    with pytest.raises(UnusableError, match=r"camera\.png: not a PNG file"):
        load_image(str(tmp_path), 64)
