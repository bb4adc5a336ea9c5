"""A first experiment from four questions, and completion in a shell."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from jobs.evaluate.sweep import prompts
from orchestrator.__main__ import main
from orchestrator.experiment import load
from orchestrator.yaml_positions import parse
from tests.evaluate import tiny

ROWS = {
    "integer": ["2", "-7", "1,000"],
    "choice": ["A", "C", "B"],
    "text": ["Paris", "7", "B"],
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("ORCHESTRATOR_STORE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def write(name: str, answers: list[str]) -> None:
    rows: list[dict[str, Any]] = []
    for number, answer in enumerate(answers):
        options = {"options": ["x", "y", "z"]} if answers == ROWS["choice"] else {}
        rows.append({"id": str(number), "question": "?", "answer": answer, **options})
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_four_answers_make_a_file_that_plans() -> None:
    write("mine.jsonl", ROWS["integer"])
    answers = "Qwen/Qwen3-0.6B\nmine.jsonl\n64, 128, auto\nWait, Hmm\n"
    result = CliRunner().invoke(main, ["init", "first.yaml"], input=answers)
    assert result.exit_code == 0, result.output
    assert result.output.count("?") + result.output.count("]:") >= 2
    assert "first.yaml: 7 policies x 3 items. Next: python -m orchestrator plan first.yaml" in result.output
    planned = CliRunner().invoke(main, ["plan", "first.yaml"])
    assert planned.exit_code == 0, planned.output
    assert "7 policies x 3 items" in planned.output
    assert os.access("first.yaml", os.X_OK)
    document = json.loads(json.dumps(parse(Path("first.yaml").read_text()).value))
    jsonschema.validate(document, json.loads(Path("schema.json").read_text()))
    assert "# yaml-language-server: $schema=schema.json\n" in Path("first.yaml").read_text()


@pytest.mark.parametrize("kind", ROWS)
def test_what_is_given_is_not_asked_and_the_type_of_answers_is_seen(kind: str) -> None:
    write("q.jsonl", ROWS[kind])
    arguments = ["--model", "a/b", "--questions", "q.jsonl", "--budgets", "16", "--strings", "-"]
    result = CliRunner().invoke(main, ["init", *arguments], input="")
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) == 1
    config = load(Path("experiment.yaml")).steps["sweep"].config
    assert config.tasks[0].type == kind
    assert config.extensions is None


def test_a_model_that_marks_no_thinking_thinks_within_text(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.save(Path("model"))
    arguments = ["init", "--model", "./model", "--questions", "q.csv", "--budgets", "16", "--strings", "-", "--force"]
    Path("q.csv").write_text("id,question,answer\n1,1+1?,2\n")
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert load(Path("experiment.yaml")).steps["sweep"].config.template.name == "auto"
    monkeypatch.setattr(prompts, "find_style", lambda *shown: None)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "    template: plain-think  # it marks none of its own" in Path("experiment.yaml").read_text()
    planned = CliRunner().invoke(main, ["plan", "experiment.yaml"])
    assert planned.exit_code == 0, planned.output


def test_columns_of_ones_own_are_named_and_rows_without_ids_numbered() -> None:
    Path("q.csv").write_text("problem,solution\n1+1?,2\n1+2?,3\n")
    arguments = ["init", "--model", "a/b", "--questions", "q.csv", "--budgets", "16", "--strings", "-"]
    missing = CliRunner().invoke(main, arguments)
    assert missing.exit_code == 2
    assert "question is missing, there are problem, solution" in missing.output
    result = CliRunner().invoke(main, [*arguments, "--columns", "question=problem, answer=solution"])
    assert result.exit_code == 0, result.output
    task = load(Path("experiment.yaml")).steps["sweep"].config.tasks[0]
    assert (task.type, task.columns.id, task.columns.question) == ("integer", None, "problem")
    bad = CliRunner().invoke(main, [*arguments, "--force", "--columns", "problem"])
    assert (bad.exit_code, bad.output) == (2, "--columns: 'problem' is not NAME=COLUMN, such as question=problem\n")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"--questions": "gone.jsonl"}, "gone.jsonl"),
        ({"--questions": "maths500"}, "unknown task 'maths500'"),
        ({"--budgets": "many"}, "budgets"),
        ({"--model": "./gone"}, "gone"),
    ],
)
def test_what_would_not_plan_is_not_written(changes: dict[str, str], said: str) -> None:
    given = {"--model": "a/b", "--questions": "math500", "--budgets": "16", "--strings": "Wait"} | changes
    result = CliRunner().invoke(main, ["init", *(word for pair in given.items() for word in pair)])
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output
    assert list(Path().iterdir()) == []


def test_a_file_that_is_there_is_kept() -> None:
    Path("experiment.yaml").write_text("mine")
    arguments = ["init", "--model", "a/b", "--questions", "math500", "--budgets", "16", "--strings", "Wait"]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, Path("experiment.yaml").read_text()) == (2, "mine")
    assert "is there already: give another name, or --force" in result.output
    bad = CliRunner().invoke(main, [*arguments, "--force", "--budgets", "no"])
    assert (bad.exit_code, Path("experiment.yaml").read_text()) == (2, "mine")
    assert CliRunner().invoke(main, [*arguments, "--force"]).exit_code == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_SCALING_COMPLETE={shell}_complete" in result.output
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=result.output, text=True, check=True)
    typed = {
        "COMP_WORDS": "scaling pl",
        "COMP_CWORD": "pl" if shell == "fish" else "1",
        "_SCALING_COMPLETE": f"{shell}_complete",
    }
    found = CliRunner().invoke(main, [], prog_name="scaling", env=typed)
    assert "plan" in found.output
