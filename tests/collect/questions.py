"""Sources written by tests, collected in this process without Ray."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs.collect.config import CollectConfig
from jobs.collect.features import Block, Function, blocks
from jobs.collect.run import Decided, _rows, book, decide, write
from orchestrator.job.context import StepContext


def source(folder: Path, name: str, rows: Iterable[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """A source as an experiment file has it, and its file."""
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"name": name, "path": str(path), "type": "text", **more}


def asked(questions: Iterable[str], answer: str = "1") -> list[dict[str, str]]:
    """Rows that ask `questions`."""
    return [{"id": f"q{number}", "question": each, "answer": answer} for number, each in enumerate(questions)]


def collect(folder: Path, fields: Mapping[str, Any], size: int = 3) -> tuple[Path, Decided]:
    """Does the step in a folder of its own, in blocks of `size` rows that come back in another order."""
    config = CollectConfig.model_validate_json(json.dumps(fields))
    context = StepContext("experiment", "questions", "0", folder / "step", folder / "traces")
    held = list(blocks(_rows(config, {}), size))

    def again() -> Iterator[Block]:
        yield from held

    def mapped(function: Function) -> Iterator[Block]:
        return (function(block) for block in reversed(held))

    decided = decide(config, again, mapped, book(config, {}))
    write(config, context, again(), decided)
    return context.output, decided


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
