"""Where weights come from, and how few of them are anywhere at once."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from jobs.finetune import model as model_module
from jobs.finetune.config import FinetuneConfig, Lora
from jobs.finetune.fsdp import Fsdp
from jobs.finetune.lora import merged
from jobs.finetune.model import PRECISIONS, Blueprint, draw
from jobs.finetune.tokenizer import byte_tokenizer
from jobs.finetune.weights import AdaptedWeights, MadeWeights, StoredWeights
from orchestrator.job.errors import StepError
from tests.finetune.gang import config

CPU = torch.device("cpu")


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of this process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of several files."""
    path = tmp_path_factory.mktemp("model")
    recipe = config(model={"random": "qwen2", "layers": 4, "hidden_size": 64})
    architecture = draw(recipe.model, byte_tokenizer(512), recipe).architecture
    AutoModelForCausalLM.from_config(architecture).save_pretrained(path, max_shard_size="100KB")
    assert len(list(path.glob("*.safetensors"))) > 3
    return path


def blueprint(folder: Path, lora: Lora | None = None, precision: str = "float32") -> Blueprint:
    return Blueprint(str(folder), AutoConfig.from_pretrained(folder), PRECISIONS[precision], lora, seed=0)


def trainer(folder: Path, **fields: Any) -> Fsdp:
    recipe: FinetuneConfig = config(model=str(folder), **fields)
    return Fsdp(recipe, blueprint(folder, recipe.lora, recipe.precision), CPU)


def test_a_sharded_model_has_the_stored_weights(alone: None, folder: Path) -> None:
    stored = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    loaded = dict(trainer(folder, precision="float32").weights())
    assert stored.keys() - loaded.keys() == {"lm_head.weight"}
    assert all(torch.equal(weight, stored[name]) for name, weight in loaded.items())


def test_no_more_than_two_weights_exist_whole_at_once(
    alone: None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    living: dict[int, int] = {}
    most = [0]

    class Counted(StoredWeights):
        def read(self, name: str, shape: torch.Size) -> Tensor:
            weight = super().read(name, shape)
            living[id(weight)] = weight.nbytes
            weakref.finalize(weight, living.pop, id(weight))
            most[0] = max(most[0], sum(living.values()))
            return weight

    monkeypatch.setattr(model_module, "StoredWeights", Counted)
    weights = dict(trainer(folder, precision="float32").weights())
    largest = max(weight.nbytes for weight in weights.values())
    assert most[0] <= 2 * largest
    assert sum(weight.nbytes for weight in weights.values()) > 8 * largest


def test_bf16_computes_with_float32_weights_behind_it(alone: None, folder: Path) -> None:
    strategy = trainer(folder, precision="bf16")
    state = strategy.state()
    assert {weight.dtype for weight in state["model"].values()} == {torch.float32}
    averages = state["optimizer"]["state"].values()
    assert {average["exp_avg"].dtype for average in averages} == {torch.float32}
    assert {weight.dtype for _, weight in strategy.weights()} == {torch.bfloat16}


def test_adapters_are_all_that_is_trained_and_saved_and_change_nothing_at_first(alone: None, folder: Path) -> None:
    strategy = trainer(folder, precision="float32", lora={"rank": 2, "targets": ["q_proj", "down_proj"]})
    assert all("lora_" in name for name in strategy.state()["model"])
    assert len(strategy.state()["model"]) == 4 * 2 * 2
    stored = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    for name, weight in strategy.weights():
        assert torch.equal(weight, stored[name]), name


def test_merged_adapters_compute_what_they_did_beside_the_weights(folder: Path) -> None:
    lora = Lora(rank=2, alpha=3.0, targets=("q_proj", "down_proj"))
    plan = blueprint(folder, lora)
    adapted = plan.empty().to_empty(device=CPU)
    adapted.tie_weights()
    plain = AutoModelForCausalLM.from_pretrained(folder)
    weights = AdaptedWeights(MadeWeights(plain), seed=0)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            weight.copy_(weights.read(name, weight.shape) + (0.1 if "lora_B" in name else 0.0))
    for name, buffer in plain.named_buffers():
        adapted.get_buffer(name).copy_(buffer)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        before = adapted.eval()(ids).logits
        unmerged = plain.eval()(ids).logits
        plain.load_state_dict(dict(merged(adapted.named_parameters(), lora)), strict=False)
        after = plain(ids).logits
    assert (before - unmerged).abs().max() > 1e-2
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_adapters_for_layers_that_are_not_there_are_refused(folder: Path) -> None:
    with pytest.raises(StepError, match=r"lora\.targets: the model has no linear layer 'query': it has .*q_proj"):
        blueprint(folder, Lora(targets=("query",))).empty()


def test_a_folder_that_is_not_whole_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="has no readable safetensors"):
        StoredWeights(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {}}))
    with pytest.raises(StepError, match=r"lacks the weight model\.norm\.weight"):
        StoredWeights(tmp_path).read("model.norm.weight", torch.Size([4]))


def test_a_weight_of_another_shape_is_refused(folder: Path) -> None:
    with pytest.raises(StepError, match=r"has model\.norm\.weight as \[64\], and its config\.json asks for \[65\]"):
        StoredWeights(folder).read("model.norm.weight", torch.Size([65]))


def test_made_weights_are_the_model_s() -> None:
    layer = nn.Linear(2, 3)
    assert torch.equal(MadeWeights(layer).read("weight", layer.weight.shape), layer.weight)
