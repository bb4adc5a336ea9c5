"""Rules in a sweep: what it decodes for them, their rows, and that replaying them decodes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from jobs.evaluate import report
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.regrade import graded_again
from jobs.evaluate.report.results import FinishedSweep
from jobs.evaluate.report.summary import tiles
from jobs.evaluate.report.viewer import collect
from jobs.evaluate.run import missing, prepare, tasks_of
from jobs.evaluate.stats.options import options
from jobs.evaluate.stats.outcomes import read
from jobs.evaluate.stats.votes import spelled
from jobs.evaluate.stopping.replay import PROBES
from jobs.evaluate.stopping.study import study
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policy import walked
from jobs.evaluate.traces.files import Index
from orchestrator.job.errors import StepError
from orchestrator.job.record import FinishedStep, ReportRequest
from orchestrator.store.manifest import manifest_of
from tests.evaluate import tiny
from tests.evaluate.spoken import finished
from tests.evaluate.test_config import config

QUESTIONS = [{"id": f"q{number}", "question": f"{number}+{number}?", "answer": str(2 * number)} for number in range(6)]
THOUGHTS = ("short", "I add one and one, and then I think about it for quite a while longer.", "well, well, well")
ANSWERS = (r" \boxed{2}", r" \boxed{4}", " none", r" \boxed{2} it is")
RULES: list[Any] = ["oracle", {"rule": "convergence", "agree": [2, 3], "every": 4, "until": 24}]


def fields(folder: Path, **changes: Any) -> dict[str, Any]:
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in QUESTIONS))
    return {
        "model": str(tiny.save(folder / "model")),
        "tasks": [{"name": "sums", "path": str(path)}],
        "budgets": [4, 16, "auto"],
        "samples": 2,
        "temperature": 1.0,
        "max_answer_tokens": 20,
        "context_length": 256,
    } | changes


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> FinishedStep:
    folder = tmp_path_factory.mktemp("swept")
    return finished(folder, fields(folder, stopping=RULES), THOUGHTS, ANSWERS)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> FinishedStep:
    """The same sweep without rules."""
    folder = tmp_path_factory.mktemp("plain")
    return finished(folder, fields(folder), THOUGHTS, ANSWERS)


def rows(step: FinishedStep, name: str = "samples.parquet") -> pd.DataFrame:
    return pd.read_parquet(step.context.output / name)


def test_samples_and_probes_are_written_once_and_hashed_as_they_are(
    swept: FinishedStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = swept.context.output
    contents = {name: sha256((output / name).read_bytes()).hexdigest() for name in ("samples.parquet", PROBES)}
    monkeypatch.setattr("orchestrator.store.local_storage.LocalStorage.digest", lambda self: f"{self.path} was read")
    found = manifest_of(output)
    assert {name: found[name]["sha256"] for name in contents} == contents


def test_rules_are_points_with_intervals_and_paired_differences_as_any_policy(swept: FinishedStep) -> None:
    curves = {each["curve"]: each["points"] for each in json.loads((swept.context.output / "curves.json").read_text())}
    assert [point["policy"] for point in curves["convergence every 4"]] == [
        "convergence 2 agree every 4",
        "convergence 3 agree every 4",
    ]
    assert {"oracle", "convergence every 4, cross-fitted"} < set(curves)
    for name in ("accuracy_low", "accuracy_high", "bootstrap_low", "difference", "difference_low", "p_value"):
        assert curves["oracle"][0][name] is not None
    compared = json.loads((swept.context.output / "comparisons.json").read_text())["comparisons"]
    assert any({"oracle first right", "4"} == {each["policy"], each["reference"]} for each in compared)


def test_the_page_says_what_more_thinking_turns_over_and_that_settings_are_cross_fitted(swept: FinishedStep) -> None:
    (found,) = json.loads((swept.context.output / "stopping.json").read_text())
    (chosen,) = found["chosen"]
    assert sum(chosen["settings"].values()) == len(QUESTIONS)
    request = ReportRequest("sums", swept.context.output, "report sums.yaml")
    sweep = FinishedSweep(swept)
    (data,) = collect([sweep], request)
    assert not any("oracle" in tile.what for tile in tiles(sweep, data)), "the best of what one could choose"
    report.write([swept], request)
    for name in ("report.html", "report.md"):
        page = (swept.context.output / name).read_text()
        assert "What more thinking turns over" in page
        assert "was chosen on the other half" in page
        assert "oracle first right" in page
    tracked = [json.loads(path.read_text()) for path in swept.context.folder.glob("tracked/*/run.json")]
    assert any(run["params"]["curve"] == "convergence every 4, cross-fitted" for run in tracked)


def test_turns_and_area_are_those_of_a_count_by_hand(swept: FinishedStep) -> None:
    (found,) = json.loads((swept.context.output / "stopping.json").read_text())
    names = ["4", "8", "12", "16", "20", "24", "auto"]
    frame = rows(swept, PROBES).assign(right=lambda each: each["verdict"] == "correct")
    right, tokens = (
        frame.pivot(index=["item", "sample"], columns="policy", values=name)[names]
        for name in ("right", "thinking_tokens")
    )
    for turn, (start, end) in zip(found["turns"], pairwise(names), strict=True):
        assert (turn["from"], turn["to"]) == (start, end)
        assert turn["wrong_to_right"] == pytest.approx((~right[start] & right[end]).mean())
        assert turn["right_to_wrong"] == pytest.approx((right[start] & ~right[end]).mean())
    heights, places = right.mean().to_numpy(dtype=float), tokens.mean().to_numpy(dtype=float)
    expected = sum((b - a) * (f + g) / 2 for (a, b), (f, g) in zip(pairwise(places), pairwise(heights), strict=True))
    assert found["area"] == pytest.approx(expected / (places[-1] - places[0]))


def test_each_row_of_a_rule_is_an_answer_of_the_same_sample_at_a_probe(swept: FinishedStep) -> None:
    probes = rows(swept, PROBES).set_index(["item", "sample"])
    for _, row in rows(swept)[lambda frame: frame["policy"].str.startswith("convergence 2")].iterrows():
        own = probes.loc[(row["item"], row["sample"])]
        own = own[own["policy"].isin(["4", "8", "12", "16", "20", "24", "auto"])].sort_values("thinking_tokens")
        before, at = 0, None
        for _, probe in own.iterrows():
            if probe["answer"] == row["answer"] and probe["thinking_tokens"] + before == row["thinking_tokens"]:
                at = probe
            before += probe["answer_tokens"]
        assert at is not None
        assert (at["verdict"], at["meaning"], at["answer_tokens"]) == (
            row["verdict"],
            row["meaning"],
            row["answer_tokens"],
        )


def test_probes_that_no_budget_has_are_decoded_and_are_no_points(swept: FinishedStep) -> None:
    decoded = {policy.name for policy in walked(swept.config.policies)}
    assert decoded == {"4", "8", "12", "16", "20", "24", "auto"}
    assert set(rows(swept, PROBES)["policy"]) == decoded
    assert "8" not in set(rows(swept)["policy"])


def test_adding_rules_to_a_finished_sweep_asks_for_no_token_and_probes_for_their_answers_alone(
    plain: FinishedStep,
) -> None:
    def lacking(stopping: list[Any]) -> int:
        asked = EvaluateConfig.model_validate_json(json.dumps(fields(plain.context.folder.parent, stopping=stopping)))
        sweep = prepare(asked, plain.context)
        return len(missing(sweep, Index(sweep.folder, report=print)))

    assert lacking(["oracle", {"rule": "convergence", "agree": [2, 3]}]) == 0
    assert lacking(RULES) > 0


def test_a_finished_sweep_is_replayed_from_its_samples_alone(
    plain: FinishedStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = plain.context.folder.parent
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    monkeypatch.setattr("jobs.evaluate.run.decode", None)
    text = study(plain.config, plain.context)
    assert "| oracle first right |" in text
    assert "| convergence, cross-fitted |" in text
    assert "was chosen on the other half" in text
    assert "Area under accuracy" in text
    assert "| 4 → 16 |" in text
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert "oracle" not in study(plain.config, plain.context, "[{rule: convergence, agree: 2}]")


def test_a_replay_says_the_same_as_the_sweep_that_ran_with_the_rules(swept: FinishedStep) -> None:
    points = {
        point["policy"]: point
        for curve in json.loads((swept.context.output / "curves.json").read_text())
        for point in curve["points"]
    }
    text = study(swept.config, swept.context)
    lines = {line.split("|")[1].strip(): line.split("|") for line in text.splitlines() if line.startswith("| ")}
    for name in ("oracle first right", "convergence 2 agree every 4", "convergence every 4, cross-fitted"):
        assert lines[name][4].strip() == f"{100 * points[name]['accuracy']:.1f}%"
        assert lines[name][2].split()[0] == f"{points[name]['thinking_tokens']:,.1f}"


def test_probes_that_a_finished_sweep_lacks_are_named(plain: FinishedStep) -> None:
    with pytest.raises(StepError, match="sums has no probe at 8: there are 4, 16, auto"):
        study(plain.config, plain.context, "[{rule: convergence, every: 8, until: 16}]")
    with pytest.raises(StepError, match="--rules: rule: 'luck' is no stopping rule: there are "):
        study(plain.config, plain.context, "[luck]")


@pytest.mark.parametrize(
    ("stopping", "said"),
    [
        ("luck", "rule: 'luck' is no stopping rule: there are "),
        ([{"rule": "convergence", "agree": 1}], "agree: 1 is too few: give a whole number from 2"),
        ([{"rule": "oracle", "until": 8}], "until: 8 needs every"),
        ([{"rule": "oracle", "every": 8}], "every: 8 needs until"),
        ([{"rule": "oracle", "every": 8, "until": 4}], "every: 0 probes"),
        ([{"rule": "oracle", "every": 0, "until": 4}], "greater than or equal to 1"),
        ([{"rule": "oracle", "tolerance": 1.5}], "less than or equal to 1"),
        ([{"rule": "oracle", "at": "Wait"}], "at: goes with times: give {at: Wait, times: 8}"),
        ([{"rule": "oracle", "at": "Wait", "times": 0}], "greater than or equal to 1"),
        ([{"rule": "oracle", "at": "Wait", "times": 10**6}], "times: 1,000,000 probes are too many"),
        ([{"rule": "oracle", "at": "Wait", "times": 2, "every": 4, "until": 8}], "at: a rule is probed at a text, or"),
        ([{"rule": "waits", "every": 4, "until": 8}], "every: waits says itself where it stops: leave it out"),
        ([], "the list is empty"),
    ],
)
def test_what_a_rule_cannot_be_is_said(stopping: Any, said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        config(stopping=stopping)
    (error,) = refused.value.errors()
    assert said in error["msg"]
    assert error["loc"][0] == "stopping"


def test_votes_of_different_sizes_are_each_cross_fitted_among_themselves(tmp_path: Path) -> None:
    rule = {"rule": "asc", "threshold": [0.6, 0.9], "samples": [2, 4]}
    step = finished(tmp_path, fields(tmp_path, stopping=rule, samples=4), THOUGHTS, ANSWERS)
    of = rows(step).groupby("policy").size()
    assert {name: of[name] for name in of.index if name.startswith("asc")} == {
        "asc 0.6 of 2": 12,
        "asc 0.9 of 2": 12,
        "asc 0.6 of 4": 6,
        "asc 0.9 of 4": 6,
        "asc of 2, cross-fitted": 12,
        "asc of 4, cross-fitted": 6,
    }
    assert len(step.config.policies) == 3 + 6


def test_a_rule_can_be_probed_wherever_the_model_turns_back(tmp_path: Path) -> None:
    said = ("One. Wait, two. Wait, four. Wait, five, and so it goes.", "Two.")
    rule = {"rule": "convergence", "agree": 2, "at": "Wait", "times": 3}
    step = finished(tmp_path, fields(tmp_path, stopping=["waits", "oracle", rule]), said, (r"\boxed{2}", r"\boxed{4}"))
    probes = rows(step, PROBES)
    at = {name: sorted(set(own["thinking_tokens"])) for name, own in probes.groupby("policy")}
    assert at['stop strings "Wait"'] == [4, 9]
    assert at['stop strings "Wait", time 2'] == [4, 20]
    assert at['stop strings "Wait", time 3'] == [4, 32]
    meanings = probes.pivot(index=["item", "sample"], columns="policy", values="meaning")
    of_rule = rows(step).set_index(["policy", "item", "sample"]).loc['convergence 2 agree at "Wait"']
    thought = of_rule["thinking_tokens"] - len(r"\boxed{2}")  # of the probe before
    wrote = probes.pivot(index=["item", "sample"], columns="policy", values="thinking_end")['stop strings "Wait"']
    agree = meanings['stop strings "Wait"'] == meanings['stop strings "Wait", time 2']
    assert ((thought == 20) == ((wrote == "forced") & agree)).all()
    (found,) = json.loads((step.context.output / "stopping.json").read_text())
    assert [(turn["from"], turn["to"]) for turn in found["turns"]] == [("4", "16"), ("16", "auto")]


def test_a_rule_alone_has_no_area_and_no_turns(tmp_path: Path) -> None:
    changes = {"budgets": None, "stopping": "waits", "extensions": None}
    asked = {name: value for name, value in fields(tmp_path, **changes).items() if value is not None}
    step = finished(tmp_path, asked, THOUGHTS, ANSWERS)
    (found,) = json.loads((step.context.output / "stopping.json").read_text())
    assert (found["area"], found["turns"]) == (None, [])


def test_rules_need_probes() -> None:
    with pytest.raises(ValidationError, match="stopping: oracle has no probes: give it every: and until:"):
        config(budgets=["auto"], stopping="oracle")


def test_votes_on_whole_traces_need_none() -> None:
    (policy,) = [
        policy for policy in config(stopping="esc", samples=4, temperature=1.0).policies if policy.name == "esc 4"
    ]
    assert [leaf.name for leaf in policy.leaves][-1] == "auto"
    assert config(budgets=["auto"], stopping="esc", samples=4, temperature=1.0).policies[-1].leaves == (Budget(),)


def test_rules_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="stopping: 'convergence 3 agree' is there twice"):
        config(stopping=["convergence", {"rule": "convergence", "agree": [2, 3]}])


def test_votes_need_as_many_samples() -> None:
    with pytest.raises(ValidationError, match="stopping: esc 4 needs 4 samples of an item, and samples is 3"):
        config(samples=3, temperature=1.0, stopping="esc")
    with pytest.raises(ValidationError, match=r"stopping: asc 0\.95 needs 2 samples"):
        config(stopping="asc")


def test_rules_in_any_spelling_and_order_of_values_are_the_same_step() -> None:
    one = config(stopping={"rule": "convergence", "agree": [3, 2]})
    other = config(stopping=[{"rule": "convergence", "agree": [2, 3, 2]}])
    assert one.model_dump_json() == other.model_dump_json()
    assert one.policies == other.policies
    assert one.notes() == []
    again = EvaluateConfig.model_validate_json(one.model_dump_json())
    assert again.policies == one.policies


def test_on_the_frontier_the_oracle_is_a_bound_and_samples_that_a_rule_took_are_not_taken_again(tmp_path: Path) -> None:
    asked = fields(tmp_path, stopping=["oracle", {"rule": "esc", "window": 2}], samples=4)
    step = finished(tmp_path, asked, THOUGHTS, ANSWERS)
    config = EvaluateConfig.model_validate_json(json.dumps(asked))
    names = [policy.name for policy in config.policies]
    (outcomes,) = read(step.context.output / "samples.parquet", names)
    every = options(outcomes, config.policies, spelled(("majority",), ()), "sweep")
    assert {each.name for each in every.options if each.oracle} >= {"oracle first right"}
    (esc,) = [name for name in names if name.startswith("esc")]
    assert [each.name for each in every.options if each.name.startswith(esc)] == [esc]
    place = [each.name for each in every.options].index(esc)
    assert np.isnan(every.costs["latency"].means[place])
    rule_rows = rows(step)[lambda frame: frame["policy"] == esc]
    spent = (rule_rows["thinking_tokens"] - rule_rows["injected_tokens"] + rule_rows["answer_tokens"]).mean()
    assert every.costs["tokens"].means[place] == pytest.approx(spent)


@pytest.mark.seconds
def test_graded_again_rules_follow_from_the_new_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = finished(tmp_path, fields(tmp_path, stopping=RULES), THOUGHTS, ANSWERS)
    same = graded_again(step.config, step.context, tasks_of(step.config, step.context))
    assert not same.changes
    for name in ("samples.parquet", PROBES):
        pd.testing.assert_frame_equal(pd.read_parquet(same.staged / name), rows(step, name))
    tasks = tasks_of(step.config, step.context)
    asked = [replace(task, items=tuple(replace(item, answer="4") for item in task.items)) for task in tasks]
    again = graded_again(step.config, step.context, asked)
    assert again.changes
    now = pd.read_parquet(again.staged / "samples.parquet")
    probes = pd.read_parquet(again.staged / PROBES)
    right = probes[probes["verdict"] == "correct"].groupby(["item", "sample"]).size()
    first = now[now["policy"] == "oracle first right"].set_index(["item", "sample"])["verdict"] == "correct"
    assert first.sum() == len(right), "the oracle is right wherever any probe is, by what is right now"
