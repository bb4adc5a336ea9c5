from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from jobs.evaluate.sweep.prompts import Prompter
from jobs.finetune.data import TokenizedData, end_of_turn, tokenize
from jobs.finetune.samples import Sample
from jobs.finetune.tokenizer import byte_tokenizer
from jobs.template import TEMPLATES, marked_answer
from orchestrator.job.errors import StepError
from tests.finetune.qwen_like import SYSTEM, WORDS, qwen_tokenizer

SAMPLE = Sample("How many r in brr?", "b0r1r1\nWaitb0r1r2", "Final Answer: 2")
PROMPT = "<|im_start|>user\nHow many r in brr?<|im_end|>\n<|im_start|>assistant\n"

QWEN = qwen_tokenizer()


def ids_of(*parts: str) -> list[int]:
    """Worked out by hand: a special token or a word is one id, in other text the id of a byte is the byte."""
    ids: list[int] = []
    for part in parts:
        if part in WORDS:
            ids.append(256 + WORDS.index(part))
        elif part.startswith("<|"):
            ids.append(QWEN.convert_tokens_to_ids(part))
        else:
            ids += part.encode()
    return ids


def test_s1_s_text_is_the_paper_s_byte_for_byte() -> None:
    before, end = SYSTEM.removesuffix("assistant."), ("<|im_end|>", "\n")
    prompt = ids_of("<|im_start|>", "system", "\n", before, "assistant", ".", *end)
    prompt += ids_of("<|im_start|>", "user", "\n", "2+2?", *end, "<|im_start|>", "assistant", "\n")
    thinking = ids_of("<|im_start|>", "think", "\n", "2, 3, 4", "\n")
    answer = ids_of("<|im_start|>", "answer", "\n", "Answer: 4", *end)

    data = tokenize([Sample("2+2?", "2, 3, 4", "4")], QWEN, TEMPLATES["s1"], 32768)

    assert data.ids.tolist() == prompt + thinking + answer
    assert data.prompts.tolist() == [len(prompt)]
    assert data.learned([0]) == len(thinking + answer)


@given(st.text(min_size=1), st.text(), st.text())
@settings(max_examples=300, deadline=None)
def test_s1_s_ids_are_those_of_the_whole_chat_as_one_text(question: str, trace: str, answer: str) -> None:
    content = f"<|im_start|>think\n{trace.strip()}\n<|im_start|>answer\n{marked_answer(answer)}"
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": content}]
    whole = QWEN.encode(QWEN.apply_chat_template(turns, tokenize=False))
    data = tokenize([Sample(question, trace, answer)], QWEN, TEMPLATES["s1"], 100_000)
    assert data.ids.tolist() == whole


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("think", "<think>\nb0r1r1\nWaitb0r1r2\n</think>\nFinal Answer: 2<|im_end|>"),
        ("qwen3", "<think>\nb0r1r1\nWaitb0r1r2\n</think>\n\nFinal Answer: 2<|im_end|>"),
        ("s1", "<|im_start|>think\nb0r1r1\nWaitb0r1r2\n<|im_start|>answer\nFinal Answer: 2<|im_end|>\n"),
    ],
)
def test_the_prompt_is_read_and_all_the_assistant_says_is_learned(template: str, said: str) -> None:
    tokenizer = byte_tokenizer(512)
    data = tokenize([SAMPLE], tokenizer, TEMPLATES[template], 512)
    ids, prompt = data.sample(0)
    assert tokenizer.decode(ids[:prompt]) == PROMPT
    assert tokenizer.decode(ids[prompt:]) == said
    assert data.learned([0]) == len(ids) - prompt


@pytest.mark.parametrize(
    ("template", "written", "learned"),
    [
        ("think", "<think>\n", "b0r1r1\nWaitb0r1r2\n</think>\nFinal Answer: 2<|im_end|>"),
        ("think", "<think>", "\nb0r1r1\nWaitb0r1r2\n</think>\nFinal Answer: 2<|im_end|>"),
        ("deepseek-r1", "<think>\n", "b0r1r1\nWaitb0r1r2\n</think>\n\nFinal Answer: 2<|im_end|>"),
        ("deepseek-r1", "<think>", "\nb0r1r1\nWaitb0r1r2\n</think>\n\nFinal Answer: 2<|im_end|>"),
    ],
)
def test_a_chat_template_that_opens_thinking_has_it_read_once(template: str, written: str, learned: str) -> None:
    tokenizer = byte_tokenizer(512)
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant\n", f"assistant\n{written}")
    ids, prompt = tokenize([SAMPLE], tokenizer, TEMPLATES[template], 512).sample(0)
    assert tokenizer.decode(ids[:prompt]) == PROMPT + written
    assert tokenizer.decode(ids[prompt:]) == learned


