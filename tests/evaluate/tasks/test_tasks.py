"""Tasks: three spellings, the same items wherever they come from, and errors that name the line."""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydantic import ValidationError

from jobs.evaluate.tasks import load
from jobs.evaluate.tasks.benchmarks import BENCHMARKS
from jobs.evaluate.tasks.config import TaskConfig
from jobs.letters.generator import held_out
from orchestrator.job.context import StepInput
from orchestrator.job.errors import StepError
from orchestrator.job.outputs import Dataset
from orchestrator.job.references import Reference
from tests.conftest import ROOT


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
    assert parsed("${words}") == TaskConfig(name="words", path=Reference("words", Dataset))
    assert parsed({"name": "mine", "path": "mine.jsonl"}).file == Path.cwd() / "mine.jsonl"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("leters", "unknown task 'leters': known are letters, aime24, aime25, math500, gpqa_diamond"),
        ({"name": "letters", "pth": "x.jsonl"}, "Extra inputs are not permitted"),
        ({"name": "letters", "items": 0}, "greater than 0"),
        ({"name": "mine", "path": "x.jsonl", "seed": 3}, "seed: is for letters, which are generated"),
        ({"name": "math500", "seed": 3}, "and for the order of options; math500 has neither"),
        ({"name": "math500", "type": "integer"}, "type: math500 has answers of type math"),
        (
            {"name": "mine", "path": "x.jsonl", "type": "maths"},
            "'integer', 'math', 'choice', 'text', 'judged', 'grid' or 'code'",
        ),
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
    output = tmp_path / "output"
    output.mkdir()
    written(output / "test.jsonl", *lines)
    task = load(parsed("${words}"), {"words": StepInput("words", "00", output)})
    assert task.name == "words"
    assert task.hash == load(parsed({"name": "letters", "items": 30}), {}).hash


def test_a_users_file_is_read_in_its_order_with_numbers_taken_as_text(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.jsonl", {"id": 7, "question": "1 + 1?", "answer": 2, "source": "me"}, "", GOOD)
    task = load_file(path)
    assert [(item.id, item.answer) for item in task.items] == [("7", "2"), ("a", "2")]
    assert [item.id for item in load_file(path, items=1).items] == ["7"]
    assert parsed({"name": "mine", "path": str(path)}).known_items() == 2
    table = tmp_path / "mine.csv"
    table.write_text('id,question,answer\n1,"1 +\n1?",2\n2,2 + 1?,3\n')
    assert parsed({"name": "mine", "path": str(table)}).known_items() == 2, "plan prices it"
    marked = tmp_path / "spreadsheet.csv"
    marked.write_bytes(codecs.BOM_UTF8 + table.read_bytes().replace(b"\n", b"\r\n"))
    assert [item.id for item in load_file(marked).items] == ["1", "2"]
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert [item.id for item in load_file(path).items] == ["7", "a"]


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
    with pytest.raises(StepError, match="is not a file"):
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


DATA = Path("../shared/data")


@pytest.mark.parametrize(
    ("name", "file", "items", "first", "content"),
    [
        ("math500", "math500.jsonl", 500, r"\left( 3, \frac{\pi}{2} \right)", "59695e34115bb39b"),
        ("aime24", "aime24.json", 30, "73", "0e0938482e299f3b"),
        ("aime25", "aime25.json", 30, "70", "1007e5469a64457b"),
    ],
)
def test_a_benchmark_is_read_from_a_file_of_it_and_its_content_is_on_record(
    name: str, file: str, items: int, first: str, content: str
) -> None:
    task = load(parsed({"name": name, "path": str(DATA / file)}), {})
    assert (task.name, len(task.items), task.items[0].answer, task.hash[:16]) == (name, items, first, content)
    assert load(parsed({"name": name, "path": str(DATA / file), "items": 7}), {}).items == task.items[:7]


def test_the_papers_prompt_is_the_question_alone_and_others_say_where_the_answer_goes() -> None:
    path = str(DATA / "aime25.json")
    paper, boxed, answer = (
        load(parsed({"name": "aime25", "path": path, "prompt": prompt}), {}).items[0].question
        for prompt in ("paper", "boxed", "answer")
    )
    assert paper == "Find the sum of all integer bases $b > 9$ for which $17_b$ is a divisor of $97_b$."
    assert boxed == f"{paper}\n\nPlease reason step by step, and put your final answer within \\boxed{{}}."
    assert answer.startswith(f'{paper}\n\nEnd with a line that begins with "Answer:"')
    assert load(parsed({"name": "letters", "prompt": "boxed", "items": 1}), {}).items[0].question.endswith("\\boxed{}.")


def test_the_order_of_options_follows_from_seed_and_id_alone(tmp_path: Path) -> None:
    def questions(items: int, **fields: object) -> dict[str, tuple[str, str]]:
        lines = [
            {"id": f"q{at}", "question": f"Which {at}?", "options": ["red", "green", "blue", "grey"], "answer": "B"}
            for at in range(items)
        ]
        task = load_file(written(tmp_path / "mine.jsonl", *lines), type="choice", **fields)
        return {item.id: (item.question, item.answer) for item in task.items}

    all_of_them, other_seed = questions(400), questions(400, seed=1)
    question, answer = all_of_them["q0"]
    assert question.startswith("Which 0?\n\nA) ")
    assert f"{answer}) green" in question
    assert questions(3) == {name: all_of_them[name] for name in ("q0", "q1", "q2")}
    assert sum(all_of_them[name] != other_seed[name] for name in all_of_them) > 300
    places = [answer for _, answer in all_of_them.values()]
    assert {letter: places.count(letter) > 60 for letter in "ABCD"} == dict.fromkeys("ABCD", True)


def test_gpqa_is_read_in_its_own_columns_with_the_right_answer_anywhere(tmp_path: Path) -> None:
    columns = "Record ID,Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3"
    rows = [f'rec{at},"What, then?\nSay.",right {at},"no, {at}",nor {at},never {at}' for at in range(20)]
    path = tmp_path / "gpqa_diamond.csv"
    path.write_text("\n".join([columns, *rows, ""]))
    task = load(parsed({"name": "gpqa_diamond", "path": str(path)}), {})
    assert len(task.items) == 20
    assert task.type == "choice"
    for at, item in enumerate(task.items):
        assert item.question.startswith("What, then?\nSay.\n\nA) ")
        assert f"{item.answer}) right {at}" in item.question
        assert item.letters == "ABCD"
    assert len({item.answer for item in task.items}) == 4


def test_a_question_may_list_its_own_options(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.jsonl", {"id": "a", "question": "A or B?", "answer": "B"})
    (item,) = load_file(path, type="choice").items
    assert (item.question, item.answer) == ("A or B?", "B")


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        (
            "integer",
            {"answer": "a half"},
            "answer 'a half' is not an integer: correct it, or give the task",
        ),
        ("choice", {"answer": "bee"}, "answer 'bee' is not the letter of an option: give a capital letter"),
        (
            "choice",
            {"answer": "C", "options": ["x", "y"]},
            "answer 'C' is not the letter of an option: give one of A",
        ),
        ("choice", {"answer": "A", "options": ["x"]}, "1 options: give from 2 to 26, or none"),
        ("choice", {"answer": "A", "options": ["x", "x"]}, "two options are the same"),
        ("choice", {"answer": "A", "options": ["x", " "]}, "options is ['x', ' ']: give a list of texts"),
        ("choice", {"answer": "A", "options": "xy"}, "options is 'xy': give a list of texts"),
        ("math", {"answer": ""}, "answer is ''"),
        ("text", {"answer": ["x"]}, "answer is ['x']"),
        ("text", {"answer": None}, "answer is None"),
    ],
)
def test_an_answer_of_the_wrong_type_is_named_with_its_line(
    tmp_path: Path, kind: str, fields: dict[str, object], said: str
) -> None:
    path = written(tmp_path / "mine.jsonl", {"id": "b", "question": "?", **fields})
    with pytest.raises(StepError) as raised:
        load_file(path, type=kind)
    assert f"mine.jsonl:1: {said}" in str(raised.value)


