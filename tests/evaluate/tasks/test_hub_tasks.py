"""Any dataset of the hub as a task: its columns by name, at its commit, and what it lacks before anything starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from pydantic import ValidationError

from jobs.evaluate.tasks import load
from jobs.evaluate.tasks.config import TaskConfig
from tests.conftest import ROOT

COMMIT = "1f2e" + "0" * 36

_LOAD = """
import json, sys
from click.testing import CliRunner
from jobs.evaluate.tasks import load
from jobs.evaluate.tasks.config import TaskConfig
from orchestrator.__main__ import main
from orchestrator.job.errors import StepError
for task in json.loads(sys.argv[1]):
    try:
        loaded = load(TaskConfig.model_validate_json(json.dumps(task)), {})
        print(json.dumps([loaded.name, loaded.type, [[item.id, item.question, item.answer] for item in loaded.items]]))
    except StepError as error:
        print(json.dumps(str(error)))
for file in sys.argv[2:]:
    result = CliRunner().invoke(main, ["plan", file])
    print(json.dumps([result.exit_code, result.output]))
"""


def parsed(value: object) -> TaskConfig:
    return TaskConfig.model_validate_json(json.dumps(value))


def cached(home: Path, dataset: str) -> Path:
    """The folder of a dataset's commit in the cache below `home`."""
    folder = home / "hub" / f"datasets--{dataset.replace('/', '--')}" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    return folder


