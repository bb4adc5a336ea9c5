"""transformers' auto classes come without scikit-learn, which whoever uses it imports as ever."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

LOOK = """
import sys
import jobs.finetune.worker, jobs.evaluate.engines.transformers, jobs.evaluate.engines.model
import transformers.generation.candidate_generator
assert "sklearn" not in sys.modules
import sklearn.metrics
"""


@pytest.mark.processes
def test_what_trains_and_decodes_imports_no_scikit_learn() -> None:
    subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, check=True)


def test_nothing_takes_the_auto_classes_from_elsewhere() -> None:
    files = [file for file in (ROOT / "jobs").rglob("*.py") if file.name != "auto_classes.py"]
    elsewhere = [
        f"{file}: {line}"
        for file in files
        for line in file.read_text().splitlines()
        if "from transformers import" in line and ("AutoTokenizer" in line or "AutoModel" in line)
    ]
    assert elsewhere == []
