"""A rule that runs while a trace is decoded comes to what its replay on the whole trace comes to, token for token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.decode.walker import TRUNK, Walker
from jobs.evaluate.decode.watching import OnlineRule, RuleWatch
from jobs.evaluate.engines.protocol import Chunk, Engine, EngineSpec, Request, Sampling, start
from jobs.evaluate.grading.reader import Read, Text
from jobs.evaluate.run import missing, prepare
from jobs.evaluate.stopping.rule import made
from jobs.evaluate.stopping.trace_rule import TraceRule
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.stopping import Stopping, WatchedProbe, replayed
from jobs.evaluate.sweep.policy import FINAL_ANSWER, Policy
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.sweep.tree import Leaf, Room, Tree, grow, leaf, wanted
from jobs.evaluate.traces.files import Index
from jobs.evaluate.traces.segments import Segment, Trace
from orchestrator.job.context import StepContext
from tests.evaluate.scripted import Script, ScriptedEngine, forcing
from tests.evaluate.spoken import Speaker, conclude, walk_all
from tests.evaluate.stopping.test_replay import ANSWERS, THOUGHTS, fields
from tests.evaluate.test_config import config

FORCING = forcing({})


def unit(room: int) -> Unit:
    return Unit("item", 0, (5, 6, 7), Room(room, 4))


def said(closing: str | None, tokens: Sequence[int]) -> str:
    """Few different answers, so that probes often agree; some say nothing."""
    return str(sum(tokens) % 3) if len(tokens) % 4 else ""


def reading(texts: Sequence[Text]) -> list[Read | str]:
    return [Read(text.answer or None, "test", text.answer or None, None) for text in texts]


def walk(tree: Tree, script: Script, of: Unit, watch: RuleWatch | None, trace: Trace, chunk: int) -> list[Segment]:
    kept: list[Segment] = []
    engine = ScriptedEngine(script, chunk=chunk)
    asyncio.run(Walker(engine, tree, FORCING, Sampling(), 0, kept.append, watch=watch).walk(of, trace))
    assert not list(wanted(tree, of.room, trace.extent)), "nothing more is wanted of it"
    return kept


def by_loop(probes: Sequence[Policy], tree: Tree, of: Unit, trace: Trace, agree: int) -> Leaf:
    """What convergence comes to on a whole trace, by its definition."""
    row: list[str] = []
    for probe in probes:
        end = leaf(tree, probe, of.room, trace.extent)
        assert end.answer is not None
        if end.thinking_end != "forced" or probe == probes[-1]:
            return end
        answer = said(FINAL_ANSWER, trace.tokens(end.answer)[: end.answer_tokens])
        row = [*row, answer] if answer and set(row) <= {answer} else [answer] if answer else []
        if len(row) >= agree:
            return end
    raise AssertionError("the last is no probe")


@pytest.mark.seconds
@settings(max_examples=150, deadline=None)
@given(
    *(st.integers(0, 10**6), st.sampled_from([0, 2, 8, 30]), st.integers(1, 9), st.integers(8, 60)),
    *(st.integers(2, 3), st.integers(3, 70), st.integers(1, 5), st.floats(0, 1)),
)
def test_a_rule_that_runs_comes_to_what_its_replay_comes_to(
    seed: int, stops: int, every: int, until: int, agree: int, room: int, chunk: int, killed: float
) -> None:
    script, of = Script(seed, stops), unit(room)
    if until < every:
        return
    asked = Stopping.model_validate({"rule": "convergence", "agree": agree, "every": every, "until": until})
    whole = [*(Budget(cut) for cut in asked.cuts(())), Budget()]
    tree = grow(whole, {})
    trace = Trace(of, FORCING)
    walk(tree, script, of, None, trace, chunk)
    expected = by_loop(whole, tree, of, trace, agree)

    (policy,) = replayed([asked.model_copy(update={"online": True})], [])
    probes = policy.leaves
    assert isinstance(probes[0], WatchedProbe)
    running = grow(probes, {})
    (rule,) = made("convergence", {"agree": agree})
    assert isinstance(rule, TraceRule)
    watch = RuleWatch(OnlineRule(rule, probes[0].mark, asked.cuts(()), said), reading)
    short = Trace(of, FORCING)
    kept = walk(running, script, of, watch, short, chunk)
    found = leaf(running, probes[-1], of.room, short.extent)
    assert found._replace(thinking_end="forced") == expected._replace(thinking_end="forced")
    assert found.answer is not None
    assert list(short.tokens(found.answer)) == list(trace.tokens(found.answer))
    assert short.thinking_tokens <= trace.thinking_tokens

    # Killed after any segment, and continued by another walker, it comes to the same.
    cut = round(killed * len(kept))
    again = Trace(of, FORCING)
    for segment in kept[:cut]:
        again.restore(segment)
    walk(running, script, of, watch, again, chunk)
    assert leaf(running, probes[-1], of.room, again.extent) == found


ONLINE: dict[str, Any] = {"rule": "convergence", "agree": 2, "every": 4, "until": 48}
POLICY = "convergence 2 agree every 4"


def swept(folder: Path, asked: dict[str, Any], engine: Engine) -> tuple[pd.DataFrame, int]:
    """The rule's rows, and the tokens that were decoded."""
    context = StepContext("experiment", "sweep", "0" * 16, folder / "step", folder / "traces")
    made_of = EvaluateConfig.model_validate_json(json.dumps(asked))
    sweep = prepare(made_of, context)
    decoded = asyncio.run(walk_all(sweep, engine))
    conclude(made_of, context, sweep)
    assert not missing(sweep, Index(sweep.folder, report=print))
    rows = pd.read_parquet(context.output / "samples.parquet")
    return rows[rows["policy"] == POLICY].reset_index(drop=True), decoded


