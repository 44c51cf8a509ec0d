"""Study files: what is accepted, what is refused in one line, and what the command line changes."""

import math
import re
from dataclasses import fields
from pathlib import Path

import pytest

from virtualdepth.cli import main
from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.cells import cells_of
from virtualdepth_lab.ablate.study import StudyConfig
from virtualdepth_lab.ablate.study_file import read_study, write_study

YAML = """
problem: matrix-completion
settings: {size: 10, rank: 1, observed: 40, step_scale: unit}
grid:
  depth: [1, 1.5, inf]
  init_scale: [1e-1, 1e-6]
  lr: [0.5]
seeds: [0, 2]
budget: {steps: 30}
"""
TOML = """
problem = "matrix-completion"
seeds = [0, 2]
[settings]
size = 10
rank = 1
observed = 40
step_scale = "unit"
[grid]
depth = [1, 1.5, inf]
init_scale = [1e-1, 1e-6]
lr = [0.5]
[budget]
steps = 30
"""


def written(folder: Path, text: str, name: str = "study.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "text"), [("a.yaml", YAML), ("a.toml", TOML)])
def test_both_formats_say_the_same(name: str, text: str, tmp_path: Path) -> None:
    study = read_study(written(tmp_path, text, name))
    assert study == StudyConfig(
        name="a",
        problem="matrix-completion",
        settings={"size": 10, "rank": 1, "observed": 40, "step_scale": "unit"},
        grid={"depth": [1, 1.5, math.inf], "init_scale": [0.1, 1e-6], "lr": [0.5]},
        seeds=[0, 2],
        budget={"steps": 30},
    )
    cells = cells_of(study)
    assert len(cells) == len({cell.name for cell in cells}) == 3 * 2 * 1 * 2
    assert cells[-1].config == {
        **study.settings, "depth": math.inf, "init_scale": 1e-6, "lr": 0.5
    }  # fmt: skip


def test_what_is_written_reads_the_same(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, YAML, "b.yaml"))
    (tmp_path / "run").mkdir()
    write_study(study, tmp_path / "run")
    assert read_study(tmp_path / "run") == study  # a folder stands for the study in it
    assert StudyConfig(**study.to_json()) == study


@pytest.mark.parametrize("word", ["1:4", "-1:30", "12:30:45", "1:30.5", "2026-01-31"])
def test_what_looks_like_no_number_is_none(word: str, tmp_path: Path) -> None:
    """YAML 1.1 has numbers in base 60, and dates."""
    path = written(tmp_path, f"problem: a:b\nsettings: {{x: {word}}}\ngrid: {{y: [{word}, 2]}}\n")
    words = [f"--settings.z={word}", f"--grid.w={word},3", "--grid.v", f"[{word}, 4]"]
    study = read_study(path, words)
    assert study.settings == {"x": word, "z": word}
    assert study.grid == {"y": (word, 2), "w": (word, 3), "v": (word, 4)}
    (tmp_path / "run").mkdir()
    write_study(study, tmp_path / "run")
    assert read_study(tmp_path / "run") == study


def test_words_of_yaml_1_1_are_booleans_and_a_word_in_quotes_stays_one(tmp_path: Path) -> None:
    given = "problem: a:b\nsettings: {x: yes, y: Off, z: 'on'}\ngrid: {w: [no, 'no', 1e-3]}\n"
    study = read_study(written(tmp_path, given))
    assert study.settings == {"x": True, "y": False, "z": "on"}
    assert study.grid == {"w": (False, "no", 0.001)}
    (tmp_path / "run").mkdir()
    write_study(study, tmp_path / "run")
    assert read_study(tmp_path / "run") == study


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("problem: a:b\ngrid: {y: [1]}\ngrid: {z: [1]}\n", "grid", 3),
        ("problem: a:b\ngrid:\n  y: [1]\n  z: [1]\n  'y': [2]\n", "y", 5),
        ("problem: a:b\nsearch: {y: {low: 1, high: 2, low: 0}}\n", "low", 2),
    ],
)
def test_a_key_that_stands_twice_is_refused(text: str, key: str, line: int, tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=f'study: .* duplicate key "{key}", line {line}, col'):
        read_study(written(tmp_path, text))


def test_a_key_may_stand_in_several_places(tmp_path: Path) -> None:
    text = "problem: a:b\nsettings: {x: 1, z: 0}\nbudget: {trials: 3}\nsearch:\n"
    text += "  y: {low: 1, high: 2}\n  lr: {low: 1, high: 2}\n"
    study = read_study(written(tmp_path, text))
    assert set(study.search) == {"y", "lr"}
    assert study.settings == {"x": 1, "z": 0}


def test_what_is_merged_in_may_repeat_a_key(tmp_path: Path) -> None:
    # "more" is merged into "budget" before it is read itself; then it holds x twice
    text = "problem: a:b\nsettings: &low {x: 1, z: 0}\n"
    text += "trainer:\n  logger: &more {<<: *low, x: 2}\nbudget: {<<: *more}\n"
    with pytest.raises(UnusableError, match=r"budget: expected steps or trials"):
        read_study(written(tmp_path, text))


