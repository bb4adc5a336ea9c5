"""The step as the orchestrator runs it: in a Ray task without CPUs, on a cluster that its gang fills."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from s3fs import S3FileSystem
from transformers import AutoModelForCausalLM, AutoTokenizer

from orchestrator.job.context import StepContext, StepInput
from orchestrator.job.errors import StepError
from tests.finetune.buckets import new_bucket, s3_server
from tests.finetune.steps import config, context, losses, processes_of, train, write
from tests.ray_cluster import ray_cluster

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """The environment that leads to a server of S3's protocol."""
    with s3_server() as environment:
        yield environment


@pytest.fixture(scope="module", autouse=True)
def cluster(s3: dict[str, str]) -> Iterator[None]:
    with ray_cluster(s3):
        yield


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> StepInput:
    return write(tmp_path_factory.mktemp("letters"))


@pytest.fixture(scope="module")
def trained(letters: StepInput, tmp_path_factory: pytest.TempPathFactory) -> StepContext:
    """An undisturbed step."""
    finished = context(tmp_path_factory.mktemp("trained"), letters)
    train(config(), finished)
    return finished


def test_training_lowers_the_loss_and_tells_how_it_goes(trained: StepContext) -> None:
    curve = losses(trained)
    assert [step for step, _ in curve] == list(range(1, 31))
    assert curve[-1][1] < curve[0][1] - 2
    record = json.loads((trained.folder / "tracked" / "finetune" / "run.json").read_text())
    assert record["group"] == "training"
    assert record["params"]["learning_rate"] == 4e-3
    assert (record["params"]["data_samples"], record["params"]["data_cut_share"]) == (240, 0.0)
    artifacts = trained.folder / "tracked" / "finetune" / "artifacts"
    assert "240" in (artifacts / "data.txt").read_text()
    assert (artifacts / "data.html").stat().st_size > 1000
    line = json.loads((trained.folder / "tracked" / "finetune" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {name for name in line["values"] if not name.startswith("system/")} == {
        "loss",
        "learning_rate",
        "gradient_norm",
        "tokens_per_second",
        "peak_memory",
        "padding",
        "epoch",
        "rows",
    }
    assert (line["values"]["epoch"], line["values"]["rows"]) == (1.0, 240)
    progress = json.loads((trained.folder / "progress.json").read_text())
    assert (progress["done"], progress["total"], progress["unit"]) == (30, 30, "steps")


def test_the_model_is_told_of_with_what_it_was_made_from(trained: StepContext) -> None:
    told = json.loads((trained.folder / "tracked" / "finetune" / "model.json").read_text())
    assert (told["name"], told["kind"]) == (trained.name, "finetuned")
    facts = told["facts"]
    assert Path(facts["location"]) == trained.output
    assert (facts["fingerprint"], facts["input_letters"]) == (trained.fingerprint, "0")
    assert facts["model"] == {"random": "qwen2", "layers": 2, "hidden_size": 64, "context": 512}
    assert (facts["learning_rate"], facts["batch_size"], facts["data_samples"]) == (4e-3, 8, 240)
    assert re.fullmatch("[0-9a-f]{8,}", facts["data_fingerprint"])


def test_nothing_but_the_result_is_kept(trained: StepContext) -> None:
    kept = {path.name for path in trained.folder.iterdir()}
    assert kept == {"delivered.json", "held.json", "logs", "output", "progress.json", "tracked"}


def test_what_a_worker_says_is_in_its_log_once(trained: StepContext) -> None:
    lines = (trained.folder / "logs" / "rank-0.txt").read_text().splitlines()
    assert [line.startswith("--- rank-0 on ") for line in lines].count(True) == 1


def test_the_result_is_a_model_that_transformers_loads(trained: StepContext) -> None:
    model = AutoModelForCausalLM.from_pretrained(trained.output)
    tokenizer = AutoTokenizer.from_pretrained(trained.output)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.vocab_size == len(tokenizer)
    ids = tokenizer("How many r in raspberry?", return_tensors="pt").input_ids
    with torch.no_grad():
        loss = model(ids, labels=ids).loss
    assert torch.isfinite(loss)


def test_a_model_can_be_trained_further(trained: StepContext, letters: StepInput, tmp_path: Path) -> None:
    further = context(tmp_path, letters)
    recipe = config(
        model=str(trained.output),
        precision="float32",
        epochs=1,
        batch_size=80,
        learning_rate=1e-9,
        resources={"workers": 1},
    )
    train(recipe, further)
    before, after = (AutoModelForCausalLM.from_pretrained(step.output) for step in (trained, further))
    assert losses(further)[0][1] == pytest.approx(losses(trained)[-1][1], abs=0.5)
    ids = torch.arange(32)[None]
    with torch.no_grad():
        assert torch.allclose(before(ids).logits, after(ids).logits, atol=1e-4)


def test_torchrun_trains_the_same_model_without_ray(
    trained: StepContext, letters: StepInput, tmp_path: Path, environment: dict[str, str]
) -> None:
    experiment = tmp_path / "experiment.yaml"
    fields = config().model_dump(mode="json", include={"model", "batch_size", "resources"})
    fields |= {"job": "finetune", "data": str(letters.output / "train.jsonl")}
    experiment.write_text(json.dumps({"name": "t", "store": str(tmp_path / "runs"), "steps": {"tiny": fields}}))

    def torchrun(workers: int) -> subprocess.CompletedProcess[str]:
        command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}", "-m", "jobs.finetune"]
        return subprocess.run(
            [sys.executable, *command, str(experiment)], cwd=ROOT, env=environment, capture_output=True, text=True
        )

    refused = torchrun(3)
    assert "resources.workers: 3 workers cannot share batches of 8" in refused.stderr
    assert not (tmp_path / "runs").exists()

    finished = torchrun(2)
    assert finished.returncode == 0, finished.stderr
    [folder] = (tmp_path / "runs").glob("tiny-*")
    assert (folder / "done.json").exists()
    same = context(folder, letters)
    assert losses(same) == losses(trained)
    weights = [(step.output / "model.safetensors").read_bytes() for step in (same, trained)]
    assert weights[0] == weights[1]
    assert "done already" in torchrun(2).stderr


def test_a_killed_worker_is_replaced_and_the_run_continues_exactly_from_a_bucket(
    trained: StepContext, letters: StepInput, s3: dict[str, str], tmp_path: Path
) -> None:
    disturbed = context(tmp_path, letters)
    bucket = new_bucket(s3)
    files = S3FileSystem(
        key=s3["AWS_ACCESS_KEY_ID"],
        secret=s3["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=s3["AWS_ENDPOINT_URL"],
        use_listings_cache=False,
    )
    killed = threading.Event()

    def kill_one_worker() -> None:
        while not files.glob(f"{bucket}/some/key/tiny-0/step-*/complete.json"):
            time.sleep(0.05)
        processes_of(disturbed)[0].kill()
        killed.set()

    killer = threading.Thread(target=kill_one_worker, daemon=True)
    killer.start()
    resources = {"workers": 2, "checkpoint_every": 5, "checkpoints": f"s3://{bucket}/some/key"}
    train(config(resources=resources), disturbed)

    assert killed.is_set()
    assert losses(disturbed) == losses(trained)
    weights = [(step.output / "model.safetensors").read_bytes() for step in (disturbed, trained)]
    assert weights[0] == weights[1]
    assert files.find(bucket) == []


def test_a_bucket_that_is_not_there_ends_the_step_before_a_gang_is_asked_for(
    letters: StepInput, tmp_path: Path
) -> None:
    recipe = config(resources={"workers": 64, "checkpoints": "s3://no-such-bucket/key"})
    with pytest.raises(StepError, match=r"^resources.checkpoints: s3://no-such-bucket/[^\n]*does not exist[^\n]*$"):
        train(recipe, context(tmp_path, letters))


def test_a_mistake_in_the_data_ends_the_step_with_one_line_before_a_gang_is_asked_for(
    letters: StepInput, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"question": "q", "trace": "t", "answer": ""}\n')
    with pytest.raises(StepError, match=re.escape(f"data: {data}:1 has an empty answer: fill it in or drop the row")):
        train(config(data=str(data)), context(tmp_path / "step", letters))
    assert not (tmp_path / "step" / "gang").exists()


def test_a_gang_that_cannot_be_had_ends_with_what_was_asked_and_what_there_is(
    letters: StepInput, tmp_path: Path
) -> None:
    recipe = config(resources={"workers": 2, "cpus_per_worker": 2, "wait": 3.0})
    with pytest.raises(StepError, match=r"asked for 2 x \(2 CPU\).* within 3 seconds; the cluster has 2 CPU") as caught:
        train(recipe, context(tmp_path, letters))
    assert "\n" not in str(caught.value)
