"""The worker processes of this machine: started, watched, and replaced when killed.

They are started by subprocess, not by multiprocessing: each has its own environment, log and
session before its first line of Python runs, and does not import the caller's ``__main__``.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from virtualdepth.runs import UnusableError, mine
from virtualdepth_lab.ablate.worker import STORAGE_LOST

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_POLL = 0.2  # seconds
_MOST_DEATHS = 5  # of workers in a row, without a cell finished in between


def threads_per_worker(workers: int) -> int:
    """Return $OMP_NUM_THREADS if that is set, else the worker's share of the cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    knows_cores = hasattr(os, "sched_getaffinity")  # those that this process may use
    cores = len(os.sched_getaffinity(0)) if knows_cores else os.cpu_count() or 1
    return max(1, cores // workers)


def gpus_of(number: int, workers: int, devices: object) -> dict[str, str]:
    """Return the variable that gives worker ``number``, from 0, its share of the visible GPUs.

    Each takes ``devices`` of them in turn. Nothing is set for a single worker, nor where
    ``devices`` is not a number of GPUs but, say, "auto" or a list, which chooses among them all.
    """
    count = torch.cuda.device_count()
    if workers == 1 or not isinstance(devices, int) or not 1 <= devices <= count:
        return {}
    named = os.environ.get(VISIBLE)
    gpus = [str(gpu) for gpu in range(count)] if named is None else named.split(",")[:count]
    mine = [gpus[(number * devices + k) % count] for k in range(devices)]
    return {VISIBLE: ",".join(mine)}


def log_name(number: int) -> str:
    """Return the file that worker ``number``, from 0, writes what it prints to."""
    return f"worker-{number + 1}.log"


class Workers:
    """Worker processes; as a context manager it leaves none behind.

    Each loads torch and then waits for :meth:`start`. What it prints goes to worker-1.log and so on
    in ``folder``.
    """

    def __init__(self, number: int, folder: Path, devices: object = 1) -> None:
        self.names: list[str] = []  # of all workers so far, as "host:process"
        self._number = number
        self._folder = folder
        self._devices = devices  # of a cell
        self._threads = threads_per_worker(number)
        self._task = b""
        self._resources = ExitStack()
        self.scratch = ""  # a folder for what cells leave behind, while they run
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Workers":
        # what the cells leave in it goes even if their workers are killed
        self.scratch = self._resources.enter_context(
            TemporaryDirectory(prefix="virtualdepth-", ignore_cleanup_errors=True)
        )
        try:
            for number in range(self._number):
                mine(self._folder, log_name(number)).unlink(missing_ok=True)  # of an earlier run
                self._spawn(number)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for log in map(self._log, range(self._number)):
            if log.exists() and log.stat().st_size == 0:
                log.unlink()
        self._resources.close()

    def _log(self, number: int) -> Path:
        return self._folder / log_name(number)

    def _spawn(self, number: int) -> None:
        threads = dict.fromkeys(THREADS, str(self._threads))
        gpus = gpus_of(number, self._number, self._devices)
        with self._log(number).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "virtualdepth_lab.ablate.worker"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **threads, **gpus},
                start_new_session=True,  # Ctrl-C reaches this process alone, which then stops them
            )
        self._processes[number] = process
        self.names.append(_name(process))
        if self._task:
            self._send_task(process)

    def start(self, storage: str, study: dict[str, Any]) -> None:
        """Let the workers begin on a study, as to_json has it, in the storage of this address."""
        task = {
            "storage": storage,
            "study": study,
            "threads": self._threads,
            "scratch": self.scratch,
        }
        self._task = json.dumps(task).encode() + b"\n"
        for process in self._processes.values():
            self._send_task(process)

    def _send_task(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # killed already, which watch() will find
            process.stdin.write(self._task)
            process.stdin.flush()

    def watch(self, on_poll: Callable[[], int], on_death: Callable[[str, str], None]) -> None:
        """Wait until every worker has finished, and replace those that are killed.

        ``on_poll`` is called all the time and returns how many cells are finished; ``on_death``
        takes the name of a worker that died, and how, and gives its cell back.
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
                on_death(_name(process), f"worker {process.pid} {_cause(status)}")
                if in_a_row > _MOST_DEATHS:
                    raise UnusableError(
                        "workers",
                        f"expected workers that stay alive but {in_a_row} ended one after the "
                        f"other, the last one {_cause(status)}: {self._last_line(number)}; see "
                        f"{self._log(number)}",
                    )
                self._spawn(number)

    def _storage_lost(self, number: int) -> UnusableError:
        name, _, problem = self._last_line(number).partition(": ")
        if name == "storage":
            return UnusableError(name, problem)
        return UnusableError(  # a full disk has no room for what the worker said either
            "storage",
            "expected to read and write it but a worker could not, and gave no reason; every cell "
            "recorded by then is kept: free some space and run the same command again",
        )

    def _last_line(self, number: int) -> str:
        lines = self._log(number).read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"

    def kill(self) -> None:
        """End the workers at once, with the processes that their cells have started."""
        for process in self._processes.values():
            if sys.platform == "win32":
                process.kill()
            elif process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            _close(process)
        self._processes.clear()


def _name(process: subprocess.Popen[bytes]) -> str:
    return f"{socket.gethostname()}:{process.pid}"


def _close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()


def _cause(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"
