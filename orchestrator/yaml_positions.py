"""Reads YAML into plain values, remembering the line of each; constructs nothing else.

PyYAML's composer does the parsing. Construction is ours because three of its habits would harm an experiment: a
duplicate key silently wins over the first, YAML 1.1 reads ``1e-5`` as text, ``no`` as false and ``010`` as eight, and
positions are dropped. Here scalars are YAML 1.2's (null, true/false, decimal integers, floats, text), and any tag that
asks for more (``!!python/…``, ``!!timestamp``, ``!custom``) is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from orchestrator.terminal import one_line

Path = tuple[str | int, ...]

MAX_NODES = 100_000
"""Bound on the values of one file, so that aliases of aliases cannot grow without end."""

MAX_TEXT = 8 << 20
"""Bound on the characters of all values together, each counted wherever an alias brings it."""

DEEP = 64
"""Bound on nesting. What reads a file calls itself, and so does what checks it; no experiment has ten levels."""

EXACT = 2**53 - 1
"""The largest integer that JSON, floats and MLflow keep as it is."""

MAX_COMPLAINTS = 200
"""What is collected of one file: nobody reads more."""

_EXPLAINED = 1 << 16
"""Characters up to which PyYAML's slow parser is asked what is wrong with a text."""

_PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str")}


class _Schema(yaml.resolver.Resolver):
    """YAML 1.2's core schema for plain scalars."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


class _Loader(_Schema, yaml.SafeLoader):
    """Says best what is wrong with a text."""


class _FastLoader(_Schema, yaml.CSafeLoader):
    """Ten times as fast: an experiment of 10,000 steps is read in a second."""


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN",
        list("-+.0123456789"),
    ),
):
    _Schema.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


HALF = "half a character (a lone surrogate) is not text: write the whole one"
_TOO_MANY = f"more than {MAX_NODES:,} values (aliases included)"


class YamlError(Exception):
    """The text is not YAML, or not the plain YAML allowed here. Carries every (line, message) found."""

    def __init__(self, complaints: list[tuple[int, str]]):
        super().__init__("; ".join(f"line {line}: {message}" for line, message in complaints))
        self.complaints = complaints


@dataclass
class Document:
    """Plain values and where they stand."""

    value: Any
    lines: dict[Path, int] = field(default_factory=dict)
    """The line, from 1, of the key (in a mapping) or the value (elsewhere) at each path."""

    def line(self, path: Path) -> int:
        """The line of the value at `path`, or of the nearest value around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def parse(text: str) -> Document:
    """Reads one document. Raises YamlError with everything that is wrong with it."""
    try:
        text.encode()
        node = _compose(text)
        if node is None:
            raise YamlError([(1, "the file is empty")])
        builder = _Builder()
        value = builder.build(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError([(mark.line + 1 if mark else 1, _explain(error))]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError([(line, f"character {error.character!r} is not allowed in YAML")]) from None
    except UnicodeEncodeError as error:
        raise YamlError([(text.count("\n", 0, error.start) + 1, HALF)]) from None
    if builder.complaints:
        raise YamlError(builder.complaints)
    return Document(value, builder.lines)


def _compose(text: str) -> yaml.Node | None:
    """The document's node; None where there is none. Raises what PyYAML's own parser raises."""
    try:
        _survey(text)
        return yaml.compose(text, Loader=_FastLoader)
    except yaml.YAMLError:
        if len(text) > _EXPLAINED:
            raise
    return yaml.compose(text, Loader=_Loader)


def _survey(text: str) -> None:
    """Raises YamlError where there is more in a text than an experiment has, and yaml.YAMLError where it is not YAML.

    From the events alone: to compose the nodes of such a text takes long, and the composer calls itself.
    """
    depth = count = 0
    for event in yaml.parse(text, Loader=_FastLoader):
        if isinstance(event, yaml.NodeEvent):
            count += 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        problem = "values are nested too deeply" if depth > DEEP else ""
        problem = _TOO_MANY if count > 2 * MAX_NODES else problem  # keys are events too
        if problem:
            raise YamlError([(event.start_mark.line + 1 if event.start_mark else 1, problem)])


def _explain(error: yaml.MarkedYAMLError) -> str:
    problem = (error.problem or "not YAML").replace("\n", " ")
    if "'\\t'" in problem:
        return "a tab where YAML wants spaces: indent with spaces"
    context = f" ({error.context})" if error.context else ""
    return f"not YAML: {problem}{context}"


class _Builder:
    """Turns nodes into plain values, collecting lines and complaints instead of stopping at the first."""

    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self.complaints: list[tuple[int, str]] = []
        self._scalars = yaml.constructor.SafeConstructor()
        self._open: set[int] = set()
        self._count = 0
        self._size = 0

    def complain(self, line: int, message: str) -> None:
        self.complaints.append((line, message))
        if len(self.complaints) >= MAX_COMPLAINTS:
            raise YamlError(self.complaints)

    def build(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self._count += 1
        if self._count > MAX_NODES:
            raise YamlError([(line, _TOO_MANY)])
        if id(node) in self._open:
            raise YamlError([(line, "a value that contains itself, through an alias")])
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode) and node.tag.endswith(",2002:map"):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag.endswith(",2002:seq"):
                return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
            if isinstance(node, yaml.ScalarNode) and node.tag in _PLAIN:
                return self._scalar(node)
        finally:
            self._open.discard(id(node))
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        self.complain(line, f"the tag {tag} is not allowed: only plain values, lists and mappings are")
        return None

    def _text(self, node: yaml.ScalarNode) -> str:
        """The text of a scalar, of which only so much may be had: a short alias may stand for a long one."""
        line = node.start_mark.line + 1
        self._size += len(node.value)
        if self._size > MAX_TEXT:
            raise YamlError([(line, f"more than {MAX_TEXT:,} characters (aliases included)")])
        if "\0" in node.value:
            self.complain(line, "a NUL character is not text: no file name, prompt or tracking server takes it")
        if not node.value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in node.value):
            self.complain(line, HALF)
        return str(node.value)

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        kind, text = node.tag.rpartition(":")[2], self._text(node)
        line = node.start_mark.line + 1
        if kind == "int":
            # Not PyYAML's constructor: it reads a leading 0 as octal. Python bounds the digits it will convert.
            try:
                number = int(text)
            except ValueError:
                self.complain(line, "not an integer, or one with too many digits")
                return 0
            if abs(number) > EXACT:
                self.complain(line, f"{one_line(text, 40)}: no integer beyond {EXACT:,} is kept exactly")
            return number
        try:
            return self._scalars.construct_document(node)
        except (ValueError, KeyError):
            self.complain(line, f"{text!r} is not a {kind}")
            return None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.complain(line, "a key must be a word, not a list or a mapping")
                continue
            key = self._text(key_node)
            if key in result:
                first = self.lines[(*path, key)]
                self.complain(line, f"duplicate key {key!r}: it stands in line {first} too")
                continue
            self.lines[(*path, key)] = line
            result[key] = self.build(value_node, (*path, key))
        return result
