"""What can be said of a sweep that still decodes: blocks that are whole, from the store, and nothing before."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import pytest

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.decode.walker import Walker
from jobs.evaluate.grading.grader import Grader
from jobs.evaluate.live import follower
from jobs.evaluate.live.follower import SweepFollower
from jobs.evaluate.live.rates import Rates
from jobs.evaluate.run import Sweep, missing, prepare
from jobs.evaluate.samples import write_samples
from jobs.evaluate.stats.curves import measure
from jobs.evaluate.stopping.replay import files
from jobs.evaluate.traces.files import Index, write
from jobs.evaluate.traces.segments import Segment
from orchestrator.job.context import StepContext
from orchestrator.store.leases import Lease
from orchestrator.store.step_folders import StepFolder
from tests.evaluate import tiny
from tests.evaluate.report.sweep import ANSWERS, THOUGHTS
from tests.evaluate.spoken import Speaker
from tests.noticed import noticeable

ITEMS = 40


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> EvaluateConfig:
    folder = tmp_path_factory.mktemp("questions")
    path = folder / "questions.jsonl"
    rows = [{"id": f"q{number}", "question": f"What is {number}+1?", "answer": "2"} for number in range(ITEMS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = {
        "model": str(tiny.save(folder / "model")),
        "tasks": [{"name": "sums", "path": str(path)}],
        "budgets": [4, "auto"],
        "max_answer_tokens": 20,
        "context_length": 256,
    }
    return EvaluateConfig.model_validate_json(json.dumps(fields))


@pytest.fixture
def context(tmp_path: Path) -> StepContext:
    folder = tmp_path / "sweep-0123456789abcdef"
    folder.mkdir()
    return StepContext("experiment", "sweep", "0123456789abcdef", folder, tmp_path / "traces")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(follower, "SHARE", math.inf)


def begun(config: EvaluateConfig, context: StepContext) -> Sweep:
    """As the step begins: its traces have a folder, and it says which."""
    sweep = prepare(config, context)
    context.use_traces(sweep.folder)
    return sweep


def decode(sweep: Sweep, count: int) -> list[str]:
    """Decodes the next so many units of those that are missing; returns their items."""

    async def walk() -> list[str]:
        replica = sweep.replica
        done: list[str] = []
        segments: list[Segment] = []
        for work in missing(sweep, Index(sweep.folder, report=print))[:count]:
            engine = Speaker(THOUGHTS, ANSWERS)
            walker = Walker(
                engine, replica.trees[work.unit.tree], replica.forcing, replica.sampling, 0, segments.append
            )
            await walker.walk(work.unit, work.trace(replica.forcing))
            done.append(work.unit.item)
        write(sweep.folder, segments)
        return done

    return asyncio.run(walk())


def test_points_are_shown_block_by_block_and_are_what_these_items_alone_say(
    config: EvaluateConfig, context: StepContext, tmp_path: Path
) -> None:
    looking, sweep = SweepFollower(config, context), begun(config, context)
    assert "The first points come once" in looking.look().html
    first = decode(sweep, 19)
    assert "The first points come once" in looking.look().html, "nineteen of twenty"
    first += decode(sweep, 1)
    shown = looking.look().html
    assert "Preliminary:" in shown
    assert "20 of 40 items" in shown
    assert "20 are still to come" in shown
    assert 'class="preliminary"' in shown
    asked = [question for question in sweep.questions if question.units[0].item in set(first)]
    assert len(asked) == 20
    with Grader() as grader:
        index = Index(sweep.folder, report=print)
        write_samples(files(config, tmp_path / "s.parquet"), asked, sweep.replica.trees, sweep.prompter, index, grader)
    for point in {
        point.name: point for curve in measure(tmp_path / "s.parquet", config.policies) for point in curve.points
    }.values():
        interval = f"{100 * point.interval.low:.1f}% – {100 * point.interval.high:.1f}%"
        assert f'{100 * point.accuracy:.1f}%</td><td class="n">{interval}</td>' in shown
    decode(sweep, ITEMS)
    shown = looking.look().html
    assert "Preliminary" not in shown
    assert "All 40 items." in shown


def test_whoever_runs_a_sweep_notices_nothing_of_who_looks_at_it(
    config: EvaluateConfig, context: StepContext, tmp_path: Path
) -> None:
    looking = SweepFollower(config, context)
    with noticeable(tmp_path) as noticed:
        looking.look()
    assert noticed == [], "before the step has made a folder for its traces"
    with noticeable(tmp_path) as noticed:
        sweep = begun(config, context)
    assert noticed, "what the step itself does is"
    decode(sweep, 25)
    (Path(str(sweep.folder)) / f"{9:020d}-damaged.parquet").write_bytes(b"not what was written")
    before = {str(path): path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with noticeable(tmp_path) as noticed:
        assert "20 of 40 items" in looking.look().html
    assert noticed == []
    assert {str(path): path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_what_is_shown_already_is_not_made_again(
    config: EvaluateConfig, context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, looking = begun(config, context), SweepFollower(config, context)
    decode(sweep, 20)
    shown = looking.look().html
    monkeypatch.setattr(follower, "chart", pytest.fail)
    monkeypatch.setattr(follower, "write_rows", pytest.fail)
    decode(sweep, 10)
    assert looking.look().html == shown, "no block more is whole"


def test_rates_are_those_of_the_last_half_minute_and_of_replicas_that_are_there() -> None:
    rates = Rates()
    rates.at(100.0, {"replica-0": 0})
    assert rates.rows() == [("replica-0", "starting", 0.0)]
    for second in range(1, 61):
        rates.at(100.0 + second, {"replica-0": 10 * second, "replica-1": 40 * max(0, second - 30)})
    assert rates.per_second() == {"replica-0": 10.0, "replica-1": 40.0}
    assert rates.rows()[0] == ("replica-0", "10 tokens/s", 25.0)
    rates.at(161.0, {"replica-1": 1240.0})
    assert set(rates.per_second()) == {"replica-1"}


def test_replicas_are_shown_while_a_run_has_them(config: EvaluateConfig, context: StepContext) -> None:
    context.progress(10, 20, "tokens", None, {"replica-0": 7})
    folder, looking = StepFolder(context.storage), SweepFollower(config, context)
    folder.acquire(Lease.by_this_process("run"))
    assert "replica-0" in looking.look().html
    folder.release("run")
    assert "replica-0" not in looking.look().html


def test_what_replicas_decoded_is_said_with_the_progress(context: StepContext) -> None:
    context.progress(10, 20, "tokens", None, {"replica-0": 7, "replica-1": 3})
    rates = Rates()
    rates.tell(context.storage)
    assert set(rates.per_second()) == {"replica-0", "replica-1"}
