import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_what_torch_tests_its_own_sgd_with() -> None:
    program = Path(__file__).with_name("torch_database.py")
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"(\d+) runs equal, (\d+) inputs refused\n", done.stdout)
    assert found, done.stdout
    assert int(found[1]) >= 100
    assert int(found[2]) >= 5


@pytest.mark.slow
def test_what_torch_tests_its_other_optimizers_with() -> None:
    program = Path(__file__).with_name("torch_database_with_depth.py")
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = re.match(r"(\d+) runs of (\d+) optimizers equal at depth 1", done.stdout)
    assert found, done.stdout
    assert int(found[1]) >= 100
    assert int(found[2]) >= 13
