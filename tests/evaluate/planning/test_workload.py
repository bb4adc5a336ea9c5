"""What a sweep would decode, counted on its tree, against sequences that are written out token by token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.planning.lengths import published, trace
from jobs.evaluate.planning.workload import at_most, item, unit
from jobs.evaluate.sweep.policies.baseline import Baseline
from jobs.evaluate.sweep.policies.extensions import grid
from jobs.evaluate.sweep.policies.rejection import RejectionSampling
from jobs.evaluate.sweep.policies.step_budgets import StepBudget
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.tree import Key, Room, grow, leaf
from jobs.letters.config import THINKING

INJECTED = {"Wait": 1, "Hmm": 2, "": 0}
POLICIES = (*grid([3, 7, 20, None], ["Wait", "Hmm", ""], [1, 2], [9, None]), Baseline(), StepBudget(1))
TREE = grow(POLICIES, INJECTED, 1)
PROMPT = 5

lengths = st.integers(1, 40)
rooms = st.builds(Room, st.integers(1, 30), st.integers(1, 6))


def written(policy: Policy, room: Room, natural: int, extension: int, answer: int) -> tuple[object, ...]:
    """The tokens that a policy alone decodes or is given, named so that the same token has the same name."""
    known = trace(natural, extension, answer)
    end = leaf(TREE, policy, room, known)
    tokens: list[object] = []
    path: tuple[str, ...] = ()
    for depth in range(end.extensions_used + 1):
        left = end.thinking_tokens - len(tokens)
        own = left if depth == end.extensions_used else min(left, known(Key(path, "thinking")).length)
        tokens += [("thinking", path, number) for number in range(own)]
        if depth < end.extensions_used:
            string = policy.route.strings[depth]
            tokens += [("injected", string)] * INJECTED[string]
            path = (*path, string)
    return (*tokens, *(("answer", end.answer, number) for number in range(end.answer_tokens)))


def decoded(sequence: tuple[object, ...]) -> list[tuple[object, ...]]:
    """The prefixes that end in a token that was decoded, not given."""
    prefixes = [sequence[: number + 1] for number in range(len(sequence))]
    return [prefix for prefix in prefixes if prefix[-1][0] != "injected"]


@given(rooms, lengths, lengths, lengths)
def test_a_policy_counts_its_own_tokens_and_the_pass_each_token_once(
    room: Room, natural: int, extension: int, answer: int
) -> None:
    found = unit(TREE, POLICIES, room, PROMPT, trace(natural, extension, answer))
    sequences = {policy.name: written(policy, room, natural, extension, answer) for policy in POLICIES}
    assert {name: work.decoded for name, work in found.alone.items()} == {
        name: len(decoded(sequence)) for name, sequence in sequences.items()
    }
    assert found.once.decoded == len({prefix for sequence in sequences.values() for prefix in decoded(sequence)})
    assert found.longest == max(map(len, sequences.values()))


@given(rooms, lengths, lengths, lengths)
def test_no_trace_takes_more_than_the_most(room: Room, natural: int, extension: int, answer: int) -> None:
    policies = tuple(policy for policy in POLICIES if policy.route.mark is None)
    tree = grow(policies, INJECTED)
    found = unit(tree, policies, room, PROMPT, trace(natural, extension, answer))
    most = at_most(tree, policies, room, PROMPT)
    assert found.once.decoded <= most.once.decoded + room.answer * len(policies)
    assert found.longest <= room.thinking + room.answer


def test_attention_reads_all_that_was_before_each_token() -> None:
    found = unit(grow(grid([None]), {}), grid([None]), Room(100, 10), PROMPT, trace(20, 1, 4))
    assert found.once.decoded == 24
    assert found.once.read == pytest.approx(sum(PROMPT + position + 0.5 for position in range(24)))


def test_lengths_are_spread_as_the_papers_budgets_cut_them() -> None:
    policies = (*grid([2000, 4000, 8000, None]), Baseline())
    found = item(grow(policies, {}), policies, Room(28_000, 400), 0, published(6109))
    thinking = {name: work.decoded - 400 for name, work in found.alone.items()}
    assert thinking["auto"] == pytest.approx(6109, rel=0.01)
    assert thinking["2000"] == pytest.approx(2000, rel=0.05)
    assert thinking["4000"] == pytest.approx(3933, rel=0.15)
    assert thinking["8000"] == pytest.approx(5300, rel=0.1)
    assert found.alone[Baseline().name].decoded == found.alone["auto"].decoded


def test_rejection_sampling_needs_as_many_tries_as_its_limit_asks_for() -> None:
    policies = (
        *grid([None]),
        *(
            RejectionSampling(2, 4),
            RejectionSampling(1000, 4),
        ),
    )
    found = item(grow(policies, {}), policies, Room(500, 16), 0, THINKING)
    assert found.alone["rejection sampling 1000"].decoded == found.alone["auto"].decoded
    # At 2 tokens no trace has ended: each try costs the limit and one more token, and four are made.
    assert found.alone["rejection sampling 2"].decoded == 4 * 3
    assert found.once.decoded == found.alone["auto"].decoded
