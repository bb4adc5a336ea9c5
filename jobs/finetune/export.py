"""The trained model as a Hugging Face folder, which transformers and vLLM both load."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor

from jobs.finetune.data import end_of_turn
from jobs.finetune.hashed_weights import hashing_weights
from jobs.transformers_classes import AutoModelForCausalLM, GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase
from orchestrator.job.errors import StepError
from orchestrator.job.imports import hidden
from orchestrator.store.errors import StoreError


def export(
    weights: Iterable[tuple[str, Tensor]],
    architecture: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    deliver: Callable[[], None] = lambda: None,
) -> None:
    """Writes `weights`, by transformers' names, with config, tokenizer and chat template to `folder`.

    Called by all workers; worker 0 has the weights, writes, and calls `deliver` when all is written. They are written
    in the type that `architecture` names, which for a pretrained model is its own: an engine takes what it finds, and
    32B parameters in float32 fit nowhere. Decoding defaults to greedy and stops where training ended turns
    (:func:`stop_tokens`). Raises StepError, in all workers, when the folder cannot be written, and what `deliver`
    raises of the store.
    """
    written = architecture.dtype
    gathered = {name: weight if written is None else weight.to(written) for name, weight in weights}
    refusal: list[StepError | StoreError | None] = [None]
    if dist.get_rank() == 0:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                copy.deepcopy(architecture), dtype=next(iter(gathered.values())).dtype
            )
        # Of tied weights, one name may be all there is.
        model.load_state_dict(gathered, strict=False, assign=True)
        model.tie_weights()
        stops = stop_tokens(tokenizer, architecture)
        model.generation_config = GenerationConfig(
            eos_token_id=stops if len(stops) > 1 else stops[0],
            pad_token_id=stops[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        )
        try:
            # To see whether DeepSpeed wrapped the model, it would be imported, and MLflow with it.
            with hashing_weights(), hidden("deepspeed"):
                model.save_pretrained(folder)
            _tell_transformers_4(folder / "config.json")
            tokenizer.save_pretrained(folder)
            deliver()
        except StoreError as error:
            refusal = [error]
        except (OSError, SafetensorError) as error:
            reason = str(error).strip().partition("\n")[0]
            prefix = (
                f"store: {folder} cannot be written ({reason}): make room there, and run the same command again: it "
            )
            refusal = [StepError(f"{prefix}continues from the last checkpoint, which is kept")]
    dist.broadcast_object_list(refusal, src=0)
    if refusal[0] is not None:
        raise refusal[0]


def _tell_transformers_4(file: Path) -> None:
    """Adds to a config.json what transformers 4 looks for elsewhere: without it, it takes a rope base of 10,000.

    transformers 5 has the base, and how positions are scaled, in ``rope_parameters``, and the type of the weights in
    ``dtype``. It reads the older names too.
    """
    config = json.loads(file.read_text())
    rope = config.get("rope_parameters") or {}
    if "rope_theta" in rope:  # models whose layers differ have one for each kind, which transformers 4 has not
        config["rope_theta"] = rope["rope_theta"]
        if rope.get("rope_type", "default") != "default":
            config["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}
    if "dtype" in config:
        config["torch_dtype"] = config["dtype"]
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def stop_tokens(tokenizer: PreTrainedTokenizerBase, architecture: PretrainedConfig) -> list[int]:
    """The ids that end an answer: the one that training put after it first, then those that the base model ends with.

    They differ where a base model was trained to chat: Qwen2.5 ends its texts with ``<|endoftext|>``, turns with
    ``<|im_end|>``. An engine that stopped at the former only would go on to write the user's next question.
    """
    declared = architecture.get_text_config().eos_token_id
    others = declared if isinstance(declared, list) else [declared]
    tokens = [end_of_turn(tokenizer)[0], tokenizer.eos_token_id, *others]
    return list(dict.fromkeys(token for token in tokens if token is not None))
