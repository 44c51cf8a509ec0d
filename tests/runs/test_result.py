"""result.json: what JSON has no word for, and files that are damaged."""

import json
import math
import platform
from pathlib import Path

import pytest

import virtualdepth
from virtualdepth.runs import UnusableError, plain, reading_result, versions, write_result


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, None),
        ((1, 2.5), [1, 2.5]),
        ({"rows": [{"error": math.nan}, (math.inf,)]}, {"rows": [{"error": None}, ["inf"]]}),
        (True, True),
        (None, None),
        ("nan", "nan"),
    ],
)
def test_plain(value: object, expected: object) -> None:
    assert plain(value) == expected


def test_nan_may_be_a_word() -> None:
    assert plain({"loss": [math.nan]}, nan="nan") == {"loss": ["nan"]}


def test_versions() -> None:
    found = versions("virtualdepth", "torch")
    assert list(found) == ["python", "virtualdepth", "torch"]
    assert found["virtualdepth"] == virtualdepth.__version__
    assert found["python"] == platform.python_version()


def test_round_trip(tmp_path: Path) -> None:
    write_result(tmp_path, {"command": "verify", "depth": math.inf, "order": math.nan})
    text = (tmp_path / "result.json").read_text(encoding="utf-8")
    assert text == '{\n  "command": "verify",\n  "depth": "inf",\n  "order": null\n}\n'
    with reading_result(tmp_path, "verify") as content:
        assert content == json.loads(text)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"rows": 3}'])
def test_what_is_damaged_is_refused_in_one_line(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "result.json").write_text(text)
    with (
        pytest.raises(
            UnusableError,
            match=r"^folder: expected result.json and a.csv as `virtualdepth verify` leaves them",
        ) as refusal,
        reading_result(tmp_path, "verify", "a.csv") as content,
    ):
        list(content["rows"])
    assert "\n" not in str(refusal.value)
