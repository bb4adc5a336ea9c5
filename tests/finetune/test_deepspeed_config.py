"""A user's ds_config.json beside the experiment's recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.finetune.config import FinetuneConfig
from jobs.finetune.deepspeed_config import deepspeed_settings
from orchestrator.job.errors import StepError

AGREEING = {
    "train_batch_size": 16,
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": 1.0,
    "bf16": {"enabled": True},
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-5, "betas": [0.9, 0.95], "weight_decay": "auto"}},
    "zero_optimization": {"stage": 3, "overlap_comm": False, "reduce_bucket_size": 1000, "sub_group_size": "auto"},
    "wall_clock_breakdown": True,
}


def config(file: Path | None, **deepspeed: object) -> FinetuneConfig:
    if file is not None:
        deepspeed["config"] = str(file)
    fields = {
        "model": "Qwen/Qwen2.5-32B-Instruct",
        "data": "${s1k}",
        "strategy": "deepspeed",
        "resources": {"workers": 8, "deepspeed": deepspeed},
    }
    return FinetuneConfig.model_validate_json(json.dumps(fields))


def written(folder: Path, content: Any) -> Path:
    path = folder / "ds_config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_file_that_agrees_says_how_the_work_is_divided(tmp_path: Path) -> None:
    recipe = config(written(tmp_path, AGREEING))
    assert list(recipe.problems()) == []
    settings = deepspeed_settings(recipe)
    assert settings["zero_optimization"] == {"stage": 3, "overlap_comm": False, "reduce_bucket_size": 1000}
    assert settings["wall_clock_breakdown"] is True
    assert settings["gradient_clipping"] == 1.0
    assert (settings["train_batch_size"], settings["train_micro_batch_size_per_gpu"]) == (8, 1)
    assert "optimizer" not in settings


def test_the_stage_is_the_experiment_s_else_the_file_s_else_three(tmp_path: Path) -> None:
    two = written(tmp_path, {"zero_optimization": {"stage": 2}})
    assert deepspeed_settings(config(two))["zero_optimization"]["stage"] == 2
    assert deepspeed_settings(config(None, stage=2))["zero_optimization"]["stage"] == 2
    assert deepspeed_settings(config(None))["zero_optimization"]["stage"] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_batch_size": 128}, "train_batch_size is 128, but here it is 16: change"),
        ({"gradient_clipping": 0.5}, "gradient_clipping is 0.5, but here it is 1.0"),
        ({"bf16": {"enabled": False}}, "bf16.enabled is false, but here it is true"),
        ({"fp16": {"enabled": True}}, "fp16.enabled is true, but here it is false"),
        ({"communication_data_type": "bf16"}, 'communication_data_type is "bf16", but here it is fp32'),
        ({"optimizer": {"type": "Lion"}}, 'optimizer.type is "Lion", but here it is AdamW'),
        ({"optimizer": {"params": {"lr": 3e-5}}}, "optimizer.params.lr is 3e-05, but here it is 1e-05"),
        ({"optimizer": {"params": {"betas": [0.9, 0.999]}}}, "optimizer.params.betas is [0.9, 0.999], but here"),
        ({"scheduler": {"type": "WarmupLR"}}, 'scheduler.type is "WarmupLR", but here it is a cosine'),
        ({"train_micro_batch_size_per_gpu": 2}, "train_micro_batch_size_per_gpu is 2, but here it is what resources."),
        ({"zero_optimization": {"stage": 1}}, "zero_optimization.stage is 1, but here it is 2 or 3"),
        ({"progressive_layer_drop": {"enabled": True}}, "progressive_layer_drop"),
    ],
)
def test_a_key_that_contradicts_the_recipe_is_named_with_both_values(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    recipe = config(written(tmp_path, AGREEING | changes))
    [problem] = recipe.problems()
    assert problem.field == ("resources", "deepspeed", "config")
    assert message in problem.message
    with pytest.raises(StepError, match=r"^resources\.deepspeed\.config: "):
        deepspeed_settings(recipe)


def test_every_contradiction_is_named_at_once(tmp_path: Path) -> None:
    file = written(tmp_path, AGREEING | {"gradient_clipping": 2.0, "train_batch_size": 4})
    assert len(list(config(file).problems())) == 2
    assert len(list(config(written(tmp_path, AGREEING), stage=2).problems())) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ("[]", "is not a JSON object"), ('{"bf16": 1}', "has no object at bf16")],
)
def test_a_file_that_is_none_is_a_problem(tmp_path: Path, content: str, message: str) -> None:
    [problem] = config(written(tmp_path, content)).problems()
    assert message in problem.message


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    [problem] = config(tmp_path / "none.json").problems()
    assert "is not a file: give a ds_config.json" in problem.message
