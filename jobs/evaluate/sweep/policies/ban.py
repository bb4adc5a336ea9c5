"""``ban: [Wait, Alternatively]``: the same, with strings that may not be written in thinking (NoWait).

Each policy that forces thinking is there once more under the ban. The walker sees to it, not the engine: a token that
would complete a string is dropped and drawn again without it, so a string may lie across tokens, and every engine that
can leave ids out of a draw can do it (:mod:`jobs.evaluate.decode.banning`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from jobs.evaluate.sweep.kinds import PolicyKind, Refusal, SweepFields
from jobs.evaluate.sweep.policy import Policy, Root
from jobs.evaluate.sweep.values import Texts, once
from jobs.evaluate.sweep.variation import Variation


@dataclass(frozen=True)
class Without(Variation):
    """Its base, with strings that may not be written."""

    banned: tuple[str, ...]

    @property
    def condition(self) -> str:
        return f"without {', '.join(self.banned)}"

    @property
    def root(self) -> Root:
        return replace(self.base.root, banned=self.banned)


def policies(given: Sequence[str], sweep: SweepFields, before: Sequence[Policy]) -> Iterator[Policy]:
    yield from (Without(policy, tuple(once(given))) for policy in before if policy.route.forced)


def count(given: Sequence[str], before: int, sweep: SweepFields) -> int:
    return before


def chats(given: Sequence[str], sweep: SweepFields) -> Iterator[Refusal]:
    yield (), "needs thinking whose tokens can be left out, and a server that only chats shows none: leave it out"


KIND = PolicyKind(
    value=Texts,
    policies=policies,
    description="also with these never written in thinking",
    order=120,
    count=count,
    chats=chats,
)
