"""The nearest settings with which a training run fits its cards.

Each knob offers values in the order of how far they are from what was asked for. One knob is turned at a time; where
none is enough, two at a time, then three. All combinations of the smallest number that fit are the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from cluster.catalogue import CPU, MachineType, machine, names
from jobs.architecture import Architecture
from jobs.finetune.planning.memory import Checkpointing, Memory, WorkLayout, memory

_BLOCK = 1024
"""Tokens in steps of which a smaller block is looked for."""

_SHOWN = 5
"""Answers at most."""


@dataclass(frozen=True)
class Setting:
    """What can be turned: the layout, and what it follows from."""

    layout: WorkLayout
    machine: MachineType
    cards: int
    """Cards of one worker: 1, but as many cores as it has on CPUs."""
    workers: int
    shard_group: int | None
    batch_size: int
    block_size: int
    tokens_in_memory: int
    measured: float = 1.0
    """What was found to be taken, in units of what is planned: what fits is as much below it."""

    @property
    def placed(self) -> WorkLayout:
        """The layout with the tokens and the shards that the other fields make."""
        rows = -(-self.batch_size // self.workers)
        all_at_once = rows * self.block_size
        tokens = min(max(self.tokens_in_memory, self.block_size), all_at_once)
        shards = self.shard_group or self.workers
        return replace(self.layout, tokens=tokens, accumulates=tokens < all_at_once, shards=shards)

    def needs(self, model: Architecture) -> Memory:
        """What each worker needs."""
        return memory(model, self.placed)

    def fits(self, model: Architecture) -> bool:
        """Whether its card has that."""
        return self.needs(model).total * self.measured <= self.available

    @property
    def available(self) -> float:
        """Bytes that a worker's tensors can take."""
        return self.machine.memory_for(self.cards, self.workers) - self.machine.card.reserved


@dataclass(frozen=True)
class Change:
    """One knob at another value."""

    setting: Setting
    words: str
    """``resources.workers: 32``"""


def nearest(model: Architecture, setting: Setting) -> list[str]:
    """The settings that fit, in words; at most a few. Empty where no change of three knobs is enough."""
    for count in (1, 2, 3):
        changes = [words for knobs in combinations(_KNOBS, count) if (words := _first_fit(model, setting, knobs))]
        if changes:
            return changes[:_SHOWN]
    return []


def _first_fit(model: Architecture, setting: Setting, knobs: tuple[Callable[[Setting], Iterator[Change]], ...]) -> str:
    """The first value of the last knob that fits, at the first possible values of those before it; else nothing."""
    first, *rest = knobs
    for change in first(setting):
        if not rest:
            if change.setting.fits(model):
                return change.words
        elif words := _first_fit(model, change.setting, tuple(rest)):
            return f"{change.words}, {words}"
    return ""


def _fewer_tokens(setting: Setting) -> Iterator[Change]:
    if setting.tokens_in_memory > setting.block_size:
        changed = replace(setting, tokens_in_memory=setting.block_size)
        yield Change(changed, f"resources.tokens_in_memory: {setting.block_size}")


def _checkpoint(setting: Setting) -> Iterator[Change]:
    stronger: dict[Checkpointing, tuple[Checkpointing, ...]] = {"off": ("selective", "full"), "selective": ("full",)}
    for mode in stronger.get(setting.layout.checkpointing, ()):
        changed = replace(setting, layout=replace(setting.layout, checkpointing=mode))
        yield Change(changed, f"resources.activation_checkpointing: {mode}")


def _shard_further(setting: Setting) -> Iterator[Change]:
    if setting.shard_group is not None and setting.shard_group < setting.workers:
        yield Change(replace(setting, shard_group=None), f"resources.shard_group: {setting.workers}")
    if setting.layout.strategy == "zero-2":
        yield Change(
            replace(setting, layout=replace(setting.layout, strategy="zero-3")), "resources.deepspeed.stage: 3"
        )


def _more_workers(setting: Setting) -> Iterator[Change]:
    """Numbers of workers that share a batch equally."""
    if setting.shard_group is None:
        for workers in range(setting.workers + 1, setting.batch_size + 1):
            if setting.batch_size % workers == 0:
                yield Change(replace(setting, workers=workers), f"resources.workers: {workers}")


def _larger_card(setting: Setting) -> Iterator[Change]:
    card = setting.machine.card
    others = [other for other in map(machine, names()) if other.name != CPU and not other.whole]
    if setting.machine.device == "GPU":
        for other in sorted(others, key=lambda other: other.card.memory):
            if other.card.memory > card.memory:
                yield Change(replace(setting, machine=other), f"resources.machine: {other.name}")


def _offload(setting: Setting) -> Iterator[Change]:
    if not setting.layout.offload and setting.machine.device == "GPU":
        yield Change(replace(setting, layout=replace(setting.layout, offload=True)), "resources.offload: true")


def _shorter_block(setting: Setting) -> Iterator[Change]:
    longest = (setting.block_size - 1) // _BLOCK * _BLOCK
    for block in range(longest, 0, -_BLOCK):
        in_memory = min(setting.tokens_in_memory, block)
        yield Change(replace(setting, block_size=block, tokens_in_memory=in_memory), f"block_size: {block}")


_KNOBS = (_fewer_tokens, _checkpoint, _shard_further, _more_workers, _larger_card, _offload, _shorter_block)
"""Those that change no result first; a shorter block cuts samples."""
