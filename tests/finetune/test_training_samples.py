from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict
from pyarrow import parquet

from jobs.finetune.data_config import DataConfig
from jobs.finetune.samples import Sample, read_samples
from orchestrator.job.errors import StepError
from tests.finetune.hub import hub

ROWS = [{"question": "2+2?", "trace": "2, 3, 4", "answer": "4"}, {"question": "1+1?", "trace": "1, 2", "answer": "2"}]
SAMPLES = [Sample("2+2?", "2, 3, 4", "4"), Sample("1+1?", "1, 2", "2")]

OTHER = {"solution": "no", "metadata": None}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def data(path: Path, **fields: object) -> DataConfig:
    return DataConfig.model_validate_json(json.dumps({"path": str(path)} | fields))


@pytest.mark.parametrize(
    "row",
    [
        {"question": "2+2?", "thinking_trajectories": ["2, 3", "4"], "attempt": "4", "cot": None},
        {
            "question": "2+2?",
            "gemini_thinking_trajectory": "no",
            "gemini_attempt": "5",
            "deepseek_thinking_trajectory": "2, 3\n4",
            "deepseek_attempt": "4",
        },
        {"problem": "2+2?", "deepseek_reasoning": "2, 3\n4", "deepseek_solution": "4", "ground_truth_solution": "5"},
        {
            "system": "Be brief.",
            "conversations": [
                {"from": "user", "value": "2+2?"},
                {
                    "from": "assistant",
                    "value": "<|begin_of_thought|>2, 3\n4<|end_of_thought|>\n\n"
                    "<|begin_of_solution|>4<|end_of_solution|>",
                },
            ],
        },
        {
            "conversations": [
                {"from": "human", "value": "2+2?"},
                {"from": "gpt", "value": "<think>2, 3\n4</think>\n\n4"},
            ]
        },
    ],
    ids=["s1K", "s1K-1.1", "OpenThoughts, columns", "OpenThoughts, words", "OpenThoughts, tags"],
)
def test_published_columns_are_recognised(tmp_path: Path, row: dict[str, Any]) -> None:
    path = write(tmp_path / "data.jsonl", [row | OTHER])
    assert list(data(path).problems()) == []
    assert list(read_samples(data(path))) == [Sample("2+2?", "2, 3\n4", "4")]


def test_columns_can_be_named(tmp_path: Path) -> None:
    rows = [{"question": "2+2?", "gemini": "2, 3, 4", "trace": "not this", "reply": "4"}]
    config = data(write(tmp_path / "data.jsonl", rows), columns={"trace": "gemini", "answer": "reply"})
    assert list(read_samples(config)) == SAMPLES[:1]


def test_a_parquet_file_is_read(tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "data.parquet", row_group_size=1)
    samples = list(read_samples(data(tmp_path / "data.parquet")))
    assert samples == SAMPLES
    assert samples[1].where == f"{tmp_path}/data.parquet row 2"


