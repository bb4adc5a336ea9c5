"""What the evaluate step says of how far it is: in tokens, from those that the store had to the last one decoded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs.evaluate import run as job
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.decode.forecast import Forecast, Progress
from jobs.evaluate.decode.replica import Decoded, Fetched, ReplicaSpec, Work
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.traces.files import Index
from orchestrator.job.context import StepContext
from orchestrator.job.usage import Meter
from orchestrator.store.step_folders import StepFolder
from tests.evaluate import tiny
from tests.evaluate.spoken import Speaker, walk_all


@pytest.mark.seconds
def test_a_sweep_says_tokens_units_bytes_and_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.save(tmp_path / "model", context_length=512)
    fields = {"model": str(model), "tasks": [{"name": "letters", "items": 6}], "budgets": [4, "auto"]}
    config = EvaluateConfig.model_validate_json(json.dumps(fields))
    said: list[dict[str, Any]] = []

    def decode(
        work: Sequence[Work],
        spec: ReplicaSpec,
        index: Index,
        *_: object,
        progress: Callable[[Progress], None],
        meter: Meter,
        devices: float,
        forecast: Forecast,
        most: Callable[[Unit], float],
        fetching: Callable[[Fetched], None],
        **__: object,
    ) -> Decoded:
        """The pool's, in this process."""
        meter.take(devices)
        fetching(Fetched(False, 10, 100))
        said.append(folder.read_progress())
        under_way = [(5, most(work[0].unit))]
        assert 5 < under_way[0][1] < 2 * 512
        progress(forecast.at(under_way, [0] * (len(work) - 1)))
        said.append(folder.read_progress())
        asyncio.run(walk_all(job.prepare(config, context), Speaker(["abcdefgh"], ["3"])))
        meter.decoded(100)
        meter.give_back(devices)
        index.refresh()
        forecast.finished(sum(row.length for row in index.unit(each.unit.item, 0).rows) for each in work)
        progress(forecast.at([], []))
        return Decoded(90, 10)

    monkeypatch.setattr(job, "decode", decode)
    folder = StepFolder(tmp_path / "sweep-0123456789abcdef")
    context = StepContext("e", "sweep", "0123456789abcdef", folder.path, tmp_path / "traces")
    job.run(config, context)
    fetched, begun = said
    assert (fetched["done"], fetched["total"], fetched["unit"]) == (10, 100, "bytes of the model")
    assert (begun["done"], begun["unit"]) == (5, "tokens, 0/6 units")
    assert 50 < begun["total"] < 1000, "of words and letters, not of mathematics"
    last = folder.read_progress()
    assert last["done"] == last["total"] > 0
    assert last["unit"] == "tokens, 6/6 units"
    held = folder.read_held()
    assert (held["devices"], held["tokens"]) == (0, 100)
    costs = json.loads((context.output / "decode.json").read_text())["costs"]
    assert costs["device_seconds"] == pytest.approx(held["device_seconds"])
    # And again, when the store has all of it: nothing is decoded, and all of it is there.
    monkeypatch.delattr(job, "decode")
    job.run(config, context)
    again = folder.read_progress()
    assert (again["done"], again["total"], again["unit"]) == (last["done"], last["total"], "tokens, 6/6 units")
    assert folder.read_held()["tokens"] is None
