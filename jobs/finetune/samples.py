"""Reads questions, traces and answers from wherever they are: a file, a folder, the hub.

Rows come one at a time, so that a dataset of gigabytes is read in little memory. What is wrong with one is an error
that names it, before anything is trained: nobody looks at row 83,142 otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.finetune.layouts import DatasetLayout, choose_layout, columns_missing
from orchestrator.job.errors import StepError
from orchestrator.job.local_files import file_problem, lines

if TYPE_CHECKING:
    from jobs.finetune.data_config import DataConfig

DatasetRow = Mapping[str, Any]

_PARTS = ("question", "trace", "answer")

_CONVERSATION = "conversations"
_ROLES = ("from", "role"), ("value", "content")
_QUESTIONER = ("user", "human")

_TAGGED = re.compile(
    r"\s*(?:<think>(?P<trace>.*?)</think>|<\|begin_of_thought\|>(?P<thought>.*?)<\|end_of_thought\|>)\s*(?P<answer>.*)",
    re.DOTALL,
)
"""How OpenThoughts writes a trace and an answer into one turn: its first version with words, the others with tags."""

_WORKED = ("question", "answer")
_CALCULATION = re.compile(r"<<[^<>\n]*>>")
"""What GSM8K's calculator reads: ``48/2 = <<48/2=24>>24``."""

_SOLUTION = re.compile(r"<\|(?:begin|end)_of_solution\|>")


@dataclass(frozen=True)
class Sample:
    """A question, how it was thought through, and the answer."""

    question: str
    trace: str
    answer: str
    where: str = field(default="a sample", compare=False)
    """The row that it was read from, for messages."""


def read_samples(data: DataConfig) -> Iterator[Sample]:
    """The samples of `data`, whose path is not a reference any more (:meth:`DataConfig.located`), in their order.

    Raises StepError when it cannot be read, lacks columns, has no rows, or at the first row that is not a sample.
    """
    rows = _rows(data)
    first = next(rows, None)
    if first is None:
        raise StepError(f"data: {data.path or data.dataset} has no samples: give rows with {', '.join(_PARTS)}")
    where, row = first
    layout = choose_layout(row, data.columns)
    if layout is None:
        raise StepError(f"data: {where} {columns_missing(row, data.columns)}")
    for where, row in chain([first], rows):
        yield _sample(row, layout, where)


def _rows(data: DataConfig) -> Iterator[tuple[str, DatasetRow]]:
    """Each row, and where it is."""
    if data.file is None or data.file.is_dir():
        return _dataset_rows(data)
    return (_parquet_rows if data.file.suffix == ".parquet" else _json_rows)(data.file, str(data.path))


def _json_rows(path: Path, name: str) -> Iterator[tuple[str, DatasetRow]]:
    try:
        for number, line in lines(path):
            if line.strip():
                yield f"{name}:{number}", _parse(line, f"{name}:{number}")
    except ValueError as error:
        raise StepError(f"data: {name} {error}: give a JSONL or Parquet file") from error


def _parse(line: bytes, where: str) -> DatasetRow:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise StepError(f"data: {where} is not UTF-8 (byte {error.start + 1} of the line): convert the file") from error
    except (ValueError, RecursionError) as error:
        raise StepError(f"data: {where} is not JSON ({error}): give one JSON object per line") from error
    if not isinstance(row, dict):
        raise StepError(f"data: {where} is not a JSON object: give one with {', '.join(_PARTS)} per line")
    return row


def _parquet_rows(path: Path, name: str) -> Iterator[tuple[str, DatasetRow]]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    if problem := file_problem(path):
        raise StepError(f"data: {name} {problem}: give a Parquet file")
    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                for index in range(batch.num_rows):
                    number += 1
                    # One at a time, so that text that is not UTF-8 is found in its row.
                    yield f"{name} row {number}", batch.slice(index, 1).to_pylist()[0]
    except UnicodeDecodeError as error:
        raise StepError(f"data: {name} row {number} is not UTF-8 ({error.reason}): convert it") from error
    except (OSError, pyarrow.ArrowException) as error:
        raise StepError(f"data: {name} cannot be read ({_first_line(error)}): give a Parquet file") from error


