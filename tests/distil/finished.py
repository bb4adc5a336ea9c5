"""An experiment whose distilling step was finished by a grader that read less than ours, and the steps that take it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.distil.made_rows import RowsBySample
from jobs.distil.questions import questions
from jobs.distil.regrade import _thoughts
from jobs.distil.run import SAMPLES, keep, tell
from jobs.evaluate.samples import SCHEMA
from orchestrator.experiment import load
from orchestrator.plan import PlannedStep, plan
from orchestrator.registry import JOBS
from orchestrator.store.step_folders import Store
from tests.distil.test_distil import told
from tests.evaluate.chat.chat_server import ChatServer

HOSTILE = "</script><script>window.broken = 1</script>"
ANSWERS = {"What is 1 + 1?": "Answer: 2", "What is 1 / 2?": r"\boxed{0.5}", f"{HOSTILE} 3 + 4?": "Answer: 8"}


def steps(folder: Path) -> dict[str, PlannedStep]:
    """The experiment's, as they are planned now."""
    return {each.step.name: each for each in plan(load(folder / "sums.yaml"), Store(folder / "runs"))}


def make(folder: Path, step: str) -> None:
    """Does a step, as a run does."""
    made = steps(folder)[step]
    made.folder.create(made.identity)
    context = made.context(load(folder / "sums.yaml"), Store(folder / "runs"))
    JOBS[made.step.kind].run(made.step.config, context)
    made.folder.mark_done()
    made.folder.write_status(state="done")


def finish(folder: Path) -> Path:
    """Writes the experiment and does its steps. The half was graded as wrong."""
    golds = ("2", r"\frac{1}{2}", "7")
    rows = [
        {"id": f"q{n}", "question": question, "answer": gold}
        for n, (question, gold) in enumerate(zip(ANSWERS, golds, strict=True))
    ]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    server = ChatServer(lambda body: told(f"hm {HOSTILE}", ANSWERS[str(body["messages"][-1]["content"])]))
    with server.serving() as url:
        teacher: dict[str, Any] = {"engine": "openai", "served_model": "r1", "chat": {}, "keep": "correct"}
        teacher |= {"job": "distil", "resources": {"server": {"url": url}}}
        asked = [{"name": "sums", "path": str(folder / "sums.jsonl"), "type": "math"}]
        experiment = {
            "name": "sums",
            "store": str(folder / "runs"),
            "tracking": f"sqlite:///{folder}/mlflow.db",
            "steps": {
                "traces": {**teacher, "questions": asked},
                "chosen": {"job": "curate", "data": "${traces}"},
                "again": {**teacher, "questions": "${traces}"},
            },
        }
        (folder / "sums.yaml").write_text(json.dumps(experiment))
        make(folder, "traces")
        _as_an_older_grader(folder)
        make(folder, "chosen")
        make(folder, "again")
    return folder


def _as_an_older_grader(folder: Path) -> None:
    step = steps(folder)["traces"]
    config: Any = step.step.config
    context = step.context(load(folder / "sums.yaml"), Store(folder / "runs"))
    asked, samples = questions(config, {}), context.output / SAMPLES
    rows = [row | ({"verdict": "wrong"} if row["item"] == "q1" else {}) for row in pq.read_table(samples).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), samples)
    with RowsBySample(context.output) as made:
        thoughts = list(_thoughts(samples, asked, made))
    (context.output / "grading.json").write_text('{"grader": 1}')
    tell(config, context, "r1", keep(config, asked, samples, thoughts, context.output))
    step.folder.mark_done()
