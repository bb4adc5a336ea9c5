"""What makes a folder a dataset, a model or curves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.job.outputs import Curves, Dataset, Model

ROW = {"question": "2+2?", "trace": "2, 3, 4", "answer": "4"}


def write_rows(file: Path, *rows: object) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_dataset_has_rows_to_learn_from_or_questions(tmp_path: Path) -> None:
    assert list(Dataset.faults(tmp_path)) == ["has neither train.jsonl nor test.jsonl"]
    write_rows(tmp_path / "kept.jsonl", ROW)
    assert list(Dataset.faults(tmp_path)) == ["has neither train.jsonl nor test.jsonl"]
    write_rows(tmp_path / "train.jsonl", ROW)
    assert list(Dataset.faults(tmp_path)) == []
    write_rows(tmp_path / "test.jsonl", {"id": "1", "question": "2+2?", "answer": "4"})
    assert list(Dataset.faults(tmp_path)) == []


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        ({"question": "2+2?", "answer": "4"}, "train.jsonl line 2 has no trace"),
        ([1], "train.jsonl line 2 has no question"),
    ],
)
def test_a_row_that_lacks_a_field_is_named(tmp_path: Path, second: object, fault: str) -> None:
    write_rows(tmp_path / "train.jsonl", ROW, second)
    [found] = Dataset.faults(tmp_path)
    assert found.startswith(fault)


def test_a_row_that_is_not_json_is_named(tmp_path: Path) -> None:
    tmp_path.joinpath("train.jsonl").write_text(json.dumps(ROW) + "\n{torn")
    assert list(Dataset.faults(tmp_path)) == ["train.jsonl line 2 is not JSON"]


def test_a_model_has_every_file_that_its_index_names(tmp_path: Path) -> None:
    assert list(Model.faults(tmp_path)) == [
        "has no config.json",
        "has no tokenizer_config.json",
        "has no model.safetensors",
    ]
    for name in ("config.json", "tokenizer_config.json", "model.safetensors"):
        tmp_path.joinpath(name).write_text("{}")
    assert list(Model.faults(tmp_path)) == []
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    tmp_path.joinpath("model.safetensors.index.json").write_text(json.dumps(index))
    tmp_path.joinpath("model-1-of-2.safetensors").touch()
    assert list(Model.faults(tmp_path)) == ["has no model-2-of-2.safetensors"]


def test_curves_have_points_and_the_answers_behind_them(tmp_path: Path) -> None:
    assert list(Curves.faults(tmp_path)) == ["has no curves.json", "has no samples.parquet"]
