"""Problems of a user's own, of which a test decides how they end."""

import os
import signal
import time
from pathlib import Path
from typing import Any


class Cell:
    """Counts its runs in a file of its own, waits, and returns ``x**2 + seed``."""

    def __init__(self, x: Any, seed: int, seconds: float = 0.0, log: str = "", ends: str = "well"):
        self.x, self.seed, self.seconds, self.log, self.ends = x, seed, seconds, log, ends

    def train(self, steps: int | None, report: Any = None) -> dict[str, float]:
        if self.log:
            with open(Path(self.log), "a", encoding="utf-8") as file:
                file.write(f"{self.x} {self.seed}\n")
        time.sleep(self.seconds)
        if self.ends == "diverged" and self.x == 2:
            raise FloatingPointError("the loss is inf at evaluation 7")
        if self.ends == "undefined" and self.x == 2:
            return {"loss": float("nan")}
        if self.ends == "error" and self.x == 2:
            raise RuntimeError("no such\nluck")
        if self.ends == "exit" and self.x == 2:
            raise SystemExit(3)
        if self.ends == "killed" and self.x == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.ends == "fixed" and self.x == 2 and not Path(self.log + ".fixed").exists():
            raise RuntimeError("not yet")
        loss = 0.0
        for step in range(steps or 1):
            loss = float(self.x) ** 2 + self.seed + 1 / (step + 1)
            if report is not None:
                report(step, {"loss": loss})
        return {"loss": loss, "seed_again": self.seed}


def factory(
    x: Any, seed: int, seconds: float = 0.0, log: str = "", ends: str = "well", **_: Any
) -> Cell:
    return Cell(x, seed, seconds, log, ends)


def strict(x: float, width: int, seed: int = 0, *, lr: float = 0.1) -> Cell:
    return Cell(x, seed)


def nothing(seed: int) -> None:
    return None


not_callable = 3
