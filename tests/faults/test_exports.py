"""Exported logs and results in the tools that they are for. Each is installed into an environment of its own: it takes
minutes and hundreds of megabytes, and pins other versions than ours.
"""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path

import pytest

from tests.evaluate.exports.experiment import export, finished

READ = """
import json, sys
from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_sample
from inspect_ai.analysis import evals_df, samples_df

found = {}
for info in list_eval_logs(sys.argv[1]):
    log = read_eval_log(info)
    header = read_eval_log(info, header_only=True)
    assert header.samples is None and header.eval == log.eval
    sample = log.samples[0]
    assert read_eval_log_sample(info, sample.id, sample.epoch).input == sample.input
    (score,) = log.results.scores
    right = [each.scores["verdict"].as_float() if each.scores else None for each in log.samples]
    found[log.eval.metadata["policy"]] = {
        "status": log.status,
        "accuracy": score.metrics["accuracy"].value,
        "values": right,
        "thinking_tokens": [each.metadata["thinking_tokens"] for each in log.samples],
    }
evals, samples = evals_df(sys.argv[1]), samples_df(sys.argv[1])
assert len(evals) == len(found) and len(samples) == sum(len(each["values"]) for each in found.values())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def inspect(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has inspect_ai."""
    folder = tmp_path_factory.mktemp("inspect")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "inspect_ai==0.3.285", "pandas", "pyarrow"], check=True)
    return python


def test_inspect_reads_its_logs(inspect: Path, tmp_path: Path) -> None:
    file = finished(tmp_path)
    export(file, tmp_path / "exported", "--to", "inspect")
    logs = tmp_path / "exported" / "sweep" / "inspect"
    read = subprocess.run([inspect, "-c", READ, logs], capture_output=True, text=True)
    assert read.returncode == 0, read.stderr
    found = json.loads(read.stdout.splitlines()[-1])
    (curves,) = file.parent.glob("runs/sweep-*/output/curves.json")
    for curve in json.loads(curves.read_text()):
        for point in curve["points"]:
            if point["score"] != "accuracy":
                continue
            log = found[point["policy"]]
            values = [value for value in log["values"] if value is not None]
            assert log["status"] == "success"
            assert log["accuracy"] == point["accuracy"] == pytest.approx(sum(values) / len(values), abs=1e-6)
            tokens = log["thinking_tokens"]
            assert sum(tokens) / len(tokens) == pytest.approx(point["thinking_tokens"], abs=1e-5)
