"""The trees of a report: they say of every policy what its sample does, and nothing is lost between the cuts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.evaluate.report.results import FinishedSweep
from jobs.evaluate.report.trees import Trees, without_traces
from jobs.evaluate.report.verdicts import Verdicts, read_verdicts, rows_of
from jobs.evaluate.run import prepare
from tests.evaluate.report.sweep import QUESTIONS, THOUGHTS, hostile

Rows = dict[tuple[str, int], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> FinishedSweep:
    return FinishedSweep(hostile(tmp_path_factory.mktemp("sweep")))


@pytest.fixture(scope="module")
def verdicts(results: FinishedSweep) -> Verdicts:
    return read_verdicts(results.samples, "sums", [policy.name for policy in results.policies])


@pytest.fixture(scope="module")
def rows(results: FinishedSweep, verdicts: Verdicts) -> Rows:
    return rows_of(results.samples, "sums", verdicts.units)


@pytest.fixture(scope="module")
def trees(results: FinishedSweep, rows: Rows) -> dict[tuple[str, int], dict[str, Any]]:
    reader = Trees(prepare(results.config, results.context))
    return {(item, sample): reader.read("sums", item, sample, own) for (item, sample), own in rows.items()}


def test_every_policy_that_walks_the_tree_ends_at_one_answer_where_its_ledger_says(
    trees: dict[tuple[str, int], dict[str, Any]], rows: Rows
) -> None:
    for unit, tree in trees.items():
        ends = {number: answer for answer in tree["answers"] for number in answer["policies"]}
        assert len(ends) == sum(len(answer["policies"]) for answer in tree["answers"])
        for number, row in enumerate(rows[unit]):
            if row["policy"].startswith("rejection"):
                assert tree["rows"][number]["taken"] in (0, 1)
                assert number not in ends
                continue
            assert ends[number]["at"] == row["thinking_tokens"]
            assert ends[number]["end"] == row["thinking_end"]
            assert ends[number]["text"] == (None if row["answer_end"] == "none" else row["answer"])


def test_the_parts_of_a_branch_are_what_was_thought_and_cuts_lie_between_them(
    trees: dict[tuple[str, int], dict[str, Any]],
) -> None:
    cut_short = 0
    for tree in trees.values():
        for branch in tree["branches"]:
            assert len(branch["parts"]) == len(branch["cuts"]) + 1
            said = "".join(branch["parts"]).rstrip("\ufffd")
            assert any(thought.startswith(said) for thought in THOUGHTS)
            assert branch["ended"] == (said in THOUGHTS)
            assert branch["tokens"] == len("".join(branch["parts"]).encode()) or "\ufffd" in branch["parts"][-1]
            cut_short += any(0 < at - branch["start"] < branch["tokens"] for at in branch["cuts"])
            assert all(branch["start"] <= at <= branch["start"] + branch["tokens"] for at in branch["cuts"])
    assert cut_short, "some budget cut some branch"


def test_branches_name_what_was_injected_and_hang_on_their_parents(
    trees: dict[tuple[str, int], dict[str, Any]],
) -> None:
    strings = set()
    for tree in trees.values():
        branches = tree["branches"]
        assert [branch["wish"] for branch in branches if branch["parent"] is None] == [
            None,
            "Think for up to 8 tokens.",
        ]
        for branch in branches:
            if branch["parent"] is not None:
                parent = branches[branch["parent"]]
                strings.add(branch["string"])
                assert branch["start"] == parent["start"] + parent["tokens"] + len(branch["string"])
    assert strings == {"Wait", "<b>", ""}


def test_a_cut_inside_a_character_keeps_the_text_whole(tmp_path: Path) -> None:
    from tests.evaluate.report.sweep import fields
    from tests.evaluate.spoken import finished

    simple = {"conditional": None, "rejection": None, "extensions": None, "baseline": False, "samples": 1}
    step = finished(tmp_path, fields(tmp_path, budgets=[1, 2, 3, 4, 5, 6, "auto"], **simple), ["a\U0001f600b"], ["2"])
    rows = rows_of(step.context.output / "samples.parquet", "sums", [("one", 0)])
    tree = Trees(prepare(step.config, step.context)).read("sums", "one", 0, rows["one", 0])
    (branch,) = tree["branches"]
    assert branch["cuts"] == [1, 2, 3, 4, 5, 6]
    assert branch["parts"] == ["a", "", "", "", "\U0001f600", "b", ""]


def test_without_traces_the_answers_are_still_told(rows: Rows) -> None:
    for own in rows.values():
        record = without_traces(own, "gone")
        assert record["note"] == "gone"
        assert record["branches"] == []
        told = {number: answer["text"] for answer in record["answers"] for number in answer["policies"]}
        assert told == {number: row["answer"] for number, row in enumerate(own)}


def test_traces_that_are_gone_leave_the_answers(results: FinishedSweep, rows: Rows) -> None:
    sweep = prepare(results.config, results.context)
    aside = {file: file.with_suffix(".aside") for file in sweep.folder.glob("*.parquet")}
    for file, other in aside.items():
        file.rename(other)
    try:
        record = Trees(sweep).read("sums", "one", 0, rows["one", 0])
        assert "not in the store" in record["note"]
        assert record == without_traces(rows["one", 0], record["note"])
    finally:
        for file, other in aside.items():
            other.rename(file)


def test_verdicts_are_those_of_the_samples_in_their_order(verdicts: Verdicts, rows: Rows) -> None:
    assert verdicts.units == tuple((line["id"], sample) for line in QUESTIONS for sample in (0, 1))
    letters = {"correct": "c", "wrong": "w", "no_answer": "n"}
    for place, unit in enumerate(verdicts.units):
        own = {row["policy"]: letters[row["verdict"]] for row in rows[unit]}
        assert dict(zip(verdicts.policies, verdicts.letters[place].tolist(), strict=True)) == own
    assert len(set(verdicts.text)) > 1, "policies do not all fare alike"


def test_flips_count_the_samples_that_a_policy_wins_and_loses(verdicts: Verdicts) -> None:
    for after in verdicts.policies:
        column = verdicts.letters[:, verdicts.policies.index(after)] == "c"
        natural = verdicts.letters[:, verdicts.policies.index("auto")] == "c"
        won, lost = verdicts.flips("auto", after)
        assert won - lost == column.sum() - natural.sum()
        assert won + lost == (column != natural).sum()


def test_items_asked_for_come_first_and_then_every_items_first_sample(verdicts: Verdicts) -> None:
    order = verdicts.by_interest(["it's"])
    assert sorted(order) == sorted(verdicts.units)
    assert order[:2] == [("it's", 0), ("it's", 1)]
    assert [sample for _, sample in order[2:]] == [0, 0, 1, 1]
