"""A sweep that searches, from its experiment file to its tables; only the engine is not real."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from jobs.distil.config import DistilConfig
from jobs.evaluate.check import check
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.decode.search_walker import SearchWalker
from jobs.evaluate.decode.walker import Walker
from jobs.evaluate.engines.model import memory_beside
from jobs.evaluate.grading.session import grading
from jobs.evaluate.publish import publish
from jobs.evaluate.report import viewer as report
from jobs.evaluate.report.listings import listings
from jobs.evaluate.report.results import FinishedSweep
from jobs.evaluate.report.trees import Trees
from jobs.evaluate.run import missing, prepare
from jobs.evaluate.samples import write_samples
from jobs.evaluate.scorers.protocol import Scorer
from jobs.evaluate.stopping.replay import files
from jobs.evaluate.sweep.search import Forest, as_score
from jobs.evaluate.traces.files import Index, write
from jobs.evaluate.traces.segments import Segment
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from orchestrator.job.record import FinishedStep, ReportRequest
from tests.evaluate import tiny
from tests.evaluate.searching import ScriptedScorer
from tests.evaluate.sweep.stored import HEADER, STORED, Scripted, config

SEARCH: dict[str, Any] = {
    "budgets": ["auto"],
    "samples": 2,
    "temperature": 1.0,
    "max_answer_tokens": 6,
    "context_length": 200,
    "search": {"scorer": {"kind": "exact"}, "steps": {"at": "\n", "tokens": 8, "most": 4}, "repeats": 2},
    "rebase": {"widths": [4, 2]},
}


def decoded(asked: EvaluateConfig, context: StepContext, scorer: Scorer | None = None) -> list[Segment]:
    """Decodes what is missing of the step in this process, with its own scorer unless another is given."""
    sweep = prepare(asked, context)
    replica, kept = sweep.replica, list[Segment]()

    async def work() -> None:
        engine = Scripted(tiny.tokenizer().convert_tokens_to_ids(HEADER))
        assert replica.scorer is not None
        own = scorer or await replica.scorer()
        for each in missing(sweep, Index(sweep.folder, report=print)):
            tree = replica.trees[each.unit.tree]
            how = replica.forcing, replica.sampling, replica.seed, kept.append
            walker = SearchWalker(engine, own, tree, *how) if isinstance(tree, Forest) else Walker(engine, tree, *how)
            await walker.walk(each.unit, each.trace(replica.forcing))
        await own.close()

    asyncio.run(work())
    write(sweep.folder, kept)
    return kept


def finished(asked: EvaluateConfig, context: StepContext) -> pd.DataFrame:
    """The samples of a step that is decoded, which it then publishes."""
    sweep = prepare(asked, context)
    index = Index(sweep.folder, report=print)
    assert not missing(sweep, index)
    samples = context.output / "samples.parquet"
    with grading(asked, context, context.output) as grader:
        write_samples(files(asked, samples), sweep.questions, sweep.replica.trees, sweep.prompter, index, grader)
    publish(asked, context, samples, {})
    return pd.read_parquet(samples)


def step(folder: Path, name: str = "first") -> StepContext:
    context = StepContext("experiment", "sweep", name, folder / name, folder / "traces")
    context.output.mkdir(parents=True)
    return context


@pytest.mark.seconds
def test_a_search_is_a_point_like_any_policy(tmp_path: Path) -> None:
    asked, context = config(tmp_path, SEARCH), step(tmp_path)
    kept = decoded(asked, context)
    samples = finished(asked, context)
    assert samples["policy"].tolist()[:6] == ["auto"] * 2 + ["REBASE 2", "REBASE 4"] * 2

    wide = samples[samples["policy"] == "REBASE 4"]
    key = next(each.item for each in kept if each.item.startswith("q0") and each.key.kind == "score")
    own = [each for each in kept if each.item == key and each.sample == 0]
    # Whatever another width needed besides is not in it; the narrower is within the wider on its first level alone.
    nodes = {each.key.path[:-1] for each in own if each.key.kind == "score"}
    row = wide[(wide["item"] == "q0") & (wide["sample"] == 0)].iloc[0]
    thought = sum(len(each.tokens) for each in own if each.key.kind == "thinking" and each.key.path in nodes)
    assert 0 < row["thinking_tokens"] <= thought
    assert (wide["scorer_tokens"] > 0).any(), "answers at steps where no trace ends are the scorer's"
    assert (samples[samples["policy"] == "auto"]["scorer_tokens"] == 0).all()
    assert ((wide["score"] == 1) == (wide["verdict"] == "correct")).all(), "the elected is right where any trace is"

    table = (context.output / "table.csv").read_text().splitlines()
    named = [line for line in table if ",REBASE " in line]
    assert len(named) == 2, "its searches are not taken together once more"
    assert "scorer_tokens" in table[0]
    assert "| REBASE 4 |" in (context.output / "table.md").read_text()
    assert "all tokens" in (context.output / "table.md").read_text()

    compared = json.loads((context.output / "equal_tokens.json").read_text())
    assert {(each["policy"], each["votes"], each["scorer_counted"]) for each in compared} == {
        (f"REBASE {width}", f"auto {vote}", counted)
        for width in (2, 4)
        for vote in ("pass", "majority")
        for counted in (True, False)
    }
    assert all(each["bound"] for each in compared), "its scorer knows the right answers"
    listed = next(listings(FinishedSweep(FinishedStep(asked, context, None, None)), "sums"))
    assert listed.title == "Searches against votes at equal tokens"
    assert len(listed.rows) == len(compared)
    assert "searches against votes at equal tokens" in (context.output / "table.md").read_text()
    tracked = {path.name for path in context.folder.glob("tracked/*/artifacts/*")}
    assert {"equal_tokens.json", "frontier.png"} <= tracked


@pytest.mark.seconds
def test_a_wider_search_decodes_what_the_narrower_has_not_and_changes_nothing_of_it(tmp_path: Path) -> None:
    narrow = config(tmp_path, {**SEARCH, "rebase": {"widths": [4]}})
    first = decoded(narrow, step(tmp_path))
    before = finished(narrow, step(tmp_path, "before"))
    assert decoded(narrow, step(tmp_path, "again")) == []

    wide = config(tmp_path, {**SEARCH, "rebase": {"widths": [4, 8]}, "beam": {"widths": [4]}})
    second = decoded(wide, step(tmp_path, "wide"))
    names = [{(each.item, each.sample, each.key) for each in kept} for kept in (first, second)]
    assert second
    assert not names[0] & names[1]
    after = finished(wide, step(tmp_path, "after"))
    both = [each[each["policy"].isin(["auto", "REBASE 4"])].reset_index(drop=True) for each in (before, after)]
    pd.testing.assert_frame_equal(*both)


@pytest.mark.seconds
def test_another_gold_answer_is_scored_anew_and_decodes_only_where_that_leads(tmp_path: Path) -> None:
    asked = config(tmp_path, SEARCH)
    first = decoded(asked, step(tmp_path))
    path = tmp_path / "questions.jsonl"
    path.write_text(path.read_text().replace('"answer": "0"', '"answer": "7"'))
    second = decoded(asked, step(tmp_path, "second"))
    scores = [{each.key.path[-1] for each in kept if each.key.kind == "score"} for kept in (first, second)]
    assert not scores[0] & scores[1], "the verdict is part of an exact score"
    assert sum(len(each.tokens) for each in second) < sum(len(each.tokens) for each in first)


def test_the_same_search_by_another_vote_decodes_and_scores_nothing(tmp_path: Path) -> None:
    decoded(config(tmp_path, SEARCH), step(tmp_path))
    other = config(tmp_path, {**SEARCH, "rebase": {"widths": [2, 4], "vote": "majority"}})
    assert decoded(other, step(tmp_path, "other")) == []


def test_whole_traces_are_samples_with_a_score_each(tmp_path: Path) -> None:
    asked = config(tmp_path, {**SEARCH, "rebase": None, "scored": {"samples": 3, "tokens": 30}, "budgets": ["auto"]})
    scorer = ScriptedScorer()
    decoded(asked, step(tmp_path), scorer)
    samples = finished(asked, step(tmp_path, "done"))
    scored = samples[(samples["policy"] == "scored") & (samples["item"] == "q0")]
    assert scored["sample"].tolist() == list(range(6)), "three of each of two repeats"
    assert scored["score"].notna().all()
    assert scored["score"].nunique() > 1
    assert (scored["thinking_tokens"] <= 30).all()
    table = pd.read_csv(tmp_path / "done" / "output" / "table.csv")
    votes = table[(table["policy"].str.startswith("scored")) & (table["score"] == "majority@k")]
    assert 2 in votes["k"].tolist(), "they vote as samples do"


def test_a_prompt_without_room_for_a_step_has_no_answer(tmp_path: Path) -> None:
    asked = config(tmp_path, {**SEARCH, "context_length": 160})
    decoded(asked, step(tmp_path), ScriptedScorer())
    context = step(tmp_path, "read")
    sweep = prepare(asked, context)
    assert any(unit.room.thinking < 8 for unit in sweep.units), "the last question is long"
    decoded(asked, context)
    samples = finished(asked, step(tmp_path, "done"))
    long = samples[(samples["item"] == "q3") & samples["policy"].str.startswith("REBASE")]
    assert set(long["thinking_end"]) == {"context"}
    assert set(long["verdict"]) == {"no_answer"}
    assert long["thinking_tokens"].sum() == 0


BAD: list[tuple[dict[str, Any], str]] = [
    ({"rebase": {"widths": [0]}}, "0 is not the width of a search: give whole numbers from 1 to 1,024"),
    ({"scored": {"samples": 0}}, "greater than or equal to 1"),
    ({"rebase": {"widths": []}}, "the list is empty: give at least one"),
    ({"rebase": {"widths": [4], "balance": 0}}, "greater than 0"),
    ({"search": None}, r"rebase: needs a scorer: give search: \{scorer: …, steps: …\}"),
    ({"rebase": None}, "search: nothing here searches: give one of scored, rebase, beam, dvts, or leave it out"),
    ({"temperature": 0.0, "samples": 1}, "rebase: needs a temperature above 0: greedy steps"),
    ({"template": "none", "budgets": ["auto"]}, "rebase: needs thinking that can be told"),
    ({"dvts": {"widths": [6]}}, "widths: 6 is no multiple of each, 4, and trees are that wide: give one that is"),
    ({"search": {"scorer": {"kind": "nobody"}}}, "Input should be 'exact'"),
    ({"search": {"scorer": {"kind": "exact", "good": "+"}}}, "good: scorer exact has none: leave it out"),
    ({"search": {"scorer": {"kind": "generative", "good": "+"}}}, "model: scorer generative needs one: give it"),
    (
        {
            "search": {
                "scorer": {"kind": "generative", "model": "a/b", "good": "+", "bad": "-", "engine": "openai"},
            }
        },
        r"scorer\.engine: openai does not say how likely tokens are, which is the score: take transformers or vllm",
    ),
    (
        {"search": {"scorer": {"kind": "generative", "model": "a/b", "good": "+", "bad": "+"}}},
        r"bad: '\+' is what stands for good, too",
    ),
    ({"resources": {"scorer": {"replicas": 1}}}, "scorer exact has no model to place apart: leave it out"),
    ({"resources": {"scorer": {"gpus": 1}}}, "set resources.gpus, place it apart with resources.scorer.replicas, or"),
    ({"search": {**SEARCH["search"], "steps": {"tokens": 0}}}, "greater than or equal to 1"),
]


@pytest.mark.parametrize(("fields", "said"), BAD)
def test_what_cannot_be_searched_is_refused_in_a_line(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as refusal:
        config(tmp_path, {name: value for name, value in {**SEARCH, **fields}.items() if value is not None})
    assert all("\n" not in error["msg"] for error in refusal.value.errors())


def test_a_window_smaller_than_a_step_is_refused(tmp_path: Path) -> None:
    scorer = {"kind": "generative", "model": str(tmp_path), "good": "+", "bad": "-", "window": 8}
    with pytest.raises(ValidationError, match=r"scorer\.window: 8 tokens do not hold the question and a step of 8"):
        config(tmp_path, {**SEARCH, "search": {"scorer": scorer, "steps": {"tokens": 8}}})


@pytest.mark.parametrize(
    ("scorer", "field", "said"),
    [
        ({"kind": "generative", "good": "right", "bad": "-"}, "good", "'right' is 5 tokens of the scorer's tokenizer"),
        ({"kind": "generative", "good": "+", "bad": "-", "tag": "ки"}, "tag", "'ки' is 4 tokens"),
        ({"kind": "process", "tag": "<extra_0>"}, "tag", "'<extra_0>' is 9 tokens"),
    ],
)
def test_what_the_scorers_tokenizer_lacks_is_told_before_anything_starts(
    tmp_path: Path, scorer: dict[str, Any], field: str, said: str
) -> None:
    fields = {**scorer, "model": str(STORED / "model")}
    asked = config(tmp_path, {**SEARCH, "search": {"scorer": fields, "steps": {"tokens": 8}}})
    (problem,) = check(asked, {})
    assert problem.field == ("search", "scorer", field)
    assert said in problem.message
    assert "\n" not in problem.message
    with pytest.raises(StepError, match=f"search.scorer.{field}: "):
        prepare(asked, step(tmp_path))


@pytest.mark.parametrize(
    ("window", "tokens", "said"),
    [
        (None, 250, "256 tokens do not hold a question, which takes"),
        (60, 40, "60 tokens do not hold a question, which takes"),
        (9000, 8, "9000 is beyond the 256 positions of"),
    ],
)
def test_a_window_that_no_question_and_step_fit_is_told_before_anything_starts(
    tmp_path: Path, window: int | None, tokens: int, said: str
) -> None:
    scorer = {"kind": "generative", "good": "+", "bad": "-", "model": str(STORED / "model"), "window": window}
    asked = config(tmp_path, {**SEARCH, "search": {"scorer": scorer, "steps": {"tokens": tokens}}})
    (problem,) = check(asked, {})
    assert problem.field == ("search", "scorer", "window")
    assert problem.message.startswith(said)
    with pytest.raises(StepError, match=f"search.scorer.window: {said}"):
        prepare(asked, step(tmp_path))


def test_scorers_apart_are_among_what_the_sweep_needs_and_leave_replicas_their_cards(tmp_path: Path) -> None:
    scorer = {"kind": "generative", "good": "+", "bad": "-", "model": str(STORED / "model")}
    fields = {**SEARCH, "search": {"scorer": scorer, "steps": {"tokens": 8}}}
    on_cpus = config(tmp_path, {**fields, "resources": {"scorer": {"replicas": 2, "cpus": 3}}})
    assert on_cpus.demands() == [{"CPU": 3.0}, {"CPU": 3.0}, {"CPU": 1.0}]
    start = prepare(on_cpus, step(tmp_path)).replica.scorer
    assert isinstance(start, partial)
    assert (start.args[0].engine.cpus, start.args[0].engine.name) == (3, "transformers")

    cards = {"gpus": 2, "scorer": {"replicas": 2, "gpus": 1}, "replicas": {"max": 3}}
    apart, within = (
        config(tmp_path, {**fields, "resources": {**cards, "scorer": scorers}})
        for scorers in (cards["scorer"], {"gpus": 1})
    )
    assert apart.demands() == [{"CPU": 1.0, "GPU": 1.0}] * 2 + [{"CPU": 1.0, "GPU": 2.0}]
    assert within.demands() == [{"CPU": 1.0, "GPU": 3.0}]
    assert apart.holds_at_most() == 2 + 3 * 2
    assert memory_beside(apart) is None
    start = prepare(apart, step(tmp_path, "cards")).replica.scorer
    assert isinstance(start, partial)
    engine = start.args[0].engine
    assert (engine.name, engine.gpus, engine.first_gpu, engine.memory) == ("vllm", 1, 0, None)


def test_a_question_that_fills_the_window_is_refused_by_name(tmp_path: Path) -> None:
    scorer = {"kind": "generative", "good": "+", "bad": "-", "model": str(STORED / "model"), "window": 80}
    asked = config(tmp_path, {**SEARCH, "search": {"scorer": scorer, "steps": {"tokens": 8}}})
    with pytest.raises(StepError, match="window: 80 tokens do not hold the question q3 of sums, which takes 180"):
        prepare(asked, step(tmp_path))


def test_what_a_judge_decides_has_no_exact_score(tmp_path: Path) -> None:
    asked = config(tmp_path, SEARCH)
    fields = json.loads(asked.model_dump_json(exclude_unset=True))
    fields["tasks"][0]["type"] = "judged"
    fields["judge"] = {"model": str(tmp_path)}
    with pytest.raises(ValidationError, match="exact takes the verdict of rules, and task 'sums' is judged by a model"):
        EvaluateConfig.model_validate_json(json.dumps(fields))


def test_a_teacher_does_not_search(tmp_path: Path) -> None:
    asked = config(tmp_path, {**SEARCH, "rebase": {"widths": [4]}})
    fields = json.loads(asked.model_dump_json(exclude_unset=True))
    fields["questions"] = fields.pop("tasks")
    del fields["budgets"]
    with pytest.raises(ValidationError, match="search: a teacher thinks by itself: leave it out"):
        DistilConfig.model_validate_json(json.dumps(fields))


def test_steps_at_a_header_need_a_template_with_one(tmp_path: Path) -> None:
    asked = config(tmp_path, {**SEARCH, "search": {"scorer": {"kind": "exact"}, "steps": {"at": "header"}}})
    with pytest.raises(StepError, match=r"search\.steps\.at: header is what the template has as step, and it has none"):
        prepare(asked, step(tmp_path))
    fields = {**SEARCH, "template": {"name": "think", "step": HEADER}}
    fields["search"] = {"scorer": {"kind": "exact"}, "steps": {"at": "header", "tokens": 8, "most": 4}}
    with_header = config(tmp_path, fields)
    kept = decoded(with_header, step(tmp_path, "with"), ScriptedScorer())
    header = tiny.tokenizer().convert_tokens_to_ids(HEADER)
    steps = [each.tokens for each in kept if each.key.kind == "thinking" and each.key.path]
    assert any(tokens[-1:] == (header,) and len(tokens) > 1 for tokens in steps)
    assert not any(header in tokens[1:-1] for tokens in steps), "a header ends the step that it is found in"


@pytest.mark.seconds
def test_the_report_draws_each_search_with_scores_and_what_became_of_its_steps(tmp_path: Path) -> None:
    asked, context = config(tmp_path, {**SEARCH, "scored": {"samples": 3, "tokens": 64}}), step(tmp_path)
    kept = decoded(asked, context)
    samples = finished(asked, context)
    trees, scores = Trees(prepare(asked, context)), [each for each in kept if each.key.kind == "score"]
    scored = {(each.item, each.sample, each.key.branch): as_score(each.start) for each in scores}
    elected = traced = 0
    units = dict.fromkeys(zip(samples["item"], samples["sample"].tolist(), strict=True))
    for item, sample in units:
        rows = samples[(samples["item"] == item) & (samples["sample"] == sample)]
        record = trees.read("sums", item, sample, rows.to_dict("records"))
        traced += bool(record["branches"])
        for search in record.get("searches", ()):
            row = record["rows"][search["row"]]
            steps = range(search["first"], search["first"] + search["steps"])
            branches = [record["branches"][number] for number in steps]
            answers = [answer for answer in record["answers"] if answer["branch"] in steps]
            assert {branch["search"] for branch in branches} == {search["row"]}
            assert {answer["policies"][0] for answer in answers} <= {search["row"]}
            assert {branch["score"] for branch in branches} <= set(scored.values())
            assert sum(branch["tokens"] for branch in branches) == row["thinking_tokens"]
            for number, branch in zip(steps, branches, strict=True):
                below = [other for other in branches if other["parent"] == number]
                assert branch["children"] == len(below)
                assert all(other["start"] == branch["start"] + branch["tokens"] for other in below)
                here = [answer for answer in answers if answer["branch"] == number]
                assert [answer["at"] for answer in here] == branch["cuts"]
            if row["policy"].startswith("REBASE"):
                assert sum(branch["parent"] is None for branch in branches) == int(row["policy"].split()[1])
                assert sum(answer["elected"] for answer in answers) == bool(answers)
                elected += bool(answers)
            else:
                assert len(branches) == len(answers) == 1
    assert elected
    pages = report.collect([FinishedSweep(FinishedStep(asked, context, 1.0, {}))], ReportRequest("r", tmp_path, "r"))
    assert pages[0].traced == traced


@pytest.mark.seconds
def test_a_sample_whose_search_is_not_known_any_more_is_drawn_but_for_it(tmp_path: Path) -> None:
    asked, context = config(tmp_path, SEARCH), step(tmp_path)
    decoded(asked, context)
    samples, sweep = finished(asked, context), prepare(asked, context)
    rows = samples[(samples["item"] == "q0") & (samples["sample"] == 0)].to_dict("records")
    trees = tuple(replace(tree, scorer="another") if isinstance(tree, Forest) else tree for tree in sweep.replica.trees)
    record = Trees(replace(sweep, replica=replace(sweep.replica, trees=trees))).read("sums", "q0", 0, rows)
    assert record["branches"]
    assert record["answers"]
    assert "searches" not in record
    assert "are not in the store as this version would do them" in record["note"]
