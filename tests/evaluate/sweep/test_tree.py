from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.evaluate.decode.walker import Walker
from jobs.evaluate.engines.protocol import Sampling
from jobs.evaluate.sweep.policies.baseline import Baseline
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.closings import ClosedBy
from jobs.evaluate.sweep.policies.extensions import Extension, grid
from jobs.evaluate.sweep.policies.rejection import RejectionSampling
from jobs.evaluate.sweep.policies.step_budgets import StepBudget
from jobs.evaluate.sweep.policies.stop_strings import StopStrings
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.prompts import Forcing, Unit
from jobs.evaluate.sweep.tree import UNKNOWN, Extent, Key, Room, Tree, cuts, grow, leaf, wanted, width
from jobs.evaluate.traces.segments import Row, Segment, Trace, resolve, root
from tests.evaluate.oracle import alone
from tests.evaluate.scripted import (
    CLOSINGS,
    INJECTED_NEWLINE,
    SPELLED,
    STEP,
    VOCABULARY,
    Script,
    ScriptedEngine,
    Speller,
    forcing,
)

INJECTED = {"": (), "Wait": (16,), "Hmm\n": (17, INJECTED_NEWLINE), "But wait, also": (18, 19, 20, 18)}
FORCING = forcing(INJECTED, STEP)
SPELLING = forcing(INJECTED, STEP, SPELLED)

BUDGETS = st.one_of(st.none(), st.integers(1, 40), st.just(10_000))
STOPS = st.builds(StopStrings, st.sampled_from([("ab",), ("c", "ba"), ("\n\n", "aa"), ("€",), ("dd", " b")]))
BANNED = st.one_of(st.just(()), st.sampled_from([("a",), ("ab", "c"), ("\n\n",), ("ba", "€", " ")]))
POLICIES = st.lists(
    st.one_of(
        st.builds(Budget, BUDGETS),
        st.builds(Extension, BUDGETS, st.sampled_from(sorted(INJECTED)), st.integers(1, 4)),
        st.builds(RejectionSampling, st.integers(1, 40), st.integers(1, 3)),
        st.just(Baseline()),
        st.builds(StepBudget, st.integers(1, 4)),
        STOPS,
        st.builds(ClosedBy, st.one_of(st.builds(Budget, BUDGETS), STOPS), st.sampled_from(["", *CLOSINGS])),
    ),
    min_size=1,
    max_size=12,
    unique=True,
)
IN_TOKENS = POLICIES.map(lambda policies: [policy for policy in policies if policy.route.mark is None]).filter(bool)
SCRIPTS = st.builds(Script, st.integers(0, 2**20), st.sampled_from([0, 4, 16, 48, 128, 256]))
ROOMS = st.builds(Room, st.integers(-2, 50), st.integers(1, 6))


def unit_of(room: Room, banned: tuple[str, ...] = ()) -> Unit:
    return Unit("item", 0, (5, 6, 7), room, banned=banned)


def tree_of(policies: list[Policy]) -> Tree:
    return grow(policies, {string: len(ids) for string, ids in INJECTED.items()}, len(STEP), FORCING.longer)


def decode(
    policies: list[Policy], unit: Unit, engine: ScriptedEngine, trace: Trace, forced: Forcing = FORCING
) -> list[Segment]:
    kept: list[Segment] = []
    walker = Walker(engine, tree_of(policies), forced, Sampling(), 0, kept.append)
    asyncio.run(walker.walk(unit, trace))
    assert engine.open == 0
    return kept


def assert_leaves_are_those_of_policies_alone(
    policies: list[Policy], unit: Unit, script: Script, trace: Trace, forced: Forcing = FORCING
) -> None:
    tree = tree_of(policies)
    assert not list(wanted(tree, unit.room, trace.extent))
    for policy in policies:
        expected = alone(policy, unit, script, forced)
        got = leaf(tree, policy, unit.room, trace.extent)
        assert got.thinking_tokens == len(expected.thinking)
        assert got.injected_tokens == expected.injected
        assert got.thinking_end == expected.thinking_end
        assert got.answer_end == expected.answer_end
        assert (got.extensions_used, got.extensions_skipped) == (expected.used, expected.skipped)
        answer = () if got.answer is None else tuple(trace.tokens(got.answer))[: got.answer_tokens]
        assert answer == expected.answer


@pytest.mark.seconds
@settings(max_examples=400)
@given(POLICIES, SCRIPTS, ROOMS, st.integers(1, 5), BANNED)
def test_leaves_equal_running_each_policy_alone(
    policies: list[Policy], script: Script, room: Room, chunk: int, banned: tuple[str, ...]
) -> None:
    unit = unit_of(room, banned)
    trace = Trace(unit, FORCING)
    decode(policies, unit, ScriptedEngine(script, chunk), trace)
    assert_leaves_are_those_of_policies_alone(policies, unit, script, trace)


