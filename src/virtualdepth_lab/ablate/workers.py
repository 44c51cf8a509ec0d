"""The worker processes of this machine: started, watched, replaced when killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.worker import STORAGE_LOST

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_POLL = 0.2  # seconds
_MOST_DEATHS = 5  # of workers in a row, without a cell finished in between


def threads_per_worker(workers: int) -> int:
    """Divide the cores among the workers, so that their threads do not wait for each other.

    Args:
        workers: how many processes.

    Returns:
        $OMP_NUM_THREADS if that is set, else cores / workers, at least 1.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    available = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, available // workers)


def gpus_of(number: int, workers: int, devices: object) -> dict[str, str]:
    """Share the GPUs that this process sees out among the workers, so that not all take the first.

    Args:
        number: of the worker, from 0.
        workers: how many; one alone sees them all.
        devices: of a cell, as Lightning's Trainer takes them; what is no number of GPUs, such as
            "auto" or a list, chooses among them all.

    Returns:
        What is to be in the worker's environment: nothing, or CUDA_VISIBLE_DEVICES.
    """
    count = torch.cuda.device_count()
    if workers == 1 or not isinstance(devices, int) or not 1 <= devices <= count:
        return {}
    named = os.environ.get(VISIBLE)
    gpus = [str(gpu) for gpu in range(count)] if named is None else named.split(",")[:count]
    mine = [gpus[(number * devices + k) % count] for k in range(devices)]
    return {VISIBLE: ",".join(mine)}


class Crew:
    """Worker processes; as a context manager it leaves none behind.

    Each loads what it needs at once and waits for :meth:`start`, so that this takes no time of its
    own.

    Args:
        workers: how many.
        folder: where what they print goes, to worker-1.log and so on.
        devices: of a cell, for :func:`gpus_of`.

    Attributes:
        names: of all workers so far, as "host:process".
        deaths: what became of workers that were replaced, in words.
    """

    def __init__(self, workers: int, folder: Path, devices: object = 1) -> None:
        self.names: list[str] = []
        self.deaths: list[str] = []
        self._folder = folder
        self._order = b""
        self._threads = threads_per_worker(workers)
        self._logs: list[IO[bytes]] = []
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._workers = workers
        self._devices = devices

    def __enter__(self) -> "Crew":
        self._logs = [self._log(number).open("wb") for number in range(self._workers)]
        for number in range(self._workers):
            self._spawn(number)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for log in self._logs:
            log.close()
            if Path(log.name).stat().st_size == 0:
                Path(log.name).unlink()

    def _log(self, number: int) -> Path:
        return self._folder / f"worker-{number + 1}.log"

    def _spawn(self, number: int) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "virtualdepth_lab.ablate.worker"],
            stdin=subprocess.PIPE,
            stdout=self._logs[number],
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                **dict.fromkeys(THREADS, str(self._threads)),
                **gpus_of(number, self._workers, self._devices),
            },
            start_new_session=True,  # Ctrl-C is for this process, which then stops them
        )
        self._processes[number] = process
        self.names.append(f"{socket.gethostname()}:{process.pid}")
        if self._order:
            self._tell(process)

    def start(self, storage: str, study: dict[str, Any]) -> None:
        """Let the workers begin.

        Args:
            storage: its address.
            study: as :meth:`StudyConfig.to_json` has it.
        """
        order = {"storage": storage, "study": study, "threads": self._threads}
        self._order = json.dumps(order).encode() + b"\n"
        for process in self._processes.values():
            self._tell(process)

    def _tell(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(self._order)
            process.stdin.flush()
        except BrokenPipeError:
            return  # killed already, which the watch will find

    def watch(self, on_poll: Callable[[], int], on_death: Callable[[str], None]) -> None:
        """Wait until every worker has finished, replacing those that are killed.

        Args:
            on_poll: called all the time; returns how many cells are finished.
            on_death: called with the name of a worker that died, to give its cell back.

        Raises:
            UnusableError: if a worker cannot use the storage, or workers die all the time.
        """
        finished, in_a_row = -1, 0
        while self._processes:
            time.sleep(_POLL)
            before, finished = finished, on_poll()
            in_a_row = 0 if finished > before else in_a_row
            for number, process in list(self._processes.items()):
                status = process.poll()
                if status is None:
                    continue
                del self._processes[number]
                _close(process)
                if status == 0:
                    continue
                if status == STORAGE_LOST:
                    raise self._storage_lost(number)
                in_a_row += 1
                self.deaths.append(f"worker {process.pid} {_cause(status)}")
                on_death(f"{socket.gethostname()}:{process.pid}")
                if in_a_row > _MOST_DEATHS:
                    raise UnusableError(
                        "workers",
                        f"expected processes that live but {in_a_row} ended one after the other, "
                        f"the last one {_cause(status)}: {self._last_line(number)}; see "
                        f"{self._log(number)}",
                    )
                self._spawn(number)

    def _storage_lost(self, number: int) -> UnusableError:
        name, _, problem = self._last_line(number).partition(": ")
        if name == "storage":
            return UnusableError(name, problem)
        return UnusableError(  # a full disk has no room for what it said either
            "storage",
            "expected to read and write it but a worker could not, nor could it say why; every "
            "cell recorded by then is kept: make room, and run the same command again",
        )

    def _last_line(self, number: int) -> str:
        lines = self._log(number).read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"

    def kill(self) -> None:
        """End the workers at once, with whatever processes their cells have started."""
        for process in self._processes.values():
            if sys.platform == "win32":
                process.kill()
            elif process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            _close(process)
        self._processes.clear()


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        try:
            process.stdin.close()
        except BrokenPipeError:
            return


def _cause(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"
