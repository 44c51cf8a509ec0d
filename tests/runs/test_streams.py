"""Readers that leave, and text of others in Markdown and file names."""

import subprocess
import sys

import pytest

from virtualdepth.runs import code, column_names, escaped, file_name, masked, one_line

SCRIPT = (
    "import sys\n"
    "from virtualdepth.runs import patient_streams\n"
    "with patient_streams():\n"
    "    for line in range(100_000):\n"
    "        print(line); print(line, file=sys.stderr)\n"
    "    sys.stdout and sys.stdout.flush()\n"
    "    open(sys.argv[1], 'w').write('done')\n"
)


@pytest.mark.parametrize("streams", ["{} | head -1", "{} 2>&1 | head -1", "{} >&- 2>&-"])
def test_a_reader_that_leaves_stops_nothing(streams: str, tmp_path) -> None:
    command = streams.format(f'"{sys.executable}" -c "$1" "$2" ') + '; echo "${PIPESTATUS[0]}"'
    end = subprocess.run(
        ["bash", "-c", command, "bash", SCRIPT, str(tmp_path / "end")],
        capture_output=True,
        text=True,
    )
    assert (tmp_path / "end").read_text() == "done"
    assert end.stdout.splitlines()[-1] == "0"
    assert "BrokenPipe" not in end.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("init_scale", "init_scale"),
        ("a|b", r"a\|b"),
        ("a\n# b", "a # b"),
        ("<img src=x>", r"\<img src=x\>"),
        ("[x](y) [0.1]", r"[x\](y) [0.1]"),
        ("*a* _b_ `c`", r"\*a\* \_b\_ \`c\`"),
        ("\x1b[31mred", "[31mred"),
    ],
)
def test_text_of_others_is_escaped(text: str, expected: str) -> None:
    assert escaped(text) == expected


@pytest.mark.parametrize("text", ["x", "`", "a``b", "```", ""])
def test_code_ends_where_it_should(text: str) -> None:
    shown = code(text)
    fence = shown[: len(shown) - len(shown.lstrip("`"))]
    inside = shown[len(fence) : -len(fence)] if text else ""
    assert shown.endswith(fence)
    assert fence not in inside
    assert inside.strip() == text


def test_one_line() -> None:
    assert one_line("a\r\n\tb\x00\u2028c") == "a b c"


@pytest.mark.parametrize(
    "text", ["../../etc/x", "..", "a/b", "a\\b", "CON:", "a\nb", " ", "é" * 300]
)
def test_file_names(text: str) -> None:
    name = file_name(text)
    assert 0 < len(name) <= 80
    assert set(name).isdisjoint("/\\:\n\0")
    assert not name.startswith((".", "-"))


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:secret@host/db",
        "postgresql+psycopg://me:se/cr@et-secret@host:5432/db?x=1",
        "postgresql://me:a secret@host/db",
        "postgresql://host/db?user=me&password=secret",
        "mysql://:secret@host",
    ],
)
def test_passwords_are_masked(address: str) -> None:
    text = masked(f"storage: expected X but got {address}; choose another")
    assert "secret" not in text
    assert text.startswith("storage: expected X but got ")
    assert "***" in text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b", ("a", "b")),
        (" a , b ", ("a", "b")),
        ('"a,b",c', ("a,b", "c")),
        ('c, "a,b"', ("c", "a,b")),
        ("", ()),
        ("a", ("a",)),
        ("größe", ("größe",)),
    ],
)
def test_column_names(text: str, names: tuple[str, ...]) -> None:
    assert column_names(text) == names


@pytest.mark.parametrize("text", ["a\nb", "a\rb"])
def test_column_names_in_two_lines_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected names separated by commas but got"):
        column_names(text)
