"""A tokenizer that is Qwen2.5's but for its size: ids can be worked out by hand.

The id of a byte is the byte; five words follow, :data:`WORDS`, each one id; Qwen's special tokens come last. The chat
template writes Qwen2.5's default system prompt.
"""

from __future__ import annotations

from tokenizers import AddedToken
from transformers import Qwen2Tokenizer

SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

WORDS = ("system", "user", "assistant", "think", "answer")

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_pad|>")

CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] == 'system' %}"
    "{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
    "{%- else %}"
    "{{- '<|im_start|>system\\n" + SYSTEM + "<|im_end|>\\n' }}"
    "{%- endif %}"
    "{%- for message in messages %}"
    "{%- if not (loop.first and message.role == 'system') %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def _letter(byte: int) -> str:
    """What byte-level tokenizers call a byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    if byte in plain:
        return chr(byte)
    return chr(256 + sorted(set(range(256)) - set(plain)).index(byte))


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Words are merged letter by letter, so their beginnings have ids too, before those of the special tokens."""
    vocabulary = {_letter(byte): byte for byte in range(256)}
    for word in WORDS:
        vocabulary[word] = len(vocabulary)
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        for end in range(1, len(word)):
            merge = (word[:end], word[end])
            if merge not in merges:
                merges.append(merge)
            vocabulary.setdefault(word[: end + 1], len(vocabulary))
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
