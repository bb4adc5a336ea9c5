"""Efforts, bans, stop strings and closings on open weights: from the chat template to the ledger."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jobs.evaluate import run
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.decode.walker import Walker
from jobs.evaluate.grading.session import grading
from jobs.evaluate.samples import write_samples
from jobs.evaluate.stopping.replay import files
from jobs.evaluate.sweep.policy import Root
from jobs.evaluate.sweep.prompts import Prompter
from jobs.evaluate.traces.files import Index, write
from jobs.evaluate.traces.segments import Segment
from jobs.template import TEMPLATES
from orchestrator.job.errors import StepError
from tests.evaluate import tiny
from tests.evaluate.sweep.stored import HEADER, STORED, Scripted, config, context

SAID = "{{ '<|im_start|>system\n' + (%s) + '<|im_end|>' }}"
EFFORT = (
    "{% if reasoning_effort is defined and reasoning_effort in ['xhigh', 'max'] %}"
    "{{ raise_exception('low, medium or high') }}{% endif %}" + SAID % "reasoning_effort | default('medium')"
)
SWITCH = "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"


def prompter(before: str = "", after: str = "") -> Prompter:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = before + tiny.TEMPLATE + after
    return Prompter(tokenizer, TEMPLATES["think"], [tokenizer.eos_token_id])


def text(made: Prompter, effort: str | None) -> str:
    return made.text(made.prompt("1+1?", Root(effort=effort)))


def test_the_template_says_the_effort_and_the_prompt_ends_inside_open_thinking() -> None:
    made = prompter(EFFORT, SWITCH)
    assert text(made, "low").startswith("<|im_start|>system\nlow<|im_end|>")
    assert text(made, "low").endswith("assistant\n<think>")
    assert text(made, "medium") == text(made, None)


def test_no_effort_switches_thinking_off() -> None:
    assert text(prompter(EFFORT, SWITCH), "none").endswith("assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("template", "effort", "said"),
    [
        (
            ("", SWITCH),
            "low",
            "which the model's chat template does not have .it knows enable_thinking",
        ),
        ((EFFORT, ""), "max", "efforts: max: .*low, medium or high"),
        (("{% if reasoning_effort %}{% endif %}", ""), "low", "writes the same at low as at any other"),
        ((EFFORT, ""), "none", "turns thinking off .it knows reasoning_effort"),
    ],
)
def test_an_effort_that_the_template_lacks_refuses_or_ignores_is_one_line(
    template: tuple[str, str], effort: str, said: str
) -> None:
    with pytest.raises(StepError, match=said) as error:
        text(prompter(*template), effort)
    assert "\n" not in str(error.value)


def sweep_of(folder: Path, **fields: Any) -> tuple[EvaluateConfig, run.Sweep]:
    """A sweep with a model whose chat template has both switches."""
    model = folder / "model"
    if not model.exists():
        shutil.copytree(STORED / "model", model)
        (model / "chat_template.jinja").write_text(EFFORT + tiny.TEMPLATE + SWITCH)
    common = {"model": str(model), "budgets": [6, "auto"], "max_answer_tokens": 6, "context_length": 160}
    asked = config(folder, common | fields)
    return asked, run.prepare(asked, context(folder / str(len(list(folder.iterdir()))), folder / "traces"))


def test_an_effort_taken_unasked_shares_the_traces_of_policies_without(tmp_path: Path) -> None:
    _, sweep = sweep_of(tmp_path, efforts=["medium", "high"])
    assert len(sweep.replica.trees) == 2
    names = [[policy.name for policy in question.policies] for question in sweep.questions[:2]]
    assert names[0] == ["6", "auto", "6 (effort medium)", "auto (effort medium)"]
    assert names[1] == ["6 (effort high)", "auto (effort high)"]


def test_every_axis_is_decoded_and_accounted_for(tmp_path: Path) -> None:
    asked, sweep = sweep_of(
        tmp_path, efforts=["none", "low"], ban=["0", "1b"], stop_strings=["a", "2\n"], closings=["Time.{close}So: ", ""]
    )
    engine = Scripted(tiny.tokenizer().convert_tokens_to_ids(HEADER))
    kept: list[Segment] = []
    for work in run.missing(sweep, Index(sweep.folder, report=print)):
        tree = sweep.replica.trees[work.unit.tree]
        walker = Walker(engine, tree, sweep.replica.forcing, sweep.replica.sampling, 0, kept.append)
        asyncio.run(walker.walk(work.unit, work.trace(sweep.replica.forcing)))
    write(sweep.folder, kept)
    index = Index(sweep.folder, report=print)
    assert not run.missing(sweep, index)
    samples = tmp_path / "samples.parquet"
    with grading(asked, context(tmp_path / "graded", tmp_path / "traces"), tmp_path) as grader:
        write_samples(files(asked, samples), sweep.questions, sweep.replica.trees, sweep.prompter, index, grader)
    rows = pd.read_parquet(samples)
    rows = rows[rows["item"] == "q0"].set_index("policy")
    assert set(rows.index) == {policy.name for policy in asked.policies}
    assert rows.loc["reasoning effort none", "thinking_tokens"] == 0
    assert rows.loc["reasoning effort none", "thinking_end"] == "natural"
    assert rows.loc['6 (closed by "Time.{close}So: ")', "answer"].startswith("So: ")
    assert not rows.loc['6 (closed by "")', "answer"].startswith("\nFinal")
    assert rows.loc["6", "answer"].startswith("\nFinal Answer:")
    pieces = sweep.replica.forcing.pieces
    banned = {unit.item for unit in sweep.units if unit.banned}
    thought: dict[str, list[int]] = {}
    for segment in kept:
        if segment.key == ((), "thinking", 0):
            thought.setdefault(segment.item, []).extend(segment.tokens)
    texts = {item: b"".join(pieces[token] for token in tokens) for item, tokens in thought.items()}
    assert not any(string in texts.get(item, b"") for item in banned for string in (b"0", b"1b"))
    assert any(b"1b" in said for item, said in texts.items() if item not in banned)
    stopped = rows[rows.index.str.startswith("stop strings") & ~rows.index.str.contains("closed")]
    assert "forced" in set(stopped["thinking_end"])
