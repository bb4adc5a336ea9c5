"""Text alone from multimodal checkpoints on vLLM's CPU build, where there is no torchvision to import."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from jobs.architecture import IMPORTING_TORCHVISION, LANGUAGE_MODELS
from tests.evaluate import multimodal
from tests.evaluate.engines.test_adapter import config_of, decoded
from tests.evaluate.engines.test_multimodal import said
from tests.orchestrator.workplace import Workplace

SWEEP = """
  {engine}:
    job: evaluate
    model: ./model
    tasks: [{{name: letters, items: 3}}]
    template: think
    budgets: [4, 16]
    extensions: {{strings: [Wait], counts: [1]}}
    max_answer_tokens: 8
    engine: {engine}
"""
ENGINES = ("transformers", "vllm")


@pytest.mark.parametrize("wrapper", ["gemma3", "gemma4", "ministral3"])
@pytest.mark.timeout(240)
def test_its_text_is_decoded_as_the_whole_model_would(wrapper: str, tmp_path: Path) -> None:
    assert len(set(said("vllm", multimodal.save(wrapper, tmp_path)))) > 3


@pytest.mark.timeout(240)
def test_an_adapter_of_the_whole_model_is_laid_on_its_text(tmp_path: Path) -> None:
    base = multimodal.save("gemma3", tmp_path / "base")
    of_text = LoraConfig(
        r=4, lora_alpha=64, target_modules=r".*language_model.*(q_proj|v_proj)", init_lora_weights=False
    )
    torch.manual_seed(1)
    whole: Any = AutoModelForImageTextToText.from_pretrained(base)
    get_peft_model(whole, of_text).save_pretrained(tmp_path / "lora")
    model = {"base": str(base), "adapter": str(tmp_path / "lora")}
    plain, merged = (decoded(config_of(each), tmp_path) for each in (str(base), model))
    assert plain != merged
    assert decoded(config_of(model, engine="vllm"), tmp_path, "vllm") == merged


@pytest.mark.timeout(600)
def test_a_sweep_says_the_same_on_both_engines(tmp_path: Path) -> None:
    multimodal.save("mistral3", tmp_path / "model")
    workplace = Workplace(tmp_path)
    workplace.file.write_text("name: both\nsteps:" + "".join(SWEEP.format(engine=engine) for engine in ENGINES))
    code, output = workplace.run("plan", "words.yaml")
    assert code == 0, output
    assert "torchvision" not in output
    code, output = workplace.run("run", "words.yaml")
    assert code == 0, output
    files = [workplace.step(engine) / "output" / "samples.parquet" for engine in ENGINES]
    answers = [
        {(row["policy"], row["item"]): row["answer"] for row in pq.read_table(file).to_pylist()} for file in files
    ]
    assert answers[0] == answers[1]
    assert len(set(answers[0].values())) > 4, answers[0]


def module_of(architecture: str) -> str:
    """Where vLLM has its class of an architecture."""
    from vllm.model_executor.models.registry import _TEXT_GENERATION_MODELS

    return f"vllm.model_executor.models.{_TEXT_GENERATION_MODELS[architecture][0]}"


def test_which_classes_import_torchvision_is_what_plan_says() -> None:
    for architecture in LANGUAGE_MODELS.values():
        importlib.import_module(module_of(architecture))
    for kind in IMPORTING_TORCHVISION:
        with pytest.raises(ModuleNotFoundError, match="torchvision"):
            importlib.import_module(module_of(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]))


def test_of_the_configuration_the_text_is_taken_and_how_it_is_quantised() -> None:
    from jobs.evaluate.engines.vllm_language_model import text_of

    whole, unknown = AutoConfig.for_model("gemma3"), AutoConfig.for_model("qwen3_vl")
    whole.quantization_config = {"quant_method": "fp8"}
    text = text_of(whole)
    assert (text.model_type, text.architectures) == ("gemma3_text", ["Gemma3ForCausalLM"])
    assert text.quantization_config == whole.quantization_config
    assert text_of(text) is text
    assert text_of(unknown) is unknown


def test_weights_are_found_under_either_name_and_towers_are_left_out() -> None:
    from jobs.evaluate.engines.vllm_language_model import by_themselves

    weight = torch.zeros(1)
    for prefix, head in (("model.language_model.", "lm_head."), ("language_model.model.", "language_model.lm_head.")):
        names = [f"{prefix}norm.weight", f"{head}weight", "model.vision_tower.norm.weight", "vision_tower.norm.weight"]
        found = [name for name, _ in by_themselves((name, weight) for name in names)]
        assert found == ["model.norm.weight", "lm_head.weight"]
