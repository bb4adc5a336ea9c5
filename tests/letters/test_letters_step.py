from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from jobs.letters.config import LettersConfig
from jobs.letters.generator import held_out
from jobs.letters.run import run
from orchestrator.job.context import StepContext


def test_the_dataset_has_traces_and_the_questions_that_evaluation_asks(tmp_path: Path) -> None:
    run(
        LettersConfig(train=30, test=20, seed=4),
        StepContext("experiment", "letters", "0", tmp_path, tmp_path / "traces"),
    )

    train = [json.loads(line) for line in (tmp_path / "output" / "train.jsonl").read_text().splitlines()]
    assert len(train) == 30
    assert all(set(row) == {"question", "trace", "answer"} for row in train)
    assert all(row["answer"].startswith("Final Answer: ") for row in train)

    test = [json.loads(line) for line in (tmp_path / "output" / "test.jsonl").read_text().splitlines()]
    assert test == [{"id": q.id, "question": q.text, "answer": q.answer} for q in held_out(20, seed=4)]

    progress = json.loads((tmp_path / "progress.json").read_text())
    assert (progress["done"], progress["total"], progress["unit"]) == (30, 30, "traces")


def test_labelled_traces_are_answered_with_their_label_and_change_no_other_dataset(tmp_path: Path) -> None:
    run(
        LettersConfig(train=30, test=20, labelled=True),
        StepContext("experiment", "letters", "0", tmp_path, tmp_path / "traces"),
    )
    train = [json.loads(line) for line in (tmp_path / "output" / "train.jsonl").read_text().splitlines()]
    assert {row["answer"] for row in train} == {"+", "-"}
    assert "labelled" not in LettersConfig(train=30).model_dump(mode="json"), "what a dataset is, is as before"
    assert LettersConfig(train=30, labelled=True).model_dump(mode="json")["labelled"] is True


@pytest.mark.parametrize("fields", [{"train": 0}, {"train": 10, "test": 0}, {"train": 10, "seed": -1}, {"train": "10"}])
def test_impossible_sizes_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LettersConfig.model_validate(fields)
