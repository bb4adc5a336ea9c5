"""What ``plan`` says of a training run before it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from cluster import catalogue
from cluster.catalogue import machine
from jobs.architecture import find
from jobs.finetune.config import BYTE_VOCABULARY, FinetuneConfig
from jobs.finetune.planning.estimate import estimate as training_estimate
from jobs.finetune.planning.estimate import forecast
from jobs.finetune.planning.roofline import TrainingWork, mfu
from jobs.finetune.tokenizer import byte_tokenizer
from jobs.forecasts import DatasetForecast
from jobs.letters.config import LettersConfig
from orchestrator.estimate_view import lines, show
from orchestrator.experiment import load
from orchestrator.job.config import Upcoming
from orchestrator.job.estimate import Estimate
from tests.conftest import ROOT

LETTERS = {"letters": Upcoming(LettersConfig(train=38400), None, DatasetForecast(samples=38400, tokens_per_sample=50))}
S1 = {"model": "Qwen/Qwen2.5-32B-Instruct", "data": "simplescaling/s1K"}
ON_GPUS = {"gpus_per_worker": 1, "activation_checkpointing": "full", "machine": "p5.48xlarge"}


def config(resources: dict[str, object], **fields: object) -> FinetuneConfig:
    return FinetuneConfig.model_validate_json(json.dumps({**S1, "data": "${letters}", "resources": resources} | fields))


def estimate(resources: dict[str, object], **fields: object) -> Estimate:
    return training_estimate(config(resources, **fields), LETTERS)


def test_the_recipe_fits_16_cards_and_not_8() -> None:
    assert estimate(ON_GPUS | {"workers": 16}).verdict == "fits"
    on_8 = estimate(ON_GPUS | {"workers": 8})
    assert on_8.verdict == "does not fit"
    assert on_8.total > on_8.available == 83.5e9


def test_on_the_machine_one_sits_at_workers_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(catalogue, "_cores", lambda: 4)
    monkeypatch.setattr(catalogue, "_memory", lambda: 24e9)
    catalogue.this_machine.cache_clear()
    try:
        told = {workers: estimate({"workers": workers}, model="Qwen/Qwen2.5-0.5B") for workers in (1, 2, 4)}
    finally:
        catalogue.this_machine.cache_clear()
    assert {workers: each.available for workers, each in told.items()} == {1: 23.5e9, 2: 11.5e9, 4: 5.5e9}
    assert told[1].holder == "each of 1 x CPU core of this machine"


def test_every_remedy_is_a_setting_that_fits_and_the_nearest_of_its_kind() -> None:
    remedies = estimate(ON_GPUS | {"workers": 8}).remedies
    assert remedies[:3] == ("resources.workers: 16", "resources.machine: h200", "resources.offload: true")
    block = int(remedies[3].removeprefix("block_size: "))
    assert estimate(ON_GPUS | {"workers": 8}, block_size=block).verdict != "does not fit"
    assert estimate(ON_GPUS | {"workers": 8}, block_size=block + 1024).verdict == "does not fit"
    for change in ({"workers": 16}, {"machine": "h200"}, {"offload": True}):
        assert estimate(ON_GPUS | {"workers": 8} | change).verdict != "does not fit"


def test_where_one_change_is_not_enough_two_are_named_together() -> None:
    remedies = estimate(ON_GPUS | {"workers": 8, "activation_checkpointing": "off"}).remedies
    assert "resources.activation_checkpointing: full, resources.workers: 16" in remedies


def test_adapters_and_zero_need_less_where_they_should() -> None:
    one = {"gpus_per_worker": 1, "activation_checkpointing": "full", "machine": "h100"}
    small = {"model": "Qwen/Qwen2.5-7B-Instruct", "block_size": 8192}
    whole, adapted = estimate(one, **small), estimate(one, **small, lora={"rank": 16})
    assert whole.verdict == "does not fit"
    assert adapted.verdict == "fits"
    assert adapted.memory["gradients"] < whole.memory["gradients"] / 100
    stages = [
        estimate(ON_GPUS | {"workers": 16, "deepspeed": {"stage": stage}}, strategy="deepspeed") for stage in (2, 3)
    ]
    assert stages[0].memory["parameters"] > 5 * stages[1].memory["parameters"]


def test_time_and_cost_follow_from_the_data_the_machine_and_a_stated_mfu() -> None:
    told = estimate({"workers": 2, "mfu": 0.3}, model={"random": "qwen2", "layers": 2, "hidden_size": 128})
    assert told.verdict == "fits"
    assert told.seconds is not None
    assert 60 < told.seconds < 600
    assert told.device_hours == pytest.approx(2 * told.seconds / 3600)
    faster = estimate({"workers": 2, "mfu": 0.6}, model={"random": "qwen2", "layers": 2, "hidden_size": 128})
    assert faster.seconds == pytest.approx(told.seconds / 2)
    assert any("MFU 30% of 0.05 TFLOP/s" in remark for remark in told.remarks)


def test_the_paper_s_26_minutes_on_16_cards_are_what_plans_reckon_with() -> None:
    model, tokens = find("Qwen/Qwen2.5-32B-Instruct"), 5 * 5_658_480
    reached = mfu(model, TrainingWork(tokens, 5658, 315), machine("h100"), 16, 26 * 60)
    assert reached == pytest.approx(machine("h100").card.mfu, abs=0.01)


def checkpoints(**resources: object) -> str:
    """What is said of the recipe's checkpoints."""
    fields = ON_GPUS | {"workers": 16} | resources
    told = training_estimate(
        config(fields).model_copy(update={"data": FinetuneConfig.model_validate_json(json.dumps(S1)).data}), {}
    )
    [line] = [remark for remark in told.remarks if remark.startswith("checkpoints: ")]
    return line


