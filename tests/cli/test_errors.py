"""What cannot be used is told in one line, with status 2, and shows no password."""

import re
from pathlib import Path

import pytest
from tests.cli.process import call


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("verify --depth 1", "depth: expected an integer from 2 to 1000 but got 1: there is no "
         "explicit network to compare with"),
        ("verify --depth 1e12", "depth: expected an integer from 2 to 1000 but got 1000000000000"),
        ("verify --depth 2.5", "depth: expected an integer from 2 to 1000 but got 2.5: there is"),
        ("verify --depth inf", "depth: expected an integer from 2 to 1000 but got inf: there is"),
        ("verify --depth nan", "depth: expected an integer from 2 to 1000 but got nan: there is"),
        ("verify --depth -3", "depth: expected an integer from 2 to 1000 but got -3: there is"),
        ("verify --depth deep", "depth: expected a number but got 'deep'"),
        ("verify --depth", "depth: expected one argument"),
        ("verify --optimizer-depth 0", "optimizer_depth: expected a number from 1 to inf but got"),
        ("verify --optimizer-depth x", "optimizer_depth: expected a number but got 'x'"),
        ("verify --lrs=", "lrs: expected two or more different learning rates, which a slope"),
        ("verify --lrs 0.1", "lrs: expected two or more different learning rates, which a slope"),
        ("verify --lrs 0.1,0.1", "lrs: expected two or more different learning rates, which a"),
        ("verify --lrs=-0.1,0.1", "lrs: expected a finite number > 0 but got -0.1"),
        ("verify --lrs 0.1,fast", "lrs: expected a number but got 'fast'"),
        ("verify --lrs 0.1,,0.2", "lrs: expected a number but got ''"),
        ("verify --lrs 0.1,inf", "lrs: expected a finite number > 0 but got inf"),
        ("verify --time 0", "time: expected a finite number > 0 but got 0"),
        ("verify --time -1", "time: expected a finite number > 0 but got -1"),
        ("verify --time soon", "time: expected a number but got 'soon'"),
        ("verify --time 0.01", "lrs: expected time / learning rate between 1 and 10000000 steps"),
        ("verify --init-scale 0", "init_scale: expected a number from 1e-12 to 1e12 but got 0"),
        ("verify --structure x", "structure: expected one of matrix, rows, columns, diagonal, "
         "circulant but got 'x'"),
        ("verify --imbalance -1", "imbalance: expected a number from 0 to 1e12 but got -1"),
        ("verify --precondition-frequency 0", "precondition_frequency: expected an integer from 1"),
        ("verify --precondition-frequency 2.5", "precondition_frequency: expected an integer from"),
        ("verify --imbalance big", "imbalance: expected a number but got 'big'"),
        ("verify --optimizer-structure x", "optimizer_structure: expected one of matrix, rows,"),
        ("verify --optimizer-imbalance=-1", "optimizer_imbalance: expected a number from 0 to"),
        ("verify --imbalance 1 --optimizer-depth inf", "optimizer_imbalance: expected 0 at"),
        ("verify --seed 0.5", "seed: expected an integer >= 0 and < 2^63 but got 0.5"),
        ("verify --dtype half", "dtype: expected one of float64, float32 but got 'half'"),
        ("verify --data mnist", "data: expected digits, ethanol, synthetic or the path of a CSV"),
        ("verify --data ethanol", "data_dir: expected the folder that holds ethanol/ethanol.npz"),
        ("verify --data ethanol --data-dir here", "data_dir: expected a folder with the file"),
        ("verify --data own.csv", "targets: expected the columns to predict, among 'a', 'y'"),
        ("verify --data own.csv --targets z", "targets: expected columns among 'a', 'y' but got"),
        ("verify --data bad.csv --targets y", "data: expected a finite number but got a missing "
         "value in line 3, column 'y', of bad.csv"),
        ("verify --targets y", "targets: expected none with digits but got y"),
        ("verify --output own.csv", "output: expected a folder to write to but got own.csv"),
        ("verify --data tiny.csv --targets y", "data: expected numbers that differ by 1e-100 to "
         "1e+100 but got 1e-170 in column 'y' of tiny.csv"),
        ("verify --data own.csv --targets y --targets a", "targets: expected once but got it 2"),
        ("verify --lrs=0.1 --lrs 0.1", "lrs: expected once but got it 2 times; give all"),
        ("verify --data comma.csv --targets a,b", "targets: expected columns among 'a,b', 'c' but "
         "got 'a'; write a name with a comma in double quotes, as in '\"a,b\"'"),
        ("verify --data semicolon.csv --targets y", "data: expected commas between the columns but "
         "got semicolons in line 1 of semicolon.csv"),
        ("verify --output mine", "output: expected a folder where no file of another origin would"),
        ("verify --output=", "output: expected a folder but got an empty name"),
        ("verify --depths 3", "unrecognized arguments: --depths 3; see virtualdepth verify --help"),
        ("verify again", "unrecognized arguments: again"),
        ("report", "the following arguments are required: DIR"),
        ("report nowhere", "folder: expected the folder of a run, with its result.json, but got"),
        ("report mine", "folder: expected the folder of a run, with its result.json, but got mine"),
        ("report own.csv", "folder: expected the folder of a run, with its result.json, but got"),
        ("", "the following arguments are required: COMMAND"),
        ("train", "COMMAND: invalid choice: 'train' (choose from "),
    ],
)  # fmt: skip
def test_unusable_arguments(
    arguments: str, error: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.csv").write_text("a,y\n1,2\n3,5\n")
    (tmp_path / "bad.csv").write_text("a,y\n1,2\n3,\n")
    (tmp_path / "tiny.csv").write_text("a,y\n1,0\n3,1e-170\n")
    (tmp_path / "comma.csv").write_text('"a,b",c\n1,2\n3,5\n')
    (tmp_path / "semicolon.csv").write_text("a;y\n1,5;2\n3;5\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.md").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert call(*arguments.split()) == 2
    out, err = capfd.readouterr()
    command = " ".join(["virtualdepth", *re.findall("^(?:verify|report)", arguments)])
    assert out == ""
    assert err.startswith(f"{command}: error: {error}")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert sorted(tmp_path.rglob("*")) == before  # nothing has run


def test_no_password_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    secret = "postgresql://me:secret@host/db"
    for words in (
        ["verify", "--storage", secret],
        ["verify", "--data", secret],
        ["report", secret],
    ):
        assert call(*words) == 2
        err = capsys.readouterr().err
        assert "secret" not in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb"])
def test_an_error_is_one_line_whatever_is_in_it(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("verify", "--data", name, "--targets", "y") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err[:-1].isprintable()
