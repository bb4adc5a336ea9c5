from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from jobs.finetune.config import RandomModel
from jobs.finetune.model import random_architecture
from jobs.finetune.tokenizer import byte_tokenizer
from jobs.template import TEMPLATES


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """The tokenizer as it comes back from a model's folder, where the model's config has a say in its class."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = byte_tokenizer(128)
    source = RandomModel(random="qwen2", layers=1, hidden_size=64, context=128)
    AutoModelForCausalLM.from_config(random_architecture(source, tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return loaded


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_a_reloaded_tokenizer_gives_the_same_ids(reloaded: PreTrainedTokenizerBase, text: str) -> None:
    assert reloaded.encode(text) == byte_tokenizer(128).encode(text)


@given(st.text(alphabet=st.characters(max_codepoint=127)))
@settings(max_examples=300, deadline=None)
def test_ascii_text_comes_back_unchanged(reloaded: PreTrainedTokenizerBase, text: str) -> None:
    assert reloaded.decode(reloaded.encode(text)) == text


def test_a_reloaded_tokenizer_keeps_its_markers_and_chat_template(reloaded: PreTrainedTokenizerBase) -> None:
    original = byte_tokenizer(128)
    assert (reloaded.eos_token, reloaded.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert reloaded.eos_token_id == original.eos_token_id
    turns = [{"role": "user", "content": "How many r in raspberry?"}]
    prompt = reloaded.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert prompt == "<|im_start|>user\nHow many r in raspberry?<|im_end|>\n<|im_start|>assistant\n"
    assert prompt == original.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)


@pytest.mark.parametrize("name", [name for name, style in TEMPLATES.items() if not style.plain and not style.tokens])
def test_a_delimiter_takes_two_tokens_at_most_and_starts_with_a_marker(
    reloaded: PreTrainedTokenizerBase, name: str
) -> None:
    for delimiter in (TEMPLATES[name].open, TEMPLATES[name].close):
        ids = reloaded.encode(delimiter.strip())
        assert len(ids) <= 2
        assert ids[0] in reloaded.added_tokens_decoder


def test_ordinary_characters_are_one_token_each(reloaded: PreTrainedTokenizerBase) -> None:
    text = "r1a1s1p1\nWait"
    assert len(reloaded.encode(text)) == len(text)
