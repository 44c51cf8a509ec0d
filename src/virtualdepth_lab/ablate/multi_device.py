"""One cell over several devices: in a process of its own, which Lightning starts once for each.

Lightning's strategies run the command again that they are used in. Of a worker that would take
another cell; of this module, whose one argument is a folder with the cell in it, it is that cell's
next device. What came of it is left in the folder, and the processes of a cell end with it.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from virtualdepth_lab.ablate.config import StudyConfig, plain, value
from virtualdepth_lab.ablate.lifeline import die_with_parent
from virtualdepth_lab.ablate.lightning_cell import spread_out
from virtualdepth_lab.ablate.matrix import Metrics, Report
from virtualdepth_lab.ablate.problems import run_cell

ORDER = "cell.json"


def run(
    study: StudyConfig, config: Mapping[str, Any], seed: int, report: Report | None = None
) -> Metrics:
    """Run one cell, here or, if its Trainer has several devices, in processes of its own.

    Args:
        study: of which it is.
        config: every argument of the problem but the seed.
        seed: also of the global random generators.
        report: for pruning; of one device only.

    Returns:
        Its metrics, as :func:`virtualdepth_lab.ablate.problems.run_cell` has them.

    Raises:
        FloatingPointError: if it diverged.
        RuntimeError: if it raised an error there.
    """
    if not spread_out(study.trainer):
        return run_cell(study, config, seed, report)
    order = {
        "study": study.to_json(),
        "config": plain(config),
        "seed": seed,
        "threads": torch.get_num_threads(),
    }
    with TemporaryDirectory(prefix="virtualdepth-") as folder:
        Path(folder, ORDER).write_text(json.dumps(order), encoding="utf-8")
        with subprocess.Popen(
            [sys.executable, "-m", "virtualdepth_lab.ablate.multi_device", folder],
            stdin=subprocess.PIPE,
            start_new_session=True,
        ) as process:  # whose pipe is then closed, which ends what is left
            status = process.wait()
        found = sorted(Path(folder).glob("device-*.json"), key=lambda path: path.stat().st_mtime_ns)
        # the first to fail says why: the others then lose their connection, or are killed
        end = json.loads(found[0].read_text(encoding="utf-8")) if found else {}
    if "metrics" in end:
        return {name: float(n) if isinstance(n, str) else n for name, n in end["metrics"].items()}
    if "diverged" in end:
        raise FloatingPointError(end["diverged"])
    reason = end.get("failed", f"a process ended with status {status} and said nothing")
    raise RuntimeError(f"on its devices: {reason}")


def main() -> int:
    """Run the cell on one device.

    Returns:
        0 if the cell is complete.
    """
    folder, device = Path(sys.argv[1]), int(os.environ.get("LOCAL_RANK", 0))
    order = json.loads((folder / ORDER).read_text(encoding="utf-8"))
    die_with_parent()
    torch.set_num_threads(order["threads"])
    config = {name: value(name, given) for name, given in order["config"].items()}
    end: dict[str, Any]
    try:
        end = {"metrics": plain(run_cell(StudyConfig(**order["study"]), config, order["seed"]))}
    except FloatingPointError as error:
        end = {"diverged": str(error)}
    except Exception as error:  # what a cell raises is a result of the study
        traceback.print_exc()
        end = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    if device == 0 or "metrics" not in end:
        part = folder / f"{device}.part"
        part.write_text(json.dumps(end), encoding="utf-8")
        part.rename(folder / f"device-{device}.json")
    return int("metrics" not in end)


if __name__ == "__main__":
    sys.exit(main())
