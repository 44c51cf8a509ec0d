"""Tables: the same cells in text and in Markdown."""

import math

import pytest

from virtualdepth.runs import in_words, markdown_table, shown, text_table

ROWS = [
    {"method": "plain", "final_loss": 0.25, "steps": 10},
    {"method": "deep", "final_loss": None, "seconds": 1e7},
]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.001, "0.001"),
        (0.00099, "9.90e-04"),
        (123456.0, "1.235e+05"),
        (-1e6, "-1.00e+06"),
        (math.inf, "inf"),
        (math.nan, "nan"),
        (12345678, "12345678"),
        (True, "True"),
        ("raw", "raw"),
    ],
)
def test_shown(value: object, expected: str) -> None:
    assert shown(value) == expected


def test_text() -> None:
    assert text_table(ROWS).splitlines() == [
        "method  final_loss  steps   seconds",
        " plain        0.25     10         –",
        "  deep           –      –  1.00e+07",
    ]


def test_markdown() -> None:
    assert markdown_table(in_words(ROWS)).splitlines() == [
        "| method | final loss | steps | seconds |",
        "| --: | --: | --: | --: |",
        "| plain | 0.25 | 10 | – |",
        "| deep | – | – | 1.00e+07 |",
    ]


@pytest.mark.parametrize("table", [text_table, markdown_table])
def test_a_table_shows_any_column_as_it_is_named(table) -> None:
    first, *rest = table([{"part": "a", "init_scale": 1}, {"part": "b"}]).splitlines()
    assert "part" in first
    assert "init_scale" in first
    assert any("b" in line for line in rest)
    assert table([]) == ""
