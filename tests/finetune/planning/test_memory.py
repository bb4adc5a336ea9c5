"""The planner's memory: against tensors that are alive, against runs that are known to fit or not, and in itself."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.architecture import find
from jobs.finetune.planning.memory import Memory, WorkLayout, memory
from tests.conftest import ROOT

pytestmark = pytest.mark.processes

CARD = 83.5e9
"""Bytes of an 80 GB card that tensors can take."""

QWEN_32B = find("Qwen/Qwen2.5-32B-Instruct")


def on_16(tokens: int, *, whole_logits: bool) -> Memory:
    return memory(QWEN_32B, WorkLayout(tokens, shards=16, whole_logits=whole_logits))


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
        assert memory(QWEN_32B, WorkLayout(tokens, shards=8)).total > CARD


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
    layout = WorkLayout(
        tokens, shards, strategy, checkpointing, compute=compute, adapter_rank=rank, adapter_targets=("q_proj",)
    )
    need = memory(QWEN_32B, layout)
    assert all(part >= 0 for part in need.parts.values())
    assert need.host == 0
    assert memory(QWEN_32B, replace(layout, tokens=tokens + 1)).total >= need.total
    assert memory(QWEN_32B, replace(layout, checkpointing="full")).activations <= need.activations
    assert memory(QWEN_32B, replace(layout, adapter_rank=8)).total <= need.total * 1.001
    assert memory(QWEN_32B, replace(layout, accumulates=False)).total <= need.total
    held = need.parameters + need.gradients + need.optimizer
    sharper = memory(QWEN_32B, replace(layout, shards=2 * shards))
    assert sharper.parameters + sharper.gradients + sharper.optimizer <= held * 1.001
    offloaded = memory(QWEN_32B, replace(layout, offload=True))
    assert offloaded.total + offloaded.host == pytest.approx(need.total)


def test_the_tensors_alive_at_the_worst_moment_are_as_many_bytes_as_predicted(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    benchmark = [sys.executable, str(ROOT / "benchmarks" / "count_memory.py"), "--json", str(file)]
    sizes = ["--layers", "2", "--tokens", "32768", "--workers", "16"]
    subprocess.run([*benchmark, *sizes], check=True, capture_output=True)
    cases = json.loads(file.read_text())["cases"]
    assert [case["loss"] for case in cases] == ["chunked", "whole"]
    assert all(abs(case["error"]) < 0.1 for case in cases), cases
