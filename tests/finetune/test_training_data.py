from __future__ import annotations

from pathlib import Path

import pytest

from jobs.finetune.data import Sample, completion, read_samples, tokenize
from jobs.finetune.tokenizer import byte_tokenizer
from jobs.template import TEMPLATES
from orchestrator.step import StepError

SAMPLE = Sample("How many r in brr?", "b0r1r1\nWaitb0r1r2", "Final Answer: 2")
PROMPT = "<|im_start|>user\nHow many r in brr?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("think", "<think>\nb0r1r1\nWaitb0r1r2\n</think>\nFinal Answer: 2<|im_end|>"),
        ("s1", "<|im_start|>think\nb0r1r1\nWaitb0r1r2\n<|im_start|>answer\nFinal Answer: 2<|im_end|>"),
    ],
)
def test_the_prompt_is_read_and_all_the_assistant_says_is_learned(template: str, said: str) -> None:
    tokenizer = byte_tokenizer(512)
    data = tokenize([SAMPLE], tokenizer, TEMPLATES[template], 512)
    ids, prompt = data.sample(0)
    assert tokenizer.decode(ids[:prompt]) == PROMPT
    assert tokenizer.decode(ids[prompt:]) == said
    assert data.learned([0]) == len(ids) - prompt


def test_a_forced_end_leads_to_text_that_was_trained() -> None:
    template = TEMPLATES["think"]
    text = "".join(completion(SAMPLE, template))
    assert f"\n{template.close}\nFinal Answer:" in text


def test_samples_stay_apart() -> None:
    other = Sample("How many b in brr?", "b1r1r1", "Final Answer: 1")
    tokenizer = byte_tokenizer(512)
    data = tokenize([SAMPLE, other, SAMPLE], tokenizer, TEMPLATES["think"], 512)
    assert len(data) == 3
    assert data.sample(0)[0].tolist() == data.sample(2)[0].tolist()
    assert tokenizer.decode(data.sample(1)[0]).count("b1r1r1") == 1
    assert data.lengths([0, 1]).sum() + data.lengths([2])[0] == len(data.ids)


def test_an_answer_is_marked_unless_it_already_is() -> None:
    template = TEMPLATES["think"]
    assert completion(SAMPLE, template)[-1] == "\nFinal Answer: 2"
    assert completion(Sample("?", "...", "2"), template)[-1] == "\nAnswer: 2"


def test_a_long_sample_is_cut_at_the_block_size() -> None:
    data = tokenize([SAMPLE], byte_tokenizer(512), TEMPLATES["think"], 50)
    assert data.lengths([0]) == [50]


def test_a_prompt_that_fills_the_block_is_an_error_that_names_both_lengths() -> None:
    with pytest.raises(
        StepError, match="block_size: 20 tokens leave nothing to learn of sample 1, whose prompt has 26"
    ):
        tokenize([SAMPLE], byte_tokenizer(512), TEMPLATES["think"], 20)


def test_a_tokenizer_without_chat_template_is_an_error() -> None:
    tokenizer = byte_tokenizer(512)
    tokenizer.chat_template = None
    with pytest.raises(StepError, match="no chat template"):
        tokenize([SAMPLE], tokenizer, TEMPLATES["think"], 512)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no samples"),
        (b"\n\n", "has no samples"),
        (b'{"question": "q", "trace": "t", "answer": "a"}\n{"question": ', "data.jsonl:2 is no JSON"),
        (b'{"question": "q", "trace": "t"}', "data.jsonl:1 lacks a string for one of question, trace, answer"),
        (b'{"question": "q", "trace": "t", "answer": 3}', "data.jsonl:1 lacks a string"),
        (b'["q", "t", "a"]', "data.jsonl:1 lacks a string"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_damaged_dataset_is_an_error_that_names_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(StepError, match=message):
        read_samples(path)


def test_a_dataset_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"no\.jsonl cannot be read"):
        read_samples(tmp_path / "no.jsonl")
