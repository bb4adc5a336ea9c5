"""`export`: every finished step of an experiment in other tools' formats, and what those files say."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard

from jobs.evaluate.exports.table_files import PaperTable, escaped, latex
from tests.evaluate.exports.experiment import export, finished
from tests.evaluate.report.sweep import QUESTIONS

FORMATS = ("csv", "inspect", "latex", "lm-eval", "model-card", "pdf", "svg")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="module")
def exported(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    result = export(file, folder)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in folder.glob("*/*")) == sorted(FORMATS)
    return folder


@pytest.fixture(scope="module")
def samples(file: Path) -> pd.DataFrame:
    (path,) = file.parent.glob("runs/sweep-*/output/samples.parquet")
    return pd.read_parquet(path)


@pytest.fixture(scope="module")
def points(file: Path) -> dict[str, dict[str, Any]]:
    (path,) = file.parent.glob("runs/sweep-*/output/curves.json")
    every = [point for curve in json.loads(path.read_text()) for point in curve["points"]]
    return {point["policy"]: point for point in every if point["score"] == "accuracy"}


def test_an_inspect_log_has_every_sample_of_its_policy(
    exported: Path, samples: pd.DataFrame, points: dict[str, dict[str, Any]]
) -> None:
    logs = sorted((exported / "sweep" / "inspect").glob("*.eval"))
    assert len(logs) == len(points) == samples["policy"].nunique()
    questions = {question["id"]: question["question"] for question in QUESTIONS}
    seen = set()
    for path in logs:
        with zipfile.ZipFile(path) as log:
            assert len(set(log.namelist())) == len(log.namelist())
            header = json.loads(log.read("header.json"))
            policy = header["eval"]["metadata"]["policy"]
            seen.add(policy)
            rows = samples[samples["policy"] == policy].set_index(["item", "sample"])
            records = [json.loads(log.read(name)) for name in log.namelist() if name.startswith("samples/")]
            assert len(records) == len(rows) == len(json.loads(log.read("summaries.json")))
        assert header["eval"]["dataset"]["sample_ids"] == list(dict.fromkeys(each["id"] for each in records))
        (score,) = header["results"]["scores"]
        assert score["metrics"]["accuracy"]["value"] == points[policy]["accuracy"]
        assert score["metrics"]["thinking_tokens"]["value"] == points[policy]["thinking_tokens"]
        for record in records:
            row = rows.loc[(record["id"], record["epoch"] - 1)]
            assert record["input"] == questions[record["id"]]
            assert (record["target"], record["output"]["choices"][0]["message"]["content"]) == (
                row["gold"],
                row["answer"],
            )
            value = record["scores"].get("verdict", {}).get("value")
            assert value == {"correct": "C", "wrong": "I", "no_answer": "N"}.get(row["verdict"])
        values = [record["scores"]["verdict"]["value"] == "C" for record in records if record["scores"]]
        assert np.mean(values) == pytest.approx(score["metrics"]["accuracy"]["value"], abs=1e-6)
    assert seen == set(points)


def test_results_of_lm_eval_say_what_the_samples_beside_them_come_to(
    exported: Path, points: dict[str, dict[str, Any]]
) -> None:
    folders = list((exported / "sweep" / "lm-eval").iterdir())
    assert len(folders) == len(points)
    for folder in folders:
        (results,), (lines,) = folder.glob("results_*.json"), folder.glob("samples_sums_*.jsonl")
        record = json.loads(results.read_text())
        policy = record["config"]["model_args"]["policy"]
        graded = [row for row in map(json.loads, lines.read_text().splitlines()) if row["acc"] is not None]
        of_task = record["results"]["sums"]
        assert (
            of_task["acc,none"]
            == points[policy]["accuracy"]
            == pytest.approx(np.mean([r["acc"] for r in graded]), abs=1e-6)
        )
        by_item = pd.DataFrame(graded).groupby(pd.Series([row["doc"]["id"] for row in graded]))["acc"].mean()
        if len(by_item) == 3 and len(graded) == 6:
            assert of_task["acc_stderr,none"] == pytest.approx(by_item.std(ddof=1) / 3**0.5)
        assert record["n-samples"]["sums"]["effective"] == 3


def test_every_table_is_there_as_csv_and_as_latex(exported: Path, file: Path, points: dict[str, Any]) -> None:
    names = {path.stem for path in (exported / "sweep" / "csv").iterdir()}
    assert names == {"policies", "comparisons", "methods", "published", "costs"}
    tex = {path.stem for path in (exported / "sweep" / "latex").iterdir()}
    assert tex == {f"sums-{name}" for name in names}
    (output,) = file.parent.glob("runs/sweep-*/output")
    rows = list(csv.DictReader((exported / "sweep" / "csv" / "comparisons.csv").open()))
    expected = json.loads((output / "comparisons.json").read_text())["comparisons"]
    assert [row["difference"] for row in rows] == [
        "" if e["difference"] is None else str(e["difference"]) for e in expected
    ]
    text = (exported / "sweep" / "latex" / "sums-policies.tex").read_text()
    assert text.count(r" \\") == 1 + len(points)
    assert r"\caption{sft\_model on sums: every policy." in text
    for path in (exported / "sweep" / "latex").iterdir():
        body = path.read_text()
        columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", body)[1])
        lines = [line for line in body.splitlines() if line.endswith(r" \\")]
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {columns}, path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('2x"Wait"', r"2x\char34{}Wait\char34{}"),
        ("100% of $5 & a_b {c} #1", r"100\% of \$5 \& a\_b \{c\} \#1"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("−0.1 … 2–3 ×", r"$-$0.1 \ldots{} 2--3 $\times$"),
        ("a\nb\x00", r"a\textbackslash{}nb\textbackslash{}x00"),
    ],
)
def test_no_text_is_a_command_in_latex(text: str, said: str) -> None:
    assert escaped(text) == said
    assert said in latex(PaperTable("t", "c", ("",), 1, [(text,)]), "tab:t")


def test_plots_are_a_column_wide_and_their_text_is_text(exported: Path) -> None:
    (svg,) = (exported / "sweep" / "svg").iterdir()
    (pdf,) = (exported / "sweep" / "pdf").iterdir()
    root = ElementTree.parse(svg).getroot()
    assert float(root.attrib["width"].removesuffix("pt")) == 3.25 * 72
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"accuracy", "budget", "Wait", "majority@k"} <= texts
    content = pdf.read_bytes()
    width = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", content)
    assert width is not None
    assert float(width[1]) == 3.25 * 72
    assert b"/Type3" not in content, "conferences refuse fonts of type 3"


def test_a_model_card_has_what_the_model_scored(exported: Path, points: dict[str, dict[str, Any]]) -> None:
    card = ModelCard.load(exported / "sft_model" / "model-card" / "README.md")
    assert card.data.base_model == "org/base"
    results = {each.metric_args["policy"]: each for each in card.data.eval_results}
    assert set(results) == set(points)
    for policy, each in results.items():
        assert (each.dataset_name, each.metric_type) == ("sums", "accuracy")
        assert each.metric_value == pytest.approx(100 * points[policy]["accuracy"], abs=0.005)
    assert "## Accuracy against thinking" in card.text
    assert "0123abc" in card.text


def test_exporting_again_gives_the_same_bytes(exported: Path, file: Path, tmp_path: Path) -> None:
    export(file, tmp_path, "--to", "inspect", "--to", "csv", "--to", "svg", "--to", "pdf")
    for path in [each for each in tmp_path.rglob("*") if each.is_file()]:
        assert path.read_bytes() == (exported / path.relative_to(tmp_path)).read_bytes(), path.name


def test_only_what_is_asked_for_is_written_and_what_there_is_not_is_refused(file: Path, tmp_path: Path) -> None:
    result = export(file, tmp_path / "x", "--to", "csv")
    assert result.output == f"{tmp_path / 'x' / 'sweep' / 'csv'}: 5 files\n"
    assert [path.name for path in (tmp_path / "x").glob("*/*")] == ["csv"]
    refused = export(file, tmp_path / "y", "--to", "excel")
    assert (refused.exit_code, refused.output) == (2, f"--to: no format 'excel': there are {', '.join(FORMATS)}\n")
    nothing = export(file, tmp_path / "y", "--to", "csv", "--set", "steps.sweep.seed=5")
    assert nothing.exit_code == 2
    assert nothing.output == "export: no step that is done has a format csv: run the experiment first\n"
    assert not (tmp_path / "y").exists()
