"""The example of a grader from outside: IFEval's rules, in a package of their own, grade as built-in types do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

EXAMPLE = ROOT / "examples" / "ifeval"

_GRADE = """
import json, sys
from jobs.evaluate.grading.grader import Grader
from jobs.evaluate.grading.workers import Workers
from jobs.evaluate.sweep.ledger import Ledger
from jobs.evaluate.tasks import load
from jobs.evaluate.tasks.config import TaskConfig
from orchestrator.job.errors import StepError
task, answers, wrong = json.loads(sys.argv[1])
loaded = load(TaskConfig.model_validate_json(json.dumps(task)), {})
ledgers = [Ledger("1", 0, "auto", 1, 0, 1, "natural", "stop", 0, 0, False, None, 1, said) for said in answers]
with Grader(workers=Workers(processes=1)) as grader:
    graded = grader.grade([(loaded, each) for each in ledgers])
print(json.dumps([[each.verdict, each.rule, each.gold] for each in graded]))
for path in wrong:
    try: load(TaskConfig.model_validate_json(json.dumps({**task, "path": path})), {})
    except StepError as error: print(error)
"""


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from ifeval_rules.rules import RULES

    return RULES


@pytest.mark.parametrize(
    ("name", "arguments", "follows", "does_not"),
    [
        ("keywords:existence", {"keywords": ["sea", "ship"]}, "The Sea, a ship.", "The sea, shipping."),
        ("keywords:frequency", {"keyword": "sea", "frequency": 2}, "sea Sea", "sea"),
        ("keywords:frequency", {"keyword": "sea", "frequency": 2, "relation": "less than"}, "sea", "sea sea"),
        ("keywords:forbidden_words", {"forbidden_words": ["sea"]}, "seaside", "the SEA"),
        (
            "keywords:letter_frequency",
            {"letter": "e", "let_frequency": 2, "let_relation": "at least"},
            "sEe",
            "e",
        ),
        ("length_constraints:number_sentences", {"num_sentences": 2}, "One. Two!", "One."),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One\n***\nTwo", "One\n\nTwo"),
        ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "one two", "one two three"),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
            "First.\n\nThen, what?",
            "Then.\n\nFirst.",
        ),
        ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] at [place]", "[name]"),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP. S. more", "Bye."),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n- two\n**no**", "* one"),
        ("detectable_format:constrained_response", {}, "My answer is maybe.", "Maybe."),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*one* **two**", "*one*"),
        (
            "detectable_format:multiple_sections",
            {"section_spliter": "PART", "num_sections": 2},
            "PART 1 a PART 2",
            "PART 1",
        ),
        ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
        ("detectable_format:title", {}, "<<Title>>\nText", "<< >>"),
        ("combination:two_responses", {}, "one\n******\ntwo", "one\n******\none"),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say it. It.", "It. Say it."),
        ("startend:end_checker", {"end_phrase": "The end."}, 'So. "the end."', "The end. Not."),
        ("startend:quotation", {}, '"all of it"', '"a part" of it'),
        ("change_case:capital_word_frequency", {"capital_frequency": 2}, "TWO WORDS here", "ONE word"),
        ("change_case:english_capital", {}, "ALL OF IT 1", "All"),
        ("change_case:english_lowercase", {}, "all of it 1", "All"),
        ("punctuation:no_comma", {}, "none", "one, two"),
    ],
)
def test_a_rule_tells_what_follows_it_from_what_does_not(
    rules: Mapping[str, Any], name: str, arguments: dict[str, Any], follows: str, does_not: str
) -> None:
    assert rules[name].follows(follows, arguments)
    assert not rules[name].follows(does_not, arguments)


def test_the_installed_package_grades_a_task_of_its_type(tmp_path: Path) -> None:
    information = tmp_path / "site" / "ifeval_rules-1.0.dist-info"
    information.mkdir(parents=True)
    information.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: ifeval-rules\nVersion: 1.0\n")
    points = "[scaling_orchestrator.graders]\ninstructions = ifeval_rules:INSTRUCTIONS\n"
    assert 'instructions = "ifeval_rules:INSTRUCTIONS"' in (EXAMPLE / "pyproject.toml").read_text()
    information.joinpath("entry_points.txt").write_text(points)
    row = {
        "key": 1,
        "prompt": "Write without commas, and end with: The end.",
        "instruction_id_list": ["punctuation:no_comma", "startend:end_checker"],
        "kwargs": [{"end_phrase": None}, {"end_phrase": "The end."}],
    }
    unknown = {**row, "instruction_id_list": ["punctuation:no_dash", "startend:end_checker"]}
    incomplete = {**row, "kwargs": [{}, {}]}
    paths = []
    for number, each in enumerate((row, unknown, incomplete)):
        paths.append(tmp_path / f"{number}.jsonl")
        paths[-1].write_text(json.dumps(each) + "\n")
    task = {"path": str(paths[0]), "type": "instructions", "columns": {"id": "key", "question": "prompt"}}
    answers = ["It was so. The end.", "It was, so. The end.", ""]
    done = subprocess.run(
        [sys.executable, "-c", _GRADE, json.dumps([task, answers, list(map(str, paths[1:]))])],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, EXAMPLE, tmp_path / "site")))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    graded, no_rule, no_argument = done.stdout.splitlines()
    gold = "punctuation:no_comma, startend:end_checker"
    assert json.loads(graded) == [["correct", "whole", gold], ["wrong", "whole", gold], ["no_answer", "none", gold]]
    assert no_rule == f"{paths[1]}:1: has the unknown instruction 'punctuation:no_dash': correct the row"
    assert no_argument == f"{paths[2]}:1: has startend:end_checker without end_phrase: correct the row"
