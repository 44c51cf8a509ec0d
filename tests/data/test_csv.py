"""CSV files: what is read, and that each refusal names the place."""

import re
from pathlib import Path

import pytest
import torch

from virtualdepth.data import Problem, load_problem, read_csv
from virtualdepth.runs import UnusableError


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "a,b,y\n1,2,3\n-4,5e-1,.6\n",
        "a,b,y\r\n1,2,3\r\n-4,5e-1,.6",  # Windows, no newline at the end
        "\ufeffy,a,b\n3,1,2\n0.6,-4,0.5\n",  # with the mark that Excel puts first
        '"a", b ,y\n 1 ,"2",3\n\n-4,0.5,0.6\n\n',  # quotes, spaces, blank lines
    ],
)
def test_reads(text: str, tmp_path: Path) -> None:
    features, targets = read_csv(written(tmp_path, text), ["y"])
    assert torch.equal(features, torch.tensor([[1, 2], [-4, 0.5]], dtype=torch.float64))
    assert torch.equal(targets, torch.tensor([[3], [0.6]], dtype=torch.float64))


def test_targets_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, "y,a,z\n1,2,3\n4,5,6\n")
    features, targets = read_csv(path, ["z", "y"])
    assert features.tolist() == [[2], [5]]
    assert targets.tolist() == [[3, 1], [6, 4]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "data: expected a header but got an empty file"),
        ("\n\n", "data: expected a header but got an empty file"),
        ("a,y\n", "data: expected lines of numbers after the header but got none"),
        ("a,y\n1,1_0\n", "data: expected a finite number but got '1_0' in line 2, column 'y', of "),
        ("a,y\n1,2\n3,\n", "data: expected a finite number but got a missing value in line 3, "
         "column 'y'"),
        ("a,y\n1,2\n\n , 3\n", "data: expected a finite number but got a missing value in line 4, "
         "column 'a'"),
        ("a,y\n1,NA\n", "data: expected a finite number but got 'NA' in line 2, column 'y'"),
        ("a,y\n1,nan\n", "data: expected a finite number but got 'nan' in line 2, column 'y'"),
        ("a,y\n-inf,1\n", "data: expected a finite number but got '-inf' in line 2, column 'a'"),
        ("a,y\nred,1\n", "data: expected a finite number but got 'red' in line 2, column 'a'"),
        ("a,y\n1,2\n3\n", "data: expected 2 cells, as in the header, but got 1 in line 3"),
        ("a,y\n1,2,3\n", "data: expected 2 cells, as in the header, but got 3 in line 2"),
        ("a,a,y\n1,2,3\n", "data: expected distinct column names but got 'a' more than once"),
        ("1,2\n3,4\n", "data: expected a header with the names of the columns but got numbers"),
        ("a;y\n1;2\n", "data: expected commas between the columns but got semicolons in line 1"),
        ("a;y\n1,5;2,5\n", "data: expected commas between the columns but got semicolons"),
        ("a\ty\n1\t2\n", "data: expected commas between the columns but got tabs in line 1"),
        ("\na|y\n1|2\n", "data: expected commas between the columns but got bars in line 2"),
        ("a y\n1 2\n", "data: expected commas between the columns but got spaces in line 1"),
        ("a;y,b\n1,2\n", "targets: expected columns among 'a;y', 'b' but got 'y'; the header has "
         "semicolons, where commas separate columns"),
        ("a,y\n1,1e-170\n2,3e-170\n", "data: expected numbers that differ by 1e-100 to 1e+100 but "
         "got 2e-170 in column 'y'"),
        ("a,y\n1e150,1\n2e150,3\n", "data: expected numbers that differ by 1e-100 to 1e+100 but "
         "got 1e+150 in column 'a'"),
        ("a,y\n1,1e308\n2,-1e308\n", "data: expected numbers that differ by 1e-100 to 1e+100 but "
         "got inf in column 'y'"),
        ("a,y\n1,1e16\n2,10000000000000002\n", "data: expected numbers that differ by more than "
         "1e-12 of their size but got 2 of 1e+16 in column 'y'"),
        ("a,b\n1,2\n", "targets: expected columns among 'a', 'b' but got 'y'"),
        ("y\n1\n", "targets: expected to leave a column as a feature but got all"),
    ],
)  # fmt: skip
def test_refuses(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=f"^{re.escape(message)}") as caught:
        read_csv(written(tmp_path, text), ["y"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([], "targets: expected the columns to predict, among 'a', 'y', but got none"),
        (["y", "y"], "targets: expected distinct columns but got 'y', 'y'"),
        (["a", "y"], "targets: expected to leave a column as a feature but got all"),
    ],
)
def test_refuses_targets(targets: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=f"^{re.escape(message)}"):
        read_csv(written(tmp_path, "a,y\n1,2\n"), targets)


def test_long_headers_are_cut_in_messages(tmp_path: Path) -> None:
    header = ",".join(f"column{number}" for number in range(500))
    with pytest.raises(UnusableError, match=r"'column11' and 488 more but got 'y'$"):
        read_csv(written(tmp_path, header + "\n"), ["y"])


def test_refuses_what_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=r"^data: expected a CSV file in UTF-8"):
        read_csv(written(tmp_path, "größe,y\n1,2\n", "latin-1"), ["y"])


def test_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=r"^data: expected a CSV file that can be read but got"):
        read_csv(tmp_path, ["y"])


def test_refuses_a_cell_without_end(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=r"^data: expected a CSV file but got"):
        read_csv(written(tmp_path, 'a,y\n"' + "1" * 200_000), ["y"])


@pytest.mark.parametrize("scale", [1e-90, 1e-12, 1e12, 1e90])
def test_numbers_that_arithmetic_holds_are_taken(scale: float, tmp_path: Path) -> None:
    path = written(tmp_path, f"a,same,y\n{scale!r},1e200,0\n0,1e200,{scale!r}\n")
    features, targets = read_csv(path, ["y"])
    assert features.tolist() == [[scale, 1e200], [0, 1e200]]
    assert targets.tolist() == [[0], [scale]]


@pytest.mark.parametrize("scale", [1e-99, 1e-50, 1e50, 1e99])
def test_what_is_taken_is_prepared_alike_at_every_scale(scale: float, tmp_path: Path) -> None:
    lines = [(1.0, 2.0, 0.5), (2.0, -1.0, 3.0), (4.0, 0.5, 1.0), (8.0, 1.5, -2.0)]

    def problem(scale: float) -> Problem:
        text = "".join(f"{a * scale!r},{b * scale!r},{y * scale!r}\n" for a, b, y in lines)
        return load_problem(str(written(tmp_path, "a,b,y\n" + text)), targets=["y"])

    plain, scaled = problem(1.0), problem(scale)
    torch.testing.assert_close(plain.inputs.abs(), scaled.inputs.abs())
    torch.testing.assert_close(plain.targets, scaled.targets)
