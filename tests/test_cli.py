"""The command line as its users meet it: one line for what cannot be used, and exit statuses."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import virtualdepth
from virtualdepth import cli
from virtualdepth.cli import main

MODULE = [sys.executable, "-m", "virtualdepth"]
SYNTHETIC = ["verify", "--data", "synthetic"]
SMALL = [*SYNTHETIC, "--time", "1", "--lrs", "0.1,0.05"]
FILES = {"result.json", "curves.csv", "report.md", "loss.png", "gap.png", ".virtualdepth-run"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command leaves by default goes into the test's own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIRTUALDEPTH_DATA", raising=False)


def call(*arguments: str) -> int:
    """The exit status, however it comes."""
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1


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


@pytest.mark.parametrize("package", ["pytorch_lightning", "sklearn"])
def test_missing_extra(package: str, tmp_path: Path) -> None:
    # None in sys.modules makes an import fail as if the package were not installed
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from virtualdepth.cli import main\n"
        "sys.exit(main(['verify']))"
    )
    end = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert end.returncode == 2
    assert end.stdout == ""
    assert re.fullmatch(
        rf"virtualdepth verify: error: package: expected {package}\S* but it is not installed; "
        r"pip install 'virtualdepth\[experiments\]'\n",
        end.stderr,
    )


def test_missing_extra_of_each_command(tmp_path: Path) -> None:
    for command in ("verify", "reproduce", "ablate"):
        (tmp_path / command).mkdir()
        (tmp_path / command / "result.json").write_text(json.dumps({"command": command}))
    script = (
        "import sys\n"
        "sys.modules['matplotlib'] = None\n"
        "from virtualdepth.cli import main\n"
        "for words in ('reproduce norms', 'ablate study.yaml', 'report verify',\n"
        "              'report reproduce', 'report ablate'):\n"
        "    try: main(words.split())\n"
        "    except SystemExit as end: assert end.code == 2"
    )
    end = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert end.stdout == ""
    expected = [
        ("reproduce", "experiments"),
        ("ablate", "studies"),
        ("report", "experiments"),
        ("report", "experiments"),
        ("report", "studies"),
    ]
    assert end.stderr.splitlines() == [
        f"virtualdepth {command}: error: package: expected matplotlib but it is not installed; "
        f"pip install 'virtualdepth[{extra}]'"
        for command, extra in expected
    ]


def test_an_error_of_our_own_is_not_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "virtualdepth.verify._check", None)
    with pytest.raises(ModuleNotFoundError, match="_check"):
        main(SMALL)


def test_every_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    listed = re.findall(r"^    (\w+)\b", capsys.readouterr().out, re.MULTILINE)
    assert sorted(listed) == ["ablate", "report", "reproduce", "verify"]


def test_metadata_without_commands_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "entry_points", lambda group: ())
    assert call("reproduce", "norms") == 2
    err = capsys.readouterr().err
    assert err.startswith("virtualdepth: error: COMMAND: invalid choice: 'reproduce'")
    assert err.endswith("names no other commands: in a source tree, pip install -e .\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    ["--help", "verify --help", "reproduce --help", "ablate --help", "report --help", "--version"],
)
def test_help_and_version(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*arguments.split()) == 0
    out, err = capsys.readouterr()
    assert err == ""
    if arguments == "--version":
        assert out == f"virtualdepth {virtualdepth.__version__}\n"
    else:
        assert out.startswith(f"usage: virtualdepth{' ' * (len(arguments) > 6)}")
        assert "status" in out


def test_help_states_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    call("verify", "--help")
    text = " ".join(capsys.readouterr().out.split())
    for default in ("digits", "3", "0.1,0.05,0.025,0.0125", "20.0", "0.3", "0", "float64"):
        assert f"(default: {default})" in text


def test_arguments_are_judged_without_heavy_imports() -> None:
    script = (
        "import sys\n"
        "from virtualdepth.cli import main\n"
        "for words in (['verify', '--depth', '1'], ['ablate', '--help']):\n"
        "    try: main(words)\n"
        "    except SystemExit: pass\n"
        "heavy = {'pytorch_lightning', 'matplotlib', 'optuna', 'scipy', 'sklearn', 'sqlalchemy'}\n"
        "print(*heavy & set(sys.modules), file=sys.stderr)"
    )
    end = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert end.stderr.splitlines()[-1] == ""


@pytest.mark.parametrize(
    ("more", "status", "word"),
    [([], 0, "passed"), (["--depth", "4"], 0, "passed"), (["--optimizer-depth", "1"], 1, "failed")],
)
def test_verify(
    more: list[str], status: int, word: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(*SMALL, *more, "--output", "run") == status
    out, err = capfd.readouterr()
    assert err == ""  # no terminal, no progress bar
    lines = out.splitlines()
    assert lines[0] == "synthetic: 200 samples, 12 features of rank 12, 4 targets"
    assert lines[-1] == f"{word}; files in run"
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert found["passed"] is (status == 0)
    (row,) = [line.split() for line in lines if line.strip().startswith("0.05 ")]
    assert row[:3] == ["0.05", "20", f"{found['rows'][1]['gap']:.2e}"]


def test_divergence_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(*SYNTHETIC, "--lrs", "5,0.5", "--time", "50", "--output", "run") == 1
    out, err = capfd.readouterr()
    assert err == ""
    assert "at learning rate 5 training diverged: in step " in out
    assert json.loads((tmp_path / "run" / "result.json").read_text())["rows"][0]["gap"] is None


def test_every_option_arrives(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text('"a,b",y,z\n' + "1,2,2\n3,5,1\n4,4,1\n6,5,3\n")
    given = (
        "--data own.csv --data-dir there --targets z,y --depth 2 --optimizer-depth inf "
        "--lrs 0.1,0.2 --time 0.5 --init-scale 0.25 --seed 7 --dtype float32 --output run"
    )
    call("verify", *given.split())
    config = json.loads((tmp_path / "run" / "result.json").read_text())["config"]
    assert config == {
        "data": "own.csv",
        "data_dir": "there",
        "targets": ["z", "y"],
        "depth": 2,
        "optimizer_depth": "inf",
        "lrs": [0.2, 0.1],
        "time": 0.5,
        "init_scale": 0.25,
        "seed": 7,
        "dtype": "float32",
    }
    assert call("verify", "--data", "own.csv", "--targets", '"a,b",z', "--time", "0.2") in (0, 1)


def test_report_makes_the_same_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(*SMALL, "--optimizer-depth", "1", "--output", "run") == 1
    table = capfd.readouterr().out.splitlines()[2:-1]
    made = {name: (tmp_path / "run" / name).read_bytes() for name in FILES}
    for name in FILES - {"result.json", "curves.csv", ".virtualdepth-run"}:
        (tmp_path / "run" / name).unlink()
    assert call("report", "run") == 0
    assert {name: (tmp_path / "run" / name).read_bytes() for name in FILES} == made
    assert capfd.readouterr().out.splitlines()[:-1] == table


@pytest.mark.parametrize(
    "command", [MODULE, [str(Path(sysconfig.get_path("scripts"), "virtualdepth"))]]
)
def test_both_ways_to_start(command: list[str]) -> None:
    end = subprocess.run([*command, "verify", "--depth", "1"], capture_output=True, text=True)
    assert end.returncode == 2
    assert end.stderr.startswith("virtualdepth verify: error: depth: ")


# Ctrl-C needs a real signal to a real process, and the progress bar a real terminal.
posix = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals and FIFOs are POSIX")


@contextmanager
def started(*arguments: str, stderr: int) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*MODULE, *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal of 80 columns: the one to read from, the one to write to."""
    import fcntl
    import termios

    ends = os.openpty()
    fcntl.ioctl(ends[1], termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    yield ends
    for end in ends:
        os.close(end)


def read_until(text: str, end: int) -> str:
    shown = ""
    while text not in shown:
        shown += os.read(end, 4096).decode()
    return shown


@posix
def test_interrupt_keeps_what_is_finished(terminal: tuple[int, int], tmp_path: Path) -> None:
    # the second learning rate would take a million steps
    arguments = ["verify", "--data", "synthetic", "--time", "1", "--lrs", "0.1,0.000001"]
    with started(*arguments, "--output", "run", stderr=terminal[1]) as process:
        shown = read_until("learning rate 1e-06", terminal[0])
        assert "learning rate 0.1" in shown
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert out.splitlines()[-1] == "interrupted; files in run"
    assert "interrupted: 1 of 2 learning rates were finished" in out
    # one gap makes no slope
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES - {"gap.png"}
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [row["lr"] for row in found["rows"]] == [0.1]
    assert (found["order"], found["passed"]) == (None, None)
    assert (tmp_path / "run" / "report.md").read_text().startswith("# virtualdepth verify: inter")


@posix
def test_interrupt_before_training(tmp_path: Path) -> None:
    os.mkfifo("pipe.csv")
    arguments = ["verify", "--data", "pipe.csv", "--targets", "y", "--output", "run"]
    with (
        started(*arguments, stderr=subprocess.PIPE) as process,
        open("pipe.csv", "w"),  # opens once the command reads, which then waits for lines
    ):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (130, "")
    assert err == "virtualdepth verify: interrupted\n"
    assert not (tmp_path / "run").exists()


@posix
@pytest.mark.parametrize(
    "command",
    [MODULE, [sys.executable, "-c", "from virtualdepth.__main__ import start; start()"]],
    ids=["module", "script"],
)
def test_interrupt_before_anything_is_loaded(command: list[str], tmp_path: Path) -> None:
    """A module named torch waits where the real one would load, and swallows exceptions."""
    (tmp_path / "torch.py").write_text(
        "import time\n"
        "print('loading', flush=True)\n"
        "while True:\n"
        "    try: time.sleep(600)\n"
        "    except BaseException: pass\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    with subprocess.Popen(
        [*command, *SMALL], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "loading\n"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=300)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, "virtualdepth verify: interrupted\n")


