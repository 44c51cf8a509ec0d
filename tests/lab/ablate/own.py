"""Problems of a user's own, of which a test decides how they end."""

import os
import signal
import time
from pathlib import Path
from typing import Any


class Cell:
    """Counts its runs in a file, and returns ``x**2 + seed``; with x = 2 it ends as ``ends`` says.

    With x = ``broken`` it fails until there is a file ``<log>.fixed``. With x in ``hold`` it waits
    until it has begun twice. None ends before ``crowd`` have begun, which takes as many workers.
    """

    def __init__(
        self,
        x: Any,
        seed: int,
        seconds: float = 0.0,
        log: str = "",
        ends: str = "well",
        broken: Any = None,
        hold: str = "",
        crowd: int = 0,
        **_: Any,
    ) -> None:
        self.x, self.seed, self.seconds = x, seed, seconds
        self.log, self.ends, self.broken = log, ends, broken
        self.is_held, self.crowd = str(x) in str(hold).split(","), crowd

    def train(self, steps: int | None, report: Any = None) -> dict[str, float]:
        if self.log:
            with open(Path(self.log), "a", encoding="utf-8") as file:
                file.write(f"{self.x} {self.seed}\n")
            self._wait()
        time.sleep(self.seconds)
        if self.x == self.broken and not Path(self.log + ".fixed").exists():
            raise RuntimeError("not yet")
        if self.x == 2:
            self._end()
        loss = 0.0
        for step in range(steps or 1):
            loss = float(self.x) ** 2 + self.seed + 1 / (step + 1)
            if report is not None:
                report(step, {"loss": loss})
        undefined = self.ends == "undefined" and self.x == 2
        return {"loss": float("nan") if undefined else loss, "seed_again": self.seed}

    def _end(self) -> None:
        if self.ends == "diverged":
            raise FloatingPointError("the loss is inf at evaluation 7")
        if self.ends == "error":
            raise RuntimeError("no such\nluck")
        if self.ends == "exit":
            raise SystemExit(3)
        if self.ends == "killed":
            os.kill(os.getpid(), signal.SIGKILL)

    def _wait(self) -> None:
        deadline = time.monotonic() + 300
        alone = f"{self.x} {self.seed}"
        while self._begun() < self.crowd or (self.is_held and self._begun(alone) < 2):
            if time.monotonic() > deadline:
                raise TimeoutError("expected other cells to begin")
            time.sleep(0.05)

    def _begun(self, *cells: str) -> int:
        lines = Path(self.log).read_text(encoding="utf-8").split("\n")[:-1]
        return sum(line in cells or not cells for line in lines)


def factory(x: Any, seed: int, **more: Any) -> Cell:
    return Cell(x, seed, **more)


def strict(x: float, width: int, seed: int = 0, *, lr: float = 0.1) -> Cell:
    return Cell(x, seed)


def nothing(seed: int) -> None:
    return None


not_callable = 3