@pytest.mark.seconds
@settings(max_examples=300)
@given(
    POLICIES, POLICIES, st.builds(Speller, st.integers(0, 2**20), st.sampled_from([0, 4, 16])), ROOMS, st.integers(1, 5)
)
def test_leaves_are_those_of_policies_alone_where_a_sequence_ends_thinking(
    before: list[Policy], policies: list[Policy], script: Script, room: Room, chunk: int
) -> None:
    """Whether thinking ended by itself does not depend on the budgets beside it, nor on those of a sweep before."""
    unit = unit_of(room)
    trace = Trace(unit, SPELLING)
    decode(before, unit, ScriptedEngine(script, chunk), trace, SPELLING)
    decode(policies, unit, ScriptedEngine(script, chunk), trace, SPELLING)
    assert_leaves_are_those_of_policies_alone(policies, unit, script, trace, SPELLING)
    assert_leaves_are_those_of_policies_alone(before, unit, script, trace, SPELLING)


@settings(max_examples=200)
@given(POLICIES, POLICIES, SCRIPTS, ROOMS, ROOMS, st.data())
def test_a_partial_trace_of_another_sweep_is_continued(
    before: list[Policy], policies: list[Policy], script: Script, room_before: Room, room: Room, data: st.DataObject
) -> None:
    """Whatever subset of records survived, what they and the rest of the decoding amount to is the same."""
    unit = unit_of(room)
    kept = decode(before, unit_of(room_before), ScriptedEngine(script, 3), Trace(unit_of(room_before), FORCING))
    survived = data.draw(st.lists(st.sampled_from(kept), unique_by=id)) if kept else []
    survived = [segment for segment in survived if segment.key.kind != "step"]
    digests = {segment.digest for segment in survived}  # the steps of a segment are in the same file
    survived += [segment for segment in kept if segment.key.kind == "step" and segment.parent in digests]
    trace = restored(unit, survived)
    lengths = {key: trace.extent(key) for key in {segment.key for segment in survived}}
    engine = ScriptedEngine(script, 3)
    kept = decode(policies, unit, engine, trace)
    assert_leaves_are_those_of_policies_alone(policies, unit, script, trace)
    for segment in kept:
        assert segment.start >= lengths.get(segment.key, UNKNOWN).length, "a known token was decoded again"


def restored(unit: Unit, segments: list[Segment]) -> Trace:
    """The trace that an index makes of these records."""
    rows = [
        Row(segment.key, segment.start, len(segment.tokens), segment.ended, segment.digest, segment.parent, place)
        for place, segment in enumerate(segments)
    ]
    resolved = resolve(root(unit.item, unit.sample), rows)
    trace = Trace(unit, FORCING)
    for row in resolved.rows:
        trace.restore(segments[row.place])
    for key, extent in resolved.extents.items():
        assert trace.extent(key) == extent
    return trace


@pytest.mark.seconds
@settings(max_examples=100)
@given(IN_TOKENS, SCRIPTS, ROOMS)
def test_no_token_is_decoded_twice(policies: list[Policy], script: Script, room: Room) -> None:
    """Decoded tokens are the distinct prefixes of all policies' sequences that do not end in an injected one."""
    unit = unit_of(room)
    engine = ScriptedEngine(script)
    decode(policies, unit, engine, Trace(unit, FORCING))
    decoded: set[tuple[object, ...]] = set()
    for policy in policies:
        outcome = alone(policy, unit, script, FORCING)
        thinking, answer = outcome.thinking, outcome.answer
        positions = [size for size in range(1, len(thinking) + 1) if thinking[size - 1] < VOCABULARY]
        decoded |= {("thinking", thinking[:size]) for size in positions}
        end = outcome.thinking_end == "natural" or policy.route.closing
        decoded |= {("answer", thinking, end, answer[:size]) for size in range(1, len(answer) + 1)}
    assert engine.decoded == len(decoded)


@given(POLICIES, ROOMS.filter(lambda room: room.thinking > 0))
def test_a_branch_is_cut_at_every_budget_on_it_within_the_context(policies: list[Policy], room: Room) -> None:
    tree = tree_of(policies)
    for path in tree.branches:
        passing = [policy.route for policy in policies if path == policy.route.strings[: len(path)]]
        rooms = {route: room.thinking - FORCING.longer.get(route.closing or "", 0) for route in passing}
        expected = {most if route.cut is None else min(route.cut, most) for route, most in rooms.items()}
        assert cuts(tree, path, 0, room) == sorted(cut for cut in expected if cut > 0)


def test_budgets_beyond_the_natural_end_share_one_answer() -> None:
    policies = [Budget(budget) for budget in (32, 64, 128)] + [Budget()]
    tree = tree_of(policies)
    room = Room(500, 10)
    known = {Key((), "thinking"): Extent(13, True)}
    wants = list(wanted(tree, room, lambda key: known.get(key, UNKNOWN)))
    assert [want.key for want in wants] == [Key((), "natural", 13)]


def test_thinking_of_exactly_the_budget_is_forced() -> None:
    tree = tree_of([Budget(13), Budget(14)])
    room = Room(500, 10)
    known = {
        Key((), "thinking"): Extent(13, True),
        Key((), "forced", 13): Extent(2, True),
        Key((), "natural", 13): Extent(3, True),
    }
    ends = [leaf(tree, Budget(budget), room, known.__getitem__) for budget in (13, 14)]
    assert [(end.thinking_end, end.answer_tokens) for end in ends] == [("forced", 2), ("natural", 3)]