def test_the_program_starts_without_torch() -> None:
    script = (
        "import sys\n"
        "import virtualdepth.__main__, virtualdepth.cli\n"
        "virtualdepth.cli._parser(virtualdepth.cli._commands())\n"
        "print(*{'torch', 'numpy'} & set(sys.modules))"
    )
    end = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert end.stdout == "\n"


@posix
def test_a_reader_that_leaves_stops_nothing(tmp_path: Path) -> None:
    assert call(*SMALL, "--output", "run") == 0
    (tmp_path / "run" / "report.md").unlink()
    line = f"{' '.join(MODULE)} report run | head -1; echo $PIPESTATUS"
    end = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    first, status = end.stdout.splitlines()
    assert first.split()[:2] == ["learning", "rate"]
    assert (status, end.stderr) == ("0", "")
    assert (tmp_path / "run" / "report.md").exists()


@posix
@pytest.mark.parametrize("words", ["--help", "verify --help"])
def test_help_for_a_reader_that_leaves(words: str) -> None:
    line = f"{' '.join(MODULE)} {words} | true; echo $PIPESTATUS"
    end = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (end.stdout, end.stderr) == ("0\n", "")


@pytest.mark.parametrize("backend", ["module://no_such_package.backend", "nonsense", ""])
def test_the_backend_of_a_notebook_does_not_matter(backend: str, tmp_path: Path) -> None:
    assert call(*SMALL, "--output", "run") == 0
    (tmp_path / "run" / "loss.png").unlink()
    end = subprocess.run(
        [*MODULE, "report", "run"],
        env={**os.environ, "MPLBACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert end.returncode == 0, end.stderr
    assert (tmp_path / "run" / "loss.png").exists()


def test_columns_that_are_left_out_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.csv").write_text(
        "a,same,tiny|,twice,y\n" + "1,4,1e-20,2,3\n2,4,3e-20,4,1\n4,4,2e-20,8,5\n"
    )
    words = "verify --data own.csv --targets y --time 0.2 --lrs 0.1,0.05 --output run"
    assert call(*words.split()) in (0, 1)
    notes = [
        "left out, since they are constant: 'same'",
        "left out, since they vary too little beside the others: 'tiny|'; choose units in which "
        "they are comparable",
        "features that depend linearly on others, and add no direction to them: 1",
    ]
    assert capsys.readouterr().out.splitlines()[1:4] == notes
    assert json.loads((tmp_path / "run" / "result.json").read_text())["notes"] == notes
    text = (tmp_path / "run" / "report.md").read_text()
    assert "- left out, since they vary too little beside the others: 'tiny\\|'; choose" in text
    assert call("report", "run") == 0
    assert (tmp_path / "run" / "report.md").read_text() == text


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device that is always full")
def test_a_full_disk_is_told_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(*SMALL, "--output", "run") == 0
    with open("/dev/full", "w") as full:
        end = subprocess.run(
            [*MODULE, "report", "run"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert end.returncode == 2
    assert re.fullmatch(
        r"virtualdepth report: error: expected files .* No space left on device\n", end.stderr
    )


@posix
def test_a_file_that_cannot_grow_is_told_in_one_line(tmp_path: Path) -> None:
    assert call(*SMALL, "--output", "run") == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    line = f"ulimit -f 8; exec {' '.join(MODULE)} report run"
    end = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert end.returncode == 2
    assert re.fullmatch(
        r"virtualdepth report: error: expected files .* File too large\n", end.stderr
    )
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


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
