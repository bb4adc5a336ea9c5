"""Packed rows: what shares one, and that sharing changes nothing for a sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM, Qwen2Config

from jobs.finetune.attention import stay_within_documents
from jobs.finetune.batches import IGNORED, Batch, Schedule, collate, plan_step
from jobs.finetune.data import TokenizedData
from jobs.finetune.model import CausalLoss
from jobs.finetune.packing import assign, pack
from tests.finetune.test_training_batches import PADDING, data

LENGTHS = [5, 9, 3, 7, 7, 2, 8, 4]


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=200), size=st.integers(50, 120))
@settings(max_examples=300, deadline=None)
def test_every_sample_is_in_one_row_and_rows_are_full(lengths: list[int], size: int) -> None:
    rows = assign(lengths, size)
    assert sorted(sample for row in rows for sample in row) == list(range(len(lengths)))
    filled = [sum(lengths[sample] for sample in row) for row in rows]
    assert max(filled) <= size
    assert sum(fill <= size // 2 for fill in filled) <= 1
    assert len(rows) <= 11 / 9 * math.ceil(sum(lengths) / size) + 1 + sum(length > size // 2 for length in lengths)


@given(lengths=st.lists(st.integers(2, 50), min_size=1, max_size=60), size=st.integers(50, 120))
@settings(max_examples=200, deadline=None)
def test_packed_samples_are_the_same_samples(lengths: list[int], size: int) -> None:
    before = data(lengths)
    after = pack(before, size)
    assert after.samples == before.samples

    def samples(data: TokenizedData) -> list[tuple[list[int], int]]:
        return sorted((ids.tolist(), prompt) for row in range(len(data)) for ids, prompt in data.row(row))

    assert samples(after) == samples(before)
    assert after.learned(range(len(after))) == before.learned(range(len(before)))
    assert int(after.lengths(range(len(after))).max()) <= size


def test_a_packed_batch_has_no_padding_and_its_documents_start_at_position_0() -> None:
    packed = pack(data([4, 2, 3], prompt=1), 6)
    assert packed.rows.tolist() == [0, 2, 3]
    batch = collate([0, 1], packed, PADDING)
    assert batch.documents == (4, 2, 3)
    assert batch.ids.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 8]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 0, 1, 0, 1, 2]]
    assert batch.labels.tolist() == [[1, 2, 3, IGNORED, 5, IGNORED, 7, 8, IGNORED]]
    assert collate([], packed, PADDING).ids.tolist() == [[PADDING]]


def test_samples_are_known_by_their_place_in_the_dataset() -> None:
    packed = pack(data([2, 3, 4]), 6)
    assert [collate([row], packed, PADDING).samples for row in (0, 1)] == [(2, 0), (1,)]
    assert collate([0], packed.choose([1]), PADDING).samples == (1,)
    assert collate([0], packed.choose([1]), PADDING).ids.tolist() == [[2, 3, 4]]


def test_a_batch_counts_rows_when_samples_are_packed() -> None:
    packed = pack(data(LENGTHS), 15)
    schedule = Schedule(rows=len(packed), batch_size=2, epochs=1, seed=0)
    assert (len(packed), schedule.steps) == (4, 2)
    steps = [plan_step(schedule, at, packed, rank=0, workers=1, tokens=15, padding=PADDING) for at in range(2)]
    assert sum(sum(step.lengths) for step in steps) == sum(LENGTHS)
    assert sum(step.learned for step in steps) == sum(LENGTHS) - len(LENGTHS)
    assert [batch.ids.shape[0] for step in steps for batch in step.batches] == [1, 1, 1, 1]


def model(**changes: object) -> nn.Module:
    """In float64, with grouped heads."""
    torch.manual_seed(0)
    fields = {
        "vocab_size": 64,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.3,
    }
    made: nn.Module = AutoModelForCausalLM.from_config(Qwen2Config(**fields | changes)).double()
    return made


def hidden(network: nn.Module, batch: Batch) -> torch.Tensor:
    states: torch.Tensor = network.model(**batch.inputs, use_cache=False).last_hidden_state
    return states


def ids_below(limit: int, packed: TokenizedData) -> TokenizedData:
    packed.ids[:] = np.random.default_rng(0).integers(0, limit, len(packed.ids))
    return packed


@pytest.mark.parametrize("windows", [False, True], ids=["full attention", "sliding windows"])
def test_a_packed_sample_s_states_are_those_it_has_alone(windows: bool) -> None:
    network, untouched = (
        model(use_sliding_window=windows, sliding_window=4, max_window_layers=1 if windows else 2) for _ in range(2)
    )
    assert ("sliding_attention" in network.config.layer_types) == windows
    stay_within_documents(network)
    packed = ids_below(64, pack(data(LENGTHS), 20))
    for row in range(len(packed)):
        together = hidden(network, collate([row], packed, PADDING)).split([len(ids) for ids, _ in packed.row(row)], 1)
        for states, (ids, _) in zip(together, packed.row(row), strict=True):
            alone = hidden(untouched, Batch(torch.from_numpy(ids.astype(np.int64))[None], torch.empty(0)))
            assert torch.allclose(states, alone, atol=1e-12, rtol=0)


def test_nothing_of_a_document_reaches_another() -> None:
    network = model()
    stay_within_documents(network)
    packed = ids_below(64, pack(data([6, 5]), 11))
    before = hidden(network, collate([0], packed, PADDING))
    packed.ids[:6] = (packed.ids[:6] + 1) % 64
    after = hidden(network, collate([0], packed, PADDING))
    assert not torch.equal(before[:, :6], after[:, :6])
    assert torch.equal(before[:, 6:], after[:, 6:])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_and_padded_batches_have_the_same_loss_and_gradients(checkpointing: bool) -> None:
    padded = ids_below(64, data(LENGTHS))
    packed = pack(padded, 15)
    found = []
    for samples in (padded, packed):
        loss = CausalLoss(model())
        loss.model.train()
        if checkpointing:
            loss.model.gradient_checkpointing_enable()
        total = loss(collate(range(len(samples)), samples, 0))
        total.backward()
        found.append((total, [weight.grad for weight in loss.parameters()]))
    (one, ones), (other, others) = found
    # The loss itself is summed in float32.
    assert torch.allclose(one, other, rtol=1e-6)
    for gradient, same in zip(ones, others, strict=True):
        assert torch.allclose(gradient, same, atol=1e-12, rtol=1e-9)
