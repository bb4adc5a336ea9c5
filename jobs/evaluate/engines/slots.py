"""Keys and values of many sequences, each in a slot of its own: a cache for a batch that rows join and leave.

Sequences are aligned on the left of their slot, so a token's place in the cache is its position and nothing is padded
or shifted when others come and go. Slots in use come first, which makes a batch a view of the cache, not a copy. The
others keep what they held: a sequence that starts like one in any slot takes the common part from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import Cache

NO_TOKEN = -1
FIRST_CAPACITY = 64
"""Tokens of a slot at first; doubled as sequences grow."""


@dataclass
class _Batch:
    """Where the tokens of the forward pass under way go."""

    slots: slice
    places: torch.Tensor
    """[batch, query]: position of each token in its slot."""
    length: int
    """Positions that are attended to."""


class Slots(Cache):
    """`count` slots. Behaves as the cache of a model during :meth:`batch`."""

    def __init__(self, count: int, context_length: int):
        super().__init__(layers=[])
        self.used = 0
        """Slots in use: the first so many."""
        self._context_length = context_length
        self._capacity = FIRST_CAPACITY
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        """Per layer: [slots, heads, capacity + 1, dim]. The last position takes what padding writes."""
        self._tokens = np.full((count, context_length), NO_TOKEN, np.int32)
        self._lengths = np.zeros(count, np.int64)
        self._touched = np.zeros(count, np.int64)
        self._clock = 0
        self._batch: _Batch | None = None

    def take(self, tokens: Sequence[int]) -> int:
        """Puts `tokens` to come into slot number `used`, and returns how many of them it already has.

        At least the last is left to compute. The slot that was used longest ago makes way.
        """
        wanted = np.asarray(tokens, np.int32)
        differs = self._tokens[:, : len(wanted)] != wanted
        differs[:, -1] = True
        common = differs.argmax(1)
        source = int(common.argmax())
        shared = int(common[source])
        self._touch(source)
        idle = self._touched[self.used :]
        victim = self.used + int(idle.argmin())
        if victim == source and len(idle) > 1:
            others = idle.copy()
            others[victim - self.used] = np.iinfo(np.int64).max
            victim = self.used + int(others.argmin())
        slot = self.used
        self.swap(victim, slot)
        source = slot if source == victim else victim if source == slot else source
        if source != slot:
            for stored in (*self._keys, *self._values):
                stored[slot, :, :shared] = stored[source, :, :shared]
        self._tokens[slot, :shared] = wanted[:shared]
        self._tokens[slot, shared:] = NO_TOKEN
        self._lengths[slot] = shared
        self.used += 1
        return shared

    def leave(self, slot: int) -> int:
        """Ends the use of `slot`. The last slot in use takes its place; returns the number that that one had."""
        self.used -= 1
        self._touch(slot)
        self.swap(slot, self.used)
        return self.used

    def swap(self, one: int, other: int) -> None:
        """Exchanges the sequences of two slots."""
        if one == other:
            return
        most = int(max(self._lengths[one], self._lengths[other]))
        for stored in (*self._keys, *self._values):
            stored[[one, other], :, :most] = stored[[other, one], :, :most]
        for array in (self._tokens, self._lengths, self._touched):
            array[[one, other]] = array[[other, one]]

    def batch(
        self, first: int, tokens: Sequence[Sequence[int]], device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Prepares a forward pass that adds `tokens` to the slots from `first` on, one list per slot.

        Returns the model's input ids, position ids, both [batch, query] and padded on the left, and its attention
        mask, [batch, 1, query, length].
        """
        query = max(len(row) for row in tokens)
        ids = np.zeros((len(tokens), query), np.int64)
        places = np.full((len(tokens), query), -1, np.int64)
        for index, row in enumerate(tokens):
            slot, size = first + index, len(row)
            begin = int(self._lengths[slot])
            ids[index, query - size :] = row
            places[index, query - size :] = range(begin, begin + size)
            self._tokens[slot, begin : begin + size] = row
            self._lengths[slot] = begin + size
        length = int(places.max()) + 1
        self._grow(length)
        at = torch.from_numpy(places).to(device)
        # Padding attends to the first position, so that its softmax is defined, and writes where nobody reads.
        positions = at.clamp(min=0)
        self._batch = _Batch(slice(first, first + len(tokens)), torch.where(at < 0, self._capacity, at), length)
        mask = torch.arange(length, device=device) <= positions[:, None, :, None]
        return torch.from_numpy(ids).to(device), positions, mask

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by each layer: adds keys and values, [batch, heads, query, dim]; returns all of the batch's slots."""
        assert self._batch is not None, "a forward pass follows batch()"
        if layer_idx == len(self._keys):
            for stored, states in ((self._keys, key_states), (self._values, value_states)):
                _, heads, _, dim = states.shape
                # Zeros, because what is masked still counts: 0 times garbage may be NaN.
                stored.append(states.new_zeros(len(self._lengths), heads, self._capacity + 1, dim))
        slots, places, length = self._batch.slots, self._batch.places, self._batch.length
        rows = torch.arange(slots.start, slots.stop, device=places.device)[:, None]
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        keys[rows, :, places] = key_states.transpose(1, 2)
        values[rows, :, places] = value_states.transpose(1, 2)
        return keys[slots, :, :length], values[slots, :, :length]

    def _grow(self, length: int) -> None:
        if length <= self._capacity:
            return
        before, self._capacity = self._capacity, min(max(2 * self._capacity, length), self._context_length)
        for stored in (self._keys, self._values):
            for layer, tensor in enumerate(stored):
                slots, heads, _, dim = tensor.shape
                stored[layer] = tensor.new_zeros(slots, heads, self._capacity + 1, dim)
                stored[layer][:, :, :before] = tensor[:, :, :before]

    def _touch(self, slot: int) -> None:
        self._clock += 1
        self._touched[slot] = self._clock
