"""A real model, SmolLM2-135M-Instruct: fine-tuned on GSM8K as s1 was, from a user's folder, and swept on two engines.

    make test-faults

Random models cannot show what this does: a chat template of somebody else's, a tokenizer of 49,152 entries, weights
that another program wrote, text that means something. It takes some minutes.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from tests.conftest import ROOT
from tests.orchestrator.workplace import Workplace

SHARED = ROOT.parent / "shared"

TEXT = """
name: real
steps:
  thinker:
    job: finetune
    model: ./models/smollm2
    data: {path: data/train.jsonl}
    template: s1
    epochs: 2
    batch_size: 8
    block_size: 512
    learning_rate: 1.0e-4
    resources: {workers: 2}
  transformers:
    job: evaluate
    model: ${thinker}
    tasks: [{name: gsm8k, path: data/test.jsonl}]
    template: s1
    budgets: [8, auto]
    extensions: {strings: [Wait], counts: [1]}
    max_answer_tokens: 16
    context_length: 384
    engine: transformers
  vllm:
    job: evaluate
    model: ${thinker}
    tasks: [{name: gsm8k, path: data/test.jsonl}]
    template: s1
    budgets: [8, auto]
    extensions: {strings: [Wait], counts: [1]}
    max_answer_tokens: 16
    context_length: 384
    engine: vllm
"""


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder, made once for all runs of the tests."""
    folder = tmp_path_factory.getbasetemp().parent / "smollm2"
    subprocess.run([SHARED / "tools" / "smollm2", sys.executable, folder], check=True)
    return folder


@pytest.mark.timeout(1800)
def test_a_real_model_is_fine_tuned_from_a_users_folder_and_swept_on_two_engines(model: Path, tmp_path: Path) -> None:
    workplace = Workplace(tmp_path)
    for name in ("models", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "models" / "smollm2").mkdir()
    for file in model.iterdir():
        os.link(file, tmp_path / "models" / "smollm2" / file.name)
    for name, count in (("train", 32), ("test", 3)):
        with (SHARED / "data" / f"gsm8k_{name}.jsonl").open() as rows:
            (tmp_path / "data" / f"{name}.jsonl").write_text("".join(next(rows) for _ in range(count)))
    workplace.file.write_text(TEXT)

    output, _ = (run := workplace.start("run", "words.yaml")).communicate(timeout=1500)
    assert run.returncode == 0, output

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    [training] = [each for each in runs if "loss" in each.data.metrics]
    losses = [metric.value for metric in client.get_metric_history(training.info.run_id, "loss")]
    assert len(losses) == 8
    assert losses[-1] < 0.8 * losses[0], losses
    said = {}
    for engine in ("transformers", "vllm"):
        with (workplace.step(engine) / "output" / "table.csv").open() as lines:
            table = {row["policy"]: row for row in csv.DictReader(lines)}
        assert list(table) == ["8", "auto", '1x"Wait"']
        assert {row["items"] for row in table.values()} == {"3"}
        assert float(table["8"]["thinking_tokens"]) == 8.0
        samples = pq.read_table(workplace.step(engine) / "output" / "samples.parquet").to_pylist()
        said[engine] = {(row["policy"], row["item"]): (row["thinking_tokens"], row["answer"]) for row in samples}
    assert said["transformers"] == said["vllm"], "greedy decoding in float32: what one engine says, the other does"
    code, output = workplace.run("run", "words.yaml")
    assert code == 0, output
    assert "everything is done, nothing to run" in output
