"""What is done before a gang is asked for: the data is read and tokenised once, and what cannot work is refused.

The ids go to a folder that all workers read, so no GPU waits for a tokenizer, and a mistake in row 83,142 is found on
one core. With them goes the look at the data (:mod:`jobs.finetune.look`), for the log and the tracking server.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from jobs.finetune.config import FinetuneConfig, RandomModel
from jobs.finetune.data import TokenizedData, tokenize
from jobs.finetune.look import as_html, as_text, look_at
from jobs.finetune.packing import pack
from jobs.finetune.samples import read_samples
from jobs.finetune.tokenizer import load_tokenizer
from jobs.template import TEMPLATES
from jobs.transformers_classes import AutoConfig, PreTrainedTokenizerBase
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from orchestrator.job.local_files import LocalPath
from orchestrator.job.outputs import Dataset, Model
from orchestrator.job.references import Reference

_PARAMS, _PAGE, _TEXT = "params.json", "data.html", "data.txt"


def prepare(config: FinetuneConfig, context: StepContext, folder: Path) -> None:
    """Leaves the data that `config` trains on in `folder`, for :func:`prepared` and :func:`publish`, and prints a look.

    What an earlier attempt left there is used. Raises StepError for data, a tokenizer or a model that cannot be used.
    """
    if not folder.is_dir():
        tokenizer, data = _tokenized(config, context)
        looked = look_at(data, config, tokenizer, TEMPLATES[config.template])
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        data.save(partial)
        (partial / _PARAMS).write_text(json.dumps(looked.params()))
        (partial / _PAGE).write_text(as_html(looked), encoding="utf-8")
        (partial / _TEXT).write_text(as_text(looked) + "\n", encoding="utf-8")
        partial.rename(folder)
    print((folder / _TEXT).read_text(encoding="utf-8"), flush=True)


def prepared(folder: Path) -> TokenizedData:
    """The data that :func:`prepare` left."""
    return TokenizedData.load(folder)


def seen(folder: Path) -> dict[str, Any]:
    """What was seen in the data that :func:`prepare` left, as params of a tracked run."""
    params: dict[str, Any] = json.loads((folder / _PARAMS).read_text())
    return params


def publish(folder: Path, artifacts: Path) -> None:
    """Copies the look at the data to a tracked run's artifacts."""
    for name in (_PAGE, _TEXT):
        shutil.copy(folder / name, artifacts / name)


def look(config: FinetuneConfig, context: StepContext) -> str:
    """The look at the data that a step would train on, as text. Raises StepError as the step itself would."""
    tokenizer, data = _tokenized(config, context)
    return as_text(look_at(data, config, tokenizer, TEMPLATES[config.template]))


def model_source(config: FinetuneConfig, context: StepContext) -> RandomModel | str:
    """The model that training starts from: one to be drawn, a folder, or a name on the hub."""
    if isinstance(config.model, Reference):
        return str(context.take(config.model, Model).folder.absolute())
    return str(config.model.path) if isinstance(config.model, LocalPath) else config.model


def _tokenized(config: FinetuneConfig, context: StepContext) -> tuple[PreTrainedTokenizerBase, TokenizedData]:
    source = model_source(config, context)
    tokenizer = load_tokenizer(source, config.revision)
    ids, positions = _limits(source, config.revision, tokenizer)
    needed = max(tokenizer.get_vocab().values()) + 1
    if ids < needed:
        raise StepError(
            f"model: its vocabulary has {ids} ids, and its tokenizer {needed}: take the tokenizer that the model was "
            "saved with, or resize the model's embeddings"
        )
    located = config.data.located(lambda reference: context.take(reference, Dataset))
    data = tokenize(read_samples(located), tokenizer, TEMPLATES[config.template], config.block_size, config.learn)
    longest = int(np.diff(data.starts).max())
    if positions is not None and longest > positions:
        raise StepError(
            f"block_size: a sample has {longest} tokens when cut at {config.block_size}, and the model {positions} "
            f"positions: set block_size to {positions}, or take a model with more"
        )
    return tokenizer, pack(data, config.block_size) if config.packing else data


def _limits(
    source: RandomModel | str, revision: str | None, tokenizer: PreTrainedTokenizerBase
) -> tuple[int, int | None]:
    """The ids that a model knows, and its positions where it says so. From its config.json, without its weights."""
    if isinstance(source, RandomModel):
        return len(tokenizer), source.context
    try:
        settings = AutoConfig.from_pretrained(source, revision=revision).get_text_config()
    except (OSError, ValueError) as error:
        raise StepError(f"model: the config of {source!r} cannot be loaded ({_first_line(error)})") from error
    return settings.vocab_size, getattr(settings, "max_position_embeddings", None)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
