"""The arguments of ``verify``, checked before anything is loaded or run."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from virtualdepth.runs import UnusableError, plain

DTYPES = ("float64", "float32")
# those of virtualdepth.maths, which takes torch a second to import
STRUCTURES = ("matrix", "rows", "columns", "diagonal", "circulant")
DEEPEST = 1000  # beyond, a network of hundreds of thousands of rows would only run out of memory
MOST_STEPS = 10_000_000
KNOBS = ("depth", "structure", "imbalance")  # what the rule and the network have in common


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """What to compare, and on which data; a value out of range raises UnusableError.

    Attributes:
        data: "digits", "ethanol", "synthetic" or the path of a CSV file with a header.
        data_dir: folder of the ethanol data; default the environment variable VIRTUALDEPTH_DATA.
        targets: of a CSV file, the columns to predict.
        depth: number of layers N, an integer from 2 to 1000.
        structure: what the layers of the network are, see :class:`virtualdepth.DeepLinear`.
        imbalance: by how much one layer of the network is smaller than the others, 0 to 1e12.
        optimizer_depth: depth that the single layer is trained with, real, 1 to inf; default N.
        optimizer_structure: structure that it is trained with; default that of the network.
        optimizer_imbalance: imbalance that it is trained with; default that of the network.
        precondition_frequency: at every how many steps its weight is decomposed, 1 or more.
        lrs: two or more learning rates; kept largest first.
        time: steps times learning rate.
        init_scale: of the start, see :func:`virtualdepth.init.balanced_`; 0 with imbalance only.
        seed: of the start, and of synthetic data.
        dtype: "float64" or "float32".

    >>> VerifyConfig(lrs=(0.05, 0.1)).lrs
    (0.1, 0.05)
    >>> VerifyConfig(time=-1.0)
    Traceback (most recent call last):
    virtualdepth.runs._errors.UnusableError: time: expected a finite number > 0 but got -1.0
    """

    data: str = "digits"
    data_dir: str | None = None
    targets: tuple[str, ...] = ()
    depth: int = 3
    structure: str = "matrix"
    imbalance: float = 0.0
    optimizer_depth: float | None = None
    optimizer_structure: str | None = None
    optimizer_imbalance: float | None = None
    precondition_frequency: int = 1
    lrs: tuple[float, ...] = (0.1, 0.05, 0.025, 0.0125)
    time: float = 20.0
    init_scale: float = 0.3
    seed: int = 0
    dtype: str = "float64"

    def __post_init__(self) -> None:
        if not 2 <= self.depth <= DEEPEST or self.depth % 1 != 0:
            raise UnusableError(
                "depth",
                f"expected an integer from 2 to {DEEPEST} but got {self.depth!r}: there is no "
                "explicit network to compare with",
            )
        if self.optimizer_depth is not None and not self.optimizer_depth >= 1:
            raise UnusableError(
                "optimizer_depth", f"expected a number from 1 to inf but got {self.optimizer_depth}"
            )
        _check_one_of(DTYPES, "dtype", self.dtype)
        _check_one_of(STRUCTURES, "structure", self.structure)
        _check_imbalance("imbalance", self.imbalance)
        if self.optimizer_structure is not None:
            _check_one_of(STRUCTURES, "optimizer_structure", self.optimizer_structure)
        if self.optimizer_imbalance is not None:
            _check_imbalance("optimizer_imbalance", self.optimizer_imbalance)
        if self.rule["imbalance"] > 0 and math.isinf(self.rule["depth"]):
            raise UnusableError(
                "optimizer_imbalance",
                f"expected 0 at infinite depth but got {self.rule['imbalance']}: the gain of a "
                "zero has no limit",
            )
        if self.precondition_frequency % 1 != 0 or not 1 <= self.precondition_frequency < 2**31:
            raise UnusableError(
                "precondition_frequency",
                f"expected an integer from 1 to 2^31 but got {self.precondition_frequency!r}",
            )
        if self.seed % 1 != 0 or not 0 <= self.seed < 2**63:
            raise UnusableError(
                "seed", f"expected an integer >= 0 and < 2^63 but got {self.seed!r}"
            )
        _check_positive("time", self.time)
        # beyond these the start, or its squares, would be 0 or infinite in float32
        moves_zeros = self.init_scale == 0 and self.imbalance > 0
        if not moves_zeros and not 1e-12 <= self.init_scale <= 1e12:
            raise UnusableError(
                "init_scale",
                f"expected a number from 1e-12 to 1e12 but got {self.init_scale}; 0 needs an "
                "imbalance",
            )
        object.__setattr__(self, "depth", int(self.depth))
        object.__setattr__(self, "seed", int(self.seed))
        object.__setattr__(self, "precondition_frequency", int(self.precondition_frequency))
        object.__setattr__(self, "lrs", self._checked_lrs())

    def _checked_lrs(self) -> tuple[float, ...]:
        for lr in self.lrs:
            _check_positive("lrs", lr)
        if len(set(self.lrs)) < max(2, len(self.lrs)):
            raise UnusableError(
                "lrs",
                "expected two or more different learning rates, which a slope needs, but got "
                f"{','.join(map(str, self.lrs)) or 'none'}",
            )
        for lr in self.lrs:
            if not 0.5 < self.time / lr < MOST_STEPS:
                raise UnusableError(
                    "lrs",
                    f"expected time / learning rate between 1 and {MOST_STEPS} steps but got "
                    f"{exact(self.time)} / {exact(lr)} = {exact(self.time / lr)}",
                )
        return tuple(sorted(self.lrs, reverse=True))

    def steps(self, lr: float) -> int:
        """Return how many steps a learning rate takes, at least 1."""
        return round(self.time / lr)

    @property
    def network(self) -> dict[str, Any]:
        """What the explicit network is: its depth, structure and imbalance."""
        return {name: getattr(self, name) for name in KNOBS}

    @property
    def rule(self) -> dict[str, Any]:
        """What the single layer is trained as: the same, where no option says otherwise."""
        others = {name: getattr(self, f"optimizer_{name}") for name in KNOBS}
        return self.network | {name: value for name, value in others.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """Return the arguments for result.json, with what the single layer is trained as."""
        rule = {f"optimizer_{name}": value for name, value in self.rule.items()}
        arguments: dict[str, Any] = plain(asdict(self) | rule)
        return arguments


def exact(value: float) -> str:
    """Write a number with all its digits, in few characters where these are few.

    >>> exact(5.0), exact(0.1234567)
    ('5', '0.1234567')
    """
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def _check_one_of(allowed: tuple[str, ...], name: str, value: object) -> None:
    if value not in allowed:
        raise UnusableError(name, f"expected one of {', '.join(allowed)} but got {value!r}")


def _check_imbalance(name: str, value: float) -> None:
    if not 0 <= value <= 1e12:
        raise UnusableError(name, f"expected a number from 0 to 1e12 but got {value}")


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise UnusableError(name, f"expected a finite number > 0 but got {value}")
