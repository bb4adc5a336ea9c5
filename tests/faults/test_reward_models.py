"""Reward models in vLLM's CPU build, tiny and random, against their own arithmetic.

One has the shape of Qwen2.5-Math-PRM, one classifies whole replies, as Skywork-Reward-V2 does.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification, Qwen2Model

from jobs.evaluate.engines.protocol import EngineError, EngineSpec
from jobs.evaluate.scorers.pooling import start_outcome, start_process
from jobs.evaluate.scorers.protocol import ScorerSpec, Standing, StepScore, Writer
from jobs.evaluate.sweep.chat_template import Instructions
from jobs.evaluate.tasks.task import Item, Task
from jobs.template import TEMPLATES
from tests.evaluate import tiny

pytestmark = pytest.mark.processes

TAG = "<extra_0>"
HIDDEN = 64


def save(folder: Path) -> Path:
    """A random process reward model: Qwen2's body, and a head of two layers with two labels."""
    tiny.save(folder)
    tokenizer = tiny.tokenizer([*tiny.SPECIAL, TAG])
    tokenizer.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights = {name: weight for name, weight in weights.items() if name != "lm_head.weight"}
    torch.manual_seed(1)
    for layer, rows in ((0, HIDDEN), (2, 2)):
        weights[f"score.{layer}.weight"] = torch.randn(rows, HIDDEN)
        weights[f"score.{layer}.bias"] = torch.randn(rows)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    settings = AutoConfig.from_pretrained(folder)
    settings.architectures = ["Qwen2ForProcessRewardModel"]
    settings.num_labels = 2
    settings.save_pretrained(folder)
    return folder


def expected(folder: Path, prompt: tuple[int, ...], tag: int) -> float:
    """The chance of the second label at the last tag."""
    weights = load_file(folder / "model.safetensors")
    body = Qwen2Model.from_pretrained(folder)
    states = body(torch.tensor([prompt])).last_hidden_state[0]
    inner = torch.relu(states @ weights["score.0.weight"].T + weights["score.0.bias"])
    logits = inner @ weights["score.2.weight"].T + weights["score.2.bias"]
    return float(logits.detach().softmax(-1)[max(at for at, token in enumerate(prompt) if token == tag), 1])


def test_a_process_reward_model_says_how_good_the_latest_step_is(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    tokenizer = tiny.tokenizer([*tiny.SPECIAL, TAG])
    reader = Writer(tokenizer, TEMPLATES["think"], (tokenizer.eos_token_id,), Instructions())
    engine = EngineSpec("vllm", str(folder), None, "float32", 256, len(tokenizer), gpus=0, cpus=1)
    task = Task("sums", (Item("a", "What is 1+1?", "2"),))
    spec = ScorerSpec("process", (task,), {"u": (0, "a")}, reader, engine, reader=reader, window=256, tag=TAG)
    steps = tuple(tuple(tokenizer.encode(said)) for said in ("One.\n", "Two, as I think.\n", "Three.\n"))

    async def use() -> list[tuple[float, int, tuple[int, ...]]]:
        scorer = await start_process(spec)
        found = []
        try:
            standings = [Standing("u", steps[:most], None, None) for most in (1, 2, 3)]
            scores = await asyncio.wait_for(asyncio.gather(*(scorer.score(each) for each in standings)), 200)
            for standing, score in zip(standings, scores, strict=True):
                prompt = scorer._layout.prompt("What is 1+1?", spec.texts(standing))
                found.append((score.value, score.read, prompt))
            # What no config can ask for any more: a prompt without a tag. vllm says nothing of it, and no error.
            scorer._layout = type("Untagged", (), {"prompt": lambda self, question, steps: prompt[:4]})()
            with pytest.raises(EngineError, match="the scorer found no tag in a trace"):
                await asyncio.wait_for(scorer.score(standings[0]), 200)
        finally:
            await scorer.close()
        return found

    for value, read, prompt in asyncio.run(use()):
        assert read == len(prompt)
        assert value == pytest.approx(expected(folder, prompt, tokenizer.convert_tokens_to_ids(TAG)), abs=1e-4)


def save_classifier(folder: Path) -> Path:
    """A random outcome reward model, with one label; its checkpoint says that its score is not to be activated."""
    tiny.save(folder)
    tokenizer = tiny.tokenizer()
    torch.manual_seed(2)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, problem_type="regression", pad_token_id=tokenizer.pad_token_id
    )
    with torch.no_grad():
        model.score.weight.normal_()
    model.save_pretrained(folder)
    return folder


def test_a_model_that_writes_is_no_reward_model(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model")
    tokenizer = tiny.tokenizer()
    reader = Writer(tokenizer, TEMPLATES["think"], (tokenizer.eos_token_id,), Instructions())
    engine = EngineSpec("vllm", str(folder), None, "float32", 256, len(tokenizer), gpus=0, cpus=1)
    spec = ScorerSpec("outcome", (), {}, reader, engine, reader=reader, window=256)
    with pytest.raises(EngineError, match="is no reward model of kind outcome: vllm has classify for those"):
        asyncio.run(start_outcome(spec))


def test_an_outcome_reward_model_says_how_good_a_trace_is_with_the_answer_that_it_would_give(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path / "model")
    tokenizer = tiny.tokenizer()
    reader = Writer(tokenizer, TEMPLATES["think"], (tokenizer.eos_token_id,), Instructions())
    engine = EngineSpec("vllm", str(folder), None, "float32", 256, len(tokenizer), gpus=0, cpus=1)
    task = Task("sums", (Item("a", "What is 1+1?", "2"),))
    spec = ScorerSpec("outcome", (task,), {"u": (0, "a")}, reader, engine, reader=reader, window=256)
    thought = (tuple(tokenizer.encode("\nOne and one.\n")),)

    async def use() -> list[StepScore]:
        scorer = await start_outcome(spec)
        try:
            asked = (Standing("u", thought, "Final Answer:", tuple(tokenizer.encode(said))) for said in (" 2", " 3"))
            return await asyncio.wait_for(asyncio.gather(*map(scorer.score, asked)), 200)
        finally:
            await scorer.close()

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    found = asyncio.run(use())
    assert found[0].value != found[1].value, "the answer is read"
    for said, score in zip(("2", "3"), found, strict=True):
        turns = [
            {"role": "user", "content": "What is 1+1?"},
            {"role": "assistant", "content": f"\nOne and one.\n\nFinal Answer: {said}"},
        ]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        prompt = tokenizer.encode(text, add_special_tokens=False)
        assert score.read == len(prompt)
        logit = model(torch.tensor([prompt])).logits.detach().flatten()
        assert score.value == pytest.approx(float(torch.sigmoid(logit)), abs=1e-4)
