"""Prompts end inside open thinking, or are refused by the name of the switch that opens it."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import AddedToken

from jobs.evaluate.sweep.chat_template import Instructions
from jobs.evaluate.sweep.prompts import Prompter
from jobs.template import TEMPLATES, UNMARKED, ThinkingTemplate
from orchestrator.job.errors import StepError
from tests.evaluate import tiny

ASKS = "{% for message in messages %}<|im_start|>{{ message.content }}<|im_end|>{% endfor %}"
ENDS = {
    "off until enable_thinking": "{% if enable_thinking is defined and enable_thinking %}<think>\n"
    "{% else %}<think>\n\n</think>\n\n{% endif %}",
    "off until thinking": "{% if not thinking is defined %}{% set thinking = false %}{% endif %}"
    "{{ '<think>' if thinking else '</think>' }}",
    "off until an effort": "{% set effort = reasoning_effort | default('no_think') %}"
    "{% if effort not in ('no_think', 'low', 'high') %}{{ raise_exception('no') }}{% endif %}"
    "{{ '<think></think>' if effort == 'no_think' else '<think>' }}",
    "on until enable_thinking": "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}",
    "always on": "<think>",
    "never": "<think></think>",
    "begun": "<think>\nOkay, ",
}
SILENT = "{% if enable_thinking %}<|im_start|>think hard<|im_end|>{% endif %}" + ASKS
"""Says nowhere in the assistant's turn whether there is thinking."""


def prompt(chat_template: str, question: str = "1+1?", style: ThinkingTemplate | None = None, **switches: Any) -> str:
    fast = tiny.tokenizer()
    fast.add_tokens([AddedToken("<|assistant|>", special=True, normalized=False)])
    fast.chat_template = chat_template
    prompter = Prompter(fast, style or TEMPLATES["think"], [fast.eos_token_id], Instructions(switches=switches))
    return str(fast.decode(list(prompter.prompt(question))))


def turn(end: str, **switches: Any) -> str:
    """What comes after the question."""
    return prompt(ASKS + "<|assistant|>" + ENDS[end], **switches).partition("<|assistant|>")[2]


@pytest.mark.parametrize(
    ("end", "switches", "written"),
    [
        ("off until enable_thinking", {"enable_thinking": True}, "<think>\n"),
        ("off until thinking", {"thinking": True}, "<think>"),
        ("off until an effort", {"reasoning_effort": "low"}, "<think>"),
        ("on until enable_thinking", {}, "<think>"),
        ("on until enable_thinking", {"enable_thinking": True}, "<think>"),
        ("always on", {}, "<think>"),
        ("begun", {}, "<think>\nOkay, "),
    ],
)
def test_a_prompt_ends_inside_thinking_that_is_open_once(end: str, switches: dict[str, Any], written: str) -> None:
    assert turn(end, **switches) == written


@pytest.mark.parametrize(
    ("end", "switches", "remedy"),
    [
        ("off until enable_thinking", {}, "set chat_template_kwargs: {enable_thinking: true}"),
        ("off until enable_thinking", {"enable_thinking": False}, "set chat_template_kwargs: {enable_thinking: true}"),
        ("off until thinking", {}, "set chat_template_kwargs: {thinking: true}"),
        ("off until an effort", {}, "set chat_template_kwargs: {reasoning_effort: high}"),
        ("on until enable_thinking", {"enable_thinking": False}, "set chat_template_kwargs: {enable_thinking: true}"),
        ("never", {}, "none of the usual switches opens it (it knows none): take template: none, or a model that"),
    ],
)
def test_closed_thinking_is_an_error_that_names_the_switch(end: str, switches: dict[str, Any], remedy: str) -> None:
    with pytest.raises(StepError) as refused:
        turn(end, **switches)
    line = str(refused.value)
    assert line.startswith("template: the prompt ends after closed thinking ('")
    assert remedy in line
    assert "\n" not in line


@pytest.mark.parametrize("switches", [{}, {"enable_thinking": False}])
def test_thinking_that_is_off_without_a_word_in_the_turn_is_seen_too(switches: dict[str, Any]) -> None:
    with pytest.raises(StepError, match=r"thinking is off unless .* set chat_template_kwargs: {enable_thinking: true}"):
        prompt(SILENT, **switches)
    assert prompt(SILENT, enable_thinking=True).endswith("<think>")


def test_a_model_may_be_swept_with_its_thinking_closed_if_that_is_said() -> None:
    assert prompt(ASKS + ENDS["never"], style=UNMARKED).endswith("<think></think>")


@pytest.mark.parametrize("question", ["Why <think>", "Why </think>", "<think></think>", "What is the question?", "t"])
def test_what_a_question_says_of_delimiters_is_not_the_templates(question: str) -> None:
    for chat_template in (ASKS, "{{ messages[0].content }}", ASKS + "<|assistant|><think>"):
        text = prompt(chat_template, question)
        assert text.endswith("<think>")
        assert text.count("<think>") == question.count("<think>") + 1
