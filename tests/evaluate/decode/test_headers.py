from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.decode.headers import Headers
from jobs.evaluate.decode.walker import Walker
from jobs.evaluate.engines.protocol import Sampling
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.step_budgets import StepBudget
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.sweep.tree import Extent, Key, Room, grow, leaf, wanted
from jobs.evaluate.traces.segments import Segment, Trace
from tests.evaluate.oracle import headers
from tests.evaluate.scripted import NEWLINE, STEP, Script, ScriptedEngine, forcing

ROOM = Room(200, 4)
UNIT = Unit("item", 0, (5, 6, 7), ROOM)
FORCING = forcing({}, STEP)
STEPS = (StepBudget(1), StepBudget(2))
NEVER_ENDS = Script(0, 0)


@given(st.lists(st.integers(0, 2), max_size=30), st.lists(st.integers(0, 2), min_size=1, max_size=3), st.data())
def test_headers_are_found_however_tokens_come(tokens: list[int], header: list[int], data: st.DataObject) -> None:
    ends = sorted(data.draw(st.sets(st.integers(0, len(tokens)))) | {len(tokens)})
    finder = Headers(header, 0)
    found = [at for end in ends for at in finder.fresh(tokens[:end])]
    assert found == headers(tokens, tuple(header))


def walk(policies: tuple[Policy, ...], trace: Trace) -> tuple[ScriptedEngine, list[Segment]]:
    engine, kept = ScriptedEngine(NEVER_ENDS), list[Segment]()
    walker = Walker(engine, grow(policies, {}, len(STEP)), FORCING, Sampling(), 0, kept.append)
    asyncio.run(walker.walk(UNIT, trace))
    assert engine.open == 0
    return engine, kept


def test_decoding_stops_at_the_header_of_the_first_step_that_no_policy_takes() -> None:
    trace = Trace(UNIT, FORCING)
    walk(
        (
            StepBudget(1),
            StepBudget(2),
        ),
        trace,
    )
    thinking = list(trace.tokens(Key((), "thinking")))
    assert thinking[-2:] == [NEWLINE, NEWLINE]
    assert headers(thinking, STEP) == list(trace.steps)
    assert len(trace.steps) == 3
    first, second = (
        leaf(
            grow(
                (
                    StepBudget(1),
                    StepBudget(2),
                ),
                {},
                2,
            ),
            policy,
            ROOM,
            trace.extent,
        )
        for policy in (
            StepBudget(1),
            StepBudget(2),
        )
    )
    assert [first.thinking_tokens, second.thinking_tokens] == list(trace.steps[1:])
    assert (first.thinking_end, first.answer) == ("forced", Key((), "forced", trace.steps[1]))


def test_a_step_budget_added_goes_on_where_the_others_stopped() -> None:
    trace = Trace(UNIT, FORCING)
    walk((StepBudget(1),), trace)
    known = len(trace.tokens(Key((), "thinking")))
    engine, _ = walk(
        (
            StepBudget(1),
            StepBudget(3),
        ),
        trace,
    )
    assert (
        min(request.position for request in engine.requests if len(request.prompt) > 100 or request.position) == known
    )
    whole = Trace(UNIT, FORCING)
    walk((StepBudget(3),), whole)
    assert list(whole.tokens(Key((), "thinking"))) == list(trace.tokens(Key((), "thinking")))
    assert whole.steps == trace.steps


def test_a_step_is_recorded_with_the_thinking_that_shows_it() -> None:
    _, kept = walk((Budget(),), Trace(UNIT, FORCING))
    digests = {segment.digest: number for number, segment in enumerate(kept)}
    steps = [(number, segment) for number, segment in enumerate(kept) if segment.key.kind == "step"]
    assert len(steps) > 3
    assert [segment.key.cut for _, segment in steps] == list(range(len(steps)))
    for number, segment in steps:
        assert digests[segment.parent] < number
        assert kept[digests[segment.parent]].key.kind == "thinking"


def test_a_header_that_the_context_cuts_off_begins_no_step() -> None:
    policy = StepBudget(1)
    tree = grow([policy], {}, header=2)
    known = {
        Key((), "thinking"): Extent(60, False),
        Key((), "step", 1): Extent(49, True),
        Key((), "forced", 50): Extent(1, True),
        Key((), "forced", 49): Extent(1, True),
    }
    for thinking, expected in ((50, (50, "context")), (51, (49, "forced"))):
        end = leaf(tree, policy, Room(thinking, 4), known.__getitem__)
        assert (end.thinking_tokens, end.thinking_end) == expected
        assert not list(wanted(tree, Room(thinking, 4), known.__getitem__))
