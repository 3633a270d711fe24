"""YAML as recipes use it: YAML 1.2's core schema, with the place of every key and value.

`1e-3` is a number, only `true` and `false` are booleans, dates stay text. Tags, arbitrary objects, duplicate keys and
alias bombs are problems with a place.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import yaml
from yaml.composer import Composer, ComposerError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import Resolver
from yaml.scanner import Scanner

from compress.recipe.positions import Key, Position, Problem, SourceMap

MAX_CHARACTERS = 256 * 1024
MAX_DEPTH = 40
MAX_NODES = 20_000

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_NULL = re.compile(r"~|null|Null|NULL|")
_TAG = "tag:yaml.org,2002:"


def add_core_schema(resolver: Any) -> None:
    """Give a PyYAML loader or dumper class the implicit types of YAML 1.2's core schema, and no others."""
    resolver.yaml_implicit_resolvers = {}
    kinds = {"null": (_NULL, ["~", "n", "N", ""]), "bool": (_BOOL, list("tTfF"))}
    kinds |= {"int": (_INT, list("-+0123456789")), "float": (_FLOAT, list("-+.0123456789"))}
    for kind, (pattern, first) in kinds.items():
        resolver.add_implicit_resolver(_TAG + kind, re.compile(rf"(?:{pattern.pattern})\Z"), first)


class _Loader(Reader, Scanner, Parser, Composer, Resolver):
    """PyYAML's composer with the core schema and a limit on nesting; it never constructs an object."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        Resolver.__init__(self)
        self.depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ComposerError(None, None, f"nested deeper than {MAX_DEPTH} levels", mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


add_core_schema(_Loader)


def read_yaml(text: str, name: str) -> SourceMap:
    """Parse one YAML document. `problems` of the result says what is wrong; `data` is None where it cannot be read."""
    source = SourceMap(name, None, tuple(re.split(r"\r\n|[\n\r\x85\u2028\u2029]", text)))
    if len(text) > MAX_CHARACTERS:
        return _failed(source, Position(1, 1), f"larger than {MAX_CHARACTERS // 1024} KiB, which no recipe is")
    try:
        node = _Loader(text).get_single_node()
    except ReaderError as error:
        line = text.count("\n", 0, error.position)
        column = error.position - (text.rfind("\n", 0, error.position) + 1)
        code = error.character if isinstance(error.character, int) else ord(error.character[:1])
        return _failed(source, Position(line + 1, column + 1), f"the character U+{code:04X} may not stand in YAML")
    except yaml.MarkedYAMLError as error:
        return _failed(source, _position(error.problem_mark or error.context_mark), _syntax(error))
    if node is None:
        return source
    walk = _Walk(source)
    try:
        data = walk.read(node, ())
    except _TooLarge:
        return _failed(
            source, _position(node.start_mark), f"more than {MAX_NODES} values once its aliases are written out"
        )
    return replace(source, data=data, problems=tuple(walk.problems))


def _failed(source: SourceMap, position: Position, message: str) -> SourceMap:
    return replace(source, problems=(source.problem_at(position, message),))


def _position(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1) if mark is not None else Position(1, 1)


def _syntax(error: yaml.MarkedYAMLError) -> str:
    """PyYAML's words for a syntax error, and the remedy for the usual ones."""
    said = ", ".join(part for part in (error.problem, error.context) if part)
    if "'\\t'" in said:
        return f"{said}; indent with spaces, not tabs"
    if "mapping values are not allowed" in said:
        return f"{said}; check the indentation of this line, or quote a text that holds ': '"
    if "expected <block end>" in said:
        return f"{said}; the indentation does not match the lines above"
    return said or "not valid YAML"


class _TooLarge(Exception):
    pass


class _Walk:
    """Turns nodes into plain data, noting places and problems on the way."""

    def __init__(self, source: SourceMap) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.nodes = 0
        self.open: list[Node] = []

    def read(self, node: Node, path: Key) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _TooLarge
        self.source.values[path] = _position(node.start_mark)
        if any(node is outer for outer in self.open):
            return self._wrong(node, "an alias to the block it stands in")
        if not node.tag.startswith(_TAG) or node.tag[len(_TAG) :] not in _READERS:
            return self._wrong(node, f"tags are not allowed in a recipe; got {_short(node.tag)}")
        self.open.append(node)
        try:
            return self._value(node, path)
        finally:
            self.open.pop()

    def _value(self, node: Node, path: Key) -> Any:
        if isinstance(node, MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
            return [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, ScalarNode) and node.tag[len(_TAG) :] not in ("map", "seq"):
            return self._scalar(node)
        return self._wrong(node, f"the tag {_short(node.tag)} does not fit what it stands before")

    def _mapping(self, node: MappingNode, path: Key) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._wrong(key, "a key must be a plain word, not a list or a block")
                continue
            name = key.value
            self._check_text(key)
            if name in data:
                first = self.source.keys[(*path, name)]
                self._wrong(key, f"duplicate key {name!r}, given in line {first.line} already; keep one of them")
            else:
                self.source.keys[(*path, name)] = _position(key.start_mark)
            data[name] = self.read(value, (*path, name))
        return data

    def _scalar(self, node: ScalarNode) -> Any:
        self._check_text(node)
        try:
            return _READERS[node.tag[len(_TAG) :]](node.value)
        except ValueError:
            return self._wrong(node, f"not a value of the kind {_short(node.tag)}: {node.value[:60]!r}")

    def _check_text(self, node: ScalarNode) -> None:
        bad = next((c for c in node.value if not c.isprintable() and c not in "\n\t" and _unusable(c)), None)
        if bad is not None:
            self._wrong(node, f"the character U+{ord(bad):04X} may not stand in a recipe")

    def _wrong(self, node: Node, message: str) -> None:
        self.problems.append(self.source.problem_at(_position(node.start_mark), message))


def _unusable(character: str) -> bool:
    code = ord(character)
    return code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000


def _short(tag: str) -> str:
    return "!!" + tag[len(_TAG) :] if tag.startswith(_TAG) else repr(tag)


def _int(text: str) -> int:
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _float(text: str) -> float:
    return float(text.replace(".inf", "inf").replace(".nan", "nan")) if text[-1].isalpha() else float(text)


_READERS: dict[str, Any] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": _int,
    "float": lambda text: _float(text.lower()),
    "str": lambda text: text,
    "map": None,
    "seq": None,
}
