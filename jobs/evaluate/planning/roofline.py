"""How fast a replica decodes: the roofline of a model on its cards.

A step of decoding gives each sequence in the batch one token. It reads all weights, and the keys and values of every
sequence, from the cards' memory, and does two operations for each weight and sequence: whichever takes longer decides,
and for the batches that fit a cache of 32k-token traces that is the reading. What the engine's own program takes for a
step and for a sequence in it is a floor under both: it is all that counts where the model is tiny.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.catalogue import Card
from jobs.architecture import Architecture
from jobs.evaluate.engines.registry import Program
from jobs.evaluate.planning.workload import Workload

CACHED = 0.9
"""Share of the memory that an engine takes for weights, cache and work."""

BANDWIDTH_SHARE = 0.6
"""Of the memory's bandwidth, that decoding is planned to reach."""

FLOPS_SHARE = 0.4
"""Of the peak, that reading prompts is planned to reach."""


@dataclass(frozen=True)
class PlannedReplica:
    """One copy of a model on its cards."""

    model: Architecture
    card: Card
    cards: int
    size: int
    """Bytes of a number."""
    program: Program
    share: float = BANDWIDTH_SHARE
    given: float = CACHED
    """Share of each card's memory that it may take."""
    scorer: PlannedScorer | None = None
    """What scores the steps of its searches, beside it."""

    @property
    def held(self) -> int:
        """Cards, those of its scorer's own included."""
        return self.cards + (self.scorer.own if self.scorer is not None else 0)

    @property
    def start(self) -> float:
        """Seconds until its first token."""
        return self.program.start + (self.scorer.replica.program.start if self.scorer is not None else 0.0)

    @property
    def weights(self) -> float:
        """Bytes."""
        return self.model.stored(self.size)

    @property
    def kept(self) -> float:
        """Bytes of keys and values of one token."""
        return 2 * self.model.layers * self.model.kv_heads * self.model.head_size * self.size

    @property
    def memory(self) -> float:
        """Bytes that weights and cache can take."""
        return self.cards * (self.given * self.card.memory - self.card.reserved)

    @property
    def cache(self) -> float:
        """Tokens that fit beside the weights; below 1 where the weights do not fit."""
        return (self.memory - self.weights) / self.kept

    def step(self, batch: float, context: float) -> float:
        """Seconds for one more token of each of `batch` sequences, with `context` tokens before it in the mean."""
        reading = (self.weights + batch * context * self.kept) / (self.cards * self.card.bandwidth * self.share)
        computing = 2 * self.model.multiplied * batch / (self.cards * self.card.tflops * 1e12 * FLOPS_SHARE)
        return max(reading, computing, self.program.step + batch * self.program.sequence)

    def seconds(self, work: Workload, batch: float) -> float:
        """For all of `work`, with `batch` sequences at a time."""
        tokens = work.once
        steps = tokens.decoded / batch
        decoding = self.reading(tokens.prompts) + steps * self.step(batch, tokens.read / max(tokens.decoded, 1))
        if self.scorer is None:
            return decoding
        scoring = self.scorer.seconds(work, batch)
        return max(decoding, scoring) if self.scorer.own else decoding + scoring

    def reading(self, tokens: float) -> float:
        """Seconds to compute so many tokens of prompts."""
        return 2 * self.model.multiplied * tokens / (self.cards * self.card.tflops * 1e12 * FLOPS_SHARE)


@dataclass(frozen=True)
class PlannedScorer:
    """A model that scores, on cards of its own or on a share of those of the replica that asks it."""

    replica: PlannedReplica
    own: int
    """Cards of its own; 0: it shares."""
    caches: bool
    """Whether it computes only what is new of a prompt."""

    def seconds(self, work: Workload, batch: float) -> float:
        """For all that is scored, `batch` prompts at a time: each is read, and gives one token."""
        tokens = work.once
        if not tokens.scores:
            return 0.0
        read = min(tokens.fresh, tokens.scored) if self.caches else tokens.scored
        return self.replica.reading(read) + tokens.scores / batch * self.replica.step(batch, read / tokens.scores)


@dataclass(frozen=True)
class Taken:
    """What decoding takes."""

    replicas: int
    at_once: int
    """Units that a replica decodes at once, in the mean."""
    seconds: float
    """On the clock, engines' start included."""
    card_seconds: float
    """Of all cards, while their replica is there."""


def taken(replica: PlannedReplica, work: Workload, in_flight: int, most_replicas: int) -> Taken:
    """What `work` takes on as many replicas as it keeps busy; no less than its longest chain, token by token."""
    resident = work.resident / work.units
    held = max(1, int(replica.cache / resident))
    at_once = min(in_flight, held)
    replicas = max(1, min(most_replicas, -(-int(work.units) // at_once)))
    batch = max(1.0, min(at_once, work.units / replicas))
    busy = replica.seconds(work, min(held, batch * (1 + work.beside / work.units)))
    chain = work.longest * replica.step(1, work.longest / 2)
    start = replica.start
    return Taken(
        replicas=replicas,
        at_once=at_once,
        seconds=start + max(busy / replicas, chain),
        card_seconds=replica.held * (replicas * start + max(busy, chain)),
    )
