"""Install a wheel with an extra into a clean environment, and use what the extra is for.

    python tests/clean_install.py dist/virtualdepth-0.2.0-py3-none-any.whl none all

Without names of extras: each of them, which downloads a gigabyte. Versions are those of
constraints.txt.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
STEP = (
    "import torch, virtualdepth as vd; w = torch.nn.Parameter(torch.eye(2)); w.sum().backward(); "
    "vd.EndToEndSGD([w], lr=0.1, depth=2).step(); assert w[0, 1] == -0.2, w"
)
# what each extra is for; a program of the environment, or code for its Python
CHECKS: dict[str, list[list[str]]] = {
    "none": [["-c", STEP], ["virtualdepth", "--version"], ["virtualdepth", "reproduce"]],
    "lightning": [["-c", "import virtualdepth as vd; print(vd.lightning.SpectrumMonitor())"]],
    "plots": [["-c", "import virtualdepth as vd; print(vd.plotting.COLORS['blue'])"]],
    "estimators": [
        ["-c", "import numpy, virtualdepth as vd; "
               "x = numpy.outer(range(1, 9), range(1, 9)).astype(float); x[0, 0] = numpy.nan; "
               "print(vd.estimators.MatrixCompletion().fit_transform(x)[0, 0])"],
    ],
    "studies": [["virtualdepth", "ablate", "study.yaml", "--dry-run"]],
    "experiments": [
        ["virtualdepth", "verify", "--data", "synthetic", "--time", "2", "--output", "verify"],
        ["virtualdepth", "reproduce", "no-regulariser", "--quick", "--output", "reproduce"],
    ],
}  # fmt: skip
CHECKS["all"] = [check for checks in CHECKS.values() for check in checks]
STUDY = "problem: regression\ngrid: {depth: [1, 2]}\nbudget: {steps: 20}\n"


def call(command: list[str], folder: Path) -> None:
    # without PYTHONPATH, by which another copy of the package would be found
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, cwd=folder, env=own, check=True)


def check(wheel: Path, extra: str, torch_index: str | None) -> None:
    """Install into an environment of its own, which goes again, and run the extra's checks."""
    with tempfile.TemporaryDirectory(prefix="clean-install-") as name:
        folder = Path(name)
        venv.create(folder / "environment", symlinks=True)
        programs = folder / "environment" / ("Scripts" if os.name == "nt" else "bin")
        pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install"]
        pip += ["--quiet", "-c", str(ROOT / "constraints.txt")]
        if torch_index:
            call([*pip, "--no-deps", "--index-url", torch_index, "torch"], folder)
        call([*pip, str(wheel) if extra == "none" else f"{wheel}[{extra}]"], folder)
        (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
        for word, *words in CHECKS[extra]:
            program = [programs / "python", word] if word == "-c" else [programs / word]
            call([*map(str, program), *words], folder)
    print(f"installed and used: {wheel.name}[{extra}]", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("extras", nargs="*", help=f"among {', '.join(CHECKS)}")
    parser.add_argument("--torch-index", help="an index to take torch, and torch alone, from")
    options = parser.parse_args()
    if unknown := sorted(set(options.extras) - set(CHECKS)):
        parser.error(f"extras: expected {', '.join(CHECKS)} but got {', '.join(unknown)}")
    for chosen in options.extras or CHECKS:
        check(options.wheel.resolve(), chosen, options.torch_index)
