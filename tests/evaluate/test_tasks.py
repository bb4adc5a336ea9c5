"""Tasks: three spellings, the same items wherever they come from, and errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from jobs.evaluate.tasks import load
from jobs.evaluate.tasks.config import TaskConfig
from jobs.letters.generator import held_out
from orchestrator.step import Reference, StepError, StepInput


def parsed(value: object) -> TaskConfig:
    return TaskConfig.model_validate_json(json.dumps(value))


def written(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def load_file(path: Path, **fields: object) -> object:
    return load(parsed({"name": "mine", "path": str(path), **fields}), {})


GOOD = {"id": "a", "question": "1 + 1?", "answer": "2"}


def test_benchmarks_know_their_items_and_answers_wherever_they_are_read_from() -> None:
    assert [parsed(name).known_items() for name in ("aime24", "aime25", "math500", "gpqa_diamond")] == [
        30,
        30,
        500,
        198,
    ]
    assert parsed({"name": "math500", "items": 20}).known_items() == 20
    assert [parsed(name).answers for name in ("letters", "aime24", "math500", "gpqa_diamond")] == [
        "integer",
        "integer",
        "math",
        "choice",
    ]
    assert parsed({"name": "math500", "path": "m.jsonl"}).answers == "math"
    assert parsed({"name": "mine", "path": "m.jsonl", "type": "text"}).answers == "text"
    assert parsed({"name": "gpqa_diamond", "seed": 3}).seed == 3


def test_a_word_is_a_built_in_task_a_reference_is_a_steps_output_and_an_object_is_a_file() -> None:
    assert parsed("letters") == TaskConfig(name="letters")
    assert parsed("${words}") == TaskConfig(name="words", path=Reference("words", "dataset"))
    assert parsed({"name": "mine", "path": "mine.jsonl"}).file == Path("mine.jsonl")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("leters", "unknown task 'leters': built in is letters, aime24, aime25, math500, gpqa_diamond"),
        ({"name": "letters", "pth": "x.jsonl"}, "Extra inputs are not permitted"),
        ({"name": "letters", "items": 0}, "greater than 0"),
        ({"name": "mine", "path": "x.jsonl", "seed": 3}, "seed: is for letters, which are generated"),
        ({"name": "math500", "seed": 3}, "and for the order of options; math500 has neither"),
        ({"name": "math500", "type": "integer"}, "type: math500 has answers of type math"),
        ({"name": "mine", "path": "x.jsonl", "type": "maths"}, "'integer', 'math', 'choice', 'text' or 'judged'"),
        ({"name": "aime24", "prompt": "polite"}, "'paper', 'boxed' or 'answer'"),
        ({"name": "../mine", "path": "x.jsonl"}, "should match pattern"),
        (7, "should be an object"),
    ],
)
def test_what_is_no_task_is_refused_with_the_reason(value: object, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        parsed(value)


def test_letters_has_200_items_with_right_answers_and_its_hash_is_that_of_its_items() -> None:
    task = load(parsed("letters"), {})
    assert len(task.items) == 200 == parsed("letters").known_items()
    for item in task.items:
        word, letter = item.id.split("-")
        assert item.question == f"How many {letter} in {word}?"
        assert item.answer == str(word.count(letter))
    assert load(parsed("letters"), {}).hash == task.hash
    assert load(parsed({"name": "letters", "seed": 1}), {}).hash != task.hash
    assert load(parsed({"name": "letters", "items": 5}), {}).items == task.items[:5]


def test_another_steps_held_out_items_are_those_of_the_built_in_task(tmp_path: Path) -> None:
    lines = [{"id": item.id, "question": item.text, "answer": item.answer} for item in held_out(30, 0)]
    written(tmp_path / "test.jsonl", *lines)
    task = load(parsed("${words}"), {"words": StepInput("words", "00", tmp_path)})
    assert task.name == "words"
    assert task.hash == load(parsed({"name": "letters", "items": 30}), {}).hash


def test_a_users_file_is_read_in_its_order_with_numbers_taken_as_text(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.jsonl", {"id": 7, "question": "1 + 1?", "answer": 2, "source": "me"}, "", GOOD)
    task = load_file(path)
    assert [(item.id, item.answer) for item in task.items] == [("7", "2"), ("a", "2")]
    assert [item.id for item in load_file(path, items=1).items] == ["7"]
    assert parsed({"name": "mine", "path": str(path)}).known_items() == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "b"', "mine.jsonl:2: not JSON"),
        ("[1]", "mine.jsonl:2: list where an object"),
        ({"question": "?", "answer": "1"}, "mine.jsonl:2: id is missing"),
        ({"id": "b", "question": "  ", "answer": "1"}, "mine.jsonl:2: question is '  '"),
        ({"id": "b", "question": "?"}, "mine.jsonl:2: answer is missing"),
        ({"id": "b", "question": "?", "answer": True}, "mine.jsonl:2: answer is True"),
        ({"id": "b", "question": "?", "answer": "blue"}, "mine.jsonl:2: answer 'blue' is not an integer"),
        ({"id": "a", "question": "?", "answer": "1"}, "mine.jsonl:2: id 'a' is that of line 1"),
    ],
)
def test_the_line_that_is_no_item_is_named(tmp_path: Path, line: object, said: str) -> None:
    with pytest.raises(StepError) as raised:
        load_file(written(tmp_path / "mine.jsonl", GOOD, line))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_without_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="no items"):
        load_file(written(tmp_path / "mine.jsonl", ""))
    with pytest.raises(StepError, match="no such file"):
        load_file(tmp_path / "absent.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(StepError, match="not UTF-8"):
        load_file(tmp_path / "latin.jsonl")


def test_missing_and_empty_files_are_found_before_anything_starts(tmp_path: Path) -> None:
    absent = parsed({"name": "mine", "path": str(tmp_path / "absent.jsonl")})
    empty = parsed({"name": "mine", "path": str(written(tmp_path / "empty.jsonl", ""))})
    (problem,) = absent.problems(("tasks", 1))
    assert problem.field == ("tasks", 1, "path")
    assert "is not a file" in problem.message
    (problem,) = empty.problems(("tasks", 0))
    assert "no items" in problem.message
    assert not list(parsed("letters").problems(("tasks", 0)))
