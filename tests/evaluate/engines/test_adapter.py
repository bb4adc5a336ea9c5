"""A LoRA adapter on a base decodes as the model does that it was merged into, and is refused on another base."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.engines.model import resolve
from jobs.evaluate.engines.protocol import EngineSpec, Request, start
from orchestrator.complaints import ExperimentError
from orchestrator.experiment import load
from orchestrator.job.context import StepContext
from tests.evaluate import tiny

PROMPT = tuple(range(5, 30))


def save_adapter(base: Path, folder: Path, rank: int = 4) -> Path:
    """An adapter that changes what the base says."""
    torch.manual_seed(1)
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings).save_pretrained(folder)
    return folder


def config_of(model: Any, **fields: Any) -> EvaluateConfig:
    tasks = [{"name": "letters", "items": 2}]
    said = {"model": model, "tasks": tasks, "template": "think", "budgets": [8], **fields}
    return EvaluateConfig.model_validate_json(json.dumps(said))


def decoded(config: EvaluateConfig, folder: Path, engine: str = "transformers") -> list[int]:
    """What the model of a sweep says, greedily."""
    model = resolve(config, StepContext("x", "x", "0", folder / "step", folder / "traces"))
    spec = EngineSpec(
        engine, model.source, None, "float32", 128, len(model.tokenizer), gpus=0, cpus=1, adapter=model.adapter
    )

    async def think() -> list[int]:
        running = await start(spec)
        said: list[int] = []
        try:
            async with aclosing(running.stream(Request(PROMPT, 12, ()))) as stream:
                async for chunk in stream:
                    said += chunk.tokens
        finally:
            await running.close()
        return said

    return asyncio.run(think())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    base = tiny.save(folder / "base")
    save_adapter(base, folder / "lora")
    shutil.copytree(base, folder / "merged")
    merged: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder / "lora")
    merged.merge_and_unload().save_pretrained(folder / "merged")
    return folder


def test_it_decodes_what_the_merged_model_does(folder: Path) -> None:
    adapted = config_of({"base": str(folder / "base"), "adapter": str(folder / "lora")})
    said = decoded(adapted, folder)
    assert said == decoded(config_of(str(folder / "merged")), folder)
    assert said != decoded(config_of(str(folder / "base")), folder)
    assert adapted.model_name == "base with lora"
    assert set(adapted.external_inputs()) == {"model.base", "model.adapter"}


def test_what_it_decodes_is_neither_the_bases_nor_another_adapters(folder: Path) -> None:
    context = StepContext("x", "x", "0", folder / "step", folder / "traces")
    save_adapter(folder / "base", folder / "wider", rank=12)
    models = [
        str(folder / "base"),
        *({"base": str(folder / "base"), "adapter": str(folder / each)} for each in ("lora", "wider")),
    ]
    resolved = [resolve(config_of(model), context) for model in models]
    assert len({model.identity for model in resolved}) == 3
    assert [model.adapter and model.adapter.rank for model in resolved] == [None, 4, 12]


def refusal(folder: Path, monkeypatch: pytest.MonkeyPatch, base: str, adapter: str, **fields: Any) -> str:
    monkeypatch.chdir(folder)
    tasks = [{"name": "letters", "items": 2}]
    sweep = {"job": "evaluate", "model": {"base": base, "adapter": adapter}, "tasks": tasks, **fields}
    (folder / "x.yaml").write_text(json.dumps({"name": "x", "store": "store", "steps": {"sweep": sweep}}, indent=1))
    with pytest.raises(ExperimentError) as refused:
        load(folder / "x.yaml")
    [complaint] = refused.value.complaints
    return complaint.message


def test_what_cannot_be_laid_on_the_base_is_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(name: str, **settings: Any) -> str:
        shutil.copytree(folder / "lora", folder / name)
        file = folder / name / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))
        return f"./{name}"

    wide = Qwen2ForCausalLM(Qwen2Config(vocab_size=272, hidden_size=128, num_hidden_layers=1, num_attention_heads=4))
    wide.save_pretrained(folder / "wide")
    shutil.copyfile(folder / "base" / "tokenizer.json", folder / "wide" / "tokenizer.json")
    at = "steps.sweep.model.adapter: "
    for base, adapter, line in [
        ("./wide", "./lora", "'./lora' is for models of hidden size 64, and ./wide has 128: give the base"),
        ("./base", "./nowhere", "'./nowhere' is not a folder"),
        ("./base", "./base", "'./base' has no adapter_config.json: give a folder as peft saves an adapter"),
        ("./base", changed("prefix", peft_type="PREFIX_TUNING"), "'./prefix' is an adapter of kind PREFIX_TUNING"),
        ("./base", changed("huge", r=4096), "'./huge' has rank 4096, and engines take 1 … 512"),
        (
            "Qwen/Qwen2.5-7B-Instruct",
            changed("other", base_model_name_or_path="Qwen/Qwen2.5-7B"),
            "'./other' was trained on 'Qwen/Qwen2.5-7B', and base is 'Qwen/Qwen2.5-7B-Instruct': give the base",
        ),
    ]:
        assert refusal(folder, monkeypatch, base, adapter).startswith(at + line)
    served = refusal(
        folder,
        monkeypatch,
        *("./base", "./lora"),
        engine="openai",
        served_model="tiny",
        resources={"server": {"url": "http://localhost:1/v1"}},
    )
    assert served == (
        "steps.sweep: model.adapter: is for transformers and vllm, and the engine is openai: leave it out"
    )
