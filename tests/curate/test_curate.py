"""From traces to a training set, with every row accounted for."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.curate.config import CurateConfig
from jobs.curate.run import run
from jobs.fates import Funnel
from jobs.finetune.data_config import DataConfig
from jobs.finetune.samples import read_samples
from orchestrator.job.context import StepContext, StepInput
from orchestrator.job.errors import StepError
from orchestrator.job.outputs import Dataset
from tests.collect.questions import read

WORDS = ["sum", "of", "all", "odd", "primes", "below", "a", "prime", "area", "circle", "radius", "side"]


def example(number: int, **more: Any) -> dict[str, Any]:
    rng = random.Random(number)
    question = f"Question {number}: {' '.join(rng.choices(WORDS, k=8))}?"
    trace = " ".join(f"step{rng.randrange(1000)}" for _ in range(5 + number % 20))
    row = {"id": f"q{number}", "question": question, "trace": trace, "answer": f"Answer: {number}", "source": "maths"}
    return {**row, "thinking_end": "natural", "answer_end": "stop", "verdict": "correct", **more}


def curate(
    folder: Path, rows: list[dict[str, Any]], sweeps: dict[str, list[tuple[str, str]]] | None = None, **fields: Any
) -> Path:
    """Does the step. `sweeps` are other steps' verdicts, by name: (item, verdict)."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = {}
    for name, verdicts in {"traces": [], **(sweeps or {})}.items():
        made = folder / name / "output"
        made.mkdir(parents=True, exist_ok=True)
        columns = [{"item": item, "policy": "auto", "verdict": verdict} for item, verdict in verdicts]
        pq.write_table(pa.Table.from_pylist(columns), made / "samples.parquet")
        inputs[name] = StepInput(name, "0", made)
    (folder / "traces" / "output" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = CurateConfig.model_validate_json(json.dumps({"data": "${traces}", **fields}))
    context = StepContext("experiment", "s1k", "0", folder / "step", folder / "store", inputs)
    context.folder.mkdir(parents=True, exist_ok=True)
    run(config, context)
    assert list(Dataset.faults(context.output)) == []
    return context.output


def fates(output: Path) -> dict[str, str]:
    """By id: the reason, or kept."""
    found = {row["id"]: "kept" for row in read(output / "train.jsonl")}
    return found | {row["id"]: f"{row['stage']}: {row['reason']}" for row in read(output / "dropped.jsonl")}


def test_each_rule_names_what_it_took(tmp_path: Path) -> None:
    rows = [
        example(0),
        example(1, answer_end="length"),
        example(2, thinking_end="context"),
        example(3, trace=" "),
        example(4, trace="again and again we go round the block " * 30),
        example(5, question="[asy] draw [/asy] What is it?"),
        example(6, question="Найдите сумму всех простых чисел", trace="сумма простых чисел равна десяти"),
        example(7, trace="short"),
        example(8, question="p12. What is it?"),
    ]
    rules = ["finished", {"repetition": 0.3}, {"matches": r"\[asy\]"}, "script", {"at_least": 2}, "s1"]
    told = fates(curate(tmp_path, rows, quality=rules))
    assert told == {
        "q0": "kept",
        "q1": "finished: cut off: answer length",
        "q2": "finished: cut off: thinking context",
        "q3": "finished: no trace",
        "q4": "repetition: repeats itself in more than 0.3 of its runs of 8 words",
        "q5": r"matches: the question matches \[asy\]",
        "q6": "script: not in latin letters",
        "q7": "at_least: shorter than 2",
        "q8": "s1: a numbered part",
    }


def test_difficulty_is_what_other_steps_made_of_the_question(tmp_path: Path) -> None:
    rows = [example(number) for number in range(6)]
    small = [("q0", "wrong"), ("q1", "correct"), ("q2", "no_answer"), ("q3", "wrong"), ("q4", "error"), ("q5", "wrong")]
    large = [("q0", "wrong"), ("q1", "wrong"), ("q2", "wrong"), ("q3", "correct"), ("q4", "wrong")]
    asked = {"wrong_in": ["${small}", "${large}"]}
    told = fates(curate(tmp_path / "wrong", rows, {"small": small, "large": large}, difficulty=asked))
    unknown = "was not asked it, or no sample could be graded"
    assert told == {
        "q0": "kept",
        "q1": "difficulty: ${small} is right",
        "q2": "kept",
        "q3": "difficulty: ${large} is right",
        "q4": f"difficulty: ${{small}} {unknown}",
        "q5": f"difficulty: ${{large}} {unknown}",
    }
    samples = [(f"q{number}", "correct" if place < number else "wrong") for number in range(6) for place in range(5)]
    asked_for = {"accuracy": {"of": "${sweep}", "between": [0.2, 0.6]}}
    told = fates(curate(tmp_path / "between", rows, {"sweep": samples}, difficulty=asked_for))
    assert [told[f"q{number}"] == "kept" for number in range(6)] == [False, True, True, True, False, False]
    with pytest.raises(StepError, match=r"\$\{small\} has no policy '32': it has auto"):
        curate(tmp_path / "policy", rows, {"small": small}, difficulty={"wrong_in": ["${small}"], "policy": "32"})


def test_several_seeds_give_several_sets_and_the_card_says_what_they_share(tmp_path: Path) -> None:
    rows = [example(number, subject=f"s{number % 5}") for number in range(60)]
    output = curate(tmp_path, rows, domains="subject", select={"by": "diverse", "size": 20, "seeds": [0, 1, 2]})
    sets = [{row["id"] for row in read(output / f"seed-{seed}.jsonl")} for seed in range(3)]
    assert [len(own) for own in sets] == [20, 20, 20]
    assert len({frozenset(own) for own in sets}) == 3
    assert {row["id"] for row in read(output / "train.jsonl")} == sets[0]
    assert f"in every set: {len(sets[0] & sets[1] & sets[2])} of 20 rows" in (output / "README.md").read_text()
    taken = DataConfig.model_validate({"path": "${s1k}", "split": "seed-1"})
    located = taken.located(lambda reference: Dataset(output))
    questions = {row["question"] for row in rows if row["id"] in sets[1]}
    assert {sample.question for sample in read_samples(located)} == questions
    with pytest.raises(StepError, match=r"\$\{s1k\} has no set 'seed-7': it has seed-0, seed-1, seed-2, train"):
        DataConfig.model_validate({"path": "${s1k}", "split": "seed-7"}).located(lambda reference: Dataset(output))
    again = curate(
        tmp_path / "again", rows[::-1], domains="subject", select={"by": "diverse", "size": 20, "seeds": [2]}
    )
    assert {row["id"] for row in read(again / "train.jsonl")} == sets[2]


def test_clusters_put_questions_of_one_subject_together(tmp_path: Path) -> None:
    subjects = ["the area of a circle with radius", "the sum of odd primes below", "how fast a train from town goes in"]
    rows = [example(number, question=f"What is {subjects[number % 3]} {number}?") for number in range(60)]
    output = curate(tmp_path, rows, domains={"clusters": 3})
    domains = {row["id"]: row["domain"] for row in read(output / "train.jsonl")}
    for place in range(3):
        assert len({domains[f"q{number}"] for number in range(place, 60, 3)}) == 1
    assert any("circle" in domain for domain in domains.values())


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["stop", "length"]), st.sampled_from(["x", "y", ""])),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from(["random", "diverse", "s1", "longest", "full"]),
    st.integers(1, 6),
)
def test_every_row_has_a_fate(
    tmp_path_factory: pytest.TempPathFactory, told: list[tuple[str, str, str]], by: str, size: int
) -> None:
    rows = [example(n, source=source, answer_end=end, subject=subject) for n, (source, end, subject) in enumerate(told)]
    left = sum(end == "stop" and bool(subject) for _, end, subject in told)
    select = {"by": by} if by == "full" else {"by": by, "size": size}
    folder = tmp_path_factory.mktemp("fates")
    if left < (1 if by == "full" else size):
        with pytest.raises(StepError, match=r"of \d+ rows that are left"):
            curate(folder, rows, domains="subject", select=select)
        return
    output = curate(folder, rows, domains="subject", select=select)
    kept, dropped = read(output / "train.jsonl"), read(output / "dropped.jsonl")
    assert Counter(row["id"] for row in [*kept, *dropped]) == Counter(row["id"] for row in rows)
    assert len(kept) == (left if by == "full" else size)
    funnel = Funnel.of(json.loads((output / "funnel.json").read_text()))
    went_on = funnel.came
    for stage in funnel.stages:
        assert stage.came == went_on
        went_on = stage.out
    assert Counter(row["source"] for row in kept) == Counter({name: count for name, count in went_on.items() if count})


