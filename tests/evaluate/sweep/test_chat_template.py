"""What reaches a chat template: the system prompt, its switches, and a day that is not the clock's."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.run import missing, prepare
from jobs.evaluate.sweep.chat_template import DATE, Instructions, known_switches, render
from jobs.evaluate.sweep.prompts import Prompter
from jobs.evaluate.traces.files import Index
from jobs.template import TEMPLATES
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from tests.evaluate import spoken, tiny
from tests.evaluate.families import FAMILIES

SWITCHED = (
    "{%- set effort = reasoning_effort | default('medium') -%}"
    "{%- if effort not in ['low', 'medium', 'high'] -%}{{ raise_exception('no such effort: ' + effort) }}{%- endif -%}"
    "{%- set ns = namespace(system='') -%}"
    "{%- if messages[0].role == 'system' -%}{%- set ns.system = messages[0].content -%}{%- endif -%}"
    "<|im_start|>system\nToday is {{ strftime_now('%Y-%m-%d') }}, {{ effort }}. {{ ns.system }}<|im_end|>"
    "{%- for message in messages -%}{%- if message.role == 'system' -%}{%- continue -%}{%- endif -%}"
    "<|im_start|>{{ message.role }}\n{% generation %}{{ message.content }}{% endgeneration %}<|im_end|>"
    "{%- endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}"
)
"""A template with what templates have: a date, an effort that it checks, a system prompt, loops that are left."""


def switched(chat_template: str = SWITCHED) -> PreTrainedTokenizerFast:
    fast = tiny.tokenizer()
    fast.chat_template = chat_template
    return fast


def prompt(said: Instructions, chat_template: str = SWITCHED) -> str:
    fast = switched(chat_template)
    prompter = Prompter(fast, TEMPLATES["think"], [fast.eos_token_id], said)
    return str(fast.decode(list(prompter.prompt("1+1?"))))


def on(monkeypatch: pytest.MonkeyPatch, day: date) -> None:
    """Has transformers' clock say `day`."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Clock:
            return cls(day.year, day.month, day.day)

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)


def test_the_system_prompt_and_the_switches_reach_the_template() -> None:
    text = prompt(Instructions("Be brief.", {"reasoning_effort": "high"}))
    assert text == (
        "<|im_start|>system\nToday is 2026-01-01, high. Be brief.<|im_end|>"
        "<|im_start|>user\n1+1?<|im_end|><|im_start|>assistant<think>"
    )


@pytest.mark.parametrize("day", [date(2026, 5, 1), date(2031, 12, 24)])
def test_the_date_is_the_sweeps_and_not_the_clocks(monkeypatch: pytest.MonkeyPatch, day: date) -> None:
    on(monkeypatch, day)
    assert f"Today is {DATE}" in prompt(Instructions())
    assert "Today is 2025-02-03" in prompt(Instructions(day=date(2025, 2, 3)))


def test_switches_are_what_the_template_reads_and_nobody_else_sets() -> None:
    assert known_switches(SWITCHED) == {"reasoning_effort"}
    assert known_switches(tiny.TEMPLATE) == set()
    fallback = "{% if not thinking is defined %}{% set thinking = false %}{% endif %}{{ bos_token }}{{ thinking }}"
    assert known_switches(fallback) == {"thinking"}
    assert known_switches("{% set thinking = thinking | default(true) %}{{ thinking }}") == {"thinking"}


@pytest.mark.parametrize(
    ("said", "chat_template", "line"),
    [
        (
            Instructions(switches={"reasoning_efort": "low"}),
            SWITCHED,
            "chat_template_kwargs.reasoning_efort: the model's chat template has no such switch, and knows "
            "reasoning_effort; did you mean 'reasoning_effort'?",
        ),
        (
            Instructions(switches={"enable_thinking": True}),
            tiny.TEMPLATE,
            "chat_template_kwargs.enable_thinking: the model's chat template has no such switch, and knows none",
        ),
        (
            Instructions(switches={"reasoning_effort": "max"}),
            SWITCHED,
            "chat_template_kwargs: the model's chat template refuses reasoning_effort: 'max': no such effort: max",
        ),
        (
            Instructions("Be brief."),
            "{% for message in messages if message.role == 'user' %}{{ message.content }}{% endfor %}",
            "system: the model's chat template leaves it out: put it into the question, or leave it out",
        ),
    ],
)
def test_what_the_template_cannot_take_is_one_line(said: Instructions, chat_template: str, line: str) -> None:
    with pytest.raises(StepError) as refused:
        prompt(said, chat_template)
    assert str(refused.value) == line


def test_a_template_that_stumbles_over_a_switch_is_one_line() -> None:
    with pytest.raises(StepError, match=r"refuses reasoning_effort: 3: .*str") as refused:
        render(switched(), Instructions().messages("?"), {"reasoning_effort": 3}, DATE)
    assert "\n" not in str(refused.value)


SWEEP = {"tasks": [{"name": "letters", "items": 3}], "max_answer_tokens": 4, "seed": 3}


def extended(folder: Path, name: str, budgets: list[int], **changes: Any) -> tuple[int, set[tuple[int, ...]]]:
    """Does a sweep of `budgets`; how many units it had to decode, and the prompts."""
    fields = SWEEP | {"model": str(folder / "model"), "budgets": budgets} | changes
    context = StepContext("experiment", name, name, folder / name, folder / "traces")
    sweep = prepare(EvaluateConfig.model_validate_json(json.dumps(fields)), context)
    lacking = len(missing(sweep, Index(sweep.folder, report=print)))
    spoken.finish(context, fields, ["abc"], ["4"])
    return lacking, {unit.prompt for unit in sweep.units}


@pytest.mark.seconds
def test_a_sweep_of_gpt_oss_extended_on_another_day_decodes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.save(tmp_path / "model", context_length=512)
    FAMILIES["gpt-oss"].tokenizer().save_pretrained(tmp_path / "model")
    harmony = {"template": "gpt-oss", "efforts": ["low", "high"]}
    on(monkeypatch, date(2026, 11, 27))
    first, prompts = extended(tmp_path, "first", [8, 16], **harmony)
    on(monkeypatch, date(2027, 1, 1))
    again, same = extended(tmp_path, "again", [8, 16, 32, 64], **harmony)
    assert (first, again) == (9, 0)
    assert prompts == same
    said = FAMILIES["gpt-oss"].tokenizer().decode(list(min(prompts)))
    assert "Current date: 2026-01-01\nReasoning: " in said


@pytest.mark.seconds
def test_a_dated_sweep_extended_on_another_day_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.save(tmp_path / "model", context_length=512)
    switched().save_pretrained(tmp_path / "model")
    on(monkeypatch, date(2026, 11, 27))
    first, prompts = extended(tmp_path, "first", [8, 16])
    on(monkeypatch, date(2026, 11, 28))
    again, same = extended(tmp_path, "again", [8, 16, 32, 64])
    assert (first, again) == (3, 0)
    assert prompts == same
    assert "2026-01-01" in str(tiny.tokenizer().decode(list(min(prompts))))
    other, others = extended(tmp_path, "other", [8, 16], date="2026-11-28")
    assert other == 3
    assert not others & prompts
