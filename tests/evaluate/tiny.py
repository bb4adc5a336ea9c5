"""A random, untrained Qwen2 with a byte-level tokenizer, for tests of real engines. Its logits are far from ties."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models
from tokenizers.pre_tokenizers import ByteLevel
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

SPECIAL = ["<|im_start|>", "<|im_end|>", "<|pad|>", "<think>", "</think>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer(special: Sequence[str] = SPECIAL) -> PreTrainedTokenizerFast:
    """Bytes and a few special tokens: 261 ids."""
    alphabet = sorted(ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={character: index for index, character in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=[token for token in special if token not in ("<|im_end|>", "<|pad|>")],
    )
    fast.chat_template = TEMPLATE
    return fast


def save(folder: Path, context_length: int = 256, padded_vocabulary: int = 272) -> Path:
    """Writes the model. Its embeddings are padded beyond the tokenizer, and it likes to emit the ids in between."""
    fast = tokenizer()
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=padded_vocabulary,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,  # of 32 dimensions each: what vLLM has CPU kernels for
            num_key_value_heads=1,
            max_position_embeddings=context_length,
            initializer_range=0.3,
            tie_word_embeddings=False,
            eos_token_id=fast.eos_token_id,
        )
    )
    with torch.no_grad():
        head = model.lm_head.weight
        head[len(fast) :] *= 2  # ids that no token has
        for token in ("</think>", "<|im_end|>"):
            head[fast.convert_tokens_to_ids(token)] *= 1.15  # so that thinking and answers end now and then
    model.generation_config = GenerationConfig(eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
