"""CSV files: what is read, and that each refusal names the place."""

import re
from pathlib import Path

import pytest
import torch

from virtualdepth.data import read_csv
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
        ("a;y\n1;2\n", "targets: expected columns among 'a;y' but got 'y'"),
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