@pytest.mark.parametrize(("budget", "fits"), [(15, False), (16, True)])
def test_an_extension_needs_room_for_itself_and_one_token(budget: int, fits: bool) -> None:
    policy = Extension(budget, "Hmm\n", 1)
    known = {Key((), "thinking"): Extent(13, True)}
    wants = list(wanted(tree_of([policy]), Room(500, 10), lambda key: known.get(key, UNKNOWN)))
    after = Key(("Hmm\n",), "thinking") if fits else Key((), "natural", 13)
    assert [want.key for want in wants] == [after]


def test_thinking_cut_by_the_context_is_told_from_thinking_cut_by_the_budget() -> None:
    policies = [Budget(30), Budget(50), Budget(51), Budget()]
    room = Room(50, 10)
    pieces = [Key((), "forced", 30), Key((), "forced", 50)]
    known = {Key((), "thinking"): Extent(50, False), **dict.fromkeys(pieces, Extent(1, True))}
    ends = [leaf(tree_of(policies), policy, room, known.__getitem__) for policy in policies]
    assert [end.thinking_end for end in ends] == ["forced", "forced", "context", "context"]
    assert [end.thinking_tokens for end in ends] == [30, 50, 50, 50]


@pytest.mark.parametrize(("length", "end"), [(12, "natural"), (13, "natural"), (14, "rejected")])
def test_only_thinking_that_ends_by_itself_within_the_limit_is_answered_without_forcing(length: int, end: str) -> None:
    policy = RejectionSampling(13, 1)
    known = {Key((), "thinking"): Extent(length, True), Key((), "natural", length): Extent(3, True)}
    found = leaf(tree_of([policy]), policy, Room(500, 10), known.__getitem__)
    assert found.thinking_end == end
    assert found.answer_tokens == (3 if end == "natural" else 0)
    assert found.answer_end == ("stop" if end == "natural" else "none")


def test_nothing_is_decoded_for_thinking_that_is_cut_without_forcing() -> None:
    policies = [RejectionSampling(4, 2), Baseline()]
    known = {Key((), "thinking"): Extent(50, False)}
    assert not list(wanted(tree_of(policies), Room(50, 10), lambda key: known.get(key, UNKNOWN)))
    ends = [leaf(tree_of(policies), policy, Room(50, 10), known.__getitem__) for policy in policies]
    assert [(each.answer, each.thinking_end, each.thinking_tokens) for each in ends] == [
        (None, "rejected", 5),
        (None, "context", 50),
    ]


def test_a_prompt_that_leaves_no_room_has_no_thinking_and_no_answer() -> None:
    policies = [Budget(4), Extension(None, "Wait", 2)]
    tree = tree_of(policies)
    for thinking in (0, -100):
        room = Room(thinking, 10)
        assert not list(wanted(tree, room, lambda _: UNKNOWN))
        ends = [leaf(tree, policy, room, lambda _: UNKNOWN) for policy in policies]
        assert all((end.answer, end.thinking_end, end.answer_end) == (None, "context", "context") for end in ends)


def test_the_account_of_an_unfinished_policy_is_refused() -> None:
    tree = tree_of([Budget(20)])
    room = Room(50, 10)
    with pytest.raises(ValueError, match="known to 5 of 20"):
        leaf(tree, Budget(20), room, lambda _: Extent(5, False))


def test_raising_the_answers_limit_continues_the_answers_it_cut() -> None:
    tree = tree_of([Budget(4)])
    known = {Key((), "thinking"): Extent(4, False), Key((), "forced", 4): Extent(10, False)}
    for limit, expected in ((10, []), (8, []), (12, [Key((), "forced", 4)])):
        wants = wanted(tree, Room(50, limit), lambda key: known.get(key, UNKNOWN))
        assert [want.key for want in wants] == expected


def test_of_competing_records_the_first_counts_and_its_followers_with_it() -> None:
    key, answer = Key((), "thinking"), Key((), "forced", 2)
    first = Segment("item", 0, key, 0, (9, 9), False, root("item", 0))
    second = Segment("item", 0, key, 0, (8, 8), False, root("item", 0))
    of_second = Segment("item", 0, answer, 0, (4,), True, second.digest)
    for order in itertools.permutations([first, second, of_second]):
        trace = restored(unit_of(Room(50, 10)), list(order))
        winner = min((first, second), key=order.index)
        assert tuple(trace.tokens(key)) == winner.tokens
        assert (trace.extent(answer).length == 1) == (winner is second)


def test_a_unit_is_as_wide_as_its_strings_and_a_fork() -> None:
    lengths = {"Wait": 1, "Hmm": 1, "": 0}
    assert width(grow(grid([4, None]), {})) == 2
    assert width(grow(grid([4, None], ["Wait"], [1, 2, 4], [None]), lengths)) == 2
    assert width(grow(grid([4, None], ["Wait", "Hmm", ""], [1, 2, 4], [None]), lengths)) == 4