def test_how_large_checkpoints_are_where_they_go_and_what_they_save_is_told() -> None:
    assert checkpoints(checkpoint_every=158, checkpoint_rate=4, checkpoints="s3://bucket/key") == (
        "checkpoints: 1 of 393 GB, every 158 steps, to s3://bucket/key; 98 s each at 4 GB/s; a lost worker costs at "
        "most 158 of 315 steps, 13 min, $24.21"
    )
    often = checkpoints(checkpoint_every=63)
    assert often.startswith("checkpoints: 4 of 393 GB, 1,573 GB in all, every 63 steps, to the step's own folder")
    assert "resources.checkpoint_rate tells how long each takes" in often
    assert checkpoints(checkpoint_every=315).startswith(
        "checkpoints: none (every 315 steps, of 315); a lost worker costs at most 315 of 315 steps, 26 min, $48"
    )


def test_checkpoints_of_adapters_have_the_adapters_alone() -> None:
    adapted = estimate(ON_GPUS | {"workers": 16}, lora={"rank": 16})
    [line] = [remark for remark in adapted.remarks if remark.startswith("checkpoints: ")]
    assert " of 1.61 GB, " in line


def test_the_shipped_recipe_writes_at_most_one() -> None:
    [step] = load(ROOT / "experiments" / "s1" / "finetune.yaml").steps.values()
    [line] = [remark for remark in training_estimate(step.config, {}).remarks if remark.startswith("checkpoints: ")]
    assert line.startswith("checkpoints: 1 of 393 GB, ")


def test_a_local_file_tells_how_long_it_takes(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    row = {"question": "q" * 400, "trace": "t" * 21_800, "answer": "a" * 400}
    data.write_text(f"{json.dumps(row)}\n" * 1000)
    told = estimate(ON_GPUS | {"workers": 16}, data=str(data))
    assert told.seconds is not None
    assert told.seconds / 60 == pytest.approx(26, rel=0.1)
    assert told.usd == pytest.approx(2 * 55.04 * told.seconds / 3600)


def test_a_model_that_another_step_makes_is_known_by_that_step() -> None:
    tiny = config({"workers": 1}, model={"random": "qwen2", "layers": 1, "hidden_size": 64})
    before = Upcoming(tiny, None, forecast(tiny, LETTERS))
    after = training_estimate(config({"workers": 1}, model="${tiny}"), {"tiny": before, **LETTERS})
    assert after.memory["parameters"] == training_estimate(tiny, LETTERS).memory["parameters"]


def test_a_model_that_nothing_is_known_of_is_said_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    told = estimate(ON_GPUS, model="someone/new")
    assert told.memory == {}
    assert "someone/new are not known before launch: it is not on this machine" in told.holder
    assert lines(told) == []


def test_the_vocabulary_of_random_models_is_their_tokenizer_s() -> None:
    assert len(byte_tokenizer(64)) == BYTE_VOCABULARY


def test_the_table_has_a_column_for_each_part_and_a_line_for_the_verdict() -> None:
    out = Console(width=120)
    with out.capture() as captured:
        show("s1", estimate(ON_GPUS | {"workers": 8}), out)
    text = captured.get()
    for word in ("parameters", "gradients", "optimizer", "activations", "logits", "transients", "total", "available"):
        assert word in text
    assert "does not fit: 111.3 GB of 83.5 GB; these would fit:" in text


def test_a_plan_with_estimates_imports_nothing_heavy(tmp_path: Path) -> None:
    file = tmp_path / "s1.yaml"
    model, resources = "model: Qwen/Qwen2.5-32B-Instruct", "resources: {workers: 16, gpus_per_worker: 1}"
    letters = "letters: {job: letters, train: 10}"
    file.write_text(
        f"name: s1\nsteps:\n  {letters}\n  s1: {{job: finetune, {model}, data: '${{letters}}', {resources}}}\n"
    )
    code = (
        "import sys\nfrom orchestrator.__main__ import main\n"
        f"main(['plan', {str(file)!r}, '--set', 'store={tmp_path}/runs'], standalone_mode=False)\n"
        "print([name for name in ('torch', 'ray', 'transformers', 'numpy', 'mlflow') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("[]\n")
    assert "does not fit" in ran.stdout
