"""Which policies are the points of one line in the plot, and which the runs of one way of spending more thinking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policy import Policy


@dataclass(frozen=True)
class Curve:
    """Policies that differ in one thing only, in its order: the points of one line."""

    name: str
    """Their :attr:`~jobs.evaluate.sweep.policy.Policy.method`."""
    points: tuple[Policy, ...]


def curves(policies: Iterable[Policy]) -> tuple[Curve, ...]:
    """The lines that `policies` draw, one per method; a line begins with its points' origin where that is there."""
    members = tuple(dict.fromkeys(policies))
    by_method: dict[str, list[Policy]] = {}
    for policy in members:
        by_method.setdefault(policy.method, []).append(policy)
    drawn = []
    for method, of_method in by_method.items():
        origin = of_method[0].origin
        start = [origin] if origin is not None and origin in members else []
        drawn.append(Curve(method, (*start, *sorted(of_method, key=lambda policy: policy.place))))
    return tuple(drawn)


def methods(policies: Iterable[Policy]) -> Iterator[Curve]:
    """The curves with several runs, and the budgets together with each string that extends the natural end."""
    several = [curve for curve in curves(policies) if len(curve.points) > 1]
    yield from several
    budgets = [curve for curve in several if curve.name == Budget.METHOD]
    for curve in several:
        if budgets and any(point.count and point.origin == Budget() for point in curve.points):
            yield Curve(f"budget + {curve.name}", tuple(dict.fromkeys((*budgets[0].points, *curve.points))))
