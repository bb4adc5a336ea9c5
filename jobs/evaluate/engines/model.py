"""The model of a sweep: where it is, what identifies it, and what its own files say about decoding with it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jobs.architecture import cached_snapshot
from jobs.evaluate.adapter import SETTINGS, WEIGHTS, AdaptedModel, Adapter, rank_of, unfit
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.drawing import SAMPLING
from jobs.evaluate.engines.context import auto_context, context_remarks
from jobs.evaluate.engines.protocol import EngineSpec, Sampling, ServedModel
from jobs.evaluate.engines.recommended import FILE, NothingRecommended, read
from jobs.model_folder import local_folder
from jobs.tokenizer import saved_tokenizer
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from orchestrator.job.local_files import LocalPath, locate, regular_files
from orchestrator.job.references import Reference

SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja")

SAMPLED = 1 << 20
"""Bytes at either end of a file that identify it, with its size: weights that were trained differ everywhere."""


@dataclass(frozen=True)
class ResolvedModel:
    """A causal language model with its tokenizer."""

    source: str
    """A folder, or a name on the hub."""
    revision: str | None
    """The hub's commit; None for a folder."""
    identity: str
    """Changes whenever the model could answer differently."""
    tokenizer: Any
    context_length: int
    dtype: Literal["float32", "bfloat16", "float16"]
    ids: int
    """How many ids the model may emit, those that only pad its embeddings included."""
    end_of_turn: tuple[int, ...]
    """Ids that end an answer."""
    adapter: Adapter | None = None
    """What is laid on its weights."""


def resolve(config: EvaluateConfig, context: StepContext) -> ResolvedModel:
    """Finds the model that `config` names and reads its small files. Raises StepError when it cannot be used."""
    model = _read(config, *_locate(config, context))
    return model if config.adapted is None else _with_adapter(model, config.adapted)


def at_hand(config: EvaluateConfig) -> ResolvedModel | None:
    """The model as :func:`resolve` gives it, without its identity, where this machine has its small files: a folder, or
    a name of the hub whose files are in the cache. Raises StepError when it cannot be used."""
    if isinstance(config.base, str):
        folder = cached_snapshot(config.base)
        return None if folder is None else _read(config, str(folder), None, "")
    folder = local_folder(config.base)
    return None if folder is None else _read(config, str(folder), None, "")


def _read(config: EvaluateConfig, source: str, revision: str | None, identity: str) -> ResolvedModel:
    from jobs.transformers_classes import AutoConfig, GenerationConfig

    try:
        settings = AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        raise StepError(f"model: {source} cannot be loaded: {_first_line(error)}") from error
    tokenizer = saved_tokenizer(source, revision)
    text = settings.get_text_config()
    try:
        declared = GenerationConfig.from_pretrained(source, revision=revision).eos_token_id
    except OSError:
        declared = text.eos_token_id
    return ResolvedModel(
        source=source,
        revision=revision,
        identity=identity,
        tokenizer=tokenizer,
        context_length=_context_length(config, text, source),
        dtype=_dtype(config, settings),
        ids=text.vocab_size,
        end_of_turn=_ends(declared, tokenizer, source),
    )


def sampling(config: EvaluateConfig, model: ResolvedModel) -> Sampling:
    """How tokens are drawn. Raises StepError where the checkpoint is to decide it, and does not."""
    if config.sampling is None:
        return Sampling(**{name: getattr(config, name) for name in SAMPLING})
    try:
        recommended = read(_file_of(model).parent)
    except (NothingRecommended, OSError) as error:
        raise StepError(f"sampling: recommended: {model.source}: {_first_line(error)}") from error
    if recommended.temperature == 0 and config.samples > 1:
        raise StepError(
            f"samples: {config.samples} needs a temperature above 0, and {model.source} recommends greedy decoding: "
            "give samples: 1, or a temperature"
        )
    lacking = [
        name for name in recommended.identity if name not in {"temperature", "top_p", *config.engine_kind.sampling}
    ]
    if lacking:
        raise StepError(
            f"sampling: recommended: it asks for {lacking[0]}, which engine {config.engine_name} does not have"
        )
    return recommended


VLLM_MEMORY = 0.9
"""Of a card, what vLLM takes unless it is told otherwise."""


def memory_beside(config: EvaluateConfig) -> float | None:
    """The share of each card's memory that a scorer leaves to the engine; None where the engine has all of it."""
    within = config.loads_scorer and not config.scorers_apart
    shares = config.resources.gpus and within and not config.resources.scorer.gpus
    return round(VLLM_MEMORY - config.resources.scorer.memory, 3) if shares else None


def answer_tokens(config: EvaluateConfig, model: ResolvedModel) -> int:
    """The most that an answer may take."""
    return model.context_length // 8 if config.max_answer_tokens == "auto" else config.max_answer_tokens


