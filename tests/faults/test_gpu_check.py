"""``benchmarks/gpu_check.py``: each part at tiny size on CPUs, and without what a machine with a GPU may lack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import ROOT

# What a machine has that was set up for torch 2.11 and transformers, and got vLLM's own needs.
_BARE = """
import importlib.machinery, sys
MISSING = {MISSING}
class OnABareMachine(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in MISSING else super().find_spec(name, path, target)
sys.meta_path = [OnABareMachine if f is importlib.machinery.PathFinder else f for f in sys.meta_path]
import torch
del torch.nn.functional.linear_cross_entropy, torch.nn.LinearCrossEntropyOptions
"""
_MISSING = {
    "accelerate",
    "datasets",
    "deepspeed",
    "gcsfs",
    "math_verify",
    "mlflow",
    "peft",
    "plotly",
    "ray",
    "s3fs",
    "trl",
}
_MISSING |= {"upath", "vllm"}


def check(
    folder: Path, *arguments: str, bare: bool = False, temporary: Path | None = None
) -> tuple[int, dict[str, Any], str]:
    """The exit status, what the JSON file has, and what was said."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "TMPDIR": str(temporary or folder)}
    if bare:
        (folder / "sitecustomize.py").write_text(_BARE.replace("{MISSING}", repr(_MISSING)))
        environment["PYTHONPATH"] = str(folder)
    file = folder / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_check.py"), "--device", "cpu", "--json", str(file)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, cwd=folder)
    return done.returncode, json.loads(file.read_text()), done.stdout + done.stderr


def figures_of(folder: Path, part: str, bare: bool, temporary: Path | None = None) -> dict[str, Any]:
    status, told, said = check(folder, "--parts", part, "--limits", f"{part}=500", bare=bare, temporary=temporary)
    assert (status, told["parts"][part]["state"]) == (0, "done"), said
    figures: dict[str, Any] = told["parts"][part]["figures"]
    return figures


def test_transformers_gives_the_tree_what_it_gives_the_policies(tmp_path: Path) -> None:
    figures = figures_of(tmp_path, "a", bare=True)
    assert figures["float32_answers"] == figures["bfloat16_answers"] == 24
    assert figures["float32_differing_answers"] == 0
    assert 0 <= figures["bfloat16_differing_share"] < 1


@pytest.mark.timeout(560)
def test_vllm_masks_keeps_to_seeds_and_dies_with_words(tmp_path: Path) -> None:
    # A cluster's scheduler may have temporary files lie deeper than the path of a socket can be long.
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    figures = figures_of(tmp_path, "b", bare=False, temporary=deep)
    assert (figures["masked_ids_drawn"], figures["drawn"]) == (0, 768)
    assert figures["seed_again_same"]
    assert figures["another_seed_differs"]
    assert figures["differing_answers"] == 0
    assert figures["one_pass_decoded_ratio"] == pytest.approx(figures["one_pass_decoded_ratio_allowed"])
    assert 0 < figures["one_pass_cached_at_fork"] <= 1
    assert figures["kill_told_seconds"] < 60
    assert "vllm failed while decoding" in figures["kill_told_as"]


def test_fsdp_trains_saves_resumes_and_exports(tmp_path: Path) -> None:
    figures = figures_of(tmp_path, "c", bare=True)
    for tokens in (64, 256):
        assert 0.9 < figures[f"{tokens}_tokens_planned_over_peak"] < 1.15
        assert figures[f"{tokens}_tokens_step_seconds"] > 0
    for ahead in (10_000_000, 0):
        assert figures[f"copy_ahead_{ahead}_bytes"] > 12 * 250_000  # three float32 numbers of each
        assert figures[f"copy_ahead_{ahead}_waited_seconds"] < figures[f"copy_ahead_{ahead}_written_seconds"]
    assert (figures["resumed_at"], figures["resumed_same_bits"], figures["resumed_loss_difference"]) == (5, True, 0)
    assert (figures["exported"], figures["exported_wrong"]) == (51, 0)


def test_a_step_without_enough_memory_is_diagnosed(tmp_path: Path) -> None:
    figures = figures_of(tmp_path, "d", bare=True)
    assert "ran out of memory: it had" in figures["said"]
    assert "these would fit: " in figures["said"]
    assert figures["cause"] == "configuration"


def test_what_is_missing_is_named_and_a_part_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    status, told, said = check(tmp_path, "--parts", "b,a", "--limits", "a=0.5", bare=True)
    assert status == 1
    assert (told["parts"]["b"]["state"], told["parts"]["b"]["why"]) == ("skipped", "vllm is not installed")
    assert told["parts"]["a"]["state"] == "out of time"
    assert "a: out of time, 0.5 s were not enough: --limits a=… gives it more" in said
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(one.info["cmdline"] or ())]


def test_a_part_that_fails_says_so_and_the_others_are_run(tmp_path: Path) -> None:
    status, told, said = check(tmp_path, "--parts", "a,d", "--limits", "d=500", "--model", str(tmp_path / "nowhere"))
    assert status == 1
    assert [told["parts"][letter]["state"] for letter in "ad"] == ["failed", "done"]
    assert "a: failed, exit status 1: see what it said" in said
