"""The experiments under ``experiments/s1`` that fine-tune: read, planned, and run with a tiny model on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs.finetune.run import run
from orchestrator.experiment import Experiment, load
from orchestrator.job.context import StepContext
from orchestrator.plan import PlannedStep, plan
from orchestrator.store.step_folders import Store
from tests.conftest import ROOT
from tests.ray_cluster import ray_cluster

RECIPES = sorted((ROOT / "experiments" / "s1").glob("finetune*.yaml"))

# The columns of s1K, and of s1K-1.1.
ROW = {
    "question": "2+2?",
    "thinking_trajectories": ["2, 3, 4"],
    "attempt": "4",
    "deepseek_thinking_trajectory": "2, then 3, then 4",
    "deepseek_attempt": "Answer: 4",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_cluster():
        yield


def test_the_paper_s_recipe_is_the_paper_s() -> None:
    [step] = load(ROOT / "experiments" / "s1" / "finetune.yaml").steps.values()
    recipe = step.config
    assert (recipe.epochs, recipe.batch_size, recipe.block_size) == (5, 16, 32768)
    assert (recipe.learning_rate, recipe.warmup, recipe.weight_decay, recipe.betas) == (1e-5, 0.05, 1e-4, (0.9, 0.95))
    assert (recipe.template, recipe.precision, recipe.packing) == ("s1", "bf16", False)
    assert (recipe.data.dataset, recipe.model) == ("simplescaling/s1K", "Qwen/Qwen2.5-32B-Instruct")
    assert recipe.demands() == [{"CPU": 8.0, "GPU": 1.0}] * 16


@pytest.mark.parametrize("file", sorted((ROOT / "experiments").rglob("*.yaml")), ids=lambda file: file.stem)
def test_the_machine_that_a_shipped_step_names_or_is_reckoned_with_holds_what_it_asks_for(file: Path) -> None:
    for step in load(file).steps.values():
        assert step.config.too_large() is None


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_recipe_is_read_and_planned_scaled_down(file: Path, tmp_path: Path) -> None:
    _, planned = scaled_down(file, tmp_path)
    assert (planned.verdict, planned.step.kind) == ("would run", "finetune")


def test_the_paper_s_recipe_runs_scaled_down(cluster: None, tmp_path: Path) -> None:
    check_that_it_runs(ROOT / "experiments" / "s1" / "finetune.yaml", tmp_path)


def scaled_down(file: Path, tmp_path: Path) -> tuple[Experiment, PlannedStep]:
    """The recipe with a tiny model and a few rows, for CPUs."""
    [name] = load(file).steps
    (tmp_path / "data.jsonl").write_text(f"{json.dumps(ROW)}\n" * 8)
    overrides = {
        "model": "{random: qwen2, layers: 1, hidden_size: 64}",
        "data.dataset": "null",
        "data.path": str(tmp_path / "data.jsonl"),
        "data.split": "null",
        "data.revision": "null",
        "epochs": "1",
        "batch_size": "4",
        "resources.workers": str(min(2, load(file).steps[name].config.resources.workers)),
        "resources.gpus_per_worker": "0",
        "resources.cpus_per_worker": "1",
    }
    experiment = load(file, tuple(f"steps.{name}.{field}={value}" for field, value in overrides.items()))
    [planned] = plan(experiment, Store(tmp_path / "store"))
    return experiment, planned


def check_that_it_runs(file: Path, tmp_path: Path) -> None:
    """Scaled down, on the Ray cluster that is connected to."""
    experiment, planned = scaled_down(file, tmp_path)
    name = planned.step.name
    context = StepContext(experiment.name, name, planned.fingerprint, tmp_path / "step", tmp_path / "traces")
    task = ray.remote(num_cpus=0, max_retries=0)(run)
    ray.get(task.remote(planned.step.config, context))

    model, tokenizer = (kind.from_pretrained(context.output) for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert model.config.vocab_size == len(tokenizer)
    lines = (context.folder / "tracked" / "finetune" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
