"""Every rule against a loop over one trace at a time, written from its definition and not from its code."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jobs.evaluate.stopping.choosing import chosen, halves
from jobs.evaluate.stopping.probes import Probes
from jobs.evaluate.stopping.rule import RULES, Rule, made
from jobs.evaluate.stopping.rules.deepconf import MEASURES
from tests.evaluate.stopping.matrices import probes


class Trace(NamedTuple):
    """The probes of one sample, up to its end."""

    answers: list[int]
    correct: list[bool]
    thinking: list[int]
    cost: list[int]
    logprob: list[float]
    entropy: list[float]
    lowest: list[float]
    bottom: list[float]
    tail: list[float]
    mean: list[float]


def trace(matrices: Probes, item: int, sample: int) -> Trace:
    end = 0
    while matrices.live[item, sample, end]:
        end += 1
    names = ("logprob", "entropy", *(f"confidence_{name}" for name in MEASURES))
    signals = (matrices.signals[name] for name in names)
    parts = (matrices.answer, matrices.correct, matrices.thinking, matrices.answer_tokens, *signals)
    return Trace(*([each.item() for each in part[item, sample, : end + 1]] for part in parts))


def stop(one: Trace, says: Callable[[int], bool], pays: bool) -> tuple[int, int, int]:
    """The probe at which one trace stops, and its tokens of thinking with the probes before, and of its answer."""
    place, spent = 0, 0
    while place < len(one.answers) - 1 and not says(place):
        spent += one.cost[place] if pays else 0
        place += 1
    return place, one.thinking[place] + spent, one.cost[place]


def check(rule: Rule, matrices: Probes, says: Callable[[Trace, int], bool], pays: bool = True) -> None:
    stops = rule.stops(matrices)
    for item, sample in np.ndindex(matrices.answer.shape[:2]):
        one = trace(matrices, item, sample)
        place, thinking, answer = stop(one, lambda place, one=one: says(one, place), pays)  # type: ignore[misc]
        found = (stops.sample, stops.probe, stops.thinking, stops.answers, stops.looked_at)
        assert [each[item, sample] for each in found] == [sample, place, thinking, answer, 1]


def rule(name: str, **parameters: Any) -> Rule:
    (only,) = made(name, {field: value for field, value in parameters.items() if value is not None})
    return only


@given(probes(), st.integers(2, 4))
def test_convergence_stops_once_so_many_probes_in_a_row_agree(matrices: Probes, agree: int) -> None:
    def says(one: Trace, place: int) -> bool:
        last = one.answers[max(0, place - agree + 1) : place + 1]
        return len(last) == agree and last[0] >= 0 and len(set(last)) == 1

    check(rule("convergence", agree=agree), matrices, says)


@given(probes())
def test_the_oracle_stops_at_the_first_right_answer_and_its_probes_are_free(matrices: Probes) -> None:
    check(rule("oracle"), matrices, lambda one, place: one.correct[place], pays=False)


@given(probes(columns=1), st.integers(1, 3))
def test_waits_stops_where_it_is_written_and_probes_for_nothing(matrices: Probes, after: int) -> None:
    of = rule("waits", after=after)
    assert of.place == ("Wait", after)
    check(of, matrices, lambda one, place: True, pays=False)


THRESHOLDS = st.sampled_from([0.0, 0.1, 0.49, 0.5, 0.51, 0.9, 1.0])


@given(probes(), THRESHOLDS)
def test_confidence_exits_once_the_answer_is_sure_enough(matrices: Probes, threshold: float) -> None:
    check(rule("logprob", threshold=threshold), matrices, lambda one, at: math.exp(one.logprob[at]) >= threshold)
    check(rule("entropy", threshold=threshold), matrices, lambda one, at: math.exp(-one.entropy[at]) >= threshold)


@given(probes(columns=8), st.sampled_from([0.0, 0.05, 0.3]), st.integers(2, 4))
def test_slope_stops_once_the_answer_gets_no_surer(matrices: Probes, threshold: float, over: int) -> None:
    def says(one: Trace, place: int) -> bool:
        sure = [math.exp(each) for each in one.logprob[max(0, place - over + 1) : place + 1]]
        if len(sure) < over:
            return False
        slope = np.polynomial.polynomial.polyfit(range(over), sure, 1)[1]
        assume(abs(slope - threshold) > 1e-9)
        return bool(slope <= threshold)

    check(rule("slope", threshold=threshold, over=over), matrices, says)


@given(probes(columns=8))
def test_no_rule_is_right_more_often_than_the_oracle(matrices: Probes) -> None:
    bound = rule("oracle").stops(matrices)
    items, samples = np.indices(bound.probe.shape)
    right = matrices.correct[items, samples, bound.probe]
    for agree in (2, 3):
        stops = rule("convergence", agree=agree).stops(matrices)
        assert (matrices.correct[items, samples, stops.probe] <= right).all()


def percentile(values: list[float], share: float) -> float:
    """Between the two values around that place, in proportion; a hair below. NaN of none."""
    if not values:
        return math.nan
    ranked, place = sorted(values), share * (len(values) - 1)
    low, high = ranked[math.floor(place)], ranked[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place)) - 1e-8


Vote = tuple[int | None, int, int, int, int]
"""Of one group: the sample that is taken, its probe, tokens of thinking and of answers, samples looked at."""


def vote(votes: list[tuple[int, float]]) -> int:
    """The place of the vote that first gave the answer with most weight; 0 where there is none."""
    scores: dict[int, float] = {}
    for answer, weight in votes:
        if answer >= 0 and weight > 0:
            scores[answer] = scores.get(answer, 0) + weight
    best = max(scores.values(), default=0)
    leaders = {answer for answer, score in scores.items() if abs(score - best) < 1e-9}
    return next((n for n, (answer, weight) in enumerate(votes) if answer in leaders and weight > 0), 0)


def check_groups(of: Rule, matrices: Probes, size: int | None, naive: Callable[[list[Trace]], Vote]) -> None:
    stops = of.stops(matrices)
    items, samples, columns = matrices.answer.shape
    size = size or samples
    assert stops.sample.shape == (items, samples // size)
    for item, run in np.ndindex(stops.sample.shape):
        members = list(range(run * size, (run + 1) * size))
        taken, probe, *counts = naive([trace(matrices, item, each) for each in members])
        assert stops.sample[item, run] == members[taken or 0]
        said = matrices.answer[item, members[taken or 0]]
        assert said[stops.probe[item, run]] == said[min(probe, columns - 1)]
        assert [int(each[item, run]) for each in (stops.thinking, stops.answers, stops.looked_at)] == counts


def majority(drawn: list[Trace]) -> Vote:
    taken = vote([(one.answers[-1], 1) for one in drawn])
    spent = sum(one.thinking[-1] for one in drawn), sum(one.cost[-1] for one in drawn)
    return taken, 10**6, *spent, len(drawn)


SIZES = st.sampled_from([None, 2, 3])


def fitting(matrices: Probes, size: int | None, least: int = 2) -> None:
    assume(matrices.answer.shape[1] >= (size or least))


@given(probes(items=3, samples=7, columns=2), THRESHOLDS, SIZES)
def test_asc_draws_samples_until_the_leader_is_unlikely_to_be_overtaken(
    matrices: Probes, threshold: float, size: int | None
) -> None:
    fitting(matrices, size)

    def naive(group: list[Trace]) -> Vote:
        for drawn in range(1, len(group)):
            counts = Counter(one.answers[-1] for one in group[:drawn] if one.answers[-1] >= 0)
            first, second, *_ = [*sorted(counts.values(), reverse=True), 0, 0]
            # P(p < 1/2) of Beta(second + 1, first + 1) is that of so many heads of fair coins.
            coins = first + second + 1
            chance = sum(math.comb(coins, heads) for heads in range(second + 1, coins + 1)) / 2**coins
            assume(abs(chance - threshold) > 1e-9)
            if first and chance > threshold:
                return majority(group[:drawn])
        return majority(group)

    check_groups(rule("asc", threshold=threshold, samples=size), matrices, size, naive)


@given(probes(items=3, samples=7, columns=2), st.integers(2, 3), SIZES)
def test_esc_draws_windows_until_one_agrees(matrices: Probes, window: int, size: int | None) -> None:
    assume(size is None or size >= window)
    fitting(matrices, size, 1)

    def naive(group: list[Trace]) -> Vote:
        for end in range(window, len(group) + 1, window):
            said = {one.answers[-1] for one in group[end - window : end]}
            if len(said) == 1 and said != {-1}:
                return majority(group[:end])
        return majority(group)

    check_groups(rule("esc", window=window, samples=size), matrices, size, naive)


@given(probes(items=3, samples=5, columns=5), THRESHOLDS, st.integers(1, 2), SIZES)
def test_parallel_probing_stops_all_samples_once_enough_agree(
    matrices: Probes, consensus: float, rounds: int, size: int | None
) -> None:
    fitting(matrices, size)

    def naive(group: list[Trace]) -> Vote:
        thinking, agreed, last, paid = 0, 0, -1, 0
        for place in range(matrices.answer.shape[2]):
            now = [min(place, len(one.answers) - 1) for one in group]
            said = [one.answers[at] for one, at in zip(group, now, strict=True)]
            leader = said[vote([(answer, 1) for answer in said])]
            enough = leader >= 0 and said.count(leader) >= consensus * len(group) - 1e-9
            agreed = (agreed + 1 if leader == last else 1) if enough else 0
            last = leader if enough else -1
            if agreed >= rounds or all(at == len(one.answers) - 1 for one, at in zip(group, now, strict=True)):
                thinking = sum(one.thinking[at] for one, at in zip(group, now, strict=True))
                answers = sum(one.cost[at] for one, at in zip(group, now, strict=True))
                return vote([(answer, 1) for answer in said]), place, thinking + paid, answers, len(group)
            paid += sum(one.cost[at] for one, at in zip(group, now, strict=True) if at < len(one.answers) - 1)
        raise AssertionError("all samples end")

    of = rule("parallel", consensus=consensus, rounds=rounds, samples=size)
    check_groups(of, matrices, size, naive)


@given(
    *(probes(items=3, samples=6, columns=4), THRESHOLDS, st.sampled_from([*MEASURES, *["lowest"] * 3])),
    *(st.integers(0, 3), st.sampled_from([0.0, 0.4, 0.6, 0.95, 1.0]), SIZES),
)
def test_deepconf_cuts_samples_that_are_not_confident_and_weighs_the_others(
    matrices: Probes, keep: float, by: str, warmup: int, consensus: float, size: int | None
) -> None:
    assume((size is None or size >= warmup) and (not warmup or by == "lowest"))
    fitting(matrices, size)

    def sure(one: Trace) -> list[float]:
        values: list[float] = getattr(one, by)
        return values

    def naive(group: list[Trace]) -> Vote:
        first = min(warmup or len(group), len(group))
        able = [one for one in group[:first] if warmup or one.answers[-1] >= 0]
        threshold = percentile([sure(one)[-1] for one in able if not math.isnan(sure(one)[-1])], 1 - keep)
        votes: list[tuple[int, float]] = []
        thinking = answers = 0
        for number, one in enumerate(group):
            below = [at for at in range(len(one.answers) - 1) if sure(one)[at] < threshold]
            if number >= first and below:
                thinking += one.thinking[below[0]]
                votes.append((one.answers[-1], 0.0))
            else:
                thinking, answers = thinking + one.thinking[-1], answers + one.cost[-1]
                votes.append((one.answers[-1], sure(one)[-1] if sure(one)[-1] >= threshold else 0.0))
            if number + 1 >= first and number + 1 < len(group):
                total = sum(weight for answer, weight in votes if answer >= 0)
                leader = votes[vote(votes)][0]
                mine = sum(weight for answer, weight in votes if answer == leader)
                if total > 0 and mine / total >= consensus:
                    return vote(votes), 10**6, thinking, answers, number + 1
        return vote(votes), 10**6, thinking, answers, len(group)

    of = rule("deepconf", keep=keep, by=by, warmup=warmup, consensus=consensus, samples=size)
    check_groups(of, matrices, size, naive)


@given(probes(items=8), st.floats(0, 0.5), st.integers(0, 99))
def test_a_setting_is_chosen_by_the_other_half_of_the_items_alone(
    matrices: Probes, tolerance: float, seed: int
) -> None:
    rules = [rule("convergence", agree=agree) for agree in (2, 3, 4)]
    candidates = [(matrices, each.stops(matrices)) for each in rules]
    taken = chosen(candidates, tolerance, seed)
    half = halves(len(taken), seed)
    assert abs(int((half == 0).sum()) - int((half == 1).sum())) <= 1
    for which in (0, 1):
        others = [item for item in range(len(taken)) if half[item] != which]
        mine = {int(taken[item]) for item in range(len(taken)) if half[item] == which}
        if not others or not mine:
            assert mine <= {0}
            continue
        accuracy, tokens = [], []
        for _, stops in candidates:
            runs = [(item, run) for item in others for run in range(stops.probe.shape[1])]
            right = [matrices.correct[i, stops.sample[i, r], stops.probe[i, r]] for i, r in runs]
            accuracy.append(sum(map(bool, right)) / len(runs))
            tokens.append(sum(int(stops.thinking[i, r] + stops.answers[i, r]) for i, r in runs) / len(runs))
        good = [n for n in range(3) if accuracy[n] >= max(accuracy) - tolerance - 1e-12]
        assert mine == {min(good, key=lambda n: (tokens[n], n))}


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("convergence", {"agree": 1}, "agree: 1 is too few: give a whole number from 2"),
        ("convergence", {"agree": True}, "agree: True is no value: give a whole number"),
        ("convergence", {"agree": []}, "agree: the list is empty: give at least one"),
        ("convergence", {"agreed": 2}, "agreed: is no parameter of convergence: it has agree"),
        ("asc", {"threshold": 1.5}, "threshold: 1.5 is outside [0, 1]: give a number from 0 to 1"),
        ("logprob", {"threshold": [0.5, -0.1]}, "threshold: -0.1 is outside [0, 1]"),
        ("entropy", {"threshold": float("nan")}, "threshold: nan is outside [0, 1]"),
        ("slope", {"threshold": "0.5"}, "threshold: '0.5' is no value: give a number"),
        ("parallel", {"consensus": 2}, "consensus: 2 is outside [0, 1]"),
        ("deepconf", {"keep": 1.01}, "keep: 1.01 is outside [0, 1]"),
        ("deepconf", {"by": "luck"}, "by: 'luck' is no measure of confidence: give one of lowest, bottom, tail, mean"),
        ("deepconf", {"by": "tail", "warmup": 4}, "by: tail is known once a trace has ended"),
        ("waits", {"after": 0}, "after: 0 is too few: give a whole number from 1"),
        ("deepconf", {"warmup": 4, "samples": 3}, "samples: 3 is too few: give a whole number from 4"),
        ("esc", {"window": 4, "samples": 3}, "samples: 3 is too few: give a whole number from 4"),
        ("oracle", {"agree": 2}, "agree: is no parameter of oracle: it has none"),
    ],
)
def test_what_a_parameter_cannot_be_is_said(name: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("[", r"\[").replace("(", r"\(")):
        made(name, given)


def test_every_rule_has_a_loop_that_it_is_held_against() -> None:
    """Whoever adds a rule adds its definition here."""
    source = Path(__file__).read_text()
    assert [name for name in RULES.ours if f'rule("{name}"' not in source] == []
