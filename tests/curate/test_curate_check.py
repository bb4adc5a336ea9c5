"""What cannot work whatever the rows turn out to be is a line before the traces are paid for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.curate.check import check
from jobs.curate.config import CurateConfig
from jobs.forecasts import DatasetForecast
from orchestrator.job.config import Upcoming
from tests.curate.test_curate import example


def config(data: str, **fields: Any) -> CurateConfig:
    return CurateConfig.model_validate_json(json.dumps({"data": data, **fields}))


def told(asked: CurateConfig, samples: int | None = None) -> list[str]:
    upcoming = Upcoming(asked, None, DatasetForecast(samples=samples))
    return [f"{'.'.join(map(str, each.field))}: {each.message}" for each in check(asked, {"traces": upcoming})]


def test_a_selection_larger_than_what_can_come_of_the_steps_before_is_found() -> None:
    asked = config("${traces}", select={"by": "random", "size": 1000})
    assert told(asked, 600) == ["select.size: 1,000 rows are asked for, and ${traces} makes at most 600: ask for fewer"]
    assert told(asked, 1000) == told(asked) == []


def test_ones_own_file_is_looked_through(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    file.write_text("".join(json.dumps(example(n, subject="algebra")) + "\n" for n in range(4)))
    select = {"by": "s1", "size": 9, "weights": {"geometry": 2.0}}
    assert told(config(str(file), domains="subject", select=select)) == [
        f"select.size: 9 rows are asked for, and {file} has 4: ask for fewer",
        f"select.weights: there is no domain 'geometry' in {file}: it has algebra",
    ]
    (line,) = told(config(str(file), domains="topic"))
    assert line.startswith(f"domains: no row of {file} has a column 'topic': give one of answer, answer_end")
    assert told(config(str(file), domains="subject", select={**select, "size": 4, "weights": {"algebra": 1.0}})) == []


def test_weights_of_what_is_no_class_are_refused() -> None:
    domains = {"classify": {"model": "a/b", "classes": ["x", "y"]}}
    with pytest.raises(ValidationError, match=r"select\.weights: 'z' is none of the classes: x, y"):
        config("${traces}", domains=domains, select={"by": "s1", "size": 4, "weights": {"z": 1.0}})
