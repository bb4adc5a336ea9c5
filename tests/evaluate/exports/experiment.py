"""An experiment whose model is trained and whose sweep is finished, to be exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result

from orchestrator.__main__ import main
from orchestrator.experiment import load
from orchestrator.plan import plan
from orchestrator.store.step_folders import Store
from tests.evaluate import tiny
from tests.evaluate.report.sweep import ANSWERS, THOUGHTS, fields
from tests.evaluate.spoken import PROVENANCE, finish


def finished(folder: Path) -> Path:
    """Its file."""
    (folder / "train.jsonl").write_text(json.dumps({"question": "1+1?", "trace": "1 and 1", "answer": "2"}) + "\n")
    sweep: dict[str, Any] = {**fields(folder), "model": "${sft_model}"}
    content = {
        "name": "sums",
        "store": str(folder / "runs"),
        "tracking": f"sqlite:///{folder}/mlflow.db",
        "steps": {
            "sft_model": {"job": "finetune", "model": "org/base", "data": str(folder / "train.jsonl")},
            "sweep": {"job": "evaluate", **sweep},
        },
    }
    path = folder / "sums.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    experiment, store = load(path), Store(folder / "runs")
    model, swept = plan(experiment, store)
    for step in (model, swept):
        step.folder.create(step.identity)
        (step.folder.path / "provenance.json").write_text(json.dumps(PROVENANCE))
    tiny.save(Path(str(model.folder.output)))
    model.folder.mark_done()
    finish(swept.context(experiment, store), sweep, THOUGHTS, ANSWERS)
    swept.folder.mark_done()
    return path


def export(file: Path, folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["export", str(file), str(folder), *arguments], catch_exceptions=False)
