"""Does one layer follow the explicit network of every structure and imbalance, and no other one?

`virtualdepth verify` for every structure: at depth 3 with balanced layers, with imbalance
0.5, and with it from a start of zero; at depths 2 and 4 with imbalance 0.5; then with a wrong
imbalance, structure and depth of the rule. The table has the options of the command that makes each
row.
"""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from common import arguments, parse, report

from virtualdepth.cli import main as virtualdepth
from virtualdepth.maths import STRUCTURES

COMMAND = "verify --data {} --time {}"
NETWORKS = (
    "",
    "--imbalance 0.5",
    "--imbalance 0.5 --init-scale 0",
    "--imbalance 0.5 --depth 2",
    "--imbalance 0.5 --depth 4",
)
RATES = {False: "0.1,0.05,0.025", True: "0.02,0.01"}  # smaller ones from a start of zero
WRONG = (
    "--structure rows --imbalance 0.5 --optimizer-imbalance 0.4",
    "--structure rows --imbalance 0.5 --optimizer-structure matrix",
    "--structure rows --imbalance 0.5 --optimizer-depth 2",
)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", default="synthetic", help="as of virtualdepth verify")
    options = parse(parser, "equivalence.json")
    structured = ("" if name == "matrix" else f"--structure {name}" for name in STRUCTURES)
    asked = [f"{one} {other}".strip() for one in structured for other in NETWORKS] + [*WRONG]
    command = COMMAND.format(options.data, 0.2 if options.quick else 5)
    rows = []
    for more in asked:
        given = f"{more} --lrs {RATES['--init-scale 0' in more]}".strip()
        with TemporaryDirectory() as folder:
            words = f"{command} {given} --output {folder}/run".split()
            with redirect_stdout(io.StringIO()):
                status = virtualdepth(words)
            found = json.loads(Path(f"{folder}/run/result.json").read_text(encoding="utf-8"))
        rates, gaps = ([row[name] for row in found["rows"]] for name in ("lr", "gap"))
        rows.append(
            {
                "options": more or "none",
                "weights": found["parameters"]["single"],
                "of the network": found["parameters"]["deep"],
                "learning rates": f"{rates[0]:g} to {rates[-1]:g}",
                "gaps": f"{gaps[0]:.1e} to {gaps[-1]:.1e}",
                "loss at the end": f"{found['rows'][-1]['loss_deep']:.3f}",
                "order": f"{found['order']:.3f}",
                "verdict": "passed" if status == 0 else "failed",
            }
        )
        print(*rows[-1].values(), flush=True)
    report("equivalence", options.output, rows)


if __name__ == "__main__":
    main()
