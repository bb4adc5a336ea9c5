"""What training writes is a model for transformers and for vLLM."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from jobs.finetune.config import FinetuneConfig
from jobs.finetune.export import export, stop_tokens
from jobs.finetune.model import draw
from orchestrator.job.errors import StepError
from orchestrator.store.errors import StoreError
from orchestrator.store.local_storage import LocalStorage
from orchestrator.store.manifest import manifest_of
from tests.finetune.qwen_like import qwen_tokenizer

pytestmark = pytest.mark.processes

QWEN = qwen_tokenizer()
END_OF_TURN, END_OF_TEXT = QWEN.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
QUESTION = [{"role": "user", "content": "2+2?"}]


def architecture(**changes: object) -> Qwen2Config:
    """A base model's: it ends texts, not turns. Its embeddings are padded beyond the tokenizer."""
    fields = {
        "vocab_size": 320,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "eos_token_id": END_OF_TEXT,
    }
    return Qwen2Config(**fields | changes)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A gang of one."""
    meeting_point = dist.FileStore(str(tmp_path_factory.mktemp("gang") / "meeting-point"), 1)
    dist.init_process_group("gloo", store=meeting_point, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def exported(alone: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Qwen2ForCausalLM, Path]:
    """A model that likes to end turns, and its folder."""
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(architecture())
    with torch.no_grad():
        model.lm_head.weight[END_OF_TURN] *= 1.3
        model.lm_head.weight[len(QWEN) :] = 0
    folder = tmp_path_factory.mktemp("exported")
    export(model.state_dict().items(), model.config, QWEN, folder)
    return model, folder


@pytest.mark.parametrize(
    ("declared", "stops"),
    [
        (END_OF_TEXT, [END_OF_TURN, END_OF_TEXT]),
        ([END_OF_TURN, END_OF_TEXT], [END_OF_TURN, END_OF_TEXT]),
        (END_OF_TURN, [END_OF_TURN]),
        (None, [END_OF_TURN]),
    ],
)
def test_answers_stop_where_turns_ended_in_training_and_where_the_base_model_stopped(
    declared: object, stops: list[int]
) -> None:
    assert stop_tokens(QWEN, architecture(eos_token_id=declared)) == stops


def test_transformers_loads_the_same_model_with_its_chat(exported: tuple[Qwen2ForCausalLM, Path]) -> None:
    model, folder = exported
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.apply_chat_template(QUESTION, tokenize=False) == QWEN.apply_chat_template(QUESTION, tokenize=False)
    settings = GenerationConfig.from_pretrained(folder)
    assert (settings.eos_token_id, settings.pad_token_id) == ([END_OF_TURN, END_OF_TEXT], END_OF_TEXT)


def test_weights_are_written_in_the_type_of_the_model_that_training_began_with(alone: None, tmp_path: Path) -> None:
    model = Qwen2ForCausalLM(architecture(tie_word_embeddings=True))
    weights = {name: weight for name, weight in model.state_dict().items() if name != "lm_head.weight"}
    model.config.dtype = torch.bfloat16
    export(weights.items(), model.config, QWEN, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert {weight.dtype for weight in loaded.parameters()} == {torch.bfloat16}
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert torch.equal(loaded.model.norm.weight, model.model.norm.weight.bfloat16())


@pytest.mark.parametrize("tied", [False, True])
def test_weights_are_hashed_from_memory_and_not_read_again(
    alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tied: bool
) -> None:
    model = Qwen2ForCausalLM(architecture(tie_word_embeddings=tied, dtype="bfloat16"))
    export(model.state_dict().items(), model.config, QWEN, tmp_path)
    monkeypatch.setattr(LocalStorage, "digest", lambda self: "read")
    manifest = manifest_of(tmp_path)
    assert manifest["config.json"]["sha256"] == "read"
    content = (tmp_path / "model.safetensors").read_bytes()
    assert manifest["model.safetensors"]["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("rope", "scaling"),
    [
        ({"rope_type": "default", "rope_theta": 1e6}, None),
        (
            {"rope_type": "yarn", "rope_theta": 5e5, "factor": 4.0, "original_max_position_embeddings": 64},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        ),
    ],
)
def test_transformers_4_finds_the_rope_base_and_the_type_where_it_looks(
    alone: None, tmp_path: Path, rope: dict[str, object], scaling: dict[str, object] | None
) -> None:
    model = Qwen2ForCausalLM(architecture(rope_parameters=rope, dtype="bfloat16"))
    export(model.state_dict().items(), model.config, QWEN, tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["rope_theta"] == rope["rope_theta"]
    assert written.get("rope_scaling") == scaling
    assert written["torch_dtype"] == "bfloat16"
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert {name: loaded.config.rope_parameters[name] for name in rope} == rope
    assert torch.equal(loaded.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)


def test_a_full_disk_is_one_line(alone: None, tmp_path: Path) -> None:
    model = Qwen2ForCausalLM(architecture())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, hard))
    try:
        with pytest.raises(
            StepError, match=r"^store: [^\n]* cannot be written \([^\n]*last checkpoint, which is kept$"
        ):
            export(model.state_dict().items(), model.config, QWEN, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_result_that_cannot_be_delivered_is_known_to_all_workers(alone: None, tmp_path: Path) -> None:
    def away() -> None:
        assert (tmp_path / "config.json").exists()
        raise StoreError("store: s3://bucket does not answer")

    model = Qwen2ForCausalLM(architecture())
    with pytest.raises(StoreError, match="does not answer"):
        export(model.state_dict().items(), model.config, QWEN, tmp_path, away)


def test_training_in_a_wider_type_leaves_the_type_that_a_model_is_written_in(tmp_path: Path) -> None:
    Qwen2ForCausalLM(architecture()).bfloat16().save_pretrained(tmp_path)
    fields = {"model": str(tmp_path), "data": "${letters}", "precision": "float32"}
    blueprint = draw(str(tmp_path), QWEN, FinetuneConfig.model_validate_json(json.dumps(fields)))
    assert {weight.dtype for weight in blueprint.empty().parameters()} == {torch.float32}
    assert blueprint.architecture.dtype == torch.bfloat16


_VLLM = """
import json, sys
from vllm import LLM, SamplingParams
llm = LLM(model=sys.argv[1], dtype="float32", max_model_len=256, enforce_eager=True, kv_cache_memory_bytes=2**26)
[answer] = llm.chat([json.loads(sys.argv[2])], SamplingParams(temperature=0, max_tokens=64))
said = answer.outputs[0]
json.dump([list(answer.prompt_token_ids), list(said.token_ids), said.finish_reason], open("answer.json", "w"))
"""


def test_vllm_answers_as_transformers_does_and_stops_at_the_end_of_the_turn(
    exported: tuple[Qwen2ForCausalLM, Path], tmp_path: Path
) -> None:
    _, folder = exported
    prompt = QWEN.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = AutoModelForCausalLM.from_pretrained(folder).generate(**prompt, max_new_tokens=64, do_sample=False)
    said = answer[0, prompt["input_ids"].shape[1] :].tolist()
    assert said[-1] == END_OF_TURN
    assert len(said) < 64

    command = [sys.executable, "-c", _VLLM, str(folder), json.dumps(QUESTION)]
    settings = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
    settings["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # One process starts sooner than two.
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-5000:]
    heard, tokens, reason = json.loads((tmp_path / "answer.json").read_text())
    assert heard == prompt["input_ids"][0].tolist()
    assert tokens == said
    assert reason == "stop"
