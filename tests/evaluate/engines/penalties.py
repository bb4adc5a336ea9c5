"""Penalties and cuts as any engine must apply them, against what has nothing but the model and the definitions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

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


async def check_draws(engine: Engine, folder: Path, requests: int) -> None:
    """As often as the definition says, after a prompt of every second id, and a part that an earlier piece wrote."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    question, written = tuple(range(0, len(tokenizer), 2)), tuple(tokenizer.encode("aab"))
    prompt, given, sampling = (*question, *written), len(question), Sampling(1.5, 0.95, 12, 0.02, 0.8, 0.6, 1.3)
    asked = (Request(prompt, 1, (), sampling=sampling, given=given, seed=seed) for seed in range(requests))
    drawn = Counter(tokens[0] for tokens, _ in await asyncio.gather(*(stream(engine, each) for each in asked)))
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([prompt])).logits[0, -1, : len(tokenizer)]
    logits = penalized(logits, prompt[:given], prompt[given:], sampling)[None]
    cuts = [TemperatureLogitsWarper(1.5), MinPLogitsWarper(0.02), TopKLogitsWarper(12), TopPLogitsWarper(0.95)]
    expected = LogitsProcessorList(cuts)(torch.zeros(1, 1, dtype=torch.int64), logits).softmax(-1)[0]
    assert set(drawn) <= set(expected.nonzero()[:, 0].tolist())
    for token, share in enumerate(expected.tolist()):
        assert abs(drawn[token] - requests * share) <= 5 * (requests * share) ** 0.5 + 1