def test_command_line_has_the_last_word(tmp_path: Path) -> None:
    words = ["--grid.depth", "2,inf", "--settings.lr=0.25", "--seeds", "[7]", "--budget.steps=9e0"]
    study = read_study(written(tmp_path, YAML), [*words, "--grid.rank=1,2", "--name", "other"])
    assert study.grid == {"depth": (2, math.inf), "init_scale": (0.1, 1e-6), "rank": (1, 2)}
    assert study.settings == {"size": 10, "observed": 40, "step_scale": "unit", "lr": 0.25}
    assert (study.seeds, study.budget, study.name) == ((7,), {"steps": 9}, "other")


REFUSED = [
    ("", "study: expected the keys problem, settings, grid, search, seeds, budget, ... but got an "
     "empty file, study.yaml"),
    ("# nothing\n", "study: expected the keys problem"),
    ("just text", "study: expected keys with values but got other text"),
    ("problem: [", "study: expected YAML but got, in study.yaml: while parsing"),
    ("seeds: [0]", "problem: expected the problem to study but got none"),
    (YAML + "depths: 3", "study: expected keys among name, problem, settings, grid, search, seeds, "
     "budget, objective, direction, sampler, pruner, trainer, modules but got 'depths'"),
    ("problem: matrix-completion\ngrid: 3", "grid: expected names with values but got 3"),
    ("problem: resnet", "problem: expected matrix-completion, regression or package.module:factory "
     "but got 'resnet'"),
    ("problem: 'no.such:factory'", "problem: expected a module that can be imported with the "
     "factory factory in it but got, from no.such, ModuleNotFoundError: No module named 'no'"),
    ("problem: 'tests.lab.ablate.own:gone'", "problem: expected a module that can be imported"),
    ("problem: 'tests.lab.ablate.own:not_callable'", "problem: expected a callable but got 3"),
    ("problem: 'tests.lab.ablate.own:factory'", "settings.x: expected a value, which "
     "tests.lab.ablate.own:factory needs, but got none"),
    ("{problem: 'tests.lab.ablate.own:strict', grid: {x: [1], lrs: [1]}}", "grid.lrs: expected "
     "arguments of tests.lab.ablate.own:strict, which are x, width, seed, lr"),
    ("{problem: 'tests.lab.ablate.own:strict', grid: {x: [1], width: [1]}}",
     "objective: expected the "
     "name of a logged metric"),
]  # fmt: skip
CHANGED = [
    ("--grid.depth 0.5", "depth: expected a number from 1 to inf but got 0.5"),
    ("--grid.depth=-3", "depth: expected a number from 1 to inf but got -3"),
    ("--grid.depth nan", "grid.depth: expected a number but got nan"),
    ("--grid.depth deep", "depth: expected a number from 1 to inf but got 'deep'"),
    ("--grid.depth 2,2.0", "grid.depth: expected different values but got 2 twice"),
    ("--grid.depth []", "grid.depth: expected a list of values but got []"),
    ("--grid.depth [[1,2]]", "grid.depth: expected a number or a word but got [1, 2]"),
    ("--grid.depths 2", "grid.depths: expected arguments of matrix-completion, which are seed, de"),
    ("--grid.seed 1,2", "seed: expected it under the key seeds but got it elsewhere"),
    ("--settings.rank 11", "rank: expected an integer >= 1 and <= 10 but got 11"),
    ("--settings.rank 1.5", "rank: expected an integer >= 1 and <= 10 but got 1.5"),
    ("--settings.observed 101", "observed: expected an integer >= 1 and <= 100 but got 101"),
    ("--settings.noise=-1", "noise: expected a number >= 0 but got -1"),
    ("--settings.start random", "start: expected one of balanced, layers, identity but got 'rand"),
    ("--settings.start layers", "depth: expected an integer with start: layers but got 1.5"),
    ("--settings.model=explicit --settings.step_scale=raw", "depth: expected an inte"),
    ("--settings.width 9", "width: expected only with model: explicit but got 9"),
    ("--settings.step_scale auto", "lr: expected none with step_scale: auto, which needs none, b"),
    ("--settings.step_scale=auto --settings.optimizer=adam", "step_scale: expected raw, unit or r"),
    ("--settings.optimizer lion", "optimizer: expected one of sgd, adam, adamw, rmsprop, adagrad"),
    ("--settings.lr 0", "lr: expected a finite number > 0 but got 0"),
    ("--settings.dtype half", "dtype: expected one of float64, float32 but got 'half'"),
    ("--settings.stop_loss=-1", "stop_loss: expected a number >= 0 but got -1"),
    ("--seeds 0,0", "seeds: expected different values but got 0 twice"),
    ("--seeds 0.5", "seeds: expected integers >= 0 and < 2^32 but got 0.5"),
    ("--seeds=-1", "seeds: expected integers >= 0 and < 2^32 but got -1"),
    ("--budget.steps 0", "budget.steps: expected an integer >= 1 but got 0"),
    ("--budget.hours 2", "budget: expected steps or trials but got 'hours'"),
    ("--budget.trials 2", "budget.trials: expected only with a search but got a grid"),
    ("--direction down", "direction: expected one of minimize, maximize but got 'down'"),
    ("--trainer.devices 2", "trainer: expected none with matrix-completion but got some"),
    ("--depth 3", "arguments: expected --KEY VALUE with keys of a study but got: "),
    ("--grid.depth", "arguments: expected --KEY VALUE with keys of a study but got: "),
    ("--workers 0", "workers: expected an integer >= 1 but got 0"),
    ("--workers two", "workers: expected an integer but got 'two'"),
    ("--storage redis://here", "storage: expected sqlite:///FILE or postgresql://USER@HOST/DATAB"),
    ("--storage sqlite:///:memory:", "storage: expected sqlite:///FILE or postgresql://USER@HOST/"),
    ("--cell depth=7", "cell: expected a name such as depth=1,init_scale=0.1,lr=0.5,seed=0 but go"),
]  # fmt: skip
SEARCH = """
problem: matrix-completion
settings: {size: 10, rank: 1, observed: 40}
search: {depth: {low: 1, high: 4}, init_scale: {low: 1e-4, high: 1, log: true}}
budget: {trials: 4, steps: 30}
"""
SEARCHES = [
    ("--seeds 0,1", "seeds: expected one seed for a search but got [0, 1]"),
    ("--search.depth.high 1", "search.depth: expected low < high, and low > 0 with log: true, but"),
    ("--search.depth {low:\x001,high:\x001}", "search.depth: expected low < high, and low > 0 wit"),
    ("--search.depth {low:\x001,top:\x002}", "search.depth: expected low, high and perhaps log bu"),
    ("--search.depth {low:\x001,high:\x00inf}", "search.depth: expected finite numbers but got in"),
    ("--sampler Magic", "sampler: expected one of "),
    ("--sampler GridSampler", "sampler: expected one that needs no arguments but got GridSampler"),
    ("--pruner Magic", "pruner: expected one of "),
]  # fmt: skip


