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

Path = tuple[str | int, ...]

MAX_NODES = 100_000
"""Bound on the values of one file, so that aliases of aliases cannot grow without end."""

DEEP = 200
"""Nesting beyond which libyaml's composer is not trusted: it calls itself, and thousands of calls end the process."""

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
    except RecursionError:
        raise YamlError([(1, "values are nested too deeply")]) from None
    if builder.complaints:
        raise YamlError(builder.complaints)
    return Document(value, builder.lines)


def _compose(text: str) -> yaml.Node | None:
    """The document's node; None where there is none. Raises what PyYAML's own parser raises."""
    try:
        if not _is_deep(text):
            return yaml.compose(text, Loader=_FastLoader)
    except yaml.YAMLError:
        pass  # explained by the other
    return yaml.compose(text, Loader=_Loader)


def _is_deep(text: str) -> bool:
    """Whether its values are nested more than :data:`DEEP`. Raises yaml.YAMLError."""
    depth = 0
    for event in yaml.parse(text, Loader=_FastLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEP:
                return True
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return False


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

    def build(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self._count += 1
        if self._count > MAX_NODES:
            raise YamlError([(line, f"more than {MAX_NODES:,} values (aliases included)")])
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
        self.complaints.append((line, f"the tag {tag} is not allowed: only plain values, lists and mappings are"))
        return None

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        kind = node.tag.rpartition(":")[2]
        if kind == "int":
            # Not PyYAML's constructor: it reads a leading 0 as octal. Python bounds the digits it will convert.
            try:
                return int(node.value)
            except ValueError:
                self.complaints.append((node.start_mark.line + 1, "not an integer, or one with too many digits"))
                return 0
        try:
            return self._scalars.construct_document(node)
        except (ValueError, KeyError):
            self.complaints.append((node.start_mark.line + 1, f"{node.value!r} is not a {kind}"))
            return None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.complaints.append((line, "a key must be a word, not a list or a mapping"))
                continue
            key = key_node.value
            if key in result:
                first = self.lines[(*path, key)]
                self.complaints.append((line, f"duplicate key {key!r}: it stands in line {first} too"))
                continue
            self.lines[(*path, key)] = line
            result[key] = self.build(value_node, (*path, key))
        return result
