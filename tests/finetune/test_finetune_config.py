from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from jobs.finetune.config import FinetuneConfig
from jobs.template import TEMPLATES
from orchestrator.job.outputs import Dataset, Model
from orchestrator.job.references import Reference

TINY = {"random": "qwen2", "layers": 2, "hidden_size": 128}


def config(**fields: object) -> FinetuneConfig:
    return FinetuneConfig.model_validate_json(json.dumps({"model": TINY, "data": "${letters}"} | fields))


def test_a_pretrained_model_gets_the_paper_s_recipe() -> None:
    recipe = config(model="Qwen/Qwen2.5-32B-Instruct")
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (5, 16, 1e-5)
    assert (recipe.betas, recipe.weight_decay, recipe.block_size) == ((0.9, 0.95), 1e-4, 32768)


def test_a_random_model_gets_a_recipe_of_its_own_that_can_be_overridden() -> None:
    assert (config().epochs, config().batch_size, config().learning_rate) == (1, 64, 4e-3)
    assert config(learning_rate=1e-3, betas=[0.8, 0.99]).learning_rate == 1e-3
    assert config(betas=[0.8, 0.99]).betas == (0.8, 0.99)


def test_references_are_the_outputs_of_steps_of_the_right_kind() -> None:
    recipe = config(model="${base}")
    assert recipe.model == Reference("base", Model)
    assert recipe.data.path == Reference("letters", Dataset)
    assert list(recipe.problems()) == []
    assert recipe.external_inputs() == {}


def test_the_gang_holds_one_bundle_per_worker() -> None:
    assert config(resources={"workers": 2}).demands() == [{"CPU": 1.0}, {"CPU": 1.0}]
    assert config(resources={"gpus_per_worker": 1, "cpus_per_worker": 4}).demands() == [{"CPU": 4.0, "GPU": 1.0}]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": TINY | {"hidden_size": 100}}, "100 is not a multiple of 64"),
        ({"model": TINY | {"layers": 0}}, "greater than or equal to 1"),
        ({"model": TINY | {"random": "llama"}}, "'qwen2'"),
        ({"model": TINY | {"heads": 2}}, "Extra inputs are not permitted"),
        ({"strategy": "megatron"}, "'fsdp' or 'deepspeed'"),
        ({"precision": "fp8"}, "'bf16', 'float32' or 'float64'"),
        ({"lora": {"rank": 0}}, "greater than or equal to 1"),
        ({"lora": {"targets": []}}, "at least 1 item"),
        ({"evaluation": {"share": 1.0}}, "less than 1"),
        ({"resources": {"deepspeed": {"stage": 1}}}, "2 or 3"),
        ({"resources": {"activation_checkpointing": "some"}}, "'off', 'selective' or 'full'"),
        ({"template": "thnk"}, f"unknown template 'thnk': known are {', '.join(sorted(TEMPLATES))}"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"epochs": "3"}, "valid integer"),
        ({"batch_size": 0}, "greater than or equal to 1"),
        ({"learning_rate": 0.0}, "greater than 0"),
        ({"learning_rate": -1e-5}, "greater than 0"),
        ({"warmup": 1.0}, "less than 1"),
        ({"betas": [0.9, 1.0]}, "less than 1"),
        ({"betas": [0.9]}, "Field required"),
        ({"lr": 1e-5}, "Extra inputs are not permitted"),
        ({"resources": {"workers": 0}}, "greater than or equal to 1"),
        ({"resources": {"keep_checkpoints": 0}}, "greater than or equal to 1"),
        ({"resources": {"checkpoints": "somewhere"}}, "'somewhere' is not an absolute path: workers run elsewhere"),
        ({"resources": {"checkpoints": "gs://bucket/key"}}, "neither a folder nor s3://bucket/key"),
        ({"resources": {"checkpoints": "s3:///key"}}, "neither a folder nor s3://bucket/key"),
        ({"resources": {"checkpoints": "s3://name:secret@bucket/key"}}, "without credentials in it"),
    ],
)
def test_impossible_values_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**fields)


def test_missing_files_are_problems_of_their_fields(tmp_path: Path) -> None:
    recipe = config(model=str(tmp_path / "no-model"), data=str(tmp_path / "no.jsonl"))
    problems = {problem.field: problem.message for problem in recipe.problems()}
    assert set(problems) == {("model",), ("data",)}
    assert "is not a folder" in problems[("model",)]
    assert "is not a file or folder" in problems[("data",)]


def test_a_gang_that_may_shrink_does_not_grow() -> None:
    assert list(config(resources={"workers": 4, "min_workers": 4}).problems()) == []
    (problem,) = config(resources={"workers": 4, "min_workers": 5}).problems()
    assert problem.field == ("resources", "min_workers")
    assert problem.message == "5 is more than the 4 workers: take 4 or less"


def test_a_bucket_needs_what_speaks_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = config(resources={"checkpoints": "s3://bucket/key"})
    assert list(recipe.problems()) == []
    monkeypatch.setattr("jobs.finetune.config.find_spec", lambda name: None)
    (problem,) = recipe.problems()
    assert problem.message == "needs s3fs, which is not installed: pip install s3fs, or give a folder"


def test_a_model_folder_needs_a_config_and_a_tokenizer(tmp_path: Path) -> None:
    assert [problem.message for problem in config(model=str(tmp_path)).problems()] == [
        f"{str(tmp_path)!r} has no config.json: give a folder in Hugging Face's layout"
    ]
    (tmp_path / "config.json").write_text("{}")
    assert [problem.message for problem in config(model=str(tmp_path)).problems()] == [
        f"{str(tmp_path)!r} has no tokenizer.json: save the model's tokenizer beside it"
    ]
    (tmp_path / "tokenizer.json").write_text("{}")
    recipe = config(model=str(tmp_path))
    assert list(recipe.problems()) == []
    assert recipe.external_inputs() == {"model": tmp_path}


def test_a_config_is_checked_without_anything_heavy() -> None:
    code = (
        "import sys, jobs.finetune.config, jobs.letters.config;"
        "print([name for name in ('torch', 'ray', 'transformers', 'numpy', 'mlflow') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("fields", "at", "message"),
    [
        ({"batch_size": 16, "resources": {"workers": 3}}, ("resources", "workers"), "take 1, 2, 4, 8, 16, or another"),
        ({"resources": {"workers": 4, "shard_group": 3}}, ("resources", "shard_group"), "3 does not divide the 4"),
        ({"strategy": "deepspeed", "resources": {"shard_group": 1}}, ("resources", "shard_group"), "strategy fsdp"),
        ({"strategy": "deepspeed", "precision": "float64"}, ("precision",), "DeepSpeed has no float64"),
        ({"resources": {"deepspeed": {"stage": 2}}}, ("resources", "deepspeed"), "for strategy deepspeed"),
        ({"packing": True, "resources": {"compile": True}}, ("resources", "compile"), "leave out one of"),
    ],
)
def test_what_does_not_go_together_is_a_problem(fields: dict[str, object], at: tuple[str, ...], message: str) -> None:
    [problem] = config(**fields).problems()
    assert problem.field == at
    assert message in problem.message
