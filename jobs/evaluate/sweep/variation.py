"""A policy of another kind under another condition: what axes of a sweep are made of."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Self

from jobs.evaluate.sweep.policy import Policy, Root, Route


@dataclass(frozen=True)
class Variation(Policy):
    """`base`, and what a subclass makes of its root or route. All else is the base's."""

    base: Policy

    @property
    @abstractmethod
    def condition(self) -> str:
        """What sets it apart from its base, in names: ``effort low``."""

    @property
    def name(self) -> str:
        return f"{self.base.name} ({self.condition})"

    @property
    def method(self) -> str:
        return f"{self.base.method} ({self.condition})"

    @property
    def setting(self) -> str:
        return self.base.setting

    @property
    def route(self) -> Route:
        return self.base.route

    @property
    def root(self) -> Root:
        return self.base.root

    @property
    def place(self) -> float:
        return self.base.place

    @property
    def origin(self) -> Self | None:
        return None if self.base.origin is None else replace(self, base=self.base.origin)

    @property
    def asked(self) -> int | None:
        return self.base.asked

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return self.base.bounds

    @property
    def tries(self) -> int:
        return self.base.tries

    def samples_looked_at(self, accepted: float) -> float:
        return self.base.samples_looked_at(accepted)
