"""Tables: exact numbers for programs, readable ones for people."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from jobs.evaluate.figures.tables import as_csv, as_markdown, as_record, cell
from jobs.evaluate.stats.comparisons import compare
from jobs.evaluate.stats.curves import MeasuredCurve, measure
from jobs.evaluate.stats.outcomes import read
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.extensions import Extension
from tests.evaluate.simulated import LETTERS, simulate


@pytest.fixture
def curves(tmp_path: Path) -> tuple[MeasuredCurve, ...]:
    path = tmp_path / "samples.parquet"
    simulate().to_parquet(path)
    return measure(path, list(LETTERS))


def test_the_csv_has_each_policy_once_with_its_exact_numbers(curves: tuple[MeasuredCurve, ...]) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(curves, ()))))
    assert [row["policy"] for row in rows] == [policy.name for policy in LETTERS]
    wait = next(row for row in rows if row["policy"] == '1x"Wait"')
    expected = {
        "task": "letters",
        "items": "200",
        "samples": "200",
        "accuracy": "0.955",
        "accuracy_low": "0.915426",
        "accuracy_high": "0.976531",
        "thinking_tokens": "34.0",
        "injected_tokens": "1.0",
        "forced_share": "0.0",
        "difference": "0.485",
    }
    assert {name: wait[name] for name in expected} == expected
    auto = next(row for row in rows if row["policy"] == "auto")
    assert (auto["difference"], auto["p_value"]) == ("", "")


def test_the_json_has_every_curve_with_the_natural_end_where_it_starts(curves: tuple[MeasuredCurve, ...]) -> None:
    record = json.loads(json.dumps(as_record(curves), allow_nan=False))
    assert [curve["curve"] for curve in record] == ["budget", "Wait", "Hmm", "Alternatively", "nothing"]
    wait = record[1]["points"]
    assert [(point["label"], point["count"], point["accuracy"]) for point in wait] == [
        ("0×", 0, 0.47),
        ("1×", 1, 0.955),
        ("2×", 2, 0.9),
        ("4×", 4, 0.56),
    ]


def test_the_markdown_is_a_table_of_percents(curves: tuple[MeasuredCurve, ...]) -> None:
    lines = as_markdown(curves, ()).splitlines()
    assert lines[0].startswith("letters: 200 items.")
    assert lines[2].startswith(
        "| policy | thinking tokens | answer tokens | accuracy | interval | vs natural end | p |"
    )
    cells = [cell.strip() for cell in next(line for line in lines if '1x"Wait"' in line).split("|")]
    assert cells[2:6] == ["34.0 (33.3 – 34.0)", "4.0 (3.9 – 4.0)", "95.5%", "91.5 – 97.7"]
    assert cells[6].startswith("+48.5 (+4")
    assert cells[7] == "<0.001"
    assert len({line.count("|") for line in lines[2:]}) == 1
    assert "not graded" not in lines[2], "columns in which nothing happened are left out"


def test_several_samples_have_lines_of_their_own_in_both_tables(tmp_path: Path) -> None:
    shape = {Budget(): (0.5, 10), Extension(None, "Wait", 1): (0.7, 20)}
    simulate(shape, items=30, samples=6).to_parquet(tmp_path / "samples.parquet")
    curves = measure(tmp_path / "samples.parquet", list(shape))
    scaled = [("accuracy", "1"), *((score, k) for score in ("pass@k", "majority@k") for k in "1246")]
    rows = list(csv.DictReader(io.StringIO(as_csv(curves, ()))))
    assert [(row["policy"], row["score"], row["k"]) for row in rows] == [
        (policy.name, *of) for policy in shape for of in scaled
    ]
    assert [row["thinking_tokens"] for row in rows[:5]] == ["10.0", "10.0", "20.0", "40.0", "60.0"]
    named = [line.split("|")[1].strip() for line in as_markdown(curves, ()).splitlines()[4:]]
    natural = [f"auto {score}@{k}" for score in ("pass", "majority") for k in (2, 4, 6)]
    assert named == ["auto", '1x"Wait"', *natural], "one sample together is the natural end itself"


def test_columns_appear_when_they_have_something_to_say_and_names_cannot_break_the_table(tmp_path: Path) -> None:
    policy = Extension(None, "|\n", 1)
    samples = simulate({Budget(): (0.5, 10), policy: (0.5, 20)}, items=10)
    samples.loc[samples.index[:3], "verdict"] = "error"
    samples.loc[samples.index[:3], "answer_end"] = "length"
    samples.to_parquet(tmp_path / "samples.parquet")
    lines = as_markdown(measure(tmp_path / "samples.parquet", [Budget(), policy]), ()).splitlines()
    assert "answer cut off" in lines[2]
    assert "not graded" in lines[2]
    assert '1x"\\|\\\\n"' in lines[5]


def test_samples_per_item_are_said_and_what_is_undefined_is_empty(tmp_path: Path) -> None:
    samples = simulate({Budget(): (0.5, 10)}, items=10, samples=4)
    samples["verdict"] = "error"
    samples.to_parquet(tmp_path / "samples.parquet")
    curves = measure(tmp_path / "samples.parquet", [Budget()])
    assert as_markdown(curves, ()).startswith("letters: 10 items × 4 samples.")
    for row in csv.DictReader(io.StringIO(as_csv(curves, ()))):
        assert (row["accuracy"], row["accuracy_low"], row["error_share"]) == ("", "", "1.0")
    json.dumps(as_record(curves), allow_nan=False)
    pd.read_csv(io.StringIO(as_csv(curves, ())))


def test_what_was_compared_is_in_both_tables(tmp_path: Path, curves: tuple[MeasuredCurve, ...]) -> None:
    comparisons = compare(read(tmp_path / "samples.parquet", [policy.name for policy in LETTERS]), "auto")
    header, _, *lines = as_markdown(curves, comparisons).splitlines()[2:]
    column = header.split("|").index(" p, corrected ")
    cells = {line.split("|")[1].strip(): line.split("|")[column].strip() for line in lines}
    assert cells["auto"] == ""
    assert cells['1x"Wait"'] == "<0.001"
    assert cells["32"] == "1.000"
    rows = {row["policy"]: row for row in csv.DictReader(io.StringIO(as_csv(curves, comparisons)))}
    assert float(rows['1x"Hmm"']["p_holm"]) > float(rows['1x"Hmm"']["p_value"])
    assert 0.02 < float(rows['1x"Hmm"']["detectable"]) < 0.2
    assert (rows["auto"]["p_holm"], rows["auto"]["detectable"]) == ("", "")
    assert "A true difference of" in as_markdown(curves, comparisons).splitlines()[0]


def test_what_users_wrote_is_text_in_the_table_as_it_is_in_the_report(tmp_path: Path) -> None:
    hostile = "<img src=x> [a](javascript:b) *c* `d` _e_ # f|g\n\x1b[31m\u202e"
    path = tmp_path / "samples.parquet"
    simulate().assign(task=hostile).to_parquet(path)
    heading = as_markdown(measure(path, list(LETTERS)), []).splitlines()[0]
    assert heading.startswith(cell(hostile))
    assert heading.isprintable()
    assert not re.search(r"(?<!\\)[<>|\[\]*_`#]", heading), heading


def test_errors_are_a_range_in_every_table_and_in_no_other(tmp_path: Path) -> None:
    """Of 20 items one policy has 4 errors: its accuracy may be lower and higher by what those were."""
    wait = Extension(None, "Wait", 1)
    samples = simulate({Budget(): (0.5, 10), wait: (0.5, 20)}, items=20, samples=2)
    doubtful = samples.index[(samples["policy"] == wait.name) & (samples["verdict"] == "correct")][:4]
    samples.loc[doubtful, "verdict"] = "error"
    samples.to_parquet(tmp_path / "samples.parquet")
    curves = measure(tmp_path / "samples.parquet", [Budget(), wait])
    outcomes = read(tmp_path / "samples.parquet", ["auto", wait.name])
    comparisons = compare(outcomes, "auto")
    rows = {(row["policy"], row["score"], row["k"]): row for row in csv.DictReader(io.StringIO(as_csv(curves, ())))}
    own = rows[wait.name, "accuracy", "1"]
    assert (float(own["accuracy_least"]), float(own["accuracy_most"])) == (0.4, 0.5)
    assert float(own["accuracy"]) == pytest.approx(16 / 36, abs=1e-6)
    assert float(own["accuracy_low"]) < 0.4 < 0.5 < float(own["accuracy_high"])
    assert (float(own["difference_least"]), float(own["difference_most"])) == pytest.approx((-0.1, 0))
    assert float(own["p_value"]) == 1
    passed = rows[wait.name, "pass@k", "2"]
    assert float(passed["accuracy_least"]) < float(passed["accuracy_most"])
    assert rows["auto", "accuracy", "1"]["accuracy_least"] == ""
    text = as_markdown(curves, comparisons)
    assert "40.0 – 50.0" in text
    assert "not graded" in text
    (compared,) = (each for each in comparisons if each.policy == wait.name and each.reference == "auto")
    assert (compared.difference.range.low, compared.difference.range.high) == pytest.approx((-0.1, 0))
    assert compared.t_p_value == 1
    at_k = as_record(curves)[1]["points"][1]["at_k"]
    assert at_k[0]["pass_least"] == 0.4
    assert at_k[1]["majority_least"] <= at_k[1]["majority"] <= at_k[1]["majority_most"]


def test_a_table_says_which_question_its_intervals_answer(tmp_path: Path) -> None:
    simulate({Budget(): (0.5, 10)}, items=20, samples=4).to_parquet(tmp_path / "samples.parquet")
    curves = measure(tmp_path / "samples.parquet", [Budget()])
    assert "for other items of this kind" in as_markdown(curves, ())
    row = next(csv.DictReader(io.StringIO(as_csv(curves, ()))))
    for name in ("accuracy", "accuracy_same_items", "thinking_tokens", "thinking_tokens_same_items", "answer_tokens"):
        assert float(row[f"{name}_low"]) <= float(row[name.removesuffix("_same_items")]) <= float(row[f"{name}_high"])
    (record,) = as_record(curves)[0]["points"]
    assert record["accuracy_band_low"] <= record["accuracy"] <= record["accuracy_band_high"]
