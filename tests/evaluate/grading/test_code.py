"""Programs as answers: the tests that they are tried on, in LiveCodeBench's format, and verdicts."""

from __future__ import annotations

import base64
import json
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from jobs.evaluate.grading import programs, session, tests_of_code
from jobs.evaluate.grading.grader import Grader
from jobs.evaluate.grading.tests_of_code import CodeTests, NoTests, described, gold, passes, read, unpacked
from jobs.evaluate.grading.workers import Workers
from jobs.evaluate.sweep.ledger import Ledger
from jobs.evaluate.tasks import load
from jobs.evaluate.tasks.config import TaskConfig
from orchestrator.job.errors import StepError
from tests.evaluate.grading.extracting import extract


def packed(value: object) -> str:
    """As LiveCodeBench publishes it."""
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def row(**changed: Any) -> dict[str, Any]:
    """Of LiveCodeBench's columns."""
    return {
        "question_title": "Sum",
        "question_content": "Add two numbers.",
        "platform": "codeforces",
        "question_id": "1_A",
        "contest_date": "2025-01-04T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]),
        "private_test_cases": packed(json.dumps([{"input": "4 5", "output": "9", "testtype": "stdin"}])),
        "metadata": "{}",
        **changed,
    }


def test_tests_that_are_shown_and_those_that_are_packed_are_one_answer() -> None:
    assert read(gold(row())) == CodeTests(None, (("1 2\n", "3\n"), ("4 5", "9")))
    called = row(metadata='{"func_name": "add"}', private_test_cases='[{"input": "1\\n2", "output": "3"}]')
    assert read(gold(called)) == CodeTests("add", (("1 2\n", "3\n"), ("1\n2", "3")))
    mine = {"tests": [{"input": "1", "output": "2"}], "function": "double"}
    assert read(gold(mine)) == CodeTests("double", (("1", "2"),))


class _Runs:
    """A pickle of it runs a program when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/pickle-was-run",)


@pytest.mark.parametrize(
    ("private", "said"),
    [
        (packed(_Runs()), "whose pickle does STACK_GLOBAL: it must be one text, nothing else"),
        (packed(["[]"]), "whose pickle does EMPTY_LIST"),
        (packed(b"[]"), "whose pickle does SHORT_BINBYTES"),
        (packed("nothing"), "has private_test_cases that are not JSON"),
        (packed('{"a": 1}'), "has tests that are not a list"),
        (packed('[{"input": "x"}]'), "has a test that is not {input: text, output: text}"),
        ("!", "are not packed as LiveCodeBench does it"),
        (base64.b64encode(zlib.compress(b"x" * 100)[:-4]).decode(), "or that end too early"),
        (base64.b64encode(zlib.compress(b"\x80\x04")).decode(), "that are not a pickle"),
    ],
)
def test_no_pickle_is_ever_loaded_and_what_is_not_one_text_is_refused(private: str, said: str) -> None:
    with pytest.raises(NoTests, match=said):
        gold(row(private_test_cases=private))
    assert not Path("/tmp/pickle-was-run").exists()


def test_what_unpacks_to_more_than_a_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tests_of_code, "MOST_UNPACKED", 1000)
    with pytest.raises(NoTests, match="of more than 1,000 bytes"):
        unpacked(packed("x" * 2000))


@pytest.mark.parametrize(
    ("printed", "wanted", "same"),
    [
        ("3\n", "3", True),
        ("1 2 \n3\n\n", "1 2\n3", True),
        ("1.50", "1.5", True),
        ("1 2", "1\n2", False),
        ("yes", "Yes", False),
        ("", "3", False),
        ("3 ", "4", False),
    ],
)
def test_lines_are_the_same_but_for_space_around_them_and_how_numbers_are_written(
    printed: str, wanted: str, same: bool
) -> None:
    assert passes(CodeTests(None, (("", wanted),)), 0, printed, None) is same


def test_what_is_returned_is_compared_as_json() -> None:
    tests = CodeTests("f", (("", "[1, [2.0, true]]"), ("", "null")))
    assert passes(tests, 0, "", "[1,[2,true]]")
    assert not passes(tests, 0, "[1, [2.0, true]]", None)
    assert passes(tests, 1, "", "null")
    assert not passes(tests, 1, "", None)


@pytest.mark.parametrize(
    ("answer", "fallback", "program", "rule"),
    [
        ("Look:\n```python\nfirst\n```\nBetter:\n```python\nsecond\n```\nDone.", False, "second\n", "code_block"),
        ("```\nplain\n```", False, "plain\n", "code_block"),
        ("  ```Py\n  indented\n  ```", False, "  indented\n", "code_block"),
        ("```python\ncut off", True, "cut off", "last_code"),
        ("```python\ncut off", False, None, "none"),
        ("print(1)", True, "print(1)", "last_code"),
        ("print(1)", False, None, "none"),
        ("", True, None, "none"),
    ],
)
def test_the_last_block_of_code_is_the_answer(answer: str, fallback: bool, program: str | None, rule: str) -> None:
    assert extract(answer, "code", fallback=fallback) == (program, rule)


def task(tmp_path: Path, *rows: dict[str, Any]) -> TaskConfig:
    file = tmp_path / "lcb.jsonl"
    file.write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    columns = {"id": "question_id", "question": "question_content"}
    return TaskConfig.model_validate_json(json.dumps({"path": str(file), "type": "code", "columns": columns}))


def test_programs_are_graded_by_what_they_do_and_tables_do_not_repeat_the_tests(tmp_path: Path) -> None:
    called = row(
        question_id="1_B",
        starter_code="class Solution:\n    def add(self, a: int, b: int) -> int:\n        ",
        metadata='{"func_name": "add"}',
        public_test_cases='[{"input": "1\\n2", "output": "3", "testtype": "functional"}]',
        private_test_cases="",
    )
    loaded = load(task(tmp_path, row(), called), {})
    assert loaded.items[0].question.startswith("Add two numbers.\n\nWrite a Python program that reads its input")
    assert "```python\nclass Solution:\n    def add(self, a: int, b: int) -> int:\n```" in loaded.items[1].question
    answers = [
        ("1_A", "```python\na, b = map(int, input().split())\nprint(a + b)\n```", "correct"),
        ("1_A", "```python\nprint(3)\n```", "wrong"),
        ("1_A", "```python\nimport sys\nprint(3)\nsys.exit(1)\n```", "wrong"),
        ("1_A", "I do not know", "wrong"),
        ("1_A", "", "no_answer"),
        ("1_B", "```python\nclass Solution:\n    def add(self, a, b):\n        return a + b\n```", "correct"),
        ("1_B", "```python\nimport os\nos._exit(0)\n```", "wrong"),
    ]
    ledgers = [
        Ledger(item, 0, "auto", 1, 0, 1, "natural", "stop", 0, 0, False, None, 1, said) for item, said, _ in answers
    ]
    with Grader(workers=Workers(processes=1)) as grader:
        graded = grader.grade([(loaded, ledger) for ledger in ledgers])
    assert [each.verdict for each in graded] == [verdict for _, _, verdict in answers]
    assert {each.gold.partition(" (")[0] for each in graded} == {"1 tests and others, packed", "1 tests"}
    assert described(gold(row())) != described(gold(row(private_test_cases="")))
    assert graded[5].meaning == graded[5].extracted


def test_a_program_finds_nothing_of_what_is_wanted_of_it() -> None:
    """It looks at all that it can, for a word that is in the harness if anything of its answers is."""
    wanted = "".join(["canary", "-", "wanted"])
    looks = r"""
