"""What plans say of searches, against searches that are done by an oracle which knows nothing of plans."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.planning.estimate import estimate
from jobs.evaluate.planning.workload import Tokens, at_most, item
from jobs.evaluate.sweep.policies.beam import Beam
from jobs.evaluate.sweep.policies.dvts import Dvts
from jobs.evaluate.sweep.policies.rebase import Rebase
from jobs.evaluate.sweep.policies.scored import Scored
from jobs.evaluate.sweep.search import Forest, SearchPolicy
from jobs.evaluate.sweep.steps import Steps
from jobs.evaluate.sweep.tree import Room
from jobs.forecasts import ThinkingForecast
from orchestrator.estimate_view import lines
from orchestrator.job.estimate import Estimate
from tests.evaluate.scripted import Script
from tests.evaluate.searching import Oracle

STEPS = Steps("\n", 6, 8)
PROMPT = (5, 6, 7)
ASKED = 10
"""Tokens of the question and of what stands around steps, as the scorer is asked."""
UNITS = 60
FACTOR = 1.7
"""Within which a plan is told, where it knows the mean length of a trace and of a step."""


def done(policy: SearchPolicy, stops: int) -> tuple[float, float, float]:
    """What a search takes in the mean: tokens of thinking, tokens that a scorer reads, and steps."""
    thinking = read = steps = 0
    for seed in range(UNITS):
        oracle = Oracle(Script(seed, stops), PROMPT, 1000, 1000)
        oracle.run(policy)
        thinking += oracle.decoded
        read += sum(ASKED + len(node.tokens) for node in oracle.nodes)
        steps += len(oracle.nodes)
    return thinking / UNITS, read / UNITS, steps / UNITS


@pytest.mark.parametrize("stops", [4, 20])
@pytest.mark.parametrize(
    "policy",
    [
        Rebase(8, STEPS, "weighted", 1, 0.1),
        Beam(8, STEPS, "weighted", 1, 4),
        Dvts(8, STEPS, "weighted", 1, 4),
        Rebase(1, STEPS, "weighted", 1, 0.1),
    ],
    ids=lambda policy: policy.name,
)
def test_a_plan_is_within_a_factor_of_what_a_search_takes(policy: SearchPolicy, stops: int) -> None:
    by_itself = Rebase(1, STEPS, "weighted", 1, 0.1)
    natural, _, steps = done(by_itself, stops)
    lengths = ThinkingForecast(natural, 0, 0, "a test", step=natural / steps)
    planned = item(Forest((policy,), "", False), (policy,), Room(1000, 4), ASKED, lengths, math.inf).once
    thinking, read, scores = done(policy, stops)
    for plan, real in ((planned.decoded, thinking), (planned.scored, read), (planned.scores, scores)):
        assert 1 / FACTOR < plan / real < FACTOR
    assert planned.fresh < planned.scored
    most = at_most(Forest((policy,), "", False), (policy,), Room(1000, 4), ASKED, True, math.inf).once
    assert (most.decoded, most.scored) > (thinking, read)


def test_searches_of_one_sweep_decode_and_score_once_what_they_have_in_common() -> None:
    policies = Rebase(4, STEPS, "weighted", 1, 0.1), Rebase(8, STEPS, "weighted", 1, 0.1)
    lengths = ThinkingForecast(20, 0, 5, "a test", step=5)
    work = item(Forest(policies, "", False), policies, Room(1000, 8), ASKED, lengths, math.inf)
    narrow, wide = (work.alone[policy.name] for policy in policies)
    assert wide.decoded < work.once.decoded < wide.decoded + narrow.decoded
    assert wide.scores < work.once.scores < wide.scores + narrow.scores


def test_what_a_scorer_without_a_model_takes_is_answers() -> None:
    policy = Rebase(4, STEPS, "weighted", 1, 0.1)
    lengths = ThinkingForecast(20, 0, 5, "a test", step=5)
    plain, exact = (
        item(Forest((policy,), "", reads), (policy,), Room(1000, 8), ASKED, lengths).once for reads in (False, True)
    )
    assert (exact.scored, exact.scores) == (0, 0)
    assert exact.decoded > plain.decoded


def test_a_whole_trace_is_scored_once_and_a_window_bounds_what_is_read() -> None:
    policy = Scored(16, Steps(None, 4096, 1), "best", 1)
    lengths = ThinkingForecast(300, 0, 20, "a test")
    forest = Forest((policy,), "", False)
    work = item(forest, (policy,), Room(8192, 64), 100, lengths, math.inf)
    assert work.once.scores == 16
    assert work.once.scored + 16 * 20 == pytest.approx(work.once.decoded + 16 * 100), "each prompt, and its thinking"
    assert item(forest, (policy,), Room(8192, 64), 100, lengths, 128).once.scored <= 16 * 128
    assert work.beside == 15
    assert item(forest, (policy,), Room(100, 64), 100, lengths, math.inf).once == Tokens(prompts=100, fresh=100)


SEARCH: dict[str, Any] = {
    "model": "simplescaling/s1-32B",
    "tasks": ["aime24"],
    "temperature": 1.0,
    "max_answer_tokens": 512,
    "search": {
        "scorer": {"kind": "generative", "model": "Qwen/Qwen2.5-7B-Instruct", "good": "+", "bad": "-", "window": 8192}
    },
    "rebase": {"widths": [16]},
}


def told(scorer: dict[str, Any] | None = None, **search: Any) -> Estimate:
    resources = {"gpus": 2, "machine": "p5.48xlarge", "scorer": scorer or {}}
    fields = {**SEARCH, "resources": resources}
    fields["search"] = {"scorer": {**SEARCH["search"]["scorer"], **search}}
    return estimate(EvaluateConfig.model_validate_json(json.dumps(fields)), {})


def test_the_scorers_time_and_its_cards_are_in_time_and_cost() -> None:
    def hours(of: Estimate) -> float:
        assert of.device_hours is not None
        return of.device_hours

    free = EvaluateConfig.model_validate_json(
        json.dumps(
            {**SEARCH, "search": {"scorer": {"kind": "exact"}}, "resources": {"gpus": 2, "machine": "p5.48xlarge"}}
        )
    )
    shared, own = told(), told({"gpus": 1})
    assert hours(shared) > 0
    assert estimate(free, {}).usd is not None
    assert own.seconds is not None
    assert shared.seconds is not None
    assert own.seconds < shared.seconds, "on cards of its own it scores while others decode"
    assert hours(own) == pytest.approx(3 / 2 * 2 * own.seconds / 3600 * 1, rel=0.5), "three cards a replica are held"
    said = next(line for line in lines(shared) if "the scorer reads" in line)
    assert "beside the engine" in said
    assert any("on cards of its own" in line for line in lines(own))
    assert shared.available < own.available, "it has a share of the memory"

    one, four = told({"replicas": 1, "gpus": 1}), told({"replicas": 4, "gpus": 1})
    assert one.available == own.available, "apart it has none of it"
    assert (one.seconds, four.seconds) == (own.seconds, own.seconds)
    replicas = hours(own) / 3  # each holds two cards, and one for its scorer
    assert hours(four) - hours(one) == pytest.approx((hours(one) - 2 * replicas) * 3), "each is held all the while"
    assert any("in 4 replicas of its own" in line for line in lines(four))


def test_a_scorer_that_reads_all_of_its_prompts_again_takes_longer() -> None:
    process = {"kind": "process", "tag": "<extra_0>", "good": None, "bad": None}
    fields = {name: value for name, value in {**SEARCH["search"]["scorer"], **process}.items() if value is not None}
    every = EvaluateConfig.model_validate_json(
        json.dumps(
            {**SEARCH, "search": {"scorer": fields}, "resources": {"gpus": 2, "machine": "p5.48xlarge", "scorer": {}}}
        )
    )
    slow, fast = estimate(every, {}), told()
    assert slow.seconds is not None
    assert fast.seconds is not None
    assert slow.seconds > fast.seconds


def test_a_scorer_of_which_nothing_is_known_is_named() -> None:
    assert any("time and cost of the scorer are not in it" in line for line in lines(told(model="nobody/knows-it")))
