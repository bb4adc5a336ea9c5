"""transformers comes without scikit-learn and scipy, and without torch where no model is held; others import them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.finetune.tokenizer import byte_tokenizer
from tests.conftest import ROOT

LOOK = """
import sys
import jobs.finetune.worker, jobs.evaluate.engines.transformers, jobs.evaluate.engines.model
import transformers.generation.candidate_generator
assert not sys.modules.keys() & {"sklearn", "scipy"}, sys.modules.keys() & {"sklearn", "scipy"}
import scipy.optimize, sklearn.metrics
"""

READ = """
import json, sys
from orchestrator.job.controllers import this_process_controls
this_process_controls(sys.argv[1] == "controls")
import jobs.finetune.run, jobs.finetune.prepare, jobs.evaluate.report, jobs.evaluate.run
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.engines.model import at_hand
given = {"model": sys.argv[2], "tasks": ("aime24",), "budgets": (8,)}
model = at_hand(EvaluateConfig.model_validate(given))
said = [{"role": "user", "content": "Naïve: 2 + 2 = 4 – „ja“ 🙂"}]
ids = model.tokenizer.apply_chat_template(said, add_generation_prompt=True)["input_ids"]
read = [model.dtype, model.ids, model.context_length, model.end_of_turn, ids, model.tokenizer.decode(ids)]
print(json.dumps([read, "torch" in sys.modules]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    byte_tokenizer(512).save_pretrained(folder)
    config = {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "dtype": "bfloat16",
        "vocab_size": 272,
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
        "max_position_embeddings": 512,
        "eos_token_id": 258,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def read(model: Path, how: str) -> tuple[list[object], bool, str]:
    ended = subprocess.run(
        [sys.executable, "-c", READ, how, str(model)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    what, torch = json.loads(ended.stdout)
    return what, torch, ended.stderr


@pytest.mark.processes
def test_what_trains_and_decodes_imports_neither_scikit_learn_nor_scipy() -> None:
    subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, check=True)


@pytest.mark.processes
def test_what_controls_reads_the_same_of_a_model_without_torch_and_says_nothing_of_it(model: Path) -> None:
    without, imported, said = read(model, "controls")
    assert not imported
    assert "PyTorch" not in said
    with_torch, imported, _ = read(model, "holds models")
    assert imported
    assert without == with_torch
    assert without[0] == "bfloat16"


def test_the_transformers_classes_come_from_one_module() -> None:
    names = r"AutoConfig|AutoTokenizer|AutoModel\w*|GenerationConfig|PreTrained\w+|PretrainedConfig|Qwen2\w+"
    elsewhere = [
        f"{file}: {line}"
        for file in (ROOT / "jobs").rglob("*.py")
        if file.name != "transformers_classes.py"
        for line in file.read_text().splitlines()
        if re.search(rf"from transformers(\.models\S*)? import .*\b({names})\b", line)
    ]
    assert elsewhere == []
