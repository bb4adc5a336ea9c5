"""The tokenizer of models trained from random weights: one id per byte, and a few markers.

A vocabulary of 266 makes the embedding table of a small model negligible, needs no corpus to be learned from, and
encodes any text without unknowns. The chat markers are Qwen's, so every thinking template applies; the words that
follow ``<|im_start|>`` are entries of the vocabulary too, as they are in Qwen's, which spares a small model from
spelling them out.

It is a ``Qwen2Tokenizer`` because that is what comes back from disk: transformers loads the tokenizer beside a Qwen2
model as this class, whatever class wrote it, and its text normalisation with it.
"""

from __future__ import annotations

from tokenizers import AddedToken, pre_tokenizers

from jobs.finetune.config import RandomModel
from jobs.tokenizer import saved_tokenizer
from jobs.transformers_classes import PreTrainedTokenizerBase, Qwen2Tokenizer

END_OF_TEXT = "<|endoftext|>"
END_OF_TURN = "<|im_end|>"
_MARKERS = (END_OF_TEXT, "<|im_start|>", END_OF_TURN, "<think>", "</think>")
_WORDS = ("system", "user", "assistant", "think", "answer")

_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(context: int) -> Qwen2Tokenizer:
    """A tokenizer with an id for every byte, for models with `context` positions."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Qwen2Tokenizer(
        vocab={character: index for index, character in enumerate(alphabet)},
        merges=[],
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([AddedToken(marker, special=True, normalized=False) for marker in _MARKERS])
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in _WORDS])
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def load_tokenizer(source: RandomModel | str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model. Raises StepError when it cannot be loaded."""
    if isinstance(source, RandomModel):
        return byte_tokenizer(source.context)
    tokenizer: PreTrainedTokenizerBase = saved_tokenizer(source, revision)
    return tokenizer
