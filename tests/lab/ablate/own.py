"""Problems of a user's own, of which a test decides how they end."""

import os
import signal
import time
from pathlib import Path
from typing import Any


class Cell:
    """Counts its runs in a file, waits, and returns ``x**2 + seed``.

    None ends before ``crowd`` of them have begun, which takes as many workers.
    """

    def __init__(
        self,
        x: Any,
        seed: int,
        seconds: float = 0.0,
        log: str = "",
        ends: str = "well",
        crowd: int = 0,
    ) -> None:
        self.x, self.seed, self.seconds = x, seed, seconds
        self.log, self.ends, self.crowd = log, ends, crowd

    def train(self, steps: int | None, report: Any = None) -> dict[str, float]:
        if self.log:
            with open(Path(self.log), "a", encoding="utf-8") as file:
                file.write(f"{self.x} {self.seed}\n")
        self._wait_for_others()
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

    def _wait_for_others(self) -> None:
        deadline = time.monotonic() + 300
        while (
            self.crowd and len(Path(self.log).read_text(encoding="utf-8").split("\n")) <= self.crowd
        ):
            if time.monotonic() > deadline:
                raise TimeoutError(f"expected {self.crowd} cells to begin")
            time.sleep(0.05)


def factory(
    x: Any,
    seed: int,
    seconds: float = 0.0,
    log: str = "",
    ends: str = "well",
    crowd: int = 0,
    **_: Any,
) -> Cell:
    return Cell(x, seed, seconds, log, ends, crowd)


def strict(x: float, width: int, seed: int = 0, *, lr: float = 0.1) -> Cell:
    return Cell(x, seed)


def nothing(seed: int) -> None:
    return None


not_callable = 3