def engine(config: EvaluateConfig, model: ResolvedModel, sampling: Sampling, seats: int) -> EngineSpec:
    """What decodes with the model, for as many requests at once as there are `seats`."""
    resources, served = config.resources, None
    if resources.server is not None and config.served_model is not None:
        served = ServedModel(config.served_model, model.ids, resources.server)
    return EngineSpec(
        name=config.engine_name,
        model=model.source,
        revision=model.revision,
        adapter=model.adapter,
        dtype=model.dtype,
        context_length=model.context_length,
        vocabulary=len(model.tokenizer),
        gpus=resources.gpus,
        cpus=resources.cpus,
        served=served,
        batch_invariant=config.batch_invariant,
        counts_written=sampling.counts_written,
        in_flight=resources.in_flight,
        memory=memory_beside(config),
        seats=seats,
        max_num_seqs=resources.max_num_seqs,
        max_num_batched_tokens=resources.max_num_batched_tokens,
    )


def _file_of(model: ResolvedModel) -> Path:
    """The checkpoint's recommendations on this machine, fetched where it is a model of the hub."""
    from huggingface_hub import hf_hub_download

    if model.revision is None:
        return Path(model.source) / FILE
    return Path(hf_hub_download(model.source, FILE, revision=model.revision))


def _locate(config: EvaluateConfig, context: StepContext) -> tuple[str, str | None, str]:
    """Source, revision and identity."""
    if isinstance(config.base, Reference):
        step = context.input(config.base)
        return str(step.output), None, step.fingerprint
    if isinstance(config.base, LocalPath):
        return str(config.base.path), None, _folder_identity(config.base.path)
    assert config.base is not None, "only a server that chats does without"
    return _hub_model(config.base)


def _with_adapter(model: ResolvedModel, adapted: AdaptedModel) -> ResolvedModel:
    """The model with the adapter that `adapted` names. Raises StepError when it is not one for it."""
    if isinstance(adapted.adapter, LocalPath):
        folder, revision, identity = adapted.adapter.path, None, _folder_identity(adapted.adapter.path)
        source = str(folder)
    else:
        source, revision, identity = _hub_model(adapted.adapter, "model.adapter", [*SMALL_FILES, WEIGHTS])
        cached = cached_snapshot(source, SETTINGS)
        if cached is None:
            raise StepError(f"model.adapter: {source!r} has no {SETTINGS}: give an adapter as peft saves it")
        folder = cached
    base = locate(model.source) if model.revision is None else model.source
    if problem := unfit(folder, base):
        raise StepError(f"model.adapter: {str(adapted.adapter)!r} {problem}")
    return replace(
        model, identity=f"{model.identity} with {identity}", adapter=Adapter(source, revision, rank_of(folder))
    )


def _hub_model(name: str, field: str = "model", files: Sequence[str] = SMALL_FILES) -> tuple[str, str, str]:
    """Fetches the small files; the commit they belong to is what every replica then loads."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        small = snapshot_download(name, allow_patterns=list(files))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise StepError(
            f"{field}: {name!r} is not a folder, and cannot be downloaded from the hub: {_first_line(error)}"
        ) from error
    commit = Path(small).name
    return name, commit, f"{name}@{commit}"


def _folder_identity(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in regular_files(folder):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder).as_posix()}\0{size}\0".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(SAMPLED))
            if size > SAMPLED:
                stream.seek(max(SAMPLED, size - SAMPLED))
                digest.update(stream.read())
    return digest.hexdigest()


def _ends(declared: int | list[int] | None, tokenizer: Any, source: str) -> tuple[int, ...]:
    """Ids at which an answer ends. Raises StepError where there are none, or the tokenizer does not know one."""
    ends = [] if declared is None else declared if isinstance(declared, list) else [declared]
    if tokenizer.eos_token_id is not None:
        ends = [*ends, tokenizer.eos_token_id]
    if not ends:
        raise StepError(f"model: {source} has no end-of-turn token: set eos_token_id in its generation_config.json")
    known = set(tokenizer.get_vocab().values())
    for end in ends:
        if end not in known:
            raise StepError(
                f"model: {source} ends its turn with id {end} (eos_token_id), and its tokenizer has no such token, of "
                f"{len(known)}: set eos_token_id in its generation_config.json to ids that it has"
            )
    return tuple(dict.fromkeys(ends))


def _context_length(config: EvaluateConfig, text: Any, source: str) -> int:
    most = getattr(text, "max_position_embeddings", None)
    if isinstance(config.context_length, int):
        if most is not None and config.context_length > most:
            raise StepError(
                f"context_length: {config.context_length} is beyond the {most} positions of {source}: lower it"
            )
        return config.context_length
    if most is None:
        raise StepError(f"context_length: {source} does not say how many positions it has: give a number")
    for line in context_remarks(most):
        print(line, flush=True)
    return auto_context(most)


def _dtype(config: EvaluateConfig, settings: Any) -> Literal["float32", "bfloat16", "float16"]:
    """As configured; else as the checkpoint says, be it of the whole or, where it is multimodal, of its text model."""
    said = [getattr(part, "dtype", None) for part in (settings, settings.get_text_config())]
    dtype_named = next((dtype for dtype in said if dtype is not None), None)
    name = config.dtype if config.dtype != "auto" else str(dtype_named).removeprefix("torch.")
    if name == "bfloat16":
        return "bfloat16"
    return "float16" if name == "float16" else "float32"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
