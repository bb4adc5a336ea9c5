"""The sweep that the report's tests are about: three items, two samples, every kind of policy, and hostile texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.job.record import FinishedStep, ReportRequest
from tests.evaluate import tiny
from tests.evaluate.spoken import finished

HOSTILE = (
    "</script><script>window.broken = 1</script>",
    "<img src=x onerror='window.broken = 2'>",
    "\u202eeinsam\u202c \x00 \x1b[31m {{ 7 * 7 }} \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
)
"""What a model may say: markup, handlers, characters that turn the text around them, and one beyond 16 bits."""

THOUGHTS = (*HOSTILE, "short", "I add one and one, and then I think about it for quite a while longer.")
ANSWERS = (r" \boxed{2}", " \\boxed{<b>3</b>}", f" {HOSTILE[1]} 4", " none")
QUESTIONS = (
    {"id": "one", "question": "What is 1+1?", "answer": "2"},
    {"id": "<i>two</i>", "question": f"What is 2+2? {HOSTILE[0]}", "answer": "4"},
    {"id": "it's", "question": "What is 1+2?\u202e", "answer": "3"},
)


def fields(folder: Path, **changes: Any) -> Mapping[str, Any]:
    """The sweep's config; its model and its questions are written to `folder`."""
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in QUESTIONS))
    return {
        "model": str(tiny.save(folder / "model")),
        "tasks": [{"name": "sums", "path": str(path)}],
        "budgets": [4, 16, "auto"],
        "extensions": {"strings": ["Wait", "<b>", ""], "counts": [1, 2]},
        "baseline": True,
        "conditional": {"tokens": [8], "budget_forcing": True},
        "rejection": {"limits": [8], "max_tries": 2},
        "samples": 2,
        "temperature": 1.0,
        "max_answer_tokens": 60,
        "context_length": 256,
        "published": {"source": "<u>a paper</u>", "accuracy": {"sums": {"auto": 50.0, "4": {"accuracy": 0.0}}}},
    } | changes


def hostile(folder: Path) -> FinishedStep:
    """The sweep, finished in `folder`."""
    return finished(folder, fields(folder), THOUGHTS, ANSWERS)


def request(folder: Path, **changes: Any) -> ReportRequest:
    """A report on it in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    asked: dict[str, Any] = {"title": "sums & <more>", "folder": folder, "command": "report sums.yaml"}
    return ReportRequest(**(asked | changes))
