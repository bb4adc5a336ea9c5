"""Penalties as any engine must apply them, against a loop that has nothing but the model and the definition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs.evaluate.engines.protocol import Engine, Request, Sampling
from tests.evaluate.scripted_server import whole as stream

GREEDY = (
    Sampling(repetition_penalty=1.4),
    Sampling(frequency_penalty=1.5),
    Sampling(presence_penalty=2.0),
    Sampling(frequency_penalty=-2.0),
    Sampling(presence_penalty=-1.0, frequency_penalty=0.7, repetition_penalty=1.2),
)
TOKENS, CUT = 24, 10


def penalized(logits: torch.Tensor, given: Sequence[int], written: Sequence[int], sampling: Sampling) -> torch.Tensor:
    """`logits`, [vocabulary], less what OpenAI's and vLLM's documentation say, token by token."""
    changed = logits.clone()
    counts = Counter(written)
    for token in {*given, *written}:
        by = sampling.repetition_penalty
        changed[token] = changed[token] / by if changed[token] > 0 else changed[token] * by
    for token, count in counts.items():
        changed[token] -= sampling.frequency_penalty * count + sampling.presence_penalty
    return changed


def greedy(folder: Path, prompt: Sequence[int], sampling: Sampling) -> list[int]:
    """What the model writes after a prompt that was all given."""
    model, vocabulary = AutoModelForCausalLM.from_pretrained(folder), len(AutoTokenizer.from_pretrained(folder))
    written: list[int] = []
    with torch.no_grad():
        while len(written) < TOKENS:
            logits = model(torch.tensor([[*prompt, *written]])).logits[0, -1, :vocabulary]
            written.append(int(penalized(logits, prompt, written, sampling).argmax()))
    return written


async def check_penalties(engine: Engine, folder: Path) -> None:
    """Whole, and in two pieces of which the second has the first in its prompt, as forks and continued pieces do."""
    prompt = tuple(AutoTokenizer.from_pretrained(folder).encode("How many?<think>"))
    plain, _ = await stream(engine, Request(prompt, TOKENS, ()))
    differing = 0
    for sampling in GREEDY:
        expected = greedy(folder, prompt, sampling)
        assert expected != plain, "a penalty that changes nothing shows nothing"
        request = Request(prompt, TOKENS, (), sampling=sampling, given=len(prompt))
        assert (await stream(engine, request))[0] == expected
        rest = replace(request, prompt=(*prompt, *expected[:CUT]), max_tokens=TOKENS - CUT, position=CUT)
        assert (await stream(engine, rest))[0] == expected[CUT:]
        ignorant, _ = await stream(engine, replace(rest, given=None))
        differing += ignorant != expected[CUT:]
    assert differing, "what was written counts in another way than what was given"