def test_a_dataset_of_the_hub_is_a_task_whatever_its_columns_are_called(tmp_path: Path) -> None:
    """One process, whose cache has what the hub has: importing its clients takes seconds."""
    rows = [
        {"riddle": f"1 + {at}?", "solution": 1.0 + at, "picture": {"bytes": b"no picture", "path": None}}
        for at in (1, 2)
    ]
    picture = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.Table.from_pylist(rows, pa.schema({"riddle": pa.string(), "solution": pa.float64(), "picture": picture}))
    features = {
        "info": {
            "features": {
                "riddle": {"dtype": "string", "_type": "Value"},
                "solution": {"dtype": "float64", "_type": "Value"},
                "picture": {"_type": "Image"},
            }
        }
    }
    folder = cached(tmp_path, "me/riddles")
    (folder / "hard").mkdir()
    parquet.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(features)}), folder / "hard" / "validation.parquet"
    )
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: hard\n  data_files:\n  - {split: validation, path: hard/validation.parquet}\n"
        "- config_name: easy\n  data_files: easy.parquet\n---\n"
    )
    choices = cached(tmp_path, "choices")
    choices.joinpath("test.jsonl").write_text(
        json.dumps({"nr": "q1", "stem": "Which?", "a": "red", "b": "blue", "key": "B"}) + "\n"
    )
    asked = {"dataset": "me/riddles", "revision": COMMIT, "subset": "hard", "split": "validation"}
    columns = {"question": "riddle", "answer": "solution"}
    tasks: list[dict[str, object]] = [
        {**asked, "columns": columns},
        {**asked, "columns": {**columns, "answer": "gold"}, "type": "math"},
        {**asked, "columns": columns, "subset": "medium"},
        {
            "dataset": "choices",
            "revision": COMMIT,
            "columns": {"id": "nr", "question": "stem", "options": ["a", "b"], "answer": "key"},
            "type": "choice",
            "prompt": "boxed",
        },
        {"name": "elsewhere", "dataset": "me/elsewhere", "revision": COMMIT},
    ]
    experiment = tmp_path / "x.yaml"
    experiment.write_text(
        json.dumps(
            {"name": "x", "steps": {"sweep": {"job": "evaluate", "model": "someone/small", "tasks": tasks[4:]}}}
            | {"store": str(tmp_path / "store")}
        )
    )
    refused = tmp_path / "refused.yaml"
    refused.write_text(
        experiment.read_text().replace(json.dumps(tasks[4:]), json.dumps([tasks[0], {"name": "wrong", **tasks[1]}]))
    )
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, json.dumps(tasks), str(experiment), str(refused)],
        env=os.environ
        | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
        | {"HF_HUB_CACHE": str(tmp_path / "hub")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    numbered, missing, subset, choice, elsewhere, plan, refusal = map(json.loads, done.stdout.splitlines())
    assert numbered == ["riddles", "integer", [["1", "1 + 1?", "2.0"], ["2", "1 + 2?", "3.0"]]]
    assert missing == (
        "me/riddles@1f2e0000:1: gold is missing, there are riddle, solution: each row needs an id, a question and an "
        "answer; columns: {question: …} names columns that are called otherwise, "
        "and columns: {id: null} numbers the rows"
    )
    assert subset.startswith("task riddles: me/riddles@1f2e0000 cannot be read (BuilderConfig 'medium' not found.")
    name, kind, [[identity, question, answer]] = choice
    assert (name, kind, identity) == ("choices", "choice", "q1")
    assert f"{answer}) blue" in question
    assert question.endswith("\\boxed{}.")
    assert "me/elsewhere@1f2e0000 is not in the cache, and the hub cannot be reached" in elsewhere
    assert plan[0] == 0, plan[1]
    assert "how many items its tasks have is not known" in " ".join(plan[1].split())
    code, output = refusal
    assert code == 2, output
    assert output.startswith(f"{refused}:1: steps.sweep.tasks.1.dataset: me/riddles@1f2e0000:1: gold is missing")
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"dataset": "me/riddles"}, "revision: is not given: give the dataset's commit, 40 hexadecimal digits from "),
        ({"dataset": "me/riddles", "revision": "main"}, "revision: 'main' is not a commit: give the dataset's commit"),
        ({"dataset": "me/riddles", "path": "x.jsonl", "revision": COMMIT}, "both path and dataset are given"),
        ({"name": "mine", "path": "x.jsonl", "subset": "hard"}, "subset: is for a dataset on the hub"),
        ({"name": "math500", "split": "test"}, "split: is for a dataset on the hub"),
        ({"name": "math500", "columns": {"question": "q"}}, "columns: those of math500 are known"),
        ({"name": "letters", "columns": {"question": "q"}}, "columns: those of letters are known"),
        ({"path": "${words}", "columns": {"question": "q"}}, r"columns: those of \$\{words\} are known"),
        ({"path": "x.jsonl", "columns": {"qestion": "q"}}, "Extra inputs are not permitted"),
        ({"dataset": "a/b/c", "revision": COMMIT}, "should match pattern"),
        ({"revision": COMMIT}, "Field required"),
    ],
)
def test_what_is_no_task_of_the_hub_is_refused_with_the_reason(task: object, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        parsed(task)


def test_a_file_has_any_columns(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("nr,frage,antwort\n7,1 + 1?,2\n9,2 + 2?,4\n")
    task = {"path": str(file), "columns": {"question": "frage", "answer": "antwort"}}
    assert [item.id for item in load(parsed(task), {}).items] == ["1", "2"]
    assert load(parsed(task), {}).name == "mine"
    by_number = {"path": str(file), "columns": {"id": "nr", "question": "frage", "answer": "antwort"}}
    assert [(item.id, item.answer) for item in load(parsed(by_number), {}).items] == [("7", "2"), ("9", "4")]
    [problem] = parsed({**task, "columns": {"question": "Frage", "id": "nr"}}).problems(("tasks", 0))
    assert f"{file}:2: Frage is missing, there are nr, frage, antwort: each row needs" in problem.message


def test_a_benchmarks_own_columns_stay_where_others_are_named(tmp_path: Path) -> None:
    file = tmp_path / "aime26.jsonl"
    file.write_text('{"problem_idx": 3, "text": "1 + 1?", "answer": "2"}\n')
    task = parsed({"name": "aime26", "path": str(file), "columns": {"question": "text"}})
    assert [(item.id, item.question) for item in load(task, {}).items] == [("3", "1 + 1?")]
    elsewhere = parsed({"name": "aime26", "dataset": "me/aime26", "revision": COMMIT, "split": "train"})
    assert (elsewhere.answers, elsewhere.known_items(), elsewhere.row_columns.id) == ("integer", None, ("problem_idx",))
