"""The collect step on Ray gives what collecting in one process gives."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from jobs.collect.config import CollectConfig
from jobs.collect.run import run
from orchestrator.job.context import StepContext
from tests.collect.questions import asked, collect, source
from tests.ray_cluster import ray_cluster

pytestmark = pytest.mark.processes


def test_blocks_on_ray_give_what_one_process_gives(tmp_path: Path) -> None:
    rng = random.Random(0)
    words = [f"w{number}" for number in range(500)]
    texts = [" ".join(rng.choices(words, k=30)) for _ in range(3000)]
    texts += [text.replace("w1", "w2") for text in texts[:300]] + texts[:100]
    sources = [source(tmp_path, "a", asked(texts[:1500])), source(tmp_path, "b", asked(texts[1500:]), quota=1000)]
    fields = {"sources": sources, "decontaminate": [source(tmp_path, "exam", asked(texts[7:27]))]}
    here, _ = collect(tmp_path, fields, size=400)
    context = StepContext("experiment", "questions", "0", tmp_path / "on ray", tmp_path / "traces")
    with ray_cluster():
        run(CollectConfig.model_validate_json(json.dumps(fields)), context)
    for name in ("test.jsonl", "dropped.jsonl", "funnel.json", "README.md"):
        assert (context.output / name).read_text() == (here / name).read_text(), name
    assert json.loads((context.folder / "progress.json").read_text())["done"] == len(texts)
    tracked = context.folder / "tracked" / "questions"
    assert json.loads((tracked / "run.json").read_text())["group"] == "data"
    (line,) = (tracked / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["values"]["dropped_contaminated"] >= 20
    assert {file.name for file in (tracked / "artifacts").iterdir()} == {"README.md", "funnel.json"}
