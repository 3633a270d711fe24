"""Broken recipes: hundreds of seeded mutations of the shipped ones, each refused with its place, or still a recipe."""

from __future__ import annotations

import random
import re

import pytest
import yaml

from compress.core.errors import RecipeError
from compress.recipe.load import load_recipe, shipped_recipes
from compress.recipe.schema import Recipe
from compress.recipe.yaml_text import read_yaml

SEEDS = range(5)
JUNK = [
    b"\x00",
    b"\xff\xfe",
    b"\x07",
    b"\t",
    b"{",
    b"]",
    b"&a",
    b"*a",
    b"!!python/name:os.system ",
    b"%",
    b"'",
    b'"',
    b": :",
    b"@",
]


def scalars(text: str) -> list[tuple[int, int, str]]:
    """(start, end, path's last part) of every plain scalar value in the text."""
    source = read_yaml(text, "x")
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    found = []
    for path, spot in source.values.items():
        start = starts[spot.line - 1] + spot.column - 1
        match = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_. -]*").match(text, start)
        if match and match[0] and path and (*path, 0) not in source.values and text[start] not in "[{":
            value = match[0].split(" #")[0].rstrip()
            if not any(key[: len(path)] == path for key in source.keys if key != path):
                found.append((start, start + len(value), str(path[-1])))
    return found


def key_places(text: str) -> list[tuple[int, str]]:
    source = read_yaml(text, "x")
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    return [(starts[spot.line - 1] + spot.column - 1, str(path[-1])) for path, spot in source.keys.items()]


def rename_key(text, rng):
    start, key = rng.choice(key_places(text))
    return (
        text[:start]
        + rng.choice([key[1:] + key[0] + "x", key + "s_", "x" + key, key.upper()])
        + text[start + len(key) :]
    )


def duplicate_key(text, rng):
    lines = text.splitlines()
    number = rng.choice([n for n, line in enumerate(lines) if re.match(r" *[a-z_]+: \S", line)])
    return "\n".join([*lines[: number + 1], *lines[number:]]) + "\n"


def out_of_range(text, rng):
    start, end, _ = rng.choice([s for s in scalars(text) if re.fullmatch(r"[0-9.]+", text[s[0] : s[1]])])
    return text[:start] + rng.choice(["-1", "-0.5", ".nan", "-.inf"]) + text[end:]


def another_type(text, rng):
    start, end, _ = rng.choice(scalars(text))
    return text[:start] + rng.choice(["[1, {a: b}]", "{a: 1}", "[[]]"]) + text[end:]


def unknown_name(text, rng):
    named = [s for s in scalars(text) if s[2] in ("name", "kind", "method", "importance", "optimizer", "normalize")]
    start, end, _ = rng.choice(named)
    return text[:start] + rng.choice(["zzz", text[start:end] + "x", text[start:end].upper(), "a.b:c"]) + text[end:]


def swapped_passes(text, rng):
    """quantize first, then something that trains or prunes, or quantize again."""
    extra = rng.choice(["kind: finetune", "kind: distill", "{kind: prune, keep: {macs: 0.9}}", "kind: quantize"])
    return re.sub(r"(?m)^passes:\n", f"passes:\n  - kind: quantize\n  - {extra}\n", text)


def no_version(text, rng):
    return re.sub(
        r"(?m)^version: 1\n", rng.choice(["", "version:\n", "version: one\n", "version: 1.5\n", "ver sion: 1\n"]), text
    )


def delete_line(text, rng):
    lines = text.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return "".join(lines)


def swap_lines(text, rng):
    lines = text.splitlines(keepends=True)
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return "".join(lines)


def indent(text, rng):
    lines = text.splitlines(keepends=True)
    number = rng.randrange(len(lines))
    lines[number] = rng.choice([" ", "   ", "\t", ""]) + (
        lines[number] if rng.random() < 0.5 else lines[number].lstrip()
    )
    return "".join(lines)


def truncate(text, rng):
    return text[: rng.randrange(len(text))]


def delete_characters(text, rng):
    start = rng.randrange(len(text))
    return text[:start] + text[start + rng.randint(1, 8) :]


def junk(text, rng):
    data = text.encode()
    start = rng.randrange(len(data))
    return data[:start] + rng.choice(JUNK) * rng.randint(1, 3) + data[start:]


def flip_bits(text, rng):
    data = bytearray(text.encode())
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def shuffle_tokens(text, rng):
    tokens = re.findall(r"\w+|\W+", text)
    words = [n for n, token in enumerate(tokens) if token.strip()]
    a, b = rng.sample(words, 2)
    tokens[a], tokens[b] = tokens[b], tokens[a]
    return "".join(tokens)


ALWAYS_REFUSED = [rename_key, duplicate_key, out_of_range, another_type, unknown_name, swapped_passes, no_version]
PERHAPS = [delete_line, swap_lines, indent, truncate, delete_characters, junk, flip_bits, shuffle_tokens]
CASES = [
    (recipe, mutate, seed) for recipe in shipped_recipes() for mutate in (*ALWAYS_REFUSED, *PERHAPS) for seed in SEEDS
]


def is_mapping(data: bytes) -> bool:
    try:
        return isinstance(yaml.compose(data.decode("utf-8-sig"), yaml.BaseLoader), yaml.MappingNode)
    except (yaml.YAMLError, UnicodeDecodeError):
        return False


def outcome(path) -> RecipeError | Recipe:
    try:
        return load_recipe(path)
    except RecipeError as error:
        return error


def test_there_are_enough_of_them():
    assert len(CASES) >= 300


@pytest.mark.parametrize("mutate", [*ALWAYS_REFUSED, *PERHAPS], ids=lambda mutate: mutate.__name__)
@pytest.mark.parametrize("name", shipped_recipes())
def test_a_broken_recipe_is_refused_with_its_place(name, mutate, tmp_path):
    original = shipped_recipes()[name].read_text()
    for seed in SEEDS:
        rng = random.Random(f"{name} {mutate.__name__} {seed}")
        mutated = mutate(original, rng)
        data = mutated if isinstance(mutated, bytes) else mutated.encode()
        path = tmp_path / f"{seed}.yaml"
        path.write_bytes(data)
        found = outcome(path)
        if mutate in ALWAYS_REFUSED:
            assert isinstance(found, RecipeError), f"accepted:\n{mutated}"
        if mutate in (out_of_range, another_type, unknown_name):
            changed = next(
                n for n, (a, b) in enumerate(zip(original.splitlines(), mutated.splitlines(), strict=True), 1) if a != b
            )
            assert changed in [problem.position.line for problem in found.problems], f"line {changed}: {found}"
        if isinstance(found, RecipeError):
            check_message(found, str(path), data)
        else:
            assert load_recipe(found.dump()) == found


def check_message(error: RecipeError, path: str, data: bytes) -> None:
    text = str(error)
    assert text.strip()
    assert error.exit_code == 3
    problems = [str(p) for p in getattr(error, "problems", [error])]
    assert problems
    for problem in problems:
        place = re.match(rf"{re.escape(path)}:(\d+):(\d+): \S", problem)
        assert place or not is_mapping(data), f"no place in {problem!r}"
        if place:
            assert 1 <= int(place[1]) <= data.count(b"\n") + 2, problem
            assert len(problem) < 1500
