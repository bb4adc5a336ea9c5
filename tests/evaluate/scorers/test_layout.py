from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from jobs.evaluate.engines.protocol import EngineError
from jobs.evaluate.scorers.layout import ChatLayout, TaggedLayout, ThinkingLayout, fitting, single
from jobs.evaluate.scorers.pooling import last_tag, share_of_last
from jobs.evaluate.scorers.protocol import ScorerSpec, Standing, Writer
from jobs.evaluate.sweep.chat_template import Instructions
from jobs.finetune.data import tokenize
from jobs.finetune.samples import Sample
from jobs.template import TEMPLATES
from orchestrator.job.errors import StepError
from tests.evaluate import tiny

TAGGED = [*tiny.SPECIAL, "<extra_0>"]


ARGUMENTS: dict[Any, tuple[str, ...]] = {
    ThinkingLayout: ("+", "-"),
    TaggedLayout: ("+", "-", "<extra_0>"),
    ChatLayout: ("<extra_0>",),
}
"""What each takes besides a tokenizer and a window."""


def writer(special: list[str] = TAGGED) -> Writer:
    tokenizer = tiny.tokenizer(special)
    return Writer(tokenizer, TEMPLATES["think"], (tokenizer.eos_token_id,), Instructions())


def text(ids: tuple[int, ...]) -> str:
    said: Any = tiny.tokenizer(TAGGED).decode(list(ids))
    return str(said)


def test_a_generative_scorer_reads_a_trace_as_its_own_thinking() -> None:
    written = ThinkingLayout(writer(), 400, "+", "-")
    prompt = text(written.prompt("How many?", ["\na1\n", "Waita1b2"]))
    assert prompt == (
        "<|im_start|>user\nHow many?<|im_end|><|im_start|>assistant\n<think>\na1\nWaita1b2\n</think>\nAnswer: "
    )
    assert text(written.prompt("How many?", ["\na1\n"])).endswith("<think>\na1\n</think>\nAnswer: "), "no line is added"


@pytest.mark.parametrize("template", ["think", "s1", "qwen3"])
@pytest.mark.parametrize("verdict", ["+", "-"])
def test_a_generative_scorer_is_asked_token_for_token_what_fine_tuning_teaches(template: str, verdict: str) -> None:
    """The rows of a labelled dataset, as a finetune step has them, are prompts with the verdict's token and an end."""
    reader = replace(writer(), template=TEMPLATES[template])
    row = Sample("How many?", "a1\nWaita1b2", verdict, "row 1")
    learned = tokenize([row], reader.tokenizer, reader.template, 400).ids.tolist()
    written = ThinkingLayout(reader, 400, "+", "-")
    steps = ["a1\n", "Waita1b2"] if template == "qwen3" else ["\na1\n", "Waita1b2"]
    prompt = list(written.prompt("How many?", steps))
    assert learned[: len(prompt)] == prompt
    assert learned[len(prompt)] == written.verdicts["+-".index(verdict)]


def test_a_tag_stands_after_every_step_and_is_last() -> None:
    written = TaggedLayout(writer(), 400, "+", "-", "<extra_0>")
    assert text(written.prompt("How many?", ["one\n\n", "two"])) == "How many? one <extra_0>\ntwo <extra_0>"


def test_a_process_reward_model_is_asked_by_its_chat_template() -> None:
    written = ChatLayout(writer(), 400, "<extra_0>")
    said = text(written.prompt("How many?", ["one\n", "two"]))
    assert said == "<|im_start|>user\nHow many?<|im_end|><|im_start|>assistant\none\n<extra_0>two<extra_0><|im_end|>"


