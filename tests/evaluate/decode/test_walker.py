from __future__ import annotations

import asyncio

import pytest

from jobs.evaluate.decode.walker import CHILD, FORK, TRUNK, Walker
from jobs.evaluate.engines.protocol import EngineError, Sampling
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.extensions import grid
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.sweep.tree import Key, Room, grow
from jobs.evaluate.traces.segments import Segment, Trace
from tests.evaluate.scripted import Script, ScriptedEngine, forcing

INJECTED = {"Wait": (16,), "": ()}
UNIT = Unit("item", 0, (5, 6, 7), Room(60, 4))
POLICIES = grid([2, 4, 8, 16, None], ["Wait", ""], [1, 2])
NEVER_ENDS, ENDS_AT_ONCE = Script(0, 0), Script(0, 256)


def walker(engine: ScriptedEngine, kept: list[Segment], seed: int = 0) -> Walker:
    tree = grow(POLICIES, {string: len(ids) for string, ids in INJECTED.items()})
    return Walker(engine, tree, forcing(INJECTED), Sampling(), seed, kept.append)


def walk(engine: ScriptedEngine, unit: Unit = UNIT, seed: int = 0) -> list[Segment]:
    kept: list[Segment] = []
    asyncio.run(walker(engine, kept, seed).walk(unit, Trace(unit, forcing(INJECTED))))
    return kept


def test_forks_start_while_the_branch_goes_on() -> None:
    engine = ScriptedEngine(NEVER_ENDS)
    kept = walk(engine)
    order = [segment.key for segment in kept]
    assert order.index(Key((), "forced", 2)) < len(order) - 1 - order[::-1].index(Key((), "thinking"))
    assert len([request for request in engine.requests if request.priority == TRUNK]) == 1, "the trunk never stopped"


def test_a_branch_is_kept_at_every_budget_it_crosses() -> None:
    kept = walk(ScriptedEngine(NEVER_ENDS))
    stretches = [(segment.start, len(segment.tokens)) for segment in kept if segment.key.kind == "thinking"]
    assert stretches == [(0, 2), (2, 2), (4, 4), (8, 8), (16, 44)]


def test_forks_and_children_go_ahead_of_trunks() -> None:
    engine = ScriptedEngine(ENDS_AT_ONCE)
    walk(engine)
    assert FORK < CHILD < TRUNK
    priorities = [request.priority for request in engine.requests]
    assert priorities[0] == TRUNK
    assert {FORK, CHILD} == set(priorities[1:])


def test_only_the_token_after_an_injection_may_not_be_a_stop() -> None:
    engine = ScriptedEngine(ENDS_AT_ONCE)
    kept = walk(engine)
    for request in engine.requests:
        assert request.forbid_stop_first == (request.priority == CHILD)
    thinking = {segment.key.path: len(segment.tokens) for segment in kept if segment.key.kind == "thinking"}
    assert thinking == {(): 0, ("Wait",): 1, ("Wait", "Wait"): 1, ("",): 1, ("", ""): 1}


def test_a_child_that_is_continued_may_end() -> None:
    trace = Trace(UNIT, forcing(INJECTED))
    child = Key(("Wait",), "thinking")
    trace.end(Key((), "thinking"))
    trace.keep(Key((), "thinking"), 0)
    trace.extend(child, [9])
    trace.keep(child, 0)
    engine = ScriptedEngine(ENDS_AT_ONCE)
    asyncio.run(walker(engine, []).walk(UNIT, trace))
    assert trace.extent(child) == (1, True)


def test_every_piece_has_a_random_stream_of_its_own_that_depends_on_nothing_else() -> None:
    def streams(unit: Unit, seed: int) -> set[int]:
        engine = ScriptedEngine(Script(0, 30))
        walk(engine, unit, seed)
        return {request.seed for request in engine.requests if request.position == 0}

    first = streams(UNIT, 0)
    assert len(first) == len({segment.key for segment in walk(ScriptedEngine(Script(0, 30)))})
    assert streams(UNIT, 0) == first
    for other in (streams(UNIT, 1), streams(Unit("other", 0, UNIT.prompt, UNIT.room), 0)):
        assert not first & other
    assert not first & streams(Unit("item", 1, UNIT.prompt, UNIT.room), 0)


@pytest.mark.parametrize("requests", range(12))
def test_an_engine_that_fails_leaves_no_request_behind(requests: int) -> None:
    engine = ScriptedEngine(Script(1, 20), fail_after=requests)
    with pytest.raises(EngineError, match="the script says so"):
        walk(engine)
    assert engine.open == 0


@pytest.mark.parametrize("moment", [0, 1, 3, 10, 30, 50])
def test_a_cancelled_unit_leaves_no_request_behind(moment: int) -> None:
    engine = ScriptedEngine(NEVER_ENDS)

    async def cancel() -> None:
        task = asyncio.create_task(walker(engine, []).walk(UNIT, Trace(UNIT, forcing(INJECTED))))
        for _ in range(moment):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.open == 0

    asyncio.run(cancel())


def test_an_engine_that_ends_early_without_a_stop_is_not_believed() -> None:
    class Short(ScriptedEngine):
        async def stream(self, request):  # type: ignore[no-untyped-def]
            async for chunk in super().stream(request):
                yield chunk
                return

    with pytest.raises(EngineError, match="without a stop"):
        walk(Short(NEVER_ENDS))


def test_a_complete_unit_asks_for_nothing() -> None:
    engine = ScriptedEngine(Script(3, 30))
    trace = Trace(UNIT, forcing(INJECTED))
    asyncio.run(walker(engine, []).walk(UNIT, trace))
    asked = len(engine.requests)
    asyncio.run(walker(engine, []).walk(UNIT, trace))
    assert len(engine.requests) == asked


def test_policies_that_differ_only_in_budgets_beyond_the_end_cost_nothing_more() -> None:
    engine = ScriptedEngine(ENDS_AT_ONCE)
    walk(engine)
    assert len([request for request in engine.requests if request.priority == FORK]) == 5
    assert Budget(2) in POLICIES
