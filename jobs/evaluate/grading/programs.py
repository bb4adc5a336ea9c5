"""Programs as answers: how one is asked for and found, and whether it does what its item's tests want."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from jobs.evaluate.grading import sandbox, tests_of_code
from jobs.evaluate.grading.extraction import Extracted
from jobs.evaluate.grading.reader import Text

_BLOCK = re.compile(
    r"^[ \t]*```[ \t]*(?:python3?|py)?[ \t]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE | re.IGNORECASE
)
_OPEN = re.compile(r"^[ \t]*```[ \t]*(?:python3?|py)?[ \t]*\n", re.MULTILINE | re.IGNORECASE)

_READS = """Write a Python program that reads its input from standard input and prints the answer. Put all of it in \
one block that begins with ```python."""
_COMPLETES = """Complete this Python code. Put all of it in one block that begins with ```python.

```python
{starter}
```"""


def asks(question: str, row: Mapping[str, Any]) -> str:
    """The question, and how the program has to be given; LiveCodeBench's ``starter_code`` where a row has it."""
    starter = row.get("starter_code")
    how = _COMPLETES.format(starter=starter.rstrip()) if isinstance(starter, str) and starter.strip() else _READS
    return f"{question}\n\n{how}"


def extract(text: Text) -> Extracted:
    """The last block of code; where the task allows it, one that does not end, or all of an answer without any."""
    blocks = [match[1] for match in _BLOCK.finditer(text.answer) if match[1].strip()]
    if blocks:
        return Extracted(blocks[-1], "code_block")
    if not text.fallback or not text.answer.strip():
        return Extracted(None, "none")
    opened = [match.end() for match in _OPEN.finditer(text.answer)]
    program = text.answer[opened[-1] :] if opened else text.answer.replace("Final Answer:", "")
    return Extracted(program, "last_code") if program.strip() else Extracted(None, "none")


def same(gold: str, said: str) -> None:
    """Only running it tells."""


def passes(gold: str, program: str) -> bool:
    """Whether a program does what is wanted of it on every test; the first that it fails is the last that is run.

    Raises SandboxError where it cannot be run.
    """
    tests = tests_of_code.read(gold)
    inputs = [given for given, _ in tests.cases]
    with closing(sandbox.run(program, inputs, tests.function)) as runs:
        return all(
            run.ended == "finished" and tests_of_code.passes(tests, case, run.printed, run.returned)
            for case, run in enumerate(runs)
        )
