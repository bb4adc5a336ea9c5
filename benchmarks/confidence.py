"""What it costs in tokens a second to keep how sure a model is: ``confidence: true``, on either engine.

    python benchmarks/confidence.py --model FOLDER [--engine transformers] [--requests 32] [--tokens 128] [--rounds 6]

One engine decodes the same requests again and again, in turns with and without; each turn is laid beside its neighbour,
so that whoever else uses the machine slows both. Tokens are counted by the clock's seconds, and by CPU seconds of this
process and the engine's, which others hardly change. What differs is what a sweep's requests ask for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil
from transformers import AutoConfig

from jobs.evaluate.engines.protocol import Engine, EngineSpec, Request, Sampling, start

PROMPT = 40
"""Tokens of a prompt."""
CONTEXT = 512


class Rate(NamedTuple):
    """Tokens a second."""

    clock: float
    cpu: float


def cpu_seconds() -> float:
    """Of this process and those that it started."""
    own = psutil.Process()
    times = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)


async def rate(engine: Engine, vocabulary: int, requests: int, tokens: int, beliefs: bool) -> Rate:
    """Of so many requests at once, with prompts of their own, which no cache knows."""

    async def one(number: int) -> int:
        prompt = tuple(random.choices(range(5, vocabulary), k=PROMPT))
        asked = Request(prompt, tokens, (), sampling=Sampling(1.0), seed=number, beliefs=beliefs)
        decoded = sure = 0
        async for chunk in engine.stream(asked):
            decoded, sure = decoded + len(chunk.tokens), sure + len(chunk.beliefs)
        assert sure == (decoded if beliefs else 0)
        return decoded

    began, cpu = time.perf_counter(), cpu_seconds()
    decoded = sum(await asyncio.gather(*(one(number) for number in range(requests))))
    return Rate(decoded / (time.perf_counter() - began), decoded / (cpu_seconds() - cpu))


async def measure(asked: argparse.Namespace) -> dict[str, object]:
    vocabulary = AutoConfig.from_pretrained(asked.model).vocab_size
    spec = EngineSpec(asked.engine, str(asked.model), None, asked.dtype, CONTEXT, vocabulary, gpus=0, cpus=asked.cpus)
    engine = await start(spec)
    try:
        for beliefs in (False, True):  # whatever is compiled or allocated on first use
            await rate(engine, vocabulary, asked.requests, 8, beliefs)
        pairs = []
        for turn in range(asked.rounds):
            order = (False, True) if turn % 2 else (True, False)
            rates = {how: await rate(engine, vocabulary, asked.requests, asked.tokens, how) for how in order}
            pairs.append((rates[False], rates[True]))
    finally:
        await engine.close()
    return {
        "engine": asked.engine,
        "model": asked.model.name,
        "vocabulary": vocabulary,
        "load": os.getloadavg()[0],
        **{
            name: told([getattr(plain, name) for plain, _ in pairs], [getattr(sure, name) for _, sure in pairs])
            for name in Rate._fields
        },
    }


def told(without: Sequence[float], having: Sequence[float]) -> dict[str, object]:
    ratios = sorted(sure / plain for plain, sure in zip(without, having, strict=True))
    return {
        "without": round(median(without), 1),
        "with": round(median(having), 1),
        "ratio": round(median(ratios), 3),
        "ratios": [round(each, 3) for each in ratios],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a folder in Hugging Face's layout")
    parser.add_argument("--engine", choices=["transformers", "vllm"], default="transformers")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--requests", type=int, default=32, help="at once")
    parser.add_argument("--tokens", type=int, default=128, help="of each")
    parser.add_argument("--rounds", type=int, default=6, help="pairs of turns")
    parser.add_argument("--cpus", type=int, default=1)
    print(json.dumps(asyncio.run(measure(parser.parse_args())), indent=1))


if __name__ == "__main__":
    main()
