"""Put data that do not ship where the commands look for them, and check what is given.

    python -m virtualdepth_lab.prepare_data ethanol FOLDER --data-dir DIR

| what | given | left in DIR |
|---|---|---|
| ethanol | the folder with batch1.dat to batch10.dat of UCI data set 270 | ethanol/ethanol.npz |
| image | camera.png of scikit-image's collection, 512 x 512 | images/camera.png |
| mnist | the folder with MNIST's two training files, plain or .gz | mnist/ |
"""

import argparse
import gzip
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from matplotlib.image import imread

from virtualdepth.data import DATA_VARIABLE
from virtualdepth.runs import UNUSABLE, UnusableError, whole

ETHANOL, ROWS, COLUMNS = "1", 2565, 128  # the first of the gases
MEAN_PPM = 114.95029239766082
# sha256 of what is in the files, whatever packed them
CAMERA = "5cb24482a53416f99052258be2b1ee38cd31c559a70c8a8b321cba231b332e21"
MNIST = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
}


def ethanol(source: Path, data_dir: Path) -> Path:
    """Write the rows of ethanol of all batches: X (2565, 128), y_ppm (2565,), batch (2565,)."""
    rows, ppm, batch = [], [], []
    for number in range(1, 11):
        path = source / f"batch{number}.dat"
        for line, (concentration, values) in _measurements(path):
            if len(values) != COLUMNS:
                raise _refused(path, f"{COLUMNS} features in line {line}", str(len(values)))
            rows.append(values)
            ppm.append(concentration)
            batch.append(number)
    features, target = np.array(rows), np.array(ppm)
    if features.shape != (ROWS, COLUMNS):
        raise _refused(source, f"{ROWS} measurements of ethanol", str(len(rows)))
    if not np.isfinite(features).all() or abs(target.mean() - MEAN_PPM) > 1e-6:
        raise _refused(
            source, f"finite features and a mean of {MEAN_PPM:.6f} ppm", f"{target.mean():.6f} ppm"
        )
    path = _place(data_dir, "ethanol/ethanol.npz")
    with whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, X=features, y_ppm=target, batch=np.array(batch, dtype=np.int8))
    return path


def _measurements(path: Path) -> Iterator[tuple[int, tuple[float, list[float]]]]:
    """Yield number, concentration and features of the lines "1;10.0 1:15.2 2:1.1 ..."."""
    for number, line in enumerate(_read(path).decode("ascii", "replace").splitlines(), start=1):
        head, *cells = line.split()
        gas, _, concentration = head.partition(";")
        if gas == ETHANOL:
            try:
                values = [float(cell.partition(":")[2]) for cell in cells]
                yield number, (float(concentration), values)
            except ValueError as error:
                raise _refused(path, f"numbers in line {number}", str(error)) from error


def image(source: Path, data_dir: Path) -> Path:
    """Copy the image, if its grey values are those that were published."""
    try:
        pixels = imread(source)
    except (OSError, SyntaxError) as error:  # Pillow raises both
        raise _refused(source, "a PNG of 512 x 512 grey pixels", str(error)) from error
    grey = np.round(255 * pixels).astype(np.uint8)
    _check(source, grey.tobytes(), CAMERA, "the grey values of camera.png")
    path = _place(data_dir, "images/camera.png")
    with whole(path) as part:
        shutil.copyfile(source, part)
    return path


def mnist(source: Path, data_dir: Path) -> Path:
    """Copy the training images and labels, if every byte is that of the published files."""
    found = {}
    for name, digest in MNIST.items():
        path = next((p for p in (source / name, source / f"{name}.gz") if p.is_file()), None)
        if path is None:
            raise _refused(source, f"the file {name} or {name}.gz", "neither")
        content = _read(path)
        if path.suffix == ".gz":
            try:
                content = gzip.decompress(content)
            except (OSError, EOFError) as error:
                raise _refused(path, "a file packed by gzip", str(error)) from error
        _check(path, content, digest, "MNIST's own file")
        found[path] = _place(data_dir, f"mnist/{path.name}")
    with ExitStack() as copies:
        for path, target in found.items():
            shutil.copyfile(path, copies.enter_context(whole(target)))
    return target.parent


SOURCES: dict[str, Callable[[Path, Path], Path]] = {
    "ethanol": ethanol,
    "image": image,
    "mnist": mnist,
}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _refused(path, "a file that can be read", str(error.strerror)) from error


def _check(path: Path, content: bytes, digest: str, what: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise _refused(path, f"{what}, sha256 {digest[:12]}...", f"{found[:12]}...")


def _place(data_dir: Path, name: str) -> Path:
    """Make the folder of a file; one that is there already stays."""
    path = data_dir / name
    if path.exists():
        raise UnusableError(
            "data_dir", f"expected no {name} there but got {path}; move it away to replace it"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _refused(path: Path, expected: str, got: str) -> UnusableError:
    return UnusableError("source", f"expected {expected} but got {got} in {path}")


def main(words: list[str] | None = None) -> int:
    """Prepare one of the data sets, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m virtualdepth_lab.prepare_data", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("what", choices=SOURCES)
    parser.add_argument("source", type=Path, help="the folder, or the image, as its origin has it")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=os.environ.get(DATA_VARIABLE),
        help=f"where to put it (default: ${DATA_VARIABLE})",
    )
    options = parser.parse_args(words)
    if options.data_dir is None:
        parser.error(f"data_dir: expected a folder but got none; name it, or set {DATA_VARIABLE}")
    try:
        path = SOURCES[options.what](options.source, Path(options.data_dir))
    except UnusableError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return UNUSABLE
    except OSError as error:
        expected = f"data_dir: expected a folder that can be written to but got {options.data_dir}"
        print(f"{parser.prog}: error: {expected}: {error}", file=sys.stderr)
        return UNUSABLE
    print(f"checked and written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
