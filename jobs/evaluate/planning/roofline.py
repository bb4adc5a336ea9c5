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

    @property
    def weights(self) -> float:
        """Bytes."""
        return self.model.parameters * self.size

    @property
    def kept(self) -> float:
        """Bytes of keys and values of one token."""
        return 2 * self.model.layers * self.model.kv_heads * self.model.head_size * self.size

    @property
    def memory(self) -> float:
        """Bytes that weights and cache can take."""
        return self.cards * (CACHED * self.card.memory - self.card.reserved)

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
        prompts = 2 * self.model.multiplied * tokens.prompts / (self.cards * self.card.tflops * 1e12 * FLOPS_SHARE)
        return prompts + steps * self.step(batch, tokens.read / max(tokens.decoded, 1))


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
    at_once = max(1, min(in_flight, int(replica.cache / resident)))
    replicas = max(1, min(most_replicas, -(-int(work.units) // at_once)))
    batch = max(1.0, min(at_once, work.units / replicas))
    busy = replica.seconds(work, batch)
    chain = work.longest * replica.step(1, work.longest / 2)
    start = replica.program.start
    return Taken(
        replicas=replicas,
        at_once=at_once,
        seconds=start + max(busy / replicas, chain),
        card_seconds=replica.cards * (replicas * start + max(busy, chain)),
    )