def as_parquet(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    parquet.write_table(pa.Table.from_pylist(ROWS), folder / "data" / "train-00000-of-00001.parquet")
    parquet.write_table(pa.Table.from_pylist(ROWS[:1]), folder / "data" / "test-00000-of-00001.parquet")


def as_json(folder: Path) -> None:
    folder.mkdir()
    write(folder / "train.jsonl", ROWS)
    write(folder / "test.jsonl", ROWS[:1])


def as_saved(folder: Path) -> None:
    splits = {"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])}
    DatasetDict(splits).save_to_disk(str(folder))


@pytest.mark.parametrize("make", [as_parquet, as_json, as_saved])
def test_a_folder_with_a_dataset_is_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "data")
    assert list(read_samples(data(tmp_path / "data"))) == SAMPLES
    assert list(read_samples(data(tmp_path / "data", split="test"))) == SAMPLES[:1]
    with pytest.raises(
        StepError, match=r"data: .*/data, split dev cannot be loaded \(.*dev.*\): check the folder"
    ) as caught:
        list(read_samples(data(tmp_path / "data", split="dev")))
    assert "\n" not in str(caught.value)


GOOD = b'{"question": "q", "trace": "t", "answer": "a"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "data.jsonl has no samples"),
        (b"\n\n", "data.jsonl has no samples"),
        (GOOD + b'{"question": ', r"data.jsonl:2 is not JSON \("),
        (GOOD + b'["q", "t", "a"]', "data.jsonl:2 is not a JSON object"),
        (GOOD + b'{"question": "\xff"}', r"data.jsonl:2 is not UTF-8 \(byte 15 of the line\)"),
        (
            b'{"question": "q", "trace": "t"}',
            "data.jsonl:1 has the columns question, trace, and none of: question, trace,",
        ),
        (GOOD + b'{"question": "q", "trace": "t"}', "data.jsonl:2 has nothing where answer should be text"),
        (GOOD + b'{"question": "q", "trace": "t", "answer": 3}', "data.jsonl:2 has int where answer should be text"),
        (GOOD + b'\n{"question": "q", "trace": " ", "answer": "a"}', "data.jsonl:3 has an empty trace"),
        (GOOD + b'{"question": "q", "trace": [], "answer": "a"}', "data.jsonl:2 has an empty trace"),
        (
            GOOD + b'{"question": "q", "trace": "\\ud800", "answer": "a"}',
            "data.jsonl:2 has half a character .* in trace",
        ),
        (b'{"conversations": [{"from": "user", "value": "q"}]}', "data.jsonl:1 is not a conversation of"),
        (
            b'{"conversations": [{"from": "user", "value": "q"}, {"from": "gpt", "value": "a"}]}',
            "data.jsonl:1 is not a conversation of a question and",
        ),
    ],
)
def test_a_damaged_row_is_an_error_that_names_it(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(StepError, match=message) as caught:
        list(read_samples(data(path)))
    assert "\n" not in str(caught.value)


def test_worked_solutions_are_traces_with_their_answers(tmp_path: Path) -> None:
    solution = "Half is 48/2 = <<48/2=24>>24.\nBoth are 48+24 = <<48+24=72>>72.\n#### 72"
    path = write(tmp_path / "data.jsonl", [{"question": "How many?", "answer": solution}])
    [sample] = read_samples(data(path))
    assert (sample.question, sample.answer) == ("How many?", "72")
    assert sample.trace == "Half is 48/2 = 24.\nBoth are 48+24 = 72."
    write(path, [{"question": "How many?", "answer": "72"}])
    with pytest.raises(StepError, match=r"data.jsonl:1 has no trace, and its answer is not worked out with ####"):
        list(read_samples(data(path)))


def test_columns_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", ROWS)
    with pytest.raises(
        StepError, match="has no column r1, reply, which columns names; there are: answer, question, trace"
    ):
        list(read_samples(data(path, columns={"trace": "r1", "answer": "reply"})))


def test_parquet_text_that_is_not_utf8_is_found_in_its_row(tmp_path: Path) -> None:
    texts = pa.array([b"t", b"\xff"], pa.binary()).view(pa.string())
    table = pa.table({"question": texts, "trace": texts, "answer": texts})
    parquet.write_table(table, tmp_path / "data.parquet")
    with pytest.raises(StepError, match=r"data\.parquet row 2 is not UTF-8 \(invalid start byte\)"):
        list(read_samples(data(tmp_path / "data.parquet")))


def test_files_that_cannot_be_read_are_errors(tmp_path: Path) -> None:
    (tmp_path / "data.parquet").write_text("no")
    for name in ("no.jsonl", "no.parquet", "data.parquet"):
        with pytest.raises(StepError, match=rf"{name} (is not a file|cannot be read \(.*\)): give a "):
            list(read_samples(data(tmp_path / name)))


_READ = """
import json, sys
from jobs.finetune.data_config import DataConfig
from jobs.finetune.samples import read_samples
from orchestrator.job.errors import StepError
for revision in sys.argv[1:]:
    try:
        print([sample.trace for sample in read_samples(DataConfig(dataset="owner/traces", revision=revision))])
    except StepError as error:
        print(error)
"""


def read_from_hub(*revisions: str, home: Path, **environment: str) -> list[str]:
    """What reading each revision of a dataset prints, in a process that has these variables from its start."""
    done = subprocess.run(
        [sys.executable, "-c", _READ, *revisions],
        env=os.environ | {"HF_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.seconds
def test_a_dataset_is_read_from_the_hub_at_its_revision(tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "data.parquet")
    with hub((tmp_path / "data.parquet").read_bytes()) as address:
        good, bad = read_from_hub("v1", "v2", home=tmp_path, HF_ENDPOINT=address, HF_HUB_OFFLINE="0")
    assert good == "['2, 3, 4', '1, 2']"
    assert bad.startswith("data: owner/traces, revision v2, split train cannot be loaded (Revision 'v2' doesn't exist")
    assert bad.endswith("): check its name and what is asked of it, or give a local file")


@pytest.mark.seconds
def test_a_hub_that_is_out_of_reach_is_an_error_of_one_line(tmp_path: Path) -> None:
    [line] = read_from_hub("v1", home=tmp_path, HF_HUB_OFFLINE="1")
    assert line.startswith("data: owner/traces, revision v1, split train cannot be loaded (Couldn't reach")
    assert line.endswith("): check its name and what is asked of it, or give a local file")