@pytest.mark.parametrize("name", TEMPLATES)
def test_evaluation_asks_and_forces_in_the_tokens_that_were_trained(name: str) -> None:
    tokenizer, template = byte_tokenizer(512), TEMPLATES[name]
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in template.tokens])
    ids = tokenize([SAMPLE], tokenizer, template, 512).ids.tolist()
    prompter = Prompter(tokenizer, template, [tokenizer.eos_token_id])
    prompt = list(prompter.prompt(SAMPLE.question))
    assert ids[: len(prompt)] == prompt
    trace = tokenizer.encode(f"{template.after_open}{SAMPLE.trace}{template.before_close}")
    close = list(prompter.forcing([]).closing(None, trace[-1]))
    assert ids[len(prompt) :][: len(trace + close)] == trace + close


def test_a_turn_ends_as_the_chat_template_ends_it() -> None:
    tokenizer = qwen_tokenizer()
    tokenizer.eos_token = "<|endoftext|>"  # as in the tokenizers of base models
    ids = tokenize([SAMPLE], tokenizer, TEMPLATES["think"], 512).ids
    assert tokenizer.decode(ids[-1:]) == "<|im_end|>"
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    assert end_of_turn(tokenizer) == [tokenizer.eos_token_id]


def test_samples_stay_apart() -> None:
    other = Sample("How many b in brr?", "b1r1r1", "Final Answer: 1")
    tokenizer = byte_tokenizer(512)
    data = tokenize([SAMPLE, other, SAMPLE], tokenizer, TEMPLATES["think"], 512)
    assert (len(data), data.samples, data.packed) == (3, 3, False)
    assert data.sample(0)[0].tolist() == data.sample(2)[0].tolist()
    assert tokenizer.decode(data.sample(1)[0]).count("b1r1r1") == 1
    assert data.lengths([0, 1]).sum() + data.lengths([2])[0] == len(data.ids)


@pytest.mark.parametrize("template", ["think", "s1"])
def test_of_a_sample_the_answer_alone_may_be_learned(template: str) -> None:
    tokenizer = byte_tokenizer(512)
    whole = tokenize([SAMPLE], tokenizer, TEMPLATES[template], 512)
    verdict = tokenize([SAMPLE], tokenizer, TEMPLATES[template], 512, "answer")
    assert verdict.ids.tolist() == whole.ids.tolist(), "it is read all the same"
    ids, read = verdict.sample(0)
    assert tokenizer.decode(ids[read:]).startswith(f"\n{marked_answer(SAMPLE.answer)}<|im_end|>")
    assert verdict.learned([0]) == len(ids) - read < whole.learned([0])
    assert verdict.fingerprint != whole.fingerprint
    with pytest.raises(StepError, match=f"leave nothing to learn of a sample, whose prompt and trace have {read}: "):
        tokenize([SAMPLE], tokenizer, TEMPLATES[template], read, "answer")


@pytest.mark.parametrize(
    ("answer", "marked"),
    [
        ("2", "Answer: 2"),
        (" 2\n", "Answer:  2"),
        ("Final Answer: 2", "Final Answer: 2"),
        ("answer: 2", "Answer: answer: 2"),
    ],
)
def test_an_answer_is_marked_unless_it_already_is(answer: str, marked: str) -> None:
    assert marked_answer(answer) == marked


def test_a_long_sample_is_cut_at_the_block_size_and_what_is_lost_is_counted() -> None:
    tokenizer = byte_tokenizer(512)
    whole = tokenize([SAMPLE], tokenizer, TEMPLATES["think"], 512)
    data = tokenize([SAMPLE, Sample("?", "b", "1")], tokenizer, TEMPLATES["think"], 50)
    assert data.ids[:50].tolist() == whole.ids[:50].tolist()
    assert data.lengths([0]) == [50]
    assert data.cut.tolist() == [len(whole.ids) - 50, 0]


def test_a_prompt_that_fills_the_block_is_an_error_that_names_the_row_and_both_lengths() -> None:
    sample = Sample("How many r in brr?", "b0", "2", where="traces.jsonl:7")
    with pytest.raises(
        StepError, match=r"block_size: 20 tokens leave nothing to learn of traces\.jsonl:7, whose prompt has 26"
    ):
        tokenize([sample], byte_tokenizer(512), TEMPLATES["think"], 20)


def test_a_tokenizer_without_chat_template_or_end_of_turn_is_an_error() -> None:
    tokenizer = byte_tokenizer(512)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.eos_token = None
    with pytest.raises(StepError, match="no end-of-turn token"):
        tokenize([SAMPLE], tokenizer, TEMPLATES["think"], 512)
    tokenizer.chat_template = None
    with pytest.raises(StepError, match="no chat template"):
        tokenize([SAMPLE], tokenizer, TEMPLATES["think"], 512)


def test_saved_data_comes_back_and_is_known_by_its_tokens(tmp_path: Path) -> None:
    tokenizer: PreTrainedTokenizerBase = byte_tokenizer(512)
    data = tokenize([SAMPLE] * 3, tokenizer, TEMPLATES["think"], 40)
    data.save(tmp_path)
    loaded = TokenizedData.load(tmp_path)
    for name in ("ids", "starts", "prompts", "cut", "numbers", "rows"):
        assert np.array_equal(getattr(loaded, name), getattr(data, name))
    assert loaded.fingerprint == data.fingerprint
    assert tokenize([SAMPLE] * 3, tokenizer, TEMPLATES["s1"], 40).fingerprint != data.fingerprint