def test_a_selection_larger_than_what_is_left_says_which_filter_took_most(tmp_path: Path) -> None:
    rows = [example(number, answer_end="stop" if number < 5 else "length") for number in range(20)]
    said = r"select: 10 of 5 rows that are left; finished took most of the 20, 15 \(cut off: answer length\)"
    with pytest.raises(StepError, match=said):
        curate(tmp_path, rows, select={"by": "random", "size": 10})


def test_weights_and_columns_that_are_not_there_are_lines(tmp_path: Path) -> None:
    rows = [example(number, subject="algebra") for number in range(4)]
    with pytest.raises(StepError, match="there is no domain 'geometry' among algebra"):
        curate(tmp_path, rows, domains="subject", select={"by": "s1", "size": 2, "weights": {"geometry": 1.0}})
    with pytest.raises(StepError, match="no row has a column 'topic'; there are answer, answer_end"):
        curate(tmp_path, rows, domains="topic")
    with pytest.raises(StepError, match="9 clusters of 4 different questions"):
        curate(tmp_path, rows, domains={"clusters": 9})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"quality": ["finnished"]}, "'finnished' is not a rule: known are finished, repetition"),
        ({"quality": [{"matches": "("}]}, r"matches: '\(' is not a pattern"),
        ({"quality": ["matches"]}, "takes a pattern that questions may not match"),
        ({"quality": [{"repetition": 7}]}, "takes a number from 0 to 1"),
        ({"quality": [{"s1": 1}]}, "s1: takes no value"),
        ({"select": {"by": "best"}}, "'best' is not a selection: known are full, random"),
        ({"select": {"by": "random"}}, "size: random takes one"),
        ({"select": {"size": 4}}, "size: full takes all that is left"),
        ({"select": {"by": "random", "size": 4, "seed": 1, "seeds": [1]}}, "both seed and seeds are given"),
        ({"select": {"by": "random", "size": 4, "seeds": [1, 1]}}, "seeds: the same seed is given twice"),
        ({"select": {"by": "random", "size": 4, "weights": {"a": 1.0}}}, "are for by: s1"),
        ({"select": {"by": "s1", "size": 4}}, "domains: s1 draws by domain"),
        ({"domains": {"column": "a", "clusters": 3}}, "give one of column, clusters and classify"),
        ({"difficulty": {}}, "nothing is asked for"),
        ({"difficulty": {"wrong_in": ["Qwen/Qwen2.5-7B-Instruct"]}}, "a sweep of this experiment"),
        ({"difficulty": {"accuracy": {"of": "${a}", "between": [0.7, 0.1]}}}, "is not a range"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CurateConfig.model_validate_json(json.dumps({"data": "${traces}", **fields}))


def test_a_file_of_ones_own_is_checked_before_anything_runs(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    file.write_text(json.dumps(example(0)) + "\n" + json.dumps({"question": "x", "answer": "y"}) + "\n")
    config = CurateConfig.model_validate_json(json.dumps({"data": str(file)}))
    (problem,) = config.problems()
    assert "traces.jsonl:2 has no trace as text: question, answer" in problem.message
    assert config.external_inputs() == {"data": file}


def test_the_page_shows_what_was_dropped_and_takes_nothing_from_rows_for_html(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script>"
    rows = [example(0, subject=hostile), example(1, subject="b", question=hostile, answer_end="length")]
    page = (curate(tmp_path, rows, domains="subject") / "curate.html").read_text()
    assert hostile not in page
    assert "alert(1)&lt;/script&gt;" in page
    assert "finished: 1 cut off: answer length" in page
    assert "Content-Security-Policy" in page
    tracked = tmp_path / "step" / "tracked" / "s1k" / "artifacts"
    assert {file.name for file in tracked.iterdir()} == {"README.md", "funnel.json", "curate.html"}
