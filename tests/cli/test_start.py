"""How the program starts: its commands, their help, packages that are missing."""

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from tests.cli.process import MODULE, SMALL, call

import virtualdepth
from virtualdepth import cli
from virtualdepth.cli import main


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
    "command", [MODULE, [str(Path(sysconfig.get_path("scripts"), "virtualdepth"))]]
)
def test_both_ways_to_start(command: list[str]) -> None:
    end = subprocess.run([*command, "verify", "--depth", "1"], capture_output=True, text=True)
    assert end.returncode == 2
    assert end.stderr.startswith("virtualdepth verify: error: depth: ")


def test_the_program_starts_without_torch() -> None:
    script = (
        "import sys\n"
        "import virtualdepth.__main__, virtualdepth.cli\n"
        "virtualdepth.cli._parser(virtualdepth.cli._commands())\n"
        "print(*{'torch', 'numpy'} & set(sys.modules))"
    )
    end = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert end.stdout == "\n"