class Slow(Speaker):
    """Thinks so slowly that a probe is answered before the next is reached."""

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        async for chunk in super().stream(request):
            for place, token in enumerate(chunk.tokens):
                if request.priority == TRUNK:
                    await asyncio.sleep(0.005)
                yield Chunk([token], chunk.end if place + 1 == len(chunk.tokens) else None)
            if not chunk.tokens:
                yield chunk


@pytest.mark.seconds
def test_a_sweep_that_runs_a_rule_has_the_rows_of_the_sweep_that_replays_it(tmp_path: Path) -> None:
    both = []
    for name, online in (("whole", False), ("online", True)):
        folder = tmp_path / name
        folder.mkdir()
        asked = fields(folder, stopping={**ONLINE, "online": online}, samples=4)
        asked = {key: value for key, value in asked.items() if key != "budgets"}
        both.append(swept(folder, asked, Slow(THOUGHTS, ANSWERS)))
    (whole, all_tokens), (online_rows, fewer) = both
    assert len(whole) == 24
    assert set(whole["thinking_end"]) == {"forced", "natural"}
    pd.testing.assert_frame_equal(whole, online_rows)
    assert fewer < all_tokens


@pytest.mark.seconds
def test_waits_run_online_too_and_stop_at_the_word_itself(tmp_path: Path) -> None:
    rows, decoded = {}, {}
    said = ("It is 2. Wait, no, it is 4. Wait, I think it is.", "Two.")
    for online in (False, True):
        folder = tmp_path / str(online)
        folder.mkdir()
        rule = {"rule": "waits", "after": 2 if online else [1, 2], "online": online}
        asked = fields(folder, stopping=rule)
        asked = {key: value for key, value in asked.items() if key != "budgets"}
        context = StepContext("experiment", "sweep", "0" * 16, folder / "step", folder / "traces")
        made_of = EvaluateConfig.model_validate_json(json.dumps(asked))
        sweep = prepare(made_of, context)
        decoded[online] = asyncio.run(walk_all(sweep, Slow(said, ANSWERS)))
        conclude(made_of, context, sweep)
        frame = pd.read_parquet(context.output / "samples.parquet")
        rows[online] = {policy: own.reset_index(drop=True) for policy, own in frame.groupby("policy")}
    pd.testing.assert_frame_equal(rows[False]["waits after 2"], rows[True]["waits after 2"])
    # A token for each letter: the first Wait ends with number 13, and the second with number 32.
    assert set(rows[False]["waits after 1"]["thinking_tokens"]) == {13, 4}
    assert set(rows[True]["waits after 2"]["thinking_tokens"]) == {32, 4}
    assert decoded[True] < decoded[False]
    assert "waits, cross-fitted" in rows[False]


@pytest.mark.seconds
def test_greedy_decoding_of_a_real_model_stops_where_its_replay_does(tmp_path: Path) -> None:
    rows = {}
    for online in (False, True):
        folder = tmp_path / str(online)
        folder.mkdir()
        greedy = {"samples": 1, "temperature": 0.0, "stopping": {**ONLINE, "online": online}}
        asked = {key: value for key, value in fields(folder, **greedy).items() if key != "budgets"}
        context = StepContext("experiment", "sweep", "0" * 16, folder / "step", folder / "traces")
        made_of = EvaluateConfig.model_validate_json(json.dumps(asked))
        sweep = prepare(made_of, context)

        async def run(asked: dict[str, Any] = asked, sweep: Any = sweep) -> None:
            spec = EngineSpec("transformers", asked["model"], None, "float32", 256, 261, gpus=0, cpus=1)
            running = await start(spec)
            try:
                await walk_all(sweep, running)
            finally:
                await running.close()

        asyncio.run(run())
        conclude(made_of, context, sweep)
        frame = pd.read_parquet(context.output / "samples.parquet")
        rows[online] = frame[frame["policy"] == POLICY].reset_index(drop=True)
    assert len(rows[True]) == 6
    pd.testing.assert_frame_equal(rows[False], rows[True])


@pytest.mark.parametrize(
    ("stopping", "changes", "remark"),
    [
        ({"rule": "oracle", "every": 4, "until": 8}, {}, "online: oracle cannot stop a trace as it is decoded: "),
        ({"rule": "asc", "every": 4, "until": 8}, {}, "online: asc cannot stop a trace"),
        ({**ONLINE, "agree": [2, 3]}, {}, "online: one setting of convergence can run, and these are 2: choose"),
        ({"rule": "convergence"}, {}, "online: needs every: and until:"),
        (ONLINE, {"extensions": None}, "budgets: asks for more than the rule that runs online"),
        (ONLINE, {"budgets": ["auto"]}, "budgets: asks for more than the rule that runs online"),
    ],
)
def test_what_cannot_run_is_said(stopping: dict[str, Any], changes: dict[str, Any], remark: str) -> None:
    with pytest.raises(ValidationError) as refused:
        config(stopping=[{**stopping, "online": True}], **changes)
    assert remark in str(refused.value)
