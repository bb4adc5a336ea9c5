"""With a temperature, a policy in the tree has the distribution that it has alone: two samples of 2,000, compared.

The policy alone is the oracle's, one token after the other from one stream of random numbers; the tree draws each piece
from a stream of its own. Seeds are fixed, so these tests never fail by chance.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Hashable, Sequence
from dataclasses import dataclass
from random import Random

import pytest
from scipy.stats import chi2_contingency

from jobs.evaluate.decode.walker import Walker
from jobs.evaluate.engines.protocol import Chunk, Request, Sampling
from jobs.evaluate.samples import tries
from jobs.evaluate.sweep.policies.baseline import Baseline
from jobs.evaluate.sweep.policies.extensions import Extension, grid
from jobs.evaluate.sweep.policies.rejection import RejectionSampling
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.sweep.tree import Leaf, Room, Tree, grow, leaf
from jobs.evaluate.traces.segments import Trace
from tests.evaluate.oracle import Outcome, alone
from tests.evaluate.scripted import FIRST_WORD, Script, forcing

SAMPLES = 2000
ROOM = Room(40, 3)
INJECTED = {"Wait": (16,), "": ()}
WORDS = 4
REJECTION = RejectionSampling(6, 3)
POLICIES = (*grid([3, 8, None], ["Wait", ""], [1, 2], [24, None]), Baseline(), REJECTION)

Drawn = tuple[int, str, tuple[int, ...]]
"""What is compared: tokens of thinking, how it ended, the answer."""


def draw(prefix: Sequence[int], stop: Sequence[int], forbid_stop: bool, rng: Random) -> int:
    """The next token: what it may be depends on the last one, on the one before, and on nothing else."""
    last = prefix[-1]
    if not forbid_stop and rng.random() < 0.04 + 0.05 * (last % 3):
        return stop[0] if rng.random() < 0.8 else stop[-1]
    return FIRST_WORD + min(rng.randrange(WORDS), rng.randrange(1 + (last + prefix[-2]) % WORDS))


@dataclass(frozen=True)
class Drawing(Script):
    """A model for the oracle, with one stream of random numbers."""

    rng: Random

    def next(self, prefix: Sequence[int], stop: Sequence[int], forbid_stop: bool, forbidden: Sequence[int] = ()) -> int:
        return draw(prefix, stop, forbid_stop, self.rng)


class SamplingEngine:
    """The same model for the walker: token by token from the stream that each request names."""

    sequences = None

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        prefix = list(request.prompt)
        for count in range(request.max_tokens):
            rng = Random(f"{request.seed} {request.position + count}")
            token = draw(prefix, request.stop, request.forbid_stop_first and count == 0, rng)
            if token in request.stop:
                yield Chunk([], "stop")
                return
            prefix.append(token)
            yield Chunk([token], "length" if count + 1 == request.max_tokens else None)

    async def close(self) -> None:
        pass


def unit(number: int, sample: int = 0) -> Unit:
    return Unit(f"item {number}", sample, (5, 6, 7), ROOM)


def traces(units: Sequence[Unit], tree: Tree, seed: int) -> list[Trace]:
    walker = Walker(SamplingEngine(), tree, forcing(INJECTED), Sampling(1.0), seed, lambda segment: None)
    found = [Trace(each, forcing(INJECTED)) for each in units]

    async def walk() -> None:
        for each, trace in zip(units, found, strict=True):
            await walker.walk(each, trace)

    asyncio.run(walk())
    return found


def tree_of(*policies: Policy) -> Tree:
    return grow(policies, {string: len(ids) for string, ids in INJECTED.items()})


def drawn(end: Leaf, trace: Trace) -> Drawn:
    answer = () if end.answer is None else tuple(trace.tokens(end.answer))[: end.answer_tokens]
    return end.thinking_tokens, end.thinking_end, answer


def p_value(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """Of the chi-square test that both are draws from one distribution. Values seen less than 20 times are one."""
    counts = Counter(one), Counter(other)
    common = {value for value, count in (counts[0] + counts[1]).items() if count >= 20}
    rows = [
        [
            *(count[value] for value in sorted(common, key=repr)),
            sum(times for value, times in count.items() if value not in common),
        ]
        for count in counts
    ]
    columns = [column for column in zip(*rows, strict=True) if sum(column)]
    assert len(columns) > 20, "there is something to compare"
    return float(chi2_contingency(list(zip(*columns, strict=True))).pvalue)


def outcomes(policy: Policy, seed: int) -> list[Drawn]:
    """The policy alone, by the oracle. Rejection sampling draws until it accepts."""
    script = Drawing(0, 0, Random(seed))

    def once() -> Outcome:
        found = alone(policy, unit(0), script, forcing(INJECTED))
        for _ in range(policy.tries - 1):
            if found.thinking_end == "natural":
                break
            found = alone(policy, unit(0), script, forcing(INJECTED))
        return found

    ends = (once() for _ in range(SAMPLES))
    return [(len(end.thinking), end.thinking_end, end.answer) for end in ends]


@pytest.fixture(scope="module")
def in_the_tree() -> list[Trace]:
    return traces([unit(number) for number in range(SAMPLES)], tree_of(*POLICIES), seed=1)


@pytest.mark.seconds
@pytest.mark.parametrize("policy", [policy for policy in POLICIES if not policy.tries], ids=lambda policy: policy.name)
def test_a_policy_has_the_distribution_that_it_has_alone(policy: Policy, in_the_tree: list[Trace]) -> None:
    tree = tree_of(*POLICIES)
    found = [drawn(leaf(tree, policy, ROOM, trace.extent), trace) for trace in in_the_tree]
    assert p_value(found, outcomes(policy, seed=2)) > 0.001


@pytest.mark.seconds
def test_rejection_sampling_from_the_pool_has_the_distribution_that_it_has_alone() -> None:
    tree = tree_of(*POLICIES)
    pool = traces([unit(number, sample) for number in range(SAMPLES) for sample in range(3)], tree, seed=3)
    for first in (0, 2):
        found = []
        for number in range(SAMPLES):
            own = pool[3 * number : 3 * number + 3]
            ends = [leaf(tree, REJECTION, ROOM, trace.extent) for trace in own]
            taken = tries(ends, first, REJECTION.tries)[-1]
            found.append(drawn(ends[taken], own[taken]))
        assert p_value(found, outcomes(REJECTION, seed=4)) > 0.001


@pytest.mark.seconds
def test_the_test_tells_policies_apart_that_differ_little(in_the_tree: list[Trace]) -> None:
    tree = tree_of(*POLICIES)
    found = [drawn(leaf(tree, Extension(None, "Wait", 2), ROOM, trace.extent), trace)[:2] for trace in in_the_tree]
    for other in (Extension(None, "", 2), Extension(None, "Wait", 1)):
        assert p_value(found, [each[:2] for each in outcomes(other, seed=2)]) < 0.001


def test_with_the_same_seed_a_policy_draws_the_very_same_in_every_tree() -> None:
    tree, own = tree_of(*POLICIES), Extension(24, "Wait", 2)
    units = [unit(number) for number in range(200)]
    among_all, apart = traces(units, tree, seed=1), traces(units, tree_of(own), seed=1)
    for trace, by_itself in zip(among_all, apart, strict=True):
        expected = drawn(leaf(tree_of(own), own, ROOM, by_itself.extent), by_itself)
        assert drawn(leaf(tree, own, ROOM, trace.extent), trace) == expected
