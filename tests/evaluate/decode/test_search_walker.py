from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

import pytest

from jobs.evaluate.decode.search_walker import SearchWalker
from jobs.evaluate.decode.walker import stream_seed
from jobs.evaluate.engines.protocol import Belief, Chunk, EngineError, Request, Sampling
from jobs.evaluate.scorers.protocol import Standing, StepScore
from jobs.evaluate.sweep.policies.beam import Beam
from jobs.evaluate.sweep.policies.dvts import Dvts
from jobs.evaluate.sweep.policies.rebase import Rebase
from jobs.evaluate.sweep.prompts import Unit, unit_key
from jobs.evaluate.sweep.search import Forest, SearchPolicy
from jobs.evaluate.sweep.steps import Steps
from jobs.evaluate.sweep.tree import Key, Room
from jobs.evaluate.traces.segments import Row, Segment, Trace, resolve, root
from tests.evaluate.scripted import Script, ScriptedEngine, forcing
from tests.evaluate.searching import Oracle, ScriptedScorer, any_policy, branch

FORCING = forcing({})
PROMPT = (5, 6, 7)
STEPS = Steps("\n", 6, 5)


@dataclass
class BranchedEngine(ScriptedEngine):
    """Says on each branch of a search what its random stream does: another script for every seed."""

    names: dict[int, tuple[int, ...]] | None = None

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        assert self.names is not None
        script = self.script
        if request.seed in self.names:
            script = branch(script, self.names[request.seed])
        self.requests.append(request)
        inner = ScriptedEngine(script, self.chunk)
        async for chunk in inner.stream(request):
            yield chunk


class Names(dict[int, tuple[int, ...]]):
    """Which node a random stream is of: found among all names that a search may have."""

    def __init__(self, unit: Unit, policy: SearchPolicy, oracle: Oracle):
        super().__init__()
        for node in oracle.nodes:
            path = tuple(map(str, node.name))
            self[stream_seed(0, unit, Key(path, "thinking"))] = node.name


def searched(
    unit: Unit,
    forest: Forest,
    engine: BranchedEngine,
    scorer: ScriptedScorer,
    trace: Trace | None = None,
    most: int | None = None,
) -> list[Segment]:
    """What is recorded of a walk; it is killed once `most` segments are."""
    kept: list[Segment] = []

    class Killed(BaseException):
        pass

    def record(segment: Segment) -> None:
        if most is not None and len(kept) == most:
            raise Killed
        kept.append(segment)

    walker = SearchWalker(engine, scorer, forest, FORCING, Sampling(1.0), 0, record)
    try:
        asyncio.run(walker.walk(unit, trace or Trace(unit, FORCING)))
    except* Killed:
        pass
    return kept


def rows(segments: list[Segment]) -> list[Row]:
    return [
        Row(each.key, each.start, len(each.tokens), each.ended, each.digest, each.parent, place)
        for place, each in enumerate(segments)
    ]


def unit_of(policy: SearchPolicy, room: int = 40) -> Unit:
    return Unit("item", 0, PROMPT, Room(room, 4), steps=policy.steps)


@pytest.mark.parametrize("number", range(200))
def test_a_search_equals_an_independent_one(number: int) -> None:
    rng = random.Random(number)
    policy, room, grain = any_policy(rng), rng.choice([3, 12, 40]), rng.choice([3, 1000])
    unit, script = unit_of(policy, room), Script(number, rng.choice([0, 8, 40]))
    oracle = Oracle(script, PROMPT, room, grain)
    expected = oracle.run(policy)

    engine = BranchedEngine(script, chunk=rng.choice([1, 3]), names=Names(unit, policy, oracle))
    scorer = ScriptedScorer(grain)
    kept = searched(unit, Forest((policy,), "scorer", False), engine, scorer)
    known = resolve(root("item", 0), rows(kept))
    found = Forest((policy,), "scorer", False).found(policy, unit.room, known.extent)

    leaves = [(leaf.path, leaf.score, leaf.thinking_tokens, leaf.end == "natural") for leaf in found.leaves]
    assert sorted(leaves) == sorted(
        (tuple(map(str, leaf.name)), leaf.score, len(leaf.tokens), leaf.natural) for leaf in expected
    )
    assert set(found.nodes) == {tuple(map(str, node.name)) for node in oracle.nodes}
    assert sum(len(each.tokens) for each in kept if each.key.kind == "thinking") == oracle.decoded
    assert len(scorer.asked) == len(oracle.nodes) == len(found.nodes), "each node is scored once"
    if policy.width and room >= policy.steps.tokens and isinstance(policy, Rebase | Beam):
        assert len(expected) == policy.width, "the whole width comes to leaves"


