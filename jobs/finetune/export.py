"""The trained model as a Hugging Face folder, which transformers and vLLM both load."""

from __future__ import annotations

from pathlib import Path

import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerBase

from jobs.finetune.model import CausalLoss


def export(loss: CausalLoss, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Gathers the weights on worker 0, which writes them with config and tokenizer to `folder`. Called by all workers.

    Decoding defaults to greedy and stops at the tokenizer's end of turn, the token that training put there.
    """
    weights = get_model_state_dict(loss, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if dist.get_rank() == 0:
        model = AutoModelForCausalLM.from_config(loss.model.config)
        model.load_state_dict({name.removeprefix("model."): weight for name, weight in weights.items()})
        model.generation_config = GenerationConfig(
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
        )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    dist.barrier()
