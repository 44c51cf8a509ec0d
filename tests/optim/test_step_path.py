"""A reader who follows a gradient to the weight passes few functions, and seldom turns a file."""

import pytest
from benchmarks.step_path import OPTIMIZERS, counts, step_path


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_path_of_a_step_is_short(name: str) -> None:
    found = counts(step_path(OPTIMIZERS[name]))
    assert 5 < found["functions"] <= 40
    # depth on updates goes to the optimizer's own step and back
    assert 3 < found["changes of file"] <= (25 if "update" not in name else 35)
