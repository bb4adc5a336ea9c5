"""What code is tested on: inputs, and what has to come of each, in LiveCodeBench's format.

A gold answer is JSON::

    {"function": null, "tests": [["1 2\\n", "3\\n"], …], "packed": "eJx…"}

Without a function, a test is what the program reads from its standard input and what it prints; with one, an argument
for each line, in JSON, and what the function returns. LiveCodeBench publishes most tests packed: pickled, compressed
and in base64. A pickle is a program, which is never run here: its opcodes are looked at, and where they are those of
one text and nothing else, the text is taken. Any other is refused, when the task is loaded.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import pickletools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

MOST_UNPACKED = 256 << 20
"""Bytes of an item's tests: a few kilobytes can be compressed terabytes."""

_TEXTS = {"BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE"}
_AROUND = {"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "STOP"}


class NoTests(ValueError):
    """What should be tests is none, in words that go after where it is."""


@dataclass(frozen=True)
class CodeTests:
    """Of one item."""

    function: str | None
    cases: tuple[tuple[str, str], ...]
    """Inputs, and what has to come of them."""


def gold(row: Mapping[str, Any]) -> str:
    """The gold answer of a row: of LiveCodeBench's columns, or one column ``tests``. Raises NoTests."""
    if "tests" in row:
        shown, packed, function = row["tests"], "", row.get("function")
    elif "public_test_cases" in row:
        shown, packed = row["public_test_cases"], str(row.get("private_test_cases") or "")
        function = _json(row.get("metadata") or "{}", "metadata").get("func_name")
    else:
        raise NoTests(f"has neither tests nor public_test_cases among its columns {', '.join(map(str, row))}")
    cases = _cases(_json(shown, "tests") if isinstance(shown, str) else shown)
    if packed.startswith("["):
        cases, packed = cases + _cases(_json(packed, "private_test_cases")), ""
    if packed:
        _cases(_json(unpacked(packed), "private_test_cases"))
    if not cases and not packed:
        raise NoTests("has no tests")
    return json.dumps({"function": function or None, "tests": cases, "packed": packed})


def read(gold: str) -> CodeTests:
    """The tests of a gold answer."""
    said = json.loads(gold)
    cases = [*said["tests"], *(_cases(json.loads(unpacked(said["packed"]))) if said["packed"] else ())]
    return CodeTests(said["function"], tuple((given, wanted) for given, wanted in cases))


def described(gold: str) -> str:
    """A gold answer in a few words, for tables, where tests are the same if these are: tests can be megabytes."""
    said = json.loads(gold)
    more = " and others, packed" * bool(said["packed"])
    return f"{len(said['tests'])} tests{more} ({hashlib.sha256(gold.encode()).hexdigest()[:12]})"


def unpacked(packed: str) -> str:
    """The text that LiveCodeBench packed. Raises NoTests for what is anything else."""
    try:
        inflating = zlib.decompressobj()
        data = inflating.decompress(base64.b64decode(packed, validate=True), MOST_UNPACKED)
    except (binascii.Error, zlib.error) as error:
        raise NoTests(f"has private_test_cases that are not packed as LiveCodeBench does it ({error})") from None
    if not inflating.eof:
        raise NoTests(f"has private_test_cases of more than {MOST_UNPACKED:,} bytes, or that end too early")
    texts = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in _TEXTS:
                texts.append(argument)
            elif opcode.name not in _AROUND:
                raise NoTests(
                    f"has private_test_cases whose pickle does {opcode.name}: it must be one text, nothing else"
                )
    except (ValueError, UnicodeDecodeError) as error:
        if isinstance(error, NoTests):
            raise
        raise NoTests(f"has private_test_cases that are not a pickle ({error})") from None
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise NoTests(f"has private_test_cases whose pickle has {len(texts)} texts: it must be one")
    return texts[0]


def passes(tests: CodeTests, case: int, printed: str, returned: str | None) -> bool:
    """Whether what came of a case is what had to."""
    wanted = tests.cases[case][1]
    if tests.function is not None:
        return returned is not None and json.loads(returned) == json.loads(wanted)
    said, meant = (text.strip().split("\n") for text in (printed, wanted))
    return len(said) == len(meant) and all(map(_same_line, said, meant))


def _same_line(said: str, meant: str) -> bool:
    """Whether two lines are the same, or have the same numbers."""
    said, meant = said.strip(), meant.strip()
    if said == meant:
        return True
    numbers = [_numbers(line) for line in (said, meant)]
    return numbers[0] is not None and numbers[0] == numbers[1]


def _numbers(line: str) -> list[Decimal] | None:
    try:
        return [Decimal(word) for word in line.split()]
    except InvalidOperation:
        return None


def _json(text: Any, name: str) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise NoTests(f"has {name} that are not JSON ({error})") from None


def _cases(tests: Any) -> list[list[str]]:
    if not isinstance(tests, list):
        raise NoTests("has tests that are not a list")
    cases = []
    for case in tests:
        if not isinstance(case, Mapping) or not all(isinstance(case.get(name), str) for name in ("input", "output")):
            raise NoTests("has a test that is not {input: text, output: text}")
        cases.append([case["input"], case["output"]])
    return cases
