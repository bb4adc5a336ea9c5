"""``rejection: {limits: [512], max_tries: 16}``: sampling again until thinking ends by itself within a limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field

from jobs.evaluate.sweep.kinds import PolicyKind, SweepFields
from jobs.evaluate.sweep.policy import Policy, Route
from jobs.evaluate.sweep.values import Limits, ascending
from orchestrator.job.strict_model import StrictModel

METHOD = "rejection sampling"


class Rejection(StrictModel):
    """Sampling again until thinking ends by itself within a limit. The samples of each item are what is drawn from."""

    limits: Limits = Field(description="tokens of thinking, at most")
    max_tries: int = Field(ge=1, description="samples looked at before there is no answer; at most `samples`")


@dataclass(frozen=True)
class RejectionSampling(Policy):
    """The first of at most so many samples whose thinking ends by itself within the limit."""

    limit: int
    max_tries: int

    @property
    def name(self) -> str:
        return f"{METHOD} {self.limit}"

    @property
    def method(self) -> str:
        return METHOD

    @property
    def setting(self) -> str:
        return str(self.limit)

    @property
    def route(self) -> Route:
        return Route(self.limit, closing=None)

    @property
    def asked(self) -> int:
        return self.limit

    @property
    def tries(self) -> int:
        return self.max_tries

    def samples_looked_at(self, accepted: float) -> float:
        return (1 - (1 - accepted) ** self.max_tries) / accepted if accepted else self.max_tries


def policies(given: Rejection, sweep: SweepFields, before: Sequence[Policy]) -> Iterator[Policy]:
    yield from (RejectionSampling(limit, given.max_tries) for limit in ascending(given.limits))


def count(given: Rejection, before: int, sweep: SweepFields) -> int:
    return len(set(given.limits))


def check(given: Rejection, sweep: SweepFields) -> None:
    if sweep.greedy:
        raise ValueError("rejection: needs a temperature above 0: greedy samples are all the same")
    if given.max_tries > sweep.samples:
        raise ValueError(
            f"rejection: max_tries {given.max_tries} is more than the {sweep.samples} samples it draws from: raise "
            "samples, or lower max_tries"
        )


KIND = PolicyKind(
    value=Rejection,
    policies=policies,
    description="sampling again until thinking ends by itself within a limit",
    order=70,
    count=count,
    curves=(METHOD,),
    check=check,
)
