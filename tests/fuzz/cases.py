"""Random runs of an optimizer: parameters, options, faults; every public option takes part."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from virtualdepth import EndToEndSGD, with_depth

INF, NAN = math.inf, math.nan

DEPTHS: list[float] = [1, 1.0000001, 1.5, 2, 2.0, 3, 4, 7.3, 16, 100, 1e6, INF]
SOLVERS = ["auto", "svd", "tracked", "layers"]
STEP_SCALES = ["raw", "unit", "rms", "auto"]
STRUCTURES = ["matrix", "rows", "columns", "diagonal", "circulant"]
IMBALANCES = [1e-8, 1e-3, 0.3, 10.0]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(1, 1), (1, 4), (4, 1), (2, 2), (2, 3), (4, 2), (5, 5), (6, 4), (4, 2, 3), (2, 2, 2, 2)]
SPECTRA = ["plain", "equal", "low rank", "spread", "one", "zero"]

# optimizers to get depth, each with the options that the case may set
INNER: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": torch.optim.SGD,
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "Adamax": torch.optim.Adamax,
    "Adagrad": torch.optim.Adagrad,
    "Adadelta": torch.optim.Adadelta,
    "RMSprop": torch.optim.RMSprop,
    "Rprop": torch.optim.Rprop,
    "ASGD": torch.optim.ASGD,
    "Adafactor": torch.optim.Adafactor,
    "Muon": torch.optim.Muon,
    "LBFGS": partial(torch.optim.LBFGS, max_iter=2),
}
MATRICES_ONLY = {"Muon"}

# what goes wrong before a step; each is taken back after it
FAULTS = [
    *[f"{value} in the {where}" for value in (NAN, INF, -INF) for where in ("weight", "gradient")],
    *[f"lr {value}" for value in (NAN, INF, -1.0)],
    *[f"momentum {value}" for value in (NAN, INF, -0.5)],
    *[f"weight_decay {value}" for value in (NAN, INF, -0.1)],
    *[f"dampening {value}" for value in (NAN, INF)],
    *[f"depth {value}" for value in (NAN, 0.5, -INF)],
    *[f"cap {value}" for value in (NAN, 0.0)],
    "huge gradient",
    "huge lr",
    "no gradient",
    "zero gradient",
    "nan in the state",
    "nan loss",
    "other shape in the state",
]


@dataclass(frozen=True)
class Layer:
    """One matrix, and how it is made."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    spectrum: str
    exponent: int  # its entries are of the order of 10 to this power
    seed: int

    def weight(self) -> Tensor:
        tensor = with_spectrum(self.shape, self.spectrum, self.seed) * 10.0**self.exponent
        return tensor.to(self.dtype)

    def grad(self, step: int, exponent: int) -> Tensor:
        noise = torch.randn(self.shape, generator=seeded(self.seed + 1000 + step), dtype=DOUBLE)
        return (noise * 10.0**exponent).to(self.dtype)


@dataclass(frozen=True)
class Case:
    """One run."""

    kind: str  # "EndToEndSGD", or what with_depth gives depth to
    on: str  # with_depth's option
    layers: tuple[Layer, ...]
    options: dict[str, Any]
    grad_exponent: int
    faults: tuple[str | None, ...]  # before each step

    def parameters(self) -> list[nn.Parameter]:
        """The matrices, and a bias at the end."""
        made = [nn.Parameter(layer.weight()) for layer in self.layers]
        bias = torch.randn(3, generator=seeded(self.layers[0].seed), dtype=DOUBLE)
        return [*made, nn.Parameter(bias.to(self.layers[0].dtype))]

    def optimizer(self, params: list[nn.Parameter]) -> torch.optim.Optimizer:
        if self.kind == "EndToEndSGD":
            return EndToEndSGD([{"params": params, **self.view}], **self.options)
        options = dict(self.options)
        own = {
            key: options.pop(key) for key in ("lr", "momentum", "weight_decay") if key in options
        }
        taken = params[:-1] if self.kind in MATRICES_ONLY else params
        inner = INNER[self.kind]([{"params": taken}], **own)
        return with_depth(inner, on=self.on, **{"step_scale": "raw", **options})

    @property
    def view(self) -> dict[str, Any]:
        return {"conv_groups": 2} if self.splits else {}

    @property
    def splits(self) -> bool:
        """Whether each parameter is seen as two matrices."""
        return self.layers[0].seed % 4 == 0 and all(each.shape[0] % 2 == 0 for each in self.layers)

    def set_gradients(self, params: list[nn.Parameter], step: int) -> None:
        for layer, p in zip(self.layers, params, strict=False):
            p.grad = layer.grad(step, self.grad_exponent).to(p.dtype)
        bias = params[-1]
        noise = torch.randn(3, generator=seeded(self.layers[0].seed + step), dtype=DOUBLE)
        bias.grad = noise.to(bias.dtype)


DOUBLE = torch.float64


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rotation(size: int, seed: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=seeded(seed), dtype=DOUBLE)).Q