import gc, glob, re, sys
found = set()
def look(text): found.update(re.findall("canary-w[a-z]+", text))
for each in gc.get_objects():
    look(repr(each)[:10_000])
frame = sys._getframe()
while frame:
    look(repr(frame.f_locals) + repr(frame.f_globals))
    frame = frame.f_back
for path in glob.glob("/proc/self/*") + glob.glob("/proc/1/*") + glob.glob("/proc/1/fd/*") + glob.glob("/tmp/**"):
    try: look(open(path, errors="replace").read(1 << 22))
    except OSError: pass
try:
    memory = open("/proc/self/mem", "rb", 0)
    for line in open("/proc/self/maps"):
        start, end = (int(each, 16) for each in line.split()[0].split("-"))
        memory.seek(start)
        look(memory.read(min(end - start, 1 << 26)).decode("latin-1"))
except OSError: pass
print(*sorted(found - {"canary-w"}), sep="")
"""
    for function in (None, "f"):
        tests = json.dumps(
            {"function": function, "tests": [["x" if function is None else '"x"', wanted]], "packed": ""}
        )
        assert not programs.passes(tests, looks)
    assert programs.passes(json.dumps({"function": None, "tests": [[wanted, wanted]], "packed": ""}), looks), (
        "the search is good: an input is found"
    )


def test_where_programs_cannot_be_locked_up_the_step_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "unavailable", lambda: "unshare: Operation not permitted")

    class Config:
        judge = None
        tasks = (task(tmp_path, row()),)

    with pytest.raises(StepError, match=r"task lcb: its answers are programs, .*\(unshare: Operation not permitted\)"):
        session.grading(Config(), None, tmp_path).__enter__()


def test_rows_without_tests_are_named(tmp_path: Path) -> None:
    [problem] = task(tmp_path, row(), {"question_id": "2", "question_content": "?"}).problems(("tasks", 0))
    assert problem.message.endswith(
        "lcb.jsonl:2: has neither tests nor public_test_cases among its columns question_id, question_content: "
        "correct the row"
    )
