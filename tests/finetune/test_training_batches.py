from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.finetune.batches import IGNORED, Schedule, collate, plan_step, share
from jobs.finetune.data import TokenizedData

PADDING = 999


def data(lengths: list[int], prompt: int = 1) -> TokenizedData:
    """Samples of these lengths, whose ids count on from one sample to the next."""
    count = len(lengths)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.arange(sum(lengths), dtype=np.int32)
    every = np.arange(count)
    return TokenizedData(ids, starts, np.full(count, prompt), np.zeros(count, np.int64), every, np.arange(count + 1))


def test_an_epoch_has_every_sample_once_and_the_next_another_order() -> None:
    schedule = Schedule(rows=10, batch_size=4, epochs=2, seed=0)
    assert (schedule.steps_per_epoch, schedule.steps) == (3, 6)
    first = [sample for step in range(3) for sample in schedule.batch(step)]
    second = [sample for step in range(3, 6) for sample in schedule.batch(step)]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert len(schedule.batch(2)) == 2


def test_the_paper_s_run_has_315_steps() -> None:
    assert Schedule(rows=1000, batch_size=16, epochs=5, seed=0).steps == 315


def test_labels_are_the_next_tokens_of_what_is_learned() -> None:
    batch = collate([0, 1], data([4, 2], prompt=1), PADDING)
    assert batch.ids.tolist() == [[0, 1, 2, 3], [4, 5, PADDING, PADDING]]
    assert batch.labels.tolist() == [[1, 2, 3, IGNORED], [5, IGNORED, IGNORED, IGNORED]]


def test_an_empty_micro_batch_teaches_nothing() -> None:
    batch = collate([], data([4]), PADDING)
    assert batch.ids.tolist() == [[PADDING]]
    assert batch.labels.tolist() == [[IGNORED]]


@given(
    lengths=st.lists(st.integers(2, 60), min_size=1, max_size=40),
    workers=st.integers(1, 7),
    tokens=st.integers(1, 200),
)
@settings(max_examples=300, deadline=None)
def test_workers_share_a_step_without_loss_in_equally_many_micro_batches(
    lengths: list[int], workers: int, tokens: int
) -> None:
    samples = data(lengths)
    everything = list(range(len(lengths)))
    shares = [list(share(everything, samples, rank=rank, workers=workers, tokens=tokens)) for rank in range(workers)]
    assert len({len(micro_batches) for micro_batches in shares}) == 1
    assert sorted(sample for micro_batches in shares for micro in micro_batches for sample in micro) == everything
    for micro_batches in shares:
        for micro in micro_batches:
            padded = len(micro) * max((lengths[sample] for sample in micro), default=0)
            assert len(micro) <= 1 or padded <= tokens


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_the_tokens_of_a_step_do_not_depend_on_the_number_of_workers(workers: int) -> None:
    samples = data([5, 9, 3, 7, 7, 2, 8, 4], prompt=1)
    schedule = Schedule(rows=8, batch_size=5, epochs=1, seed=0)
    steps = [
        plan_step(schedule, 0, samples, rank=rank, workers=workers, tokens=12, padding=PADDING)
        for rank in range(workers)
    ]
    learned = sum(int((batch.labels != IGNORED).sum()) for step in steps for batch in step.batches)
    assert {step.learned for step in steps} == {learned}