def _dataset_rows(data: DataConfig) -> Iterator[tuple[str, DatasetRow]]:
    """A dataset of the hub, or a folder in its layout, one that ``save_to_disk`` wrote, or with Parquet or JSONL."""
    from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    split = data.split or "train"
    name = str(data.dataset or data.path)
    try:
        if data.file is not None and _saved_to_disk(data.file):
            saved = load_from_disk(str(data.file))
            dataset = saved[split] if isinstance(saved, DatasetDict) else saved
        else:
            dataset = load_dataset(
                str(data.file or name),
                data.subset,
                split=split,
                revision=data.revision,
                streaming=data.file is not None,
            )
    except (OSError, ValueError, KeyError, DatasetsError, HfHubHTTPError, HFValidationError) as error:
        asked = "".join(f", {key} {value}" for key, value in _asked(data).items())
        remedy = "check its name and what is asked of it, or give a local file" if data.dataset else "check the folder"
        raise StepError(f"data: {name}{asked} cannot be loaded ({_first_line(error)}): {remedy}") from error
    assert isinstance(dataset, Dataset) or data.file is not None
    try:
        for number, row in enumerate(dataset, start=1):
            yield f"{name} row {number}", row
    except (OSError, ValueError, DatasetsError) as error:
        raise StepError(f"data: {name} cannot be read ({_first_line(error)}): check its files") from error


def _saved_to_disk(folder: Path) -> bool:
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def _asked(data: DataConfig) -> dict[str, str]:
    given = {"subset": data.subset, "revision": data.revision, "split": data.split or "train"}
    return {key: value for key, value in given.items() if value is not None}


def _sample(row: DatasetRow, layout: DatasetLayout, where: str) -> Sample:
    if layout.names == (_CONVERSATION,):
        parts = _of_conversation(row.get(_CONVERSATION), where)
    elif layout.names == _WORKED:
        parts = _worked(row, where)
    else:
        parts = {part: _text(row.get(name), name, where) for part, name in zip(_PARTS, layout.names, strict=True)}
    return Sample(**parts, where=where)


def _text(value: Any, name: str, where: str) -> str:
    """The text of a cell; the parts of a list are lines, as s1's script joins those of a trace."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = "\n".join(value)
    if not isinstance(value, str):
        kind = "nothing" if value is None else type(value).__name__
        raise StepError(f"data: {where} has {kind} where {name} should be text: fill it in or drop the row")
    if not value.strip():
        raise StepError(f"data: {where} has an empty {name}: fill it in or drop the row")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise StepError(f"data: {where} has half a character (a lone surrogate) in {name}: repair the row") from error
    return value


def _of_conversation(turns: Any, where: str) -> dict[str, str]:
    """The parts of a conversation: a question, and one turn that thinks and then answers."""
    said = [_turn(turn) for turn in turns] if isinstance(turns, list) else []
    said = [turn for turn in said if turn[0] != "system"]
    if len(said) != 2 or said[0][0] not in _QUESTIONER or (match := _TAGGED.fullmatch(str(said[1][1]))) is None:
        raise StepError(
            f"data: {where} is not a conversation of a question and a reply that thinks in <think>…</think> before it "
            "answers: drop the row, or name the columns of its parts with columns"
        )
    trace = match["trace"] if match["trace"] is not None else match["thought"]
    parts = zip(_PARTS, (said[0][1], trace, _SOLUTION.sub("", match["answer"])), strict=True)
    return {part: _text(value, f"{part} in {_CONVERSATION}", where) for part, value in parts}


def _worked(row: DatasetRow, where: str) -> dict[str, str]:
    """The parts of a solution that is worked step by step and ends in ``#### 18``."""
    steps, mark, answer = _text(row.get("answer"), "answer", where).rpartition("####")
    if not mark or not steps.strip() or not answer.strip():
        raise StepError(
            f"data: {where} has no trace, and its answer is not worked out with #### before what comes of it: add a "
            "trace, or name its column with columns"
        )
    return {
        "question": _text(row.get("question"), "question", where),
        "trace": _CALCULATION.sub("", steps).strip(),
        "answer": answer.strip(),
    }


def _turn(turn: Any) -> tuple[Any, Any]:
    """Who said what, in either of the spellings that are used."""
    if not isinstance(turn, Mapping):
        return None, None
    roles, contents = _ROLES
    return next((turn[key] for key in roles if key in turn), None), next(
        (turn[key] for key in contents if key in turn), None
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