def with_spectrum(shape: tuple[int, ...], spectrum: str, seed: int) -> Tensor:
    """A matrix of largest singular value 1 (or of zeros); no others are near the cut-off."""
    rows, columns = shape[0], math.prod(shape[1:])
    rank = min(rows, columns)
    values = 0.05 + 0.95 * torch.rand(rank, generator=seeded(seed), dtype=DOUBLE)
    if spectrum == "equal":
        values.fill_(1)
    elif spectrum == "low rank":
        values[(rank + 1) // 2 :] = 0
    elif spectrum == "spread":
        values = torch.logspace(0, -2.5, rank, dtype=DOUBLE)
    elif spectrum == "one":
        values[1:] = 0
    elif spectrum == "zero":
        values.fill_(0)
    left, right = rotation(rows, seed)[:, :rank], rotation(columns, seed + 1)[:, :rank]
    return ((left * values) @ right.mT).reshape(shape)


_seeds = st.integers(0, 2**20)


def rarely(usual: st.SearchStrategy[Any], rare: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The rare one in one of eight draws; shrinking goes to the usual one."""
    return st.integers(0, 7).flatmap(lambda number: rare if number == 7 else usual)


@st.composite
def layers(draw: st.DrawFn, dtype: torch.dtype, shapes: list[tuple[int, ...]]) -> Layer:
    widest = {torch.float64: 200, torch.float32: 30, torch.bfloat16: 30, torch.float16: 4}[dtype]
    return Layer(
        draw(st.sampled_from(shapes)),
        dtype,
        draw(st.sampled_from(SPECTRA)),
        draw(rarely(st.integers(-2, 1), st.integers(-widest, widest))),
        draw(_seeds),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any run; where two options exclude each other, all of it is refused."""
    kind = draw(st.sampled_from(["EndToEndSGD"] * 6 + list(INNER)))
    dtype = draw(st.sampled_from(DTYPES))
    options = draw(sgd_options() if kind == "EndToEndSGD" else with_depth_options(kind))
    shapes = [shape for shape in SHAPES if len(shape) == 2 or kind not in MATRICES_ONLY]
    faults = st.none() | st.sampled_from(FAULTS)
    widest = {torch.float64: 200, torch.float32: 30, torch.bfloat16: 30, torch.float16: 4}[dtype]
    return Case(
        kind,
        draw(st.sampled_from(["gradient", "update"])),
        tuple(draw(st.lists(layers(dtype, shapes), min_size=1, max_size=2))),
        options,
        draw(rarely(st.integers(-2, 1), st.integers(-widest, widest))),
        tuple(draw(st.lists(faults, min_size=1, max_size=3))),
    )


@st.composite
def depth_options(draw: st.DrawFn, step_scales: list[str], solvers: list[str]) -> dict[str, Any]:
    solver = draw(st.sampled_from(solvers))
    # most draws go together; the others are refused, which has to leave everything as it was
    depths = [2, 3, 4, 7] if solver == "layers" else DEPTHS
    scales = ["raw"] if solver == "layers" else step_scales
    options: dict[str, Any] = {
        "depth": draw(rarely(st.sampled_from(depths), st.sampled_from(DEPTHS))),
        "solver": solver,
        "step_scale": draw(rarely(st.sampled_from(scales), st.sampled_from(step_scales))),
        "cap": draw(st.sampled_from([0.05, 0.3, 1e-6])),
    }
    exact = solver in {"auto", "svd"} and options["step_scale"] != "auto"
    other = st.sampled_from(STRUCTURES)
    options["structure"] = draw(other if exact else rarely(st.just("matrix"), other))
    unequal = st.sampled_from([0.0, *IMBALANCES])
    able = (exact or solver == "layers") and options["depth"] != INF
    options["imbalance"] = draw(unequal if able else rarely(st.just(0.0), unequal))
    # in the first step, which is what some invariants look at, W has just been decomposed
    options["precondition_frequency"] = draw(
        st.sampled_from([1, 1, 1, 2, 3, 100]) if exact else rarely(st.just(1), st.just(2))
    )
    if solver != "layers":
        options["rtol"] = draw(rarely(st.none(), st.sampled_from([0.0, 1e-3])))
    return options


@st.composite
def sgd_options(draw: st.DrawFn) -> dict[str, Any]:
    options = draw(depth_options(STEP_SCALES, SOLVERS))
    options["lr"] = draw(rarely(st.sampled_from([0.0, 1e-3, 0.1]), st.sampled_from([1.0, 1e38])))
    options["weight_decay"] = draw(st.sampled_from([0, 0, 0.01]))
    options["maximize"] = draw(rarely(st.just(False), st.just(True)))
    options["origin"] = draw(rarely(st.none(), st.just("init")))
    momentum = draw(st.sampled_from(["none", "none", "plain", "dampened", "nesterov"]))
    if momentum != "none" and options["step_scale"] != "auto":
        options["momentum"] = 0.9
        options["dampening"] = 0.3 if momentum == "dampened" else 0
        options["nesterov"] = momentum == "nesterov"
    return options


@st.composite
def with_depth_options(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    options = draw(depth_options(["raw", "unit", "rms"], ["auto", "svd"]))
    options["lr"] = draw(rarely(st.sampled_from([1e-3, 0.1]), st.sampled_from([1.0, 1e38])))
    if kind not in {"Rprop", "LBFGS"}:
        options["weight_decay"] = draw(st.sampled_from([0, 0, 0.01]))
    if kind in {"SGD", "RMSprop", "Muon"}:
        options["momentum"] = draw(st.sampled_from([0, 0.9]))
    return options
