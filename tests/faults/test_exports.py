"""Exported logs and results in the tools that they are for. Each is installed into an environment of its own: it takes
minutes and hundreds of megabytes, and pins other versions than ours.
"""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.evaluate.exports.experiment import export, finished

READ = """
import json, sys
from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_sample
from inspect_ai.analysis import evals_df, samples_df
from inspect_ai.scorer import value_to_float

found, as_float = {}, value_to_float()
for info in list_eval_logs(sys.argv[1]):
    log = read_eval_log(info)
    header = read_eval_log(info, header_only=True)
    assert header.samples is None and header.eval == log.eval
    sample = log.samples[0]
    assert read_eval_log_sample(info, sample.id, sample.epoch).input == sample.input
    (score,) = log.results.scores
    right = [as_float(each.scores["verdict"].value) if each.scores else None for each in log.samples]
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


READ_RESULTS = """
import glob, json, sys
from lm_eval.result_schema import EvalResults
from lm_eval.utils import get_file_task_name, get_results_filenames, get_sample_results_filenames, make_table

files = sorted(glob.glob(sys.argv[1] + "/*/*"))
assert len(get_results_filenames(files)) == len(get_sample_results_filenames(files)) == len(files) / 2
found = {}
for file in get_results_filenames(files):
    record = json.load(open(file))
    assert set(record) <= set(EvalResults.__annotations__)
    (samples,) = get_sample_results_filenames(glob.glob(file.rpartition("/")[0] + "/*"))
    assert get_file_task_name(samples.rpartition("/")[2]) in record["results"]
    rows = [json.loads(line) for line in open(samples)]
    cells = [[cell.strip() for cell in line.split("|")] for line in make_table(record).splitlines()]
    (value,) = [row for row in cells if "acc" in row]
    found[record["config"]["model_args"]["policy"]] = [float(value[7]), value[9], [row["acc"] for row in rows]]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has Inspect, and of the harness what reads results."""
    folder = tmp_path_factory.mktemp("tools")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q"]
    subprocess.run(
        [*install, "inspect_ai==0.3.285", "pandas", "pyarrow", "pytablewriter", "requests", "jinja2", "pyyaml"],
        check=True,
    )
    subprocess.run([*install, "--no-deps", "lm_eval==0.4.13"], check=True)
    return python


def test_latex_sets_every_table(tmp_path: Path) -> None:
    """With pdflatex, of Debian's texlive-latex-recommended."""
    export(finished(tmp_path), tmp_path / "exported", "--to", "latex")
    folder = tmp_path / "exported" / "sweep" / "latex"
    files = sorted(folder.glob("*.tex"))
    document = [r"\documentclass{article}", r"\usepackage{booktabs}", r"\begin{document}"]
    document += [rf"\input{{{file.name}}}\clearpage" for file in files]
    (folder / "paper.tex").write_text("\n".join([*document, r"\end{document}", ""]))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert made.returncode == 0, made.stdout[-3000:]
    assert f"({len(files)} pages" in made.stdout
    assert "Missing character" not in (folder / "paper.log").read_text(errors="replace")


def read_by(python: Path, script: str, folder: Path) -> dict[str, Any]:
    """What a script prints of a folder."""
    read = subprocess.run([python, "-c", script, folder], capture_output=True, text=True)
    assert read.returncode == 0, read.stderr
    found: dict[str, Any] = json.loads(read.stdout.splitlines()[-1])
    return found


def test_the_harness_reads_its_results(tools: Path, tmp_path: Path) -> None:
    file = finished(tmp_path)
    export(file, tmp_path / "exported", "--to", "lm-eval")
    found = read_by(tools, READ_RESULTS, tmp_path / "exported" / "sweep" / "lm-eval")
    (samples,) = file.parent.glob("runs/sweep-*/output/samples.parquet")
    frame = pd.read_parquet(samples)
    assert set(found) == set(frame["policy"])
    for policy, (accuracy, error, values) in found.items():
        graded = [value for value in values if value is not None]
        assert accuracy == pytest.approx(sum(graded) / len(graded), abs=1e-4)
        assert float(error) >= 0
        assert len(values) == (frame["policy"] == policy).sum()


def test_inspect_reads_its_logs(tools: Path, tmp_path: Path) -> None:
    file = finished(tmp_path)
    export(file, tmp_path / "exported", "--to", "inspect")
    found = read_by(tools, READ, tmp_path / "exported" / "sweep" / "inspect")
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
