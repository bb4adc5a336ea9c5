"""``closings: ["", "Time is up.\\n{close}\\n\\n"]``: what is appended where thinking is cut, besides ``Final Answer:``.

Each policy that is cut by a budget, steps or stop strings is there once more with each of them: the empty one is the
bare delimiter, and a text follows the delimiter on a line of its own, unless it says by ``{close}`` where that goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer

from jobs.evaluate.sweep.kinds import PolicyKind, Refusal, SweepFields
from jobs.evaluate.sweep.policy import CLOSE, FINAL_ANSWER, Policy, Route
from jobs.evaluate.sweep.values import filled, once
from jobs.evaluate.sweep.variation import Variation


@dataclass(frozen=True)
class ClosedBy(Variation):
    """Its base, with another closing."""

    closing: str

    @property
    def condition(self) -> str:
        return f'closed by "{self.closing}"'

    @property
    def route(self) -> Route:
        return replace(self.base.route, closing=self.closing)


def policies(given: Sequence[str], sweep: SweepFields, before: Sequence[Policy]) -> Iterator[Policy]:
    cut = [policy for policy in before if policy.route.forced and (policy.route.budget or policy.route.mark)]
    yield from (ClosedBy(policy, closing) for closing in once(given) if closing != FINAL_ANSWER for policy in cut)


def count(given: Sequence[str], before: int, sweep: SweepFields) -> int:
    return before * len(set(given))


def check(given: Sequence[str], sweep: SweepFields) -> None:
    """The delimiters are not among the words."""
    for closing in given:
        if closing.count(CLOSE) > 1:
            raise ValueError(f"closings: {closing!r} has {CLOSE} twice: thinking is closed once")
        for which, text in (("opens", sweep.style and sweep.style.open), ("closes", sweep.style and sweep.style.close)):
            if text and text.strip() in closing:
                remedy = f"write {CLOSE} where it goes" if which == "closes" else "leave it out"
                raise ValueError(f"closings: {closing!r} contains {text.strip()!r}, which {which} thinking: {remedy}")


def chats(given: Sequence[str], sweep: SweepFields) -> Iterator[Refusal]:
    yield (), "needs thinking that can be cut, and a server that only chats shows none: leave it out"


KIND = PolicyKind(
    value=Annotated[tuple[str, ...], AfterValidator(filled), PlainSerializer(once)],
    policies=policies,
    description='what is appended where thinking is cut; "": the bare delimiter',
    order=130,
    count=count,
    check=check,
    chats=chats,
)
