from __future__ import annotations

from dataclasses import replace

import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.closings import ClosedBy
from jobs.evaluate.sweep.policies.extensions import grid
from jobs.evaluate.sweep.policy import FINAL_ANSWER, Root, Wish
from jobs.evaluate.sweep.prompts import Forcing, Prompter, room, unit_key
from jobs.template import TEMPLATES, ThinkingTemplate
from orchestrator.job.errors import StepError
from tests.evaluate import tiny

TOKENIZER = tiny.tokenizer()
EOS = TOKENIZER.eos_token_id


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    return Prompter(TOKENIZER, TEMPLATES["think"], [EOS])


@pytest.fixture(scope="module")
def forcing(prompter: Prompter) -> Forcing:
    return prompter.forcing(grid([None], ["Wait", "", "Hmm\n"], [1]))


def text(tokens: tuple[int, ...]) -> str:
    return TOKENIZER.decode(list(tokens))


def test_the_prompt_ends_with_the_delimiter_that_opens_thinking(prompter: Prompter) -> None:
    assert text(prompter.prompt("1+1?")) == "<|im_start|>user\n1+1?<|im_end|><|im_start|>assistant\n<think>"


def test_a_wish_ends_the_question(prompter: Prompter) -> None:
    expected = "<|im_start|>user\n1+1?\n\nThink for up to 16 tokens.<|im_end|><|im_start|>assistant\n<think>"
    assert text(prompter.prompt("1+1?", Root(Wish("token", 16).sentence))) == expected


def test_thinking_stops_at_the_close_delimiter_and_at_the_end_of_turn(forcing: Forcing) -> None:
    assert text(forcing.thinking_stops) == "</think><|im_end|>"


def test_a_natural_end_is_closed_and_no_more(forcing: Forcing) -> None:
    assert text(forcing.closing(None, 65)) == "</think>"


@pytest.mark.parametrize(("last", "closing"), [("a", "\n</think>\nFinal Answer:"), ("\n", "</think>\nFinal Answer:")])
def test_a_forced_end_starts_on_a_line_of_its_own(forcing: Forcing, last: str, closing: str) -> None:
    token = TOKENIZER.encode(last)[0]
    assert text(forcing.closing(FINAL_ANSWER, token)) == closing
    assert len(forcing.closing(FINAL_ANSWER, token)) <= forcing.reserve


@pytest.mark.parametrize(
    ("closing", "appended"),
    [
        ("", "</think>"),
        ("So:", "\n</think>\nSo:"),
        ("Time is up.\n{close}\n", "\nTime is up.\n</think>\n"),
        ("{close} ", "\n</think> "),
    ],
)
def test_another_closing_stands_around_the_delimiter(prompter: Prompter, closing: str, appended: str) -> None:
    assert text(prompter.forcing([ClosedBy(Budget(4), closing)]).closing(closing, 65)) == appended


def test_strings_are_tokenised_alone(forcing: Forcing) -> None:
    assert {string: text(tokens) for string, tokens in forcing.injected.items()} == {
        s: s for s in ("Wait", "", "Hmm\n")
    }


def test_what_is_left_is_the_context_without_prompt_delimiters_and_answer(forcing: Forcing) -> None:
    left = room(range(30), 256, forcing, 32)
    assert left == (256 - 30 - forcing.reserve - 32, 32)


def test_the_answer_of_a_forced_end_includes_what_was_forced(prompter: Prompter) -> None:
    tokens = TOKENIZER.encode(" 3<|im_end|>")
    assert prompter.answer(FINAL_ANSWER, tokens) == "\nFinal Answer: 3"
    assert prompter.answer(None, tokens) == " 3"


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


QWEN3 = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{% endif %}"
)
QWQ = QWEN3.partition("{% if enable")[0] + "<think>\n{% endif %}"
DEEPSEEK_R1 = (
    "<s>{% for message in messages %}"
    "{% if message.role == 'user' %}<|User|>{{ message.content }}"
    "{% else %}<|Assistant|>{{ message.content.split('</think>')[-1] }}</s>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}"
)
OLD_DEEPSEEK_R1 = DEEPSEEK_R1.replace("<think>\\n", "")
"""The real models' chat templates in miniature."""


def styled(chat_template: str, *tokens: str) -> PreTrainedTokenizerFast:
    fast = tiny.tokenizer()
    fast.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    fast.chat_template = chat_template
    return fast


