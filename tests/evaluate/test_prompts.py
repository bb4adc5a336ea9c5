from __future__ import annotations

import pytest
import tiny

from jobs.evaluate.prompts import Forcing, Prompter, room, unit_key
from jobs.template import TEMPLATES, ThinkingTemplate
from orchestrator.step import StepError

TOKENIZER = tiny.tokenizer()
EOS = TOKENIZER.eos_token_id


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    return Prompter(TOKENIZER, TEMPLATES["think"], [EOS])


@pytest.fixture(scope="module")
def forcing(prompter: Prompter) -> Forcing:
    return prompter.forcing(["Wait", "", "Hmm\n"])


def text(tokens: tuple[int, ...]) -> str:
    return TOKENIZER.decode(list(tokens))


def test_the_prompt_ends_with_the_delimiter_that_opens_thinking(prompter: Prompter) -> None:
    assert text(prompter.prompt("1+1?")) == "<|im_start|>user\n1+1?<|im_end|><|im_start|>assistant\n<think>"


def test_thinking_stops_at_the_close_delimiter_and_at_the_end_of_turn(forcing: Forcing) -> None:
    assert text(forcing.thinking_stops) == "</think><|im_end|>"


def test_a_natural_end_is_closed_and_no_more(forcing: Forcing) -> None:
    assert text(forcing.closing("natural", 65)) == "</think>"


@pytest.mark.parametrize(("last", "closing"), [("a", "\n</think>\nFinal Answer:"), ("\n", "</think>\nFinal Answer:")])
def test_a_forced_end_starts_on_a_line_of_its_own(forcing: Forcing, last: str, closing: str) -> None:
    token = TOKENIZER.encode(last)[0]
    assert text(forcing.closing("forced", token)) == closing
    assert len(forcing.closing("forced", token)) <= forcing.reserve


def test_strings_are_tokenised_alone(forcing: Forcing) -> None:
    assert {string: text(tokens) for string, tokens in forcing.injected.items()} == {
        s: s for s in ("Wait", "", "Hmm\n")
    }


def test_what_is_left_is_the_context_without_prompt_delimiters_and_answer(forcing: Forcing) -> None:
    left = room(range(30), 256, forcing, 32)
    assert left == (256 - 30 - forcing.reserve - 32, 32)


def test_the_answer_of_a_forced_end_includes_what_was_forced(prompter: Prompter) -> None:
    tokens = TOKENIZER.encode(" 3<|im_end|>")
    assert prompter.answer("forced", tokens) == "\nFinal Answer: 3"
    assert prompter.answer("natural", tokens) == " 3"


def test_thinking_opened_again_in_an_answer_is_seen(prompter: Prompter) -> None:
    assert prompter.reopens(TOKENIZER.encode("hm<think>so"))
    assert not prompter.reopens(TOKENIZER.encode("hm"))
    assert not prompter.reopens([])


def test_units_of_one_name_with_other_prompts_are_others() -> None:
    assert unit_key("1", (1, 2)) == unit_key("1", [1, 2])
    assert len({unit_key("1", (1, 2)), unit_key("1", (1, 3)), unit_key("2", (1, 2))}) == 3


@pytest.mark.parametrize("template", [TEMPLATES["think"], ThinkingTemplate("plain", "<a>", "</think>")])
def test_delimiters_without_a_token_are_refused(template: ThinkingTemplate) -> None:
    bare = tiny.tokenizer()
    if template.name == "think":
        template = ThinkingTemplate("think", "<think>", "</thought>")
    with pytest.raises(StepError, match=r"template: .* delimiter .* has no token"):
        Prompter(bare, template, [EOS])


def test_a_tokenizer_without_a_chat_template_is_refused() -> None:
    bare = tiny.tokenizer()
    bare.chat_template = None
    with pytest.raises(StepError, match="no chat template"):
        Prompter(bare, TEMPLATES["think"], [EOS])
