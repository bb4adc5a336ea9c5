"""Models of Qwen2's kind with a byte-level tokenizer, for tests of real engines. Their logits are far from ties."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
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
    """Writes a random, untrained model. Its embeddings are padded beyond the tokenizer, and it likes those ids."""
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


def save_speaker(folder: Path, text: str, context_length: int = 4096, after: Sequence[str] = ()) -> Path:
    """Writes a model that replies `text` to whatever ends in a newline, or in one of the tokens `after`, and ends its
    turn.

    The next token follows from the last one alone, so no letter of `text` may come twice.
    """
    fast = tokenizer()
    said = [*fast.encode(f"\n{text}"), fast.eos_token_id]
    assert len(set(said)) == len(said), f"a letter comes twice in {text!r}"
    size = 288  # a dimension for each token, in heads of 32
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=size,
            hidden_size=size,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=size // 32,
            num_key_value_heads=1,
            max_position_embeddings=context_length,
            tie_word_embeddings=False,
            eos_token_id=fast.eos_token_id,
        )
    )
    with torch.no_grad():
        for layer in (model.model.layers[0].self_attn.o_proj, model.model.layers[0].mlp.down_proj):
            layer.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.zero_()
        for before, following in pairwise(said):
            model.lm_head.weight[following, before] = 1
        for token in after:
            model.lm_head.weight[said[1], fast.convert_tokens_to_ids(token)] = 1
    model.generation_config = GenerationConfig(eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
