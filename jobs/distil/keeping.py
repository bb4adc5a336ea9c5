"""Which of a question's samples become rows: one rule each, by name.

A rule is a function of the question's samples, in their order, to why each of the others is dropped. It sees verdicts,
lengths and what answers mean, never text. Another package adds one by the group ``scaling_orchestrator.distil_rules``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from jobs.evaluate.sweep.ledger import Verdict
from orchestrator.job.extensions import ExtensionPoint


@dataclass(frozen=True)
class Candidate:
    """One sample of a question."""

    sample: int
    verdict: Verdict
    meaning: str | None
    """What its answer comes to; None where it has none."""
    tokens: int
    """Of thinking and answer."""


Drops = Mapping[int, str]
"""By sample: why it is dropped. Those that are not in it are kept."""


@dataclass(frozen=True)
class KeepRule:
    """Says what becomes of the samples of one question."""

    drops: Callable[[Sequence[Candidate]], Drops]


_NOT_CORRECT: Mapping[Verdict, str] = {
    "wrong": "wrong",
    "no_answer": "no answer",
    "error": "not graded",
    "ungraded": "not graded",
}


def _not_correct(candidates: Sequence[Candidate]) -> dict[int, str]:
    return {each.sample: _NOT_CORRECT[each.verdict] for each in candidates if each.verdict != "correct"}


def _first(candidates: Sequence[Candidate]) -> Drops:
    right = [each.sample for each in candidates if each.verdict == "correct"]
    return _not_correct(candidates) | dict.fromkeys(right[1:], "not the first correct one")


def _shortest(candidates: Sequence[Candidate]) -> Drops:
    right = [each for each in candidates if each.verdict == "correct"]
    longer = [each.sample for each in sorted(right, key=lambda each: (each.tokens, each.sample))[1:]]
    return _not_correct(candidates) | dict.fromkeys(longer, "not the shortest correct one")


RULES: ExtensionPoint[KeepRule] = ExtensionPoint(
    "scaling_orchestrator.distil_rules",
    KeepRule,
    {
        "all": KeepRule(lambda candidates: {}),
        "correct": KeepRule(_not_correct),
        "first_correct": KeepRule(_first),
        "shortest_correct": KeepRule(_shortest),
    },
)


def dropped(rule: KeepRule, most: int | None, candidates: Sequence[Candidate], referenced: bool) -> Drops:
    """What `rule` drops of a question's samples, and of those that it keeps, what comes after the first `most`.

    Where there is no reference answer, what most samples answer is taken for it (:func:`by_majority`).
    """
    judged = candidates if referenced else by_majority(candidates)
    taken = dict(rule.drops(judged))
    kept = [each.sample for each in judged if each.sample not in taken]
    return taken if most is None else taken | dict.fromkeys(kept[most:], f"beyond {most} per question")


def by_majority(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The samples, judged by the answer that more of them have than any other. Where two share the lead, none is
    correct."""
    votes = Counter(each.meaning for each in candidates if each.meaning is not None).most_common(2)
    leads = bool(votes) and (len(votes) == 1 or votes[0][1] > votes[1][1])

    def verdict(each: Candidate) -> Verdict:
        if each.meaning is None:
            return "no_answer"
        return "ungraded" if not leads else "correct" if each.meaning == votes[0][0] else "wrong"

    return [replace(each, verdict=verdict(each)) for each in candidates]