@pytest.mark.seconds
def test_a_benchmark_is_read_from_the_hubs_cache_at_its_commit_and_at_no_other(tmp_path: Path) -> None:
    """In a process of its own, offline: what is cached of another commit does not stand in."""
    row = json.dumps({"id": "I-1", "problem": "1 + 1?", "answer": "2"})
    cached = tmp_path / "hub" / "datasets--math-ai--aime25" / "snapshots"
    assert "is not in the cache" in hub("aime25", tmp_path)
    for revision in ("0" * 40, BENCHMARKS["aime25"].revision):
        (cached / revision).mkdir(parents=True)
        (cached / revision / "test.jsonl").write_text(row + "\n")
        (tmp_path / "hub" / "datasets--math-ai--aime25" / "refs").mkdir(exist_ok=True)
        (tmp_path / "hub" / "datasets--math-ai--aime25" / "refs" / "main").write_text(revision)
        found = hub("aime25", tmp_path)
        assert ("('I-1', '1 + 1?', '2')" in found) == (revision != "0" * 40)


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("name", "status", "code", "said"),
    [
        (
            "gpqa_diamond",
            401,
            "GatedRepo",
            "agree to its terms at https://huggingface.co/datasets/Idavidrein/gpqa",
        ),
        ("math500", 404, "RevisionNotFound", "HuggingFaceH4/MATH-500@6e4ed1a2 is gone"),
        ("aime24", 404, "RepoNotFound", "HuggingFaceH4/aime_2024 is not on the hub any more"),
    ],
)
def test_what_the_hub_refuses_is_one_line_that_says_what_to_do(
    tmp_path: Path, name: str, status: int, code: str, said: str
) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            found = hub(name, tmp_path, endpoint=f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
    assert said in found
    assert f"{{name: {name}, path: {name}.jsonl}}" in found
    assert len(found.strip().splitlines()) == 1


def hub(name: str, home: Path, endpoint: str | None = None) -> str:
    """What loading a benchmark says, in a process whose hub is `endpoint`, or which is offline."""
    code = f"""
from jobs.evaluate.tasks import load
from jobs.evaluate.tasks.config import TaskConfig
from orchestrator.job.errors import StepError
try:
    print([(item.id, item.question, item.answer) for item in load(TaskConfig(name={name!r}), {{}}).items])
except StepError as error:
    print(error)
"""
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub"), "PYTHONPATH": str(ROOT)}
    environment |= {"HF_HUB_OFFLINE": "1"} if endpoint is None else {"HF_ENDPOINT": endpoint}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout
