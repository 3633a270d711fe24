"""The YAML that recipes are written in: types, places, and what is refused."""

from __future__ import annotations

import pytest
import yaml

from compress.recipe.schema import _Dumper
from compress.recipe.yaml_text import MAX_CHARACTERS, MAX_DEPTH, read_yaml


def data(text: str):
    source = read_yaml(text, "x.yaml")
    assert source.problems == ()
    return source.data


def problem(text: str) -> str:
    source = read_yaml(text, "x.yaml")
    assert source.problems, f"nothing was found wrong with {text!r}"
    return str(source.problems[0])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-1.", -1.0),
        ("+4", 4),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("y", "y"),
        ("null", None),
        ("~", None),
        ("2026-11-22", "2026-11-22"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("2MB", "2MB"),
        ("'1e-3'", "1e-3"),
        ("!!str 3", "3"),
        (".inf", float("inf")),
        ("=", "="),
    ],
)
def test_scalars(text, value):
    found = data(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_every_key_and_value_has_its_place():
    source = read_yaml("a: 1\nlist:\n  - b: [2, {c: x}]\n", "x.yaml")
    spots = {path: (spot.line, spot.column) for path, spot in source.values.items()}
    assert spots[("a",)] == (1, 4)
    assert spots[("list", 0, "b", 1, "c")] == (3, 16)
    assert (source.keys[("list", 0, "b")].line, source.keys[("list", 0, "b")].column) == (3, 5)


def test_keys_are_text():
    assert data("1: a\ntrue: b\n") == {"1": "a", "true": "b"}


def test_anchors_are_written_out():
    assert data("a: &x {b: 1}\nc: *x\n") == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3:1", "duplicate key 'a', given in line 1"),
        ("a:\n\tb: 1\n", "x.yaml:2:1", "indent with spaces"),
        ("a: b: c\n", "x.yaml:1:5", "mapping values are not allowed"),
        ("a: [1, 2\nb: 3\n", "x.yaml:2:2", "expected ',' or ']'"),
        ("a: 'x\n", "x.yaml:2:1", "unexpected end"),
        ("a:\n    b: 1\n  c: 2\n", "x.yaml:3:3", "indentation does not match"),
        ("a: !!python/object:os.system {}\n", "x.yaml:1:4", "tags are not allowed"),
        (
            "a: !mine 3\n",
            "x.yaml:1:4",
            "tags are not allowed in a recipe; got '!mine'",
        ),
        ("a: !!int many\n", "x.yaml:1:4", "not a value of the kind !!int"),
        ("a: !!map 3\n", "x.yaml:1:4", "does not fit"),
        ("a: *b\n", "x.yaml:1:4", "undefined alias"),
        ("a: &b [*b]\n", "x.yaml:1:4", "an alias to the block it stands in"),
        ("? [a, b]\n: c\n", "x.yaml:1:3", "a key must be a plain word"),
        ("a: 1\n---\nb: 2\n", "x.yaml:2:1", "expected a single document"),
        ('a: "\\ud800"\n', "x.yaml:1:4", "may not stand in"),
        ('a: "\\0"\n', "x.yaml:1:4", "U+0000 may not stand in"),
        ("a: 1\nb: \x07\n", "x.yaml:2:4", "U+0007 may not stand in"),
        ("a: %x\n", "x.yaml:1:4", "cannot start any token"),
    ],
)
def test_refused_with_a_place(text, where, said):
    message = problem(text)
    assert message.startswith(f"{where}: ")
    assert said in message


def test_the_line_is_shown_with_a_caret():
    assert problem("a: 1\n  b: x\nc: 2\na: 3") != ""
    _, line, caret = problem("a: 1\nlonger: 2\nlonger: 3\n").splitlines()
    assert line.strip() == "longer: 3"
    assert line.index("longer") == caret.index("^")


def test_a_long_line_is_cut_around_the_caret():
    _, line, caret = problem("x: {" + "".join(f"k{i}: 1, " for i in range(200)) + "k150: 2}\n").splitlines()
    assert len(line) < 130
    assert line[caret.index("^") :].startswith("k150: 2")


def test_bombs_are_defused():
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    assert "once its aliases are written out" in problem(laughs)
    assert "nested deeper than" in problem("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))
    assert "nested deeper than" in problem("[" * 100_000)
    assert "larger than" in problem("a: 1\n" * MAX_CHARACTERS)


@pytest.mark.parametrize(
    "value",
    [
        "1e-3",
        "on",
        "0o17",
        "true",
        "2026-11-22",
        "null",
        "",
        "~",
        ".5",
        "a: b",
        "# no",
        "x\ny",
        "é",
        "\u2028",
        "*a",
        "1_0",
    ],
)
def test_the_dumper_writes_what_the_reader_reads(value):
    text = yaml.dump({"a": value, value: [value]}, Dumper=_Dumper, allow_unicode=True)
    assert data(text) == {"a": value, value: [value]}