@pytest.mark.parametrize(
    ("name", "chat_template", "prompt"),
    [
        ("s1", tiny.TEMPLATE, "<|im_start|>user\n1+1?<|im_end|><|im_start|>assistant\n<|im_start|>think"),
        ("think", tiny.TEMPLATE, "<|im_start|>user\n1+1?<|im_end|><|im_start|>assistant\n<think>"),
        ("think", QWQ, "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n<think>\n"),
        ("qwen3", QWEN3, "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n<think>\n"),
        ("qwen3", QWQ, "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n<think>\n"),
        (
            "qwen3",
            QWQ.replace("<think>\n", "<think>"),
            "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n<think>\n",
        ),
        ("deepseek-r1", DEEPSEEK_R1, "<s><|User|>1+1?<|Assistant|><think>\n"),
        ("deepseek-r1", OLD_DEEPSEEK_R1, "<s><|User|>1+1?<|Assistant|><think>\n"),
    ],
)
def test_thinking_is_opened_once_by_whoever_opens_it(name: str, chat_template: str, prompt: str) -> None:
    fast = styled(chat_template, "<s>", "</s>", "<|User|>", "<|Assistant|>")
    prompter = Prompter(fast, TEMPLATES[name], [EOS])
    assert fast.decode(list(prompter.prompt("1+1?"))) == prompt


def test_a_question_about_the_delimiter_does_not_count_as_opening_it() -> None:
    prompter = Prompter(styled(QWEN3), TEMPLATES["qwen3"], [EOS])
    assert text(prompter.prompt("What is <think>\n")).count("<think>") == 2


def test_s1_closes_with_two_tokens_and_stops_at_the_first(prompter: Prompter) -> None:
    forcing = Prompter(TOKENIZER, TEMPLATES["s1"], [EOS]).forcing([])
    assert text(forcing.thinking_stops) == "<|im_start|><|im_end|>"
    assert text(forcing.closing(None, 65)) == "<|im_start|>answer"
    assert text(forcing.closing(FINAL_ANSWER, 65)) == "\n<|im_start|>answer\nFinal Answer:"


@pytest.mark.parametrize(
    ("chat_template", "tokens", "expected"),
    [
        (tiny.TEMPLATE, ("<think>", "</think>"), ("<think>", "</think>")),
        (QWEN3, ("<think>", "</think>"), ("<think>\n", "</think>")),
        (QWQ, ("<think>", "</think>"), ("<think>\n", "</think>")),
        (DEEPSEEK_R1, ("<think>", "</think>"), ("<think>\n", "</think>")),
        ("{{ messages[0].content }}[THINK]", ("[THINK]", "[/THINK]"), ("[THINK]", "[/THINK]")),
    ],
)
def test_delimiters_are_read_from_the_tokenizer(
    chat_template: str, tokens: tuple[str, ...], expected: tuple[str, str]
) -> None:
    fast = tiny.tokenizer(["<|im_end|>", "<|pad|>", *tokens])
    fast.chat_template = chat_template
    template = Prompter(fast, None, [EOS]).template
    assert (template.open, template.close) == expected


def test_a_step_needs_a_header_that_is_told_from_thinking_and_from_its_end() -> None:
    def prompter(step: str) -> Prompter:
        return Prompter(TOKENIZER, replace(TEMPLATES["s1"], step=step), [EOS])

    assert text(prompter("<think>step").forcing([]).step) == "<think>step"
    assert Prompter(TOKENIZER, TEMPLATES["s1"], [EOS]).forcing([]).step == ()
    for step in ("<|im_start|>2 steps left", "<|im_end|>"):
        with pytest.raises(StepError, match="begins with a token that ends thinking"):
            prompter(step)
    with pytest.raises(StepError, match=r"the step delimiter 'Step', .* has no token"):
        prompter("Step")


def test_auto_refuses_a_tokenizer_without_delimiters() -> None:
    plain = tiny.tokenizer(["<|im_start|>", "<|im_end|>", "<|pad|>"])
    with pytest.raises(StepError, match="template: auto finds no delimiters"):
        Prompter(plain, None, [EOS])


def test_thinking_opened_again_is_seen_whatever_follows_the_delimiter() -> None:
    prompter = Prompter(TOKENIZER, TEMPLATES["qwen3"], [EOS])
    assert prompter.reopens(TOKENIZER.encode("hm<think>so"))


def test_a_tokenizer_without_a_chat_template_is_refused() -> None:
    bare = tiny.tokenizer()
    bare.chat_template = None
    with pytest.raises(StepError, match="no chat template"):
        Prompter(bare, TEMPLATES["think"], [EOS])


@pytest.mark.parametrize(
    ("written", "natural", "forced"),
    [
        (" 16", " 16", "\nFinal Answer: 16"),
        (" 3</think> 16", " 16", " 16"),
        (" 3<think>no, 4</think> 16", " 16", " 16"),
        (" 3</think> 4</think>", "", ""),
        (" 16<think>or is it", "", ""),
        (" 3</think> 16<think>", "", ""),
        ("", "", "\nFinal Answer:"),
    ],
)
def test_only_what_follows_the_last_close_delimiter_is_an_answer(
    prompter: Prompter, written: str, natural: str, forced: str
) -> None:
    tokens = TOKENIZER.encode(written)
    assert prompter.answer(None, tokens) == natural
    assert prompter.answer(FINAL_ANSWER, tokens) == forced
    assert prompter.reopens(tokens) == ("<think>" in written)
