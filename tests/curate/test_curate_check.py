"""What cannot work whatever the rows turn out to be is a line before the traces are paid for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.curate.check import check
from jobs.curate.config import CurateConfig
from jobs.evaluate.config import EvaluateConfig
from jobs.forecasts import DatasetForecast
from orchestrator.job.config import StepConfig, Upcoming
from tests.curate.test_curate import example


def config(data: str, **fields: Any) -> CurateConfig:
    return CurateConfig.model_validate_json(json.dumps({"data": data, **fields}))


def told(asked: CurateConfig, samples: int | None = None, made: Path | None = None, **sweeps: StepConfig) -> list[str]:
    upcoming = {"traces": Upcoming(asked, made, DatasetForecast(samples=samples))}
    upcoming |= {name: Upcoming(sweep, None) for name, sweep in sweeps.items()}
    return [f"{'.'.join(map(str, each.field))}: {each.message}" for each in check(asked, upcoming)]


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


def test_what_a_step_has_made_already_is_looked_through_too(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(example(n, subject="algebra")) + "\n" for n in range(4)))
    select = {"by": "s1", "size": 9, "weights": {"geometry": 2.0}}
    assert told(config("${traces}", domains="subject", select=select), 600, tmp_path) == [
        "select.size: 9 rows are asked for, and ${traces} has 4: ask for fewer",
        "select.weights: there is no domain 'geometry' in ${traces}: it has algebra",
    ]


def test_a_policy_that_a_sweep_does_not_have_is_found_before_the_sweep_is_run() -> None:
    fields = {"model": "a/b", "tasks": ["letters"], "budgets": [512, 1024]}
    sweep = EvaluateConfig.model_validate_json(json.dumps(fields))
    asked = config("${traces}", difficulty={"wrong_in": ["${sweep}"]})
    assert told(asked, sweep=sweep) == ["difficulty.policy: ${sweep} has no policy 'auto': it has 512, 1024"]
    accuracy = {"of": "${sweep}", "between": [0.1, 0.7], "policy": "2048"}
    (line,) = told(config("${traces}", difficulty={"accuracy": accuracy}), sweep=sweep)
    assert line.startswith("difficulty.accuracy.policy: ${sweep} has no policy '2048'")
    assert told(config("${traces}", difficulty={"wrong_in": ["${sweep}"], "policy": "512"}), sweep=sweep) == []


def test_weights_of_what_is_no_class_are_refused() -> None:
    domains = {"classify": {"model": "a/b", "classes": ["x", "y"]}}
    with pytest.raises(ValidationError, match=r"select\.weights: 'z' is none of the classes: x, y"):
        config("${traces}", domains=domains, select={"by": "s1", "size": 4, "weights": {"z": 1.0}})
