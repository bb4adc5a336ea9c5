"""Stores with finished sweeps, made in a moment: samples as a sweep would leave them, and the files that follow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.figures import costs, tables
from jobs.evaluate.publish import results
from orchestrator.job.usage import Spending
from orchestrator.store.records import write_json_atomically, write_note
from orchestrator.store.step_folders import PAGE, StepFolder, Store
from tests.evaluate.simulated import LETTERS, Shape, simulate
from tests.evaluate.spoken import COSTS, PROVENANCE

SHAPE: Shape = {policy: LETTERS[policy] for policy in list(LETTERS)[:8]}
CONFIG = {"budgets": [4, 8, 16, 32, "auto"], "extensions": {"strings": ["Wait"], "counts": [1, 2, 4]}}


def fingerprint(name: str) -> str:
    return f"{sum(map(ord, name)):016x}"


def add(
    store: Path, name: str, frame: pd.DataFrame | None = None, finished: float | None = None, **fields: Any
) -> StepFolder:
    """The finished sweep `name` of `store`; the default is the letters model's on 40 items."""
    folder = Store(store).step(name, fingerprint(name))
    fields = {"model": "org/tiny", "tasks": ["letters"], **CONFIG, **fields}
    config = EvaluateConfig.model_validate_json(json.dumps(fields))
    folder.create({"job": "evaluate", "version": config.VERSION, "config": config.model_dump(mode="json")})
    output = folder.output
    frame = simulate(SHAPE, items=40) if frame is None else frame
    frame.to_parquet(output / "samples.parquet")
    sweep = results(config, output / "samples.parquet")
    points = costs.rows(sweep.curves, COSTS)
    files = {
        "curves.json": tables.as_record(sweep.curves),
        "decode.json": {"thinking_tokens_decoded": 300, "answer_tokens_decoded": 100, "costs": COSTS.record()},
        "costs.json": {**COSTS.record(), "points": points},
    }
    for file, value in files.items():
        (output / file).write_text(json.dumps(value))
    write_json_atomically(folder.path / "config.json", config.model_dump(mode="json"))
    write_note(folder.path / "provenance.json", PROVENANCE)
    write_note(folder.path / "spent.json", vars(Spending(12.0, 40.0, 0.5, "core")))
    folder.mark_done()
    if finished is not None:
        record = json.loads((folder.path / "done.json").read_text())["record"] | {"time": finished}
        from orchestrator.store.records import write_record

        write_record(folder.path / "done.json", record)
    return folder


def report_on(store: Path, name: str, *steps: StepFolder, content: str = "<p>a report</p>") -> Path:
    """A page that is about `steps`."""
    folder = store / "reports" / name
    folder.mkdir(parents=True)
    (folder / "steps.json").write_text(json.dumps([step.path.name for step in steps]))
    (folder / PAGE).write_text(content)
    return folder / PAGE