@pytest.mark.parametrize("kind", [ThinkingLayout, TaggedLayout, ChatLayout])
def test_a_window_leaves_out_the_earliest_steps_and_never_the_question(kind: Any) -> None:
    arguments = ARGUMENTS[kind]
    steps = [f"step {number} {'x' * 20}\n" for number in range(10)]
    whole = kind(writer(), 10_000, *arguments)
    for window in (120, 150, 200):
        written = kind(writer(), window, *arguments)
        assert written.around("How many?") < window
        prompt = written.prompt("How many?", steps)
        assert len(prompt) <= window
        said = text(prompt)
        assert "How many?" in said
        assert steps[-1].strip() in said
        assert steps[0].strip() not in said
        kept = next(number for number in range(10) if f"step {number}" in said)
        assert prompt == whole.prompt("How many?", steps[kept:]), "it is as if the trace began there"
        assert len(whole.prompt("How many?", steps[kept - 1 :])) > window, "as much is kept as fits"


@pytest.mark.parametrize("kind", [ThinkingLayout, TaggedLayout, ChatLayout])
def test_a_step_longer_than_the_window_keeps_its_end(kind: Any) -> None:
    arguments = ARGUMENTS[kind]
    window = kind(writer(), 10_000, *arguments).around("How many?") + 40
    said = text(prompt := kind(writer(), window, *arguments).prompt("How many?", ["begin " + "y" * 200 + " end"]))
    assert len(prompt) <= window
    assert " end" in said
    assert "begin" not in said


def test_what_fits_is_tokens_of_one_text() -> None:
    def pairs(said: str) -> tuple[int, ...]:
        return tuple(range(-(-len(said) // 2)))

    assert fitting(["a", "b", "c", "d"], 1, pairs) == (0,)
    assert fitting(["aaaa"], 1, pairs) == (1,)


def test_a_tag_that_the_tokenizer_lacks_is_refused_in_a_line() -> None:
    with pytest.raises(
        StepError, match=r"search\.scorer\.tag: '<extra_0>' is 9 tokens of the scorer's tokenizer"
    ) as said:
        TaggedLayout(writer(tiny.SPECIAL), 400, "+", "-", "<extra_0>")
    assert "\n" not in str(said.value)
    with pytest.raises(StepError, match=r"search\.scorer\.tag"):
        ChatLayout(writer(tiny.SPECIAL), 400, "<extra_0>")
    with pytest.raises(StepError, match=r"search\.scorer\.good: 'good' is 4 tokens"):
        single(writer(), "good", "good")
    assert single(writer(), "+", "good") == tiny.tokenizer(TAGGED).encode("+")[0]


def test_a_chat_template_that_drops_the_tag_is_refused() -> None:
    quiet = writer()
    quiet.tokenizer.chat_template = "{% for message in messages %}{{ message['role'] }}{% endfor %}"
    with pytest.raises(StepError, match="the scorer's chat template leaves '<extra_0>' out of a reply"):
        ChatLayout(quiet, 400, "<extra_0>")


def test_no_tag_in_a_trace_is_an_error_and_never_an_empty_score() -> None:
    assert last_tag([[0.9, 0.1], [0.25, 0.75]]) == 0.75
    with pytest.raises(EngineError, match="the scorer found no tag in a trace"):
        last_tag([])


@pytest.mark.parametrize(
    ("logits", "score"),
    [([0.0], 0.5), ([math.log(3)], 0.75), ([-900.0], 0.0), ([0.0, math.log(4)], 0.8), ([800.0, 0.0], 0.0)],
)
def test_what_a_reward_model_says_of_a_reply_is_a_share(logits: list[float], score: float) -> None:
    assert share_of_last(logits) == pytest.approx(score, abs=1e-9)


def test_steps_become_text_even_where_a_character_lies_across_two() -> None:
    tokenizer = tiny.tokenizer()
    euro = tokenizer.encode("a€b", add_special_tokens=False)
    spec = ScorerSpec("generative", (), {}, writer(tiny.SPECIAL))
    standing = Standing("q", (tuple(euro[:2]), tuple(euro[2:])), None, None)
    assert spec.texts(standing) == ["a", "€b"]
