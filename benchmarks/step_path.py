"""The path of one step through the code: how many functions, and how often it changes file.

    python -m benchmarks.step_path [--list]

A reader who follows a gradient to the weight reads these functions, and turns to another file so
often. Counted are calls of functions of this package alone, in the second step of a matrix and a
bias. Comprehensions belong to the function that they stand in.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType

import torch
from torch import nn
from torch.optim import Optimizer

import virtualdepth as vd

SOURCE = Path(vd.__file__).parent

Named = list[tuple[str, nn.Parameter]]
OPTIMIZERS: dict[str, Callable[[Named], Optimizer]] = {
    "EndToEndSGD": lambda named: vd.EndToEndSGD(named, lr=0.1, depth=3, solver="svd"),
    "with_depth(AdamW)": lambda named: vd.with_depth(
        torch.optim.AdamW(named), 3, step_scale="raw", on="gradient"
    ),
    'with_depth(AdamW, on="update")': lambda named: vd.with_depth(
        torch.optim.AdamW(named), 3, on="update", step_scale="raw"
    ),
}

Call = tuple[str, str]


@contextmanager
def recorded(calls: list[Call]) -> Iterator[None]:
    """Append (file, function) at each call of a function of the package."""

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(f"{SOURCE}/"):
            function = code.co_qualname
            while function.endswith(("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")):
                function = function.rpartition(".<locals>.")[0]
            calls.append((str(Path(code.co_filename).relative_to(SOURCE)), function))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


def step_path(make: Callable[[Named], Optimizer]) -> list[Call]:
    """The calls of one step, in order."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    optimizer = make(list(layer.named_parameters()))
    calls: list[Call] = []
    for p in layer.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()  # the first one also makes state
    with recorded(calls):
        optimizer.step()
    return calls


def counts(calls: list[Call]) -> dict[str, int]:
    return {
        "functions": len(set(calls)),
        "files": len({file for file, _ in calls}),
        "changes of file": sum(here != there for (here, _), (there, _) in pairwise(calls)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the path too")
    listed = parser.parse_args().list
    paths = {name: step_path(make) for name, make in OPTIMIZERS.items()}
    print(f"{'optimizer':32}", *counts([]), sep="  ")
    for name, calls in paths.items():
        columns = (f"{number:{len(title)}}" for title, number in counts(calls).items())
        print(f"{name:32}", *columns, sep="  ")
    for name, calls in paths.items() if listed else ():
        print(f"\n{name}")
        before = ""
        for file, function in calls:
            print(f"    {'' if file == before else file:36} {function}")
            before = file


if __name__ == "__main__":
    main()
