"""How fast each replica decodes, from what the step says of itself: tokens that it has decoded, at two times.

A replica writes its traces a second apart at first and ten seconds later on, so a rate is over half a minute.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from orchestrator.store.records import read_passing

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

OVER_SECONDS = 30.0


class Rates:
    """Remembers what replicas said."""

    def __init__(self) -> None:
        self._said: dict[str, deque[tuple[float, float]]] = {}
        """(time, tokens) of each."""

    def tell(self, step: StoragePath) -> None:
        """Reads a step's ``progress.json``."""
        note: dict[str, Any] = read_passing(step / "progress.json", dict[str, Any]) or {}
        self.at(float(note.get("time", 0.0)), note.get("parts") or {})

    def at(self, time: float, tokens: dict[str, float]) -> None:
        """What each replica of now has decoded; others are gone."""
        self._said = {name: said for name, said in self._said.items() if name in tokens}
        for name, count in tokens.items():
            said = self._said.setdefault(name, deque())
            if not said or time > said[-1][0]:
                said.append((time, count))
            while len(said) > 2 and said[1][0] <= time - OVER_SECONDS:
                said.popleft()

    def per_second(self) -> dict[str, float | None]:
        """By replica; None of one that was heard once."""
        return {
            name: (said[-1][1] - said[0][1]) / (said[-1][0] - said[0][0]) if len(said) > 1 else None
            for name, said in self._said.items()
        }

    def rows(self) -> list[tuple[str, str, float]]:
        """Name, tokens per second in words, and as a share of the fastest's, in percent."""
        rates = self.per_second()
        most = max((rate for rate in rates.values() if rate), default=1.0)
        return [
            (name, "starting" if rate is None else f"{rate:,.0f} tokens/s", 100 * (rate or 0.0) / most)
            for name, rate in sorted(rates.items())
        ]
