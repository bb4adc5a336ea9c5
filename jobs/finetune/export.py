"""The trained model as a Hugging Face folder, which transformers and vLLM both load."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch.distributed as dist
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase


def export(
    weights: Iterable[tuple[str, Tensor]],
    architecture: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
) -> None:
    """Writes a strategy's `weights` with config and tokenizer to `folder`, on worker 0. Called by all workers.

    Decoding defaults to greedy and stops at the tokenizer's end of turn, the token that training put there.
    """
    gathered = dict(weights)
    if dist.get_rank() == 0:
        dtype = next(iter(gathered.values())).dtype
        model = AutoModelForCausalLM.from_config(architecture, dtype=dtype)
        model.load_state_dict(gathered, strict=False)
        model.generation_config = GenerationConfig(
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
        )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    dist.barrier()
