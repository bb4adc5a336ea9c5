"""The planner's memory: against torch's own count, against runs that are known to fit or not, and in itself."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, Qwen2Config

from jobs.architecture import Architecture, find
from jobs.finetune.memory import Layout, Memory, memory
from tests.conftest import ROOT
from tests.finetune.gang import processes

CARD = 83.5e9
"""Bytes of an 80 GB card that tensors can take."""

QWEN_32B = find("Qwen/Qwen2.5-32B-Instruct")

# Sizes that two workers cannot share equally, so that padding counts.
ODD = Architecture(3, 67, 133, heads=3, kv_heads=1, head_size=22, vocabulary=301, tied=False, qkv_bias=True)


def on_16(tokens: int, *, whole_logits: bool) -> Memory:
    return memory(QWEN_32B, Layout(tokens, shards=16, whole_logits=whole_logits))


def test_the_rows_of_the_published_recipe_are_those_derived_for_it() -> None:
    for tokens, activations, logits in ((32768, 21.5, 49.8), (20000, 13.1, 30.4)):
        need = on_16(tokens, whole_logits=True)
        assert (need.parameters + need.gradients + need.optimizer) / 1e9 == pytest.approx(32.8, abs=0.05)
        assert need.activations / 1e9 == pytest.approx(activations, abs=0.05)
        assert need.logits / 1e9 == pytest.approx(logits, abs=0.05)


def test_runs_known_to_fit_fit_and_those_known_to_run_out_of_memory_do_not() -> None:
    assert on_16(32768, whole_logits=True).total > 1.2 * CARD
    assert 0.95 * CARD < on_16(20000, whole_logits=True).total < CARD
    for tokens in (32768, 20000):
        assert on_16(tokens, whole_logits=False).total < 0.95 * CARD
        assert memory(QWEN_32B, Layout(tokens, shards=8)).total > CARD


@given(
    tokens=st.integers(1, 40_000),
    shards=st.sampled_from([1, 2, 3, 8, 16]),
    strategy=st.sampled_from(["fsdp", "zero-2", "zero-3"]),
    checkpointing=st.sampled_from(["off", "selective", "full"]),
    compute=st.sampled_from([2, 4, 8]),
    rank=st.sampled_from([None, 8]),
)
def test_less_work_and_more_workers_never_need_more(
    tokens: int, shards: int, strategy: str, checkpointing: str, compute: int, rank: int | None
) -> None:
    layout = Layout(
        tokens, shards, strategy, checkpointing, compute=compute, adapter_rank=rank, adapter_targets=("q_proj",)
    )
    need = memory(QWEN_32B, layout)
    assert all(part >= 0 for part in need.parts.values())
    assert need.host == 0
    assert memory(QWEN_32B, replace(layout, tokens=tokens + 1)).total >= need.total
    assert memory(QWEN_32B, replace(layout, checkpointing="full")).activations <= need.activations
    assert memory(QWEN_32B, replace(layout, adapter_rank=8)).total <= need.total * 1.001
    held = need.parameters + need.gradients + need.optimizer
    sharper = memory(QWEN_32B, replace(layout, shards=2 * shards))
    assert sharper.parameters + sharper.gradients + sharper.optimizer <= held * 1.001
    offloaded = memory(QWEN_32B, replace(layout, offload=True))
    assert offloaded.total + offloaded.host == pytest.approx(need.total)


def test_torch_counts_the_same_parameters_gradients_and_moments(tmp_path: Path) -> None:
    processes.start_processes(_count, args=(tmp_path,), nprocs=2, start_method="forkserver")
    need = memory(ODD, Layout(tokens=8, shards=2))
    counted = json.loads((tmp_path / "counted").read_text())
    assert [need.parameters, need.gradients, need.optimizer] == pytest.approx(counted, rel=0.03)


def _count(rank: int, folder: Path) -> None:
    """Bytes of weights, gradients and Adam's moments on worker 0 of two, after a step."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(str(folder / "meeting-point"), 2), rank=rank, world_size=2)
    config = Qwen2Config(
        vocab_size=ODD.vocabulary,
        hidden_size=ODD.hidden_size,
        intermediate_size=ODD.intermediate_size,
        num_hidden_layers=ODD.layers,
        num_attention_heads=ODD.heads,
        num_key_value_heads=ODD.kv_heads,
        head_dim=ODD.head_size,
        tie_word_embeddings=ODD.tied,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    mesh = init_device_mesh("cpu", (2,))
    precision = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for module in (*model.model.layers, model):
        fully_shard(module, mesh=mesh, mp_policy=precision)
    optimizer = torch.optim.AdamW(model.parameters())
    model(input_ids=torch.arange(8)[None]).logits.float().sum().backward()
    optimizer.step()

    def size(tensor: torch.Tensor | None) -> int:
        assert isinstance(tensor, DTensor)
        return tensor.to_local().untyped_storage().nbytes()

    weights = list(model.parameters())
    moments = [value for state in optimizer.state.values() for name, value in state.items() if name != "step"]
    # Gradients of a layer are slices of one storage.
    gradients = {storage.data_ptr(): storage.nbytes() for storage in (_storage(weight.grad) for weight in weights)}
    if rank == 0:
        counted = [sum(map(size, weights)), sum(gradients.values()), sum(map(size, moments))]
        (folder / "counted").write_text(json.dumps(counted))
    dist.destroy_process_group()


def _storage(gradient: torch.Tensor | None) -> torch.UntypedStorage:
    assert isinstance(gradient, DTensor)
    return gradient.to_local().untyped_storage()


def test_the_tensors_alive_at_the_worst_moment_are_as_many_bytes_as_predicted(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    benchmark = [sys.executable, str(ROOT / "benchmarks" / "finetune_gpu.py"), "--count", "--json", str(file)]
    sizes = ["--layers", "2", "--tokens", "32768", "--workers", "16"]
    subprocess.run([*benchmark, *sizes], check=True, capture_output=True)
    cases = json.loads(file.read_text())["cases"]
    assert [case["loss"] for case in cases] == ["chunked", "whole"]
    assert all(abs(case["error"]) < 0.1 for case in cases), cases
