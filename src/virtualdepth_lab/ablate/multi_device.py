"""One cell over several devices: in a process of its own, which Lightning starts once for each.

Lightning's strategies run the command again that they are used in. A worker's command would take
another cell; this module's command has one argument, a folder with the cell in it, and so runs the
same cell on the next device. The result is left in the folder. The processes of a cell end with it.
"""

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from virtualdepth_lab.ablate.cells import reason_of
from virtualdepth_lab.ablate.lifeline import die_with_parent
from virtualdepth_lab.ablate.lightning_cell import is_multi_device
from virtualdepth_lab.ablate.matrix import Metrics, Report
from virtualdepth_lab.ablate.problems import run_cell
from virtualdepth_lab.ablate.study import StudyConfig

TASK = "cell"
scratch: str | None = None  # the folder for what cells leave behind; None: the system's own


def run(
    study: StudyConfig, config: Mapping[str, Any], seed: int, report: Report | None = None
) -> Metrics:
    """Run one cell here or, if its Trainer has several devices, in processes of its own.

    The arguments and metrics are those of :func:`virtualdepth_lab.ablate.problems.run_cell`.
    """
    if not is_multi_device(study.trainer):
        return run_cell(study, config, seed, report)
    with TemporaryDirectory(prefix="virtualdepth-", dir=scratch) as folder:
        task = (study, config, seed, torch.get_num_threads())
        Path(folder, TASK).write_bytes(pickle.dumps(task))
        with subprocess.Popen(
            [sys.executable, "-m", "virtualdepth_lab.ablate.multi_device", folder],
            stdin=subprocess.PIPE,
            start_new_session=True,
        ) as process:  # its pipe is then closed, which ends the processes that are left
            status = process.wait()
        found = sorted(Path(folder).glob("device-*"), key=lambda path: path.stat().st_mtime_ns)
        # The first to fail says why: the others then lose their connection, or are killed.
        end = pickle.loads(found[0].read_bytes()) if found else {}
    if "metrics" in end:
        metrics: Metrics = end["metrics"]
        return metrics
    if "diverged" in end:
        raise FloatingPointError(end["diverged"])
    reason = end.get("failed", f"a process ended with status {status} and said nothing")
    raise RuntimeError(f"on its devices: {reason}")


def main() -> int:
    """Run the cell on one device; return the exit status: 0 if the cell is complete."""
    folder, device = Path(sys.argv[1]), int(os.environ.get("LOCAL_RANK", 0))
    study, config, seed, threads = pickle.loads((folder / TASK).read_bytes())
    die_with_parent()
    torch.set_num_threads(threads)
    end: dict[str, Any]
    try:
        end = {"metrics": run_cell(study, config, seed)}
    except FloatingPointError as error:
        end = {"diverged": str(error)}
    except Exception as error:  # what a cell raises is a result of the study
        traceback.print_exc()
        end = {"failed": reason_of(error)}
    if device == 0 or "metrics" not in end:
        part = folder / f"{device}.part"
        part.write_bytes(pickle.dumps(end))
        part.rename(folder / f"device-{device}")  # whole, or not there
    return int("metrics" not in end)


if __name__ == "__main__":
    sys.exit(main())