@pytest.mark.seconds
def test_a_search_that_is_killed_anywhere_comes_to_the_same_tree_and_does_nothing_twice() -> None:
    policy = Rebase(16, STEPS, "weighted", 1, 0.1)
    unit, script = unit_of(policy), Script(3, 12)
    oracle = Oracle(script, PROMPT, 40, 1000)
    oracle.run(policy)
    forest, names = Forest((policy,), "scorer", False), Names(unit, policy, oracle)
    whole = searched(unit, forest, BranchedEngine(script, names=names), ScriptedScorer())
    assert len(whole) > 150
    rng = random.Random(0)
    # What was read for a score is recorded in one go with it: no kill comes between the two.
    moments = [at for at in range(1, len(whole)) if whole[at - 1].key.kind != "read"]
    for at in (0, *rng.sample(moments, 49)):
        first = searched(unit, forest, BranchedEngine(script, names=names), ScriptedScorer(), most=at)
        assert len(first) == at
        trace = Trace(unit, FORCING)
        by_place = rows(first)
        for row in resolve(root("item", 0), by_place).rows:
            trace.restore(first[row.place])
        engine, scorer = BranchedEngine(script, names=names), ScriptedScorer()
        second = searched(unit, forest, engine, scorer, trace)
        assert {each.digest for each in first} | {each.digest for each in second} == {each.digest for each in whole}
        assert not {each.key for each in first} & {each.key for each in second}
        left = {each.key for each in whole} - {each.key for each in first}
        assert len(engine.requests) == sum(
            1 for key in left if key.kind in ("thinking", "natural", "forced") and key.path
        )
        assert len(scorer.asked) == sum(1 for key in left if key.kind == "score")


def test_searches_share_what_they_have_in_common() -> None:
    narrow, wide = Rebase(4, STEPS, "weighted", 1, 0.1), Rebase(16, STEPS, "weighted", 1, 0.1)
    others = (Beam(8, STEPS, "weighted", 1, 4), Dvts(8, STEPS, "weighted", 1, 4))
    policies: tuple[SearchPolicy, ...] = (narrow, wide, *others)
    unit, script = unit_of(wide), Script(3, 12)
    oracles = [Oracle(script, PROMPT, 40, 1000) for _ in policies]
    for oracle, policy in zip(oracles, policies, strict=True):
        oracle.run(policy)
    everything = Oracle(script, PROMPT, 40, 1000, nodes=[node for oracle in oracles for node in oracle.nodes])
    scorer = ScriptedScorer()
    kept = searched(
        unit, Forest(policies, "s", False), BranchedEngine(script, names=Names(unit, wide, everything)), scorer
    )
    together = {node.name for node in everything.nodes}
    assert len(scorer.asked) == len(together) < sum(len(oracle.nodes) for oracle in oracles)
    known = resolve(root("item", 0), rows(kept))
    for policy, oracle in zip(policies, oracles, strict=True):
        alone = Forest((policy,), "s", False).found(policy, unit.room, known.extent)
        assert {tuple(map(int, path)) for path in alone.nodes} == {node.name for node in oracle.nodes}


