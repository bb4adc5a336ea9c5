"""Text alone from multimodal checkpoints, tiny and random, with a vision tower, on transformers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.evaluate.engines.protocol import Request, start
from tests.evaluate import multimodal, tiny
from tests.evaluate.engines.test_engines import spec
from tests.evaluate.scripted_server import whole as stream

TOKENS = 12


def said(engine: str, folder: Path) -> list[int]:
    """What an engine decodes greedily, of ids that the whole model says too."""
    prompt = tuple(tiny.tokenizer().encode("How many?<think>"))

    async def decoded() -> list[int]:
        running = await start(replace(spec(engine, folder), context_length=128))
        try:
            return (await stream(running, Request(prompt, TOKENS, ())))[0]
        finally:
            await running.close()

    tokens = asyncio.run(decoded())
    assert tokens == multimodal.says(folder, prompt, TOKENS)
    return tokens


@pytest.mark.seconds
@pytest.mark.parametrize("wrapper", ["gemma3", "mistral3", "ministral3"])
def test_its_text_is_decoded_as_the_whole_model_would(wrapper: str, tmp_path: Path) -> None:
    assert len(set(said("transformers", multimodal.save(wrapper, tmp_path)))) > 3
