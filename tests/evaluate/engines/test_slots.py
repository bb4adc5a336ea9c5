"""The cache of slots, without a model: what is put in comes out, whoever comes and goes."""

from __future__ import annotations

import random

import torch

from jobs.evaluate.engines.slots import Slots

CONTEXT = 200
DEVICE = torch.device("cpu")


def test_sequences_come_out_as_they_went_in_whoever_joins_and_leaves() -> None:
    choose = random.Random(0)
    slots = Slots(8, CONTEXT)
    rows: list[list[int]] = []
    computed = asked = 0
    stems = [[choose.randrange(9) for _ in range(40)] for _ in range(3)]
    for _ in range(400):
        if rows and choose.random() < 0.3:
            leaving = choose.randrange(len(rows))
            last = slots.leave(leaving)
            assert last == len(rows) - 1
            rows[leaving] = rows[-1]
            rows.pop()
        joining: list[list[int]] = []
        for _ in range(choose.randrange(3)):
            if len(rows) + len(joining) < 5:
                stem = choose.choice(stems + [row for row in rows if len(row) < 100])
                joining.append([*stem[: choose.randrange(1, len(stem) + 1)], choose.randrange(9)])
        tokens = [row[slots.take(row) :] for row in joining]
        assert all(tokens), "the last token of a sequence is always left to compute"
        computed += sum(map(len, tokens))
        asked += sum(map(len, joining))
        first = len(rows)
        rows += joining
        if joining:
            check(slots, first, rows[first:], tokens)
        if rows and max(map(len, rows)) < CONTEXT:
            tokens = [[choose.randrange(9)] for _ in rows]
            rows = [[*row, *new] for row, new in zip(rows, tokens, strict=True)]
            check(slots, 0, rows, tokens)
    assert computed < asked / 2, "what is shared is not computed again"


def test_a_prompt_seen_before_computes_its_last_token_only() -> None:
    slots = Slots(4, CONTEXT)
    prompt = [3, 1, 4, 1, 5]
    assert slots.take(prompt) == 0
    check(slots, 0, [prompt], [prompt])
    assert slots.take(prompt) == 4
    check(slots, 1, [prompt], [[5]])
    slots.leave(0)
    slots.leave(0)
    assert slots.take([*prompt, 9]) == 5, "what left is still known"


def check(slots: Slots, first: int, rows: list[list[int]], tokens: list[list[int]]) -> None:
    """Adds `tokens` and compares what attention would see with `rows`."""
    ids, positions, mask = slots.batch(first, tokens, DEVICE)
    own = (ids * 1000 + positions).float()[:, None, :, None].expand(-1, 2, -1, 1)
    keys, values = slots.update(own, -own, 0)
    for index, row in enumerate(rows):
        expected = torch.tensor([token * 1000 + place for place, token in enumerate(row)]).float()
        for head in range(2):
            assert torch.equal(keys[index, head, : len(row), 0], expected)
            assert torch.equal(values[index, head, : len(row), 0], -expected)
        new = len(tokens[index])
        assert ids[index, -new:].tolist() == row[-new:]
        for back in range(1, new + 1):
            assert mask[index, 0, -back].sum() == len(row) - back + 1
    assert keys.isfinite().all(), "masked positions must not hold NaN"