def test_another_scorer_decodes_only_where_it_goes_elsewhere() -> None:
    policy = Rebase(8, STEPS, "weighted", 1, 0.1)
    unit, script = unit_of(policy), Script(5, 12)
    oracles = [Oracle(script, PROMPT, 40, grain) for grain in (1000, 7)]
    for oracle in oracles:
        oracle.run(policy)
    names = Names(unit, policy, oracles[0]) | Names(unit, policy, oracles[1])
    trace = Trace(unit, FORCING)
    searched(unit, Forest((policy,), "one", False), BranchedEngine(script, names=names), ScriptedScorer(1000), trace)
    other = ScriptedScorer(7)
    kept = searched(unit, Forest((policy,), "other", False), BranchedEngine(script, names=names), other, trace)
    fresh = {node.name for node in oracles[1].nodes} - {node.name for node in oracles[0].nodes}
    assert {each.key.path for each in kept if each.key.kind == "thinking"} == {tuple(map(str, name)) for name in fresh}
    assert len(other.asked) == len({node.name for node in oracles[1].nodes}), "its scores are its own"


def test_a_scorer_of_answers_is_given_the_answer_at_every_step() -> None:
    policy = Rebase(4, STEPS, "weighted", 1, 0.1)
    unit, script = unit_of(policy), Script(3, 12)
    oracle = Oracle(script, PROMPT, 40, 1000)
    oracle.run(policy)
    scorer = ScriptedScorer()
    engine = BranchedEngine(script, names=Names(unit, policy, oracle))
    searched(unit, Forest((policy,), "s", True), engine, scorer)
    assert scorer.asked
    assert all(each.answer is not None for each in scorer.asked)
    assert {each.closing for each in scorer.asked} == {None, "Final Answer:"}
    assert sum(each.max_tokens == unit.room.answer for each in engine.requests) == len(oracle.nodes)


def test_a_score_that_is_no_number_is_the_scorers_failure() -> None:
    class Broken(ScriptedScorer):
        async def score(self, standing: Standing) -> StepScore:
            return StepScore(float("nan"), 0)

    policy = Rebase(2, STEPS, "weighted", 1, 0.1)
    unit = unit_of(policy)
    with pytest.raises(EngineError, match="the scorer said nan of a trace of 1 steps"):
        searched(unit, Forest((policy,), "s", False), BranchedEngine(Script(0, 0), names={}), Broken())


def test_a_unit_that_is_searched_in_other_steps_is_another() -> None:
    keys = {
        unit_key("q", PROMPT, (), steps) for steps in (None, STEPS, replace(STEPS, tokens=7), replace(STEPS, at=None))
    }
    assert len(keys) == 4
    assert unit_key("q", PROMPT, (), STEPS) == unit_key("q", PROMPT, (), replace(STEPS, most=50)), (
        "a bound on depth is none"
    )
    assert unit_key("q", PROMPT) == unit_key("q", PROMPT, (), None)


@dataclass
class SureEngine(BranchedEngine):
    """Says of each token how sure it was: by its place in the piece."""

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        assert request.beliefs
        at = request.position
        async for chunk in super().stream(request):
            sure = [Belief(-float(place), float(place), float(place)) for place in range(at, at + len(chunk.tokens))]
            at += len(chunk.tokens)
            yield chunk._replace(beliefs=sure)


def test_how_sure_the_model_was_is_kept_of_each_token_of_a_step_and_of_each_answer() -> None:
    policy = Rebase(4, STEPS, "weighted", 1, 0.1)
    unit, script = unit_of(policy), Script(3, 12)
    oracle = Oracle(script, PROMPT, 40, 1000)
    oracle.run(policy)
    kept: list[Segment] = []
    engine = SureEngine(script, chunk=3, names=Names(unit, policy, oracle))
    forest = Forest((policy,), "scorer", False)
    walker = SearchWalker(engine, ScriptedScorer(), forest, FORCING, Sampling(1.0), 0, kept.append, True)
    asyncio.run(walker.walk(unit, Trace(unit, FORCING)))
    steps = [each for each in kept if each.key.kind == "thinking" and each.key.path]
    answers = [each for each in kept if each.key.kind in ("natural", "forced")]
    assert steps
    assert answers
    for each in steps:
        assert each.confidences == tuple(map(float, range(len(each.tokens))))
    for each in answers:
        if each.tokens:
            assert each.sureness == (-(len(each.tokens) - 1) / 2, 0.0)