def refused(text: str, words: str, capfd: pytest.CaptureFixture[str]) -> str:
    """The one line that the command answers with, having left nothing."""
    written(Path(), text)
    with pytest.raises(SystemExit) as end:
        main(["ablate", "study.yaml", *(word.replace("\0", " ") for word in words.split())])
    out, err = capfd.readouterr()
    assert end.value.code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["study.yaml"]
    return err.removeprefix("virtualdepth ablate: error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("text", "words", "error"),
    [
        *((text, "", error) for text, error in REFUSED),
        *((YAML, words, error) for words, error in CHANGED),
        *((SEARCH, words, error) for words, error in SEARCHES),
        (
            SEARCH.replace("trials: 4, ", ""),
            "",
            "budget.trials: expected the number of cells to search",
        ),
        (SEARCH, "--grid.rank 1", "search: expected either a grid or a search but got both"),
    ],
)
def test_refused_in_one_line(
    text: str,
    words: str,
    error: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(text, words, capfd).startswith(error)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=r"none\.yaml: No such file"):
        read_study(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UnusableError, match="not text in UTF-8"):
        read_study(tmp_path / "bytes.yaml")


def test_options_are_documented(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "ablations.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["ablate", "--help"])
    offered = set(re.findall(r"^ +(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert offered == set(re.findall(r"^\| `(--[a-z-]+)`", page, re.MULTILINE))
    keys = {key for line in re.findall(r"^\| (`[a-z`, ]+`) \|", page, re.MULTILINE) for key in
            re.findall("[a-z]+", line)}  # fmt: skip
    assert {field.name for field in fields(StudyConfig)} <= keys


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "../a", "a/b", "a\\b", " a", "a\nb", "a\x1bb"]
)
def test_a_name_is_one_of_a_folder(name: str) -> None:
    with pytest.raises(UnusableError, match=r"^name: expected "):
        StudyConfig(name=name, problem="regression")


@pytest.mark.parametrize("name", ["a..b", "größe 1", "a:b", "--", "..."])
def test_a_name_may_be_any_word(name: str) -> None:
    assert StudyConfig(name=name, problem="regression").name == name


def test_words_are_in_one_line() -> None:
    for more in ({"grid": {"x": ["a\nb"]}}, {"settings": {"x": "a\x00"}}, {"grid": {"x\n": [1]}}):
        with pytest.raises(UnusableError, match="expected text in one line"):
            StudyConfig(name="a", problem="a:b", **more)


def test_a_study_knows_where_the_module_of_its_problem_is(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, "problem: a:b\n"))
    assert study.modules == str(tmp_path.resolve())
    (tmp_path / "run").mkdir()
    write_study(study, tmp_path / "run")
    assert read_study(tmp_path / "run").modules == study.modules
    assert read_study(written(tmp_path, "problem: a:b\nmodules: /x\n")).modules == "/x"
    assert read_study(written(tmp_path, YAML)).modules is None
