"""A kind of step from another package, and what the control plane makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any

from orchestrator.job.extensions import Lazy
from orchestrator.job.record import Job
from orchestrator.registry import JOBS
from tests.installed import install
from tests.orchestrator.workplace import Workplace

SOURCE = """
    import json
    from typing import ClassVar

    from jobs.forecasts import DatasetForecast
    from orchestrator.job.config import StepConfig
    from orchestrator.job.estimate import Estimate
    from orchestrator.job.outputs import Dataset, Output
    from orchestrator.job.record import Job
    from orchestrator.job.references import DatasetSource


    class Filter(StepConfig):
        VERSION: ClassVar[int] = 1
        PRODUCES: ClassVar[type[Output]] = Dataset

        data: DatasetSource
        keep: int
        file: str = "train.jsonl"


    def run(config, context):
        rows = context.take(config.data, Dataset).train.read_text().splitlines()
        context.output.mkdir(parents=True, exist_ok=True)
        (context.output / config.file).write_text("\\n".join(rows[: config.keep]) + "\\n")


    def estimate(config, inputs):
        return Estimate(f"keeps {config.keep} of {inputs[config.data.step].forecast.samples}")


    def forecast(config, inputs):
        return DatasetForecast(samples=config.keep)


    JOB = Job(config=Filter, run=run, estimate=estimate, forecast=forecast)
"""
STEP = "  {name}:\n    job: filter\n    data: ${{{data}}}\n    keep: {keep}\n"


def test_a_kind_of_step_from_another_package_is_planned_and_run_like_ours(workplace: Workplace) -> None:
    points = {"scaling_orchestrator.jobs": {"filter": "their_filter:JOB"}}
    theirs = install(workplace.folder / "site", "their_filter", SOURCE, points)
    workplace.environment["PYTHONPATH"] += f":{theirs}"
    some = STEP.format(name="some", data="letters", keep=5)
    few = STEP.format(name="few", data="some", keep=2)
    workplace.write(100, some + few + "    file: kept.jsonl\n")
    code, output = workplace.run("plan", "words.yaml")
    assert code == 0, output
    assert "keeps 5 of 100" in output
    assert "keeps 2 of 5" in output
    code, output = workplace.run("run", "words.yaml")
    assert code == 1
    assert "some: done in" in output
    assert "few: configuration: job filter made no dataset: its output has neither train.jsonl nor test.jsonl" in output
    assert not (workplace.step("few") / "done.json").exists()
    workplace.write(100, some + few)
    code, output = workplace.run("run", "words.yaml")
    assert code == 0, output
    assert len((workplace.step("few") / "output" / "train.jsonl").read_text().splitlines()) == 2
    code, output = workplace.run("plan", "words.yaml", "--set", "steps.few.job=fliter")
    assert code == 2
    assert "did you mean 'filter'?" in output


def test_every_function_that_a_kind_of_ours_gives_is_there() -> None:
    for kind in JOBS:
        job: Job = JOBS[kind]
        given: list[Callable[..., Any] | None] = [job.run, job.estimate, job.forecast, job.look, job.regrade]
        for function in [*given, job.compare, job.report]:
            if isinstance(function, Lazy):
                assert callable(resolve_name(function.target)), function
