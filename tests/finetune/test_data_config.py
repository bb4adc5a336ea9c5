from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from jobs.finetune.data_config import DataConfig
from jobs.finetune.layouts import SampleColumns
from orchestrator.job.outputs import Dataset
from orchestrator.job.references import Reference


def data(value: object) -> DataConfig:
    return DataConfig.model_validate_json(json.dumps(value))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("${letters}", DataConfig(path=Reference("letters", Dataset))),
        ("traces.jsonl", DataConfig(path="traces.jsonl")),
        ("folder/traces.parquet", DataConfig(path="folder/traces.parquet")),
        ("./owner/traces", DataConfig(path="./owner/traces")),
        ("simplescaling/s1K-1.1", DataConfig(dataset="simplescaling/s1K-1.1")),
        ({"dataset": "gsm8k", "split": "test"}, DataConfig(dataset="gsm8k", split="test")),
        ({"path": "a", "columns": {"trace": "t"}}, DataConfig(path="a", columns=SampleColumns(trace="t"))),
    ],
)
def test_short_spellings_mean_what_they_look_like(written: object, meant: DataConfig) -> None:
    assert data(written) == meant


def test_what_is_here_is_not_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "traces").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert data("owner/traces").file == tmp_path / "owner" / "traces"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({}, "give either path"),
        ({"path": "a", "dataset": "b/c"}, "give either path"),
        ({"path": "a", "revision": "1f2e"}, "revision and subset are for a dataset on the hub"),
        ({"dataset": "../etc"}, "should match pattern"),
        ({"dataset": "a/b", "columns": {"thinking": "t"}}, "Extra inputs are not permitted"),
        (5, "should be an object"),
    ],
)
def test_impossible_data_is_refused(written: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        data(written)


@pytest.mark.parametrize(
    ("content", "fields", "message"),
    [
        ("", {}, "has no samples"),
        ("\n \n", {}, "has no samples"),
        ('{"question": "q"}\n', {}, "has the columns question, and none of: question, trace, answer (this project); "),
        (
            '{"question": "q"}\n',
            {"columns": {}},
            "has no column trace, answer, which columns names; there are: question",
        ),
        ('{"question": "q"}\n', {"split": "test"}, "a file has no splits"),
        ('{"question": "q", "trace": "t", "answer": "a"}\n', {}, None),
        ("no JSON\n", {}, "data.jsonl:1 is not JSON"),
        (
            '{"question": "q", "trace": "t", "answer": "a"}\n{"question": "q"}\n',
            {},
            "data.jsonl:2 has nothing where trace",
        ),
    ],
)
def test_what_a_file_tells_is_a_problem_before_anything_starts(
    tmp_path: Path, content: str, fields: dict[str, object], message: str | None
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(content)
    found = [problem.message for problem in data({"path": str(path)} | fields).problems()]
    if message is None:
        assert found == []
    else:
        assert message in found[0]


def test_a_problem_is_at_the_key_that_was_written(tmp_path: Path) -> None:
    [short] = data(str(tmp_path / "no.jsonl")).problems()
    [full] = data({"path": str(tmp_path / "no.jsonl"), "columns": {}}).problems()
    assert (short.field, full.field) == (("data",), ("data", "path"))
    assert "is not a file or folder: give a JSONL or Parquet file" in short.message


def test_data_is_located_before_working_folders_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    traces, made = data("traces.jsonl"), data("${letters}").located(lambda reference: Dataset(tmp_path))
    monkeypatch.chdir("/")
    assert (traces.file, made.file) == (tmp_path / "traces.jsonl", tmp_path / "train.jsonl")
    assert data("owner/traces").located(lambda reference: Dataset(tmp_path)) == data("owner/traces")
