"""The machine catalogue: what plans and MFU figures know of a card, and of a machine that holds several.

The figures and their sources are in ``catalogue.yaml`` beside this file. A name there is either a card (``h100``) or a
machine (``p5.48xlarge``); a card by itself stands for one in the machine that it is priced as.

    machine("h100").card.tflops
"""

from __future__ import annotations

import datetime
import difflib
import functools
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

CPU = "cpu"
"""The name of a CPU's core."""

_CATALOGUE = Path(__file__).with_name("catalogue.yaml")
_CONTROL_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Card:
    """One accelerator, or one core of a CPU."""

    title: str
    memory: float
    """Bytes that a program finds."""
    reserved: float
    """Bytes of them that are gone before the first tensor."""
    tflops: float
    """1e12 floating-point operations per second: bf16, dense; for a CPU float32."""
    bandwidth: float
    """Bytes per second of its own memory."""
    link: float
    """Bytes per second, one way, to the other cards of its node."""
    mfu: float
    """Share of `tflops` that training is planned to reach."""
    priced_as: str
    """The machine whose share of the price it is given."""


@dataclass(frozen=True)
class MachineType:
    """A node of so many cards."""

    name: str
    """As it is in the catalogue: a machine's name, or a card's."""
    card: Card
    cards: int
    cpus: int
    """What Ray counts as its CPUs."""
    network: float
    """Bytes per second, one way, between nodes."""
    usd_per_hour: float
    """Of the whole machine, in USD."""
    priced: datetime.date
    """When that was the list price."""
    whole: bool
    """Rented as a whole: cards that idle are paid too. Not so where only a card was named."""
    shared_memory: float | None = None
    """Bytes that its cards share, in place of each card's own; None where all that is known is a card's part."""

    @property
    def resources(self) -> Mapping[str, float]:
        """What Ray finds on it: ``{"CPU": 192.0, "GPU": 8.0}``."""
        return {"CPU": float(self.cpus), "GPU": float(self.cards if self.device == "GPU" else 0)}

    @property
    def types(self) -> tuple[MachineType, ...]:
        """The machines that it can be: itself, or all in the catalogue that have the card which alone was named."""
        if self.whole or self.shared_memory is not None:
            return (self,)
        return tuple(each for name in names() if (each := machine(name)).whole and each.card == self.card)

    def holds(self, bundle: Mapping[str, float]) -> bool:
        """Whether one node has all of a placement-group bundle. Of what the catalogue does not count, it has enough."""
        return any(
            all(amount <= each.resources.get(name, math.inf) for name, amount in bundle.items()) for each in self.types
        )

    def nodes(self, cards: float) -> int:
        """Nodes that hold `cards`."""
        return math.ceil(cards / self.cards)

    def usd(self, cards: float, seconds: float) -> float:
        """What `cards` cost for so long, in USD."""
        machines = self.nodes(cards) if self.whole else cards / self.cards
        return machines * self.usd_per_hour * seconds / 3600

    def at_once(self, cards: int, holders: int) -> int:
        """How many of `holders`, each of so many cards, run at the same time: all, where there may be more machines."""
        return holders if self.shared_memory is None else max(1, min(holders, self.cards // cards))

    def memory_for(self, cards: int, holders: int) -> float:
        """Bytes for each of `holders`, of so many cards each."""
        if self.shared_memory is None:
            return cards * self.card.memory
        return self.shared_memory / self.at_once(cards, holders)

    @property
    def device(self) -> str:
        """What is paid for, in the singular: ``GPU``, or ``core``."""
        return "core" if self.card.priced_as == machine(CPU).card.priced_as else "GPU"

    @property
    def price(self) -> str:
        """In words: ``$55.04 an hour for p5.48xlarge with 8 of them, AWS's list price of 2025-06-05``."""
        if self.shared_memory is not None:
            return machine(CPU).price
        name = self.name if self.whole else self.card.priced_as
        return f"${self.usd_per_hour:g} an hour for {name} with {self.cards} of them, AWS's list price of {self.priced}"

    def interconnect(self, cards: int) -> float:
        """Bytes per second at which a ring of `cards` moves data past each of them."""
        return self.card.link if self.nodes(cards) == 1 else min(self.card.link, self.network)


def names() -> tuple[str, ...]:
    """Everything that can be asked for, cards first."""
    catalogue = _catalogue()
    return (*catalogue["cards"], *catalogue["machines"])


def machine(name: str) -> MachineType:
    """The machine of that name. Raises KeyError for one that is not in the catalogue."""
    cards, machines = _catalogue()["cards"], _catalogue()["machines"]
    alone = name in cards
    fields = dict(machines[cards[name]["priced_as"] if alone else name])
    card = fields.pop("card")
    return MachineType(name, Card(**cards[card]), **fields, whole=not alone)


@functools.cache
def this_machine() -> MachineType:
    """The cores and the memory of the machine that this runs on, at the catalogue's price of a core."""
    cores, memory = _cores(), _memory()
    core = machine(CPU)
    return replace(
        core,
        name="this machine",
        cpus=cores,
        card=replace(core.card, title="CPU core of this machine", memory=memory / cores),
        cards=cores,
        usd_per_hour=core.usd_per_hour * cores / core.cards,
        shared_memory=memory,
    )


def _cores() -> int:
    """As many as Ray offers: those that there are, or that a container may use."""
    cores = os.cpu_count() or 1
    quota, period = [*_limit("cpu.max"), "max", "max"][:2]
    return max(1, min(cores, int(quota) // int(period))) if quota.isdecimal() and period.isdecimal() else cores


def _memory() -> float:
    """Bytes, all of them or what a container may use."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = [*_limit("memory.max"), "max"][0]
    return float(min(memory, int(limit)) if limit.isdecimal() else memory)


def _limit(name: str) -> list[str]:
    """The words of a limit of this process's control group."""
    try:
        return (_CONTROL_GROUP / name).read_text().split()
    except OSError:
        return []


def in_usd(amount: float) -> str:
    """``$1,234``, ``$12.34``, ``$0.00056``."""
    if amount >= 100:
        return f"${amount:,.0f}"
    digits = 2 if amount >= 0.1 or not amount else 1 - math.floor(math.log10(amount))
    return f"${amount:.{digits}f}"


def known_machine(name: str) -> str:
    """`name`, when it is in the catalogue. Raises ValueError, in words for a person, when it is not."""
    if name in names():
        return name
    close = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
    offer = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names())}"
    raise ValueError(f"{name!r} is not in the machine catalogue: {offer}")


@functools.cache
def _catalogue() -> Mapping[str, Mapping[str, Any]]:
    content: Mapping[str, Mapping[str, Any]] = yaml.safe_load(_CATALOGUE.read_text())
    return content
