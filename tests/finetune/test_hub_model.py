"""A model on the hub: which state of it is taken, when it is fetched, and how its tensors are allocated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from benchmarks.count_memory import QWEN_32B, qwen2
from jobs.finetune import model, prepare, worker
from jobs.finetune.assignment import assign, fetch
from jobs.finetune.config import FinetuneConfig
from jobs.finetune.model import draw, stored_weights
from jobs.finetune.tokenizer import load_tokenizer
from jobs.finetune.worker import expand_segments, is_tight
from orchestrator.fingerprint import identity
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from tests.finetune.qwen_like import qwen_tokenizer

COMMIT = "1f2e" + "0" * 36

pytestmark = pytest.mark.processes


def config(**fields: object) -> FinetuneConfig:
    defaults: dict[str, object] = {"model": "owner/name", "revision": COMMIT, "data": "${letters}"}
    return FinetuneConfig.model_validate_json(json.dumps(defaults | fields))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str, str | None]]:
    """What the hub was asked for: by whom, the name, the revision. It has one model, whatever the name."""
    folder = tmp_path / "snapshot"
    shape = {"num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
    Qwen2ForCausalLM(Qwen2Config(vocab_size=320, hidden_size=64, intermediate_size=64, **shape)).save_pretrained(folder)
    qwen_tokenizer().save_pretrained(folder)
    told: list[tuple[str, str, str | None]] = []

    def hub(kind: str, real: Any) -> Any:
        def answer(source: str, revision: str | None = None, **others: Any) -> Any:
            told.append((kind, source, revision))
            return real(folder)

        return answer

    monkeypatch.setattr(model, "snapshot_download", hub("weights", str))
    for module, name in ((model, "AutoConfig"), (prepare, "AutoConfig")):
        kind = getattr(module, name)
        monkeypatch.setattr(module, name, type(name, (), {"from_pretrained": hub(name, kind.from_pretrained)}))
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", hub("AutoTokenizer", AutoTokenizer.from_pretrained))
    return told


def test_everything_is_asked_of_the_hub_at_the_revision(asked: list[tuple[str, str, str | None]]) -> None:
    tokenizer = load_tokenizer("owner/name", COMMIT)
    prepare._limits("owner/name", COMMIT, tokenizer)
    blueprint = draw("owner/name", tokenizer, config())
    blueprint._weights()
    assert {revision for _, _, revision in asked} == {COMMIT}
    assert {kind for kind, _, _ in asked} == {"weights", "AutoConfig", "AutoTokenizer"}


def test_the_revision_is_part_of_what_a_step_is() -> None:
    inputs = {"letters": "0"}
    assert identity("finetune", config(), inputs) != identity("finetune", config(revision="main"), inputs)


@pytest.mark.parametrize("other", [{"random": "qwen2", "layers": 1, "hidden_size": 64}, "${letters}", "./folder"])
def test_a_revision_of_what_is_not_on_the_hub_is_refused(other: object) -> None:
    told = [problem for problem in config(model=other).problems() if problem.field == ("revision",)]
    assert len(told) == 1
    assert "leave it out" in told[0].message
    assert not [problem for problem in config().problems() if problem.field == ("revision",)]


def test_the_weights_are_fetched_before_workers_are_connected(
    asked: list[tuple[str, str, str | None]], tmp_path: Path
) -> None:
    assert not torch.distributed.is_initialized()
    fetch(assign(config(), StepContext("e", "s", "0", tmp_path, tmp_path)))
    assert asked == [("weights", "owner/name", COMMIT)]


def test_what_cannot_be_downloaded_is_one_line_with_the_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*arguments: Any, **named: Any) -> None:
        raise OSError("404 Client Error\nmore")

    monkeypatch.setattr(model, "snapshot_download", away)
    with pytest.raises(
        StepError, match=rf"^model: 'owner/name' at {COMMIT} cannot be downloaded \(404 Client Error\)$"
    ):
        stored_weights("owner/name", COMMIT)


def test_memory_is_tight_above_nine_tenths_of_the_card() -> None:
    recipe = {"workers": 16, "gpus_per_worker": 1, "tokens_in_memory": 32768, "activation_checkpointing": "full"}
    assert not is_tight(config(batch_size=16, resources=recipe), qwen2(QWEN_32B))
    assert is_tight(config(batch_size=32, resources=recipe), qwen2(QWEN_32B))  # gradients are there all the time


def test_segments_expand_unless_the_user_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(torch._C, "_accelerator_setAllocatorSettings", told.append)
    for name in worker._ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    expand_segments()
    assert told == ["expandable_segments:True"]
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:512")
    expand_segments()
    assert len(told) == 1
