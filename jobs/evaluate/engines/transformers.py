"""Decodes with transformers, on any machine it runs on: one batch that requests join and leave at every step.

The reference that other engines are checked against, and the engine for small models on CPUs. A request that starts
like an earlier one, as forks and children do, computes only what is new (see ``slots``).

Random numbers depend on the request's stream and the token's position alone, so a row samples the same tokens whatever
shares its batch, and a continued one goes on as if it had never stopped.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import psutil
import torch
from transformers.utils.logging import disable_progress_bar

from jobs.evaluate.engines.protocol import Belief, Chunk, EngineError, EngineSpec, Request
from jobs.evaluate.engines.sampling import Penalties, beliefs, draw, uniform
from jobs.evaluate.engines.slots import Slots
from jobs.transformers_classes import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
)

MOST_ROWS = 128
"""Rows decoded at once; a small model on a CPU core decodes no faster per token with more."""
PREFILL_TOKENS = 8192
"""Padded tokens prefilled at once, which bounds the memory of their activations."""
CLOSING_SECONDS = 30.0
CACHE_SHARE = 0.25
"""Of the memory that is free once the model is loaded, what keys and values may take."""


async def start(spec: EngineSpec) -> TransformersEngine:
    """Loads the model on the GPU if the replica has one, else on its CPU cores."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
    model = await asyncio.get_running_loop().run_in_executor(thread, _load, spec)
    return TransformersEngine(_Batch(model, spec.vocabulary, spec.context_length), thread)


def _load(spec: EngineSpec) -> Any:
    disable_progress_bar()
    torch.set_num_threads(spec.cpus)
    torch.set_grad_enabled(False)  # holds for this thread, which does all of the engine's work
    device = "cuda" if spec.gpus else "cpu"
    dtype = getattr(torch, spec.dtype)
    try:
        config = AutoConfig.from_pretrained(spec.model, revision=spec.revision)
        # Some multimodal models are in one list, some in the other; the language model answers either way.
        kind = AutoModelForCausalLM if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModelForImageTextToText
        model = kind.from_pretrained(spec.model, revision=spec.revision, dtype=dtype)
        if spec.adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, spec.adapter.source).merge_and_unload()
        model = model.to(device).eval()
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        raise EngineError(f"transformers cannot load {spec.model}: {error}") from error
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise EngineError(f"the transformers engine has no cache for {', '.join(sorted(kinds))}: use engine: vllm")
    return model


@dataclass(eq=False)
class _Row:
    request: Request
    chunks: asyncio.Queue[Chunk | EngineError] = field(default_factory=asyncio.Queue)
    count: int = 0
    """Tokens decoded so far."""
    last: int = 0
    """The latest of them, not yet in the cache."""
    live: bool = True
    """False once finished or no longer wanted."""
    penalties: Penalties | None = None
    """Where its sampling has any, once it is in the batch."""

    @property
    def position(self) -> int:
        """Of the next token, in the request's random stream."""
        return self.request.position + self.count


class TransformersEngine:
    """One model, one batch, one thread that computes."""

    def __init__(self, batch: _Batch, thread: ThreadPoolExecutor):
        self._batch = batch
        self._thread = thread
        self._waiting: list[tuple[int, int, _Row]] = []
        self._arrivals = itertools.count()
        self._work = asyncio.Event()
        self._joining: list[_Row] = []
        self._failure: EngineError | None = None
        self._running = asyncio.create_task(self._run())
        self._running.add_done_callback(self._ended)

    @property
    def cache_tokens(self) -> int | None:
        """Those of the rows decoded at once, each of full length."""
        return self._batch.most_rows * self._batch.context_length

    def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """See :meth:`Engine.stream`."""
        return self._chunks(_Row(request))

    async def _chunks(self, row: _Row) -> AsyncGenerator[Chunk, None]:
        """What a row that joins the batch decodes."""
        if self._failure is not None:
            raise self._failure
        heapq.heappush(self._waiting, (row.request.priority, next(self._arrivals), row))
        self._work.set()
        try:
            while True:
                chunk = await row.chunks.get()
                if isinstance(chunk, EngineError):
                    raise chunk
                yield chunk
                if chunk.end is not None:
                    return
        finally:
            row.live = False

    async def close(self) -> None:
        """Ends the computing thread; streams that are still open fail."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        with suppress(TimeoutError):  # a step that hangs ends with the process
            await asyncio.wait_for(asyncio.to_thread(self._thread.shutdown), CLOSING_SECONDS)
        self._fail(EngineError("the engine was closed"))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._work.wait()
            self._joining = self._admit()
            if not self._joining and not self._batch.rows:
                self._work.clear()
                continue
            emitted = await loop.run_in_executor(self._thread, self._batch.step, self._joining)
            for row, chunk in emitted:
                row.chunks.put_nowait(chunk)
            await asyncio.sleep(0)  # whoever took a token may have a request to make

    def _admit(self) -> list[_Row]:
        joining: list[_Row] = []
        while self._waiting and len(self._batch.rows) + len(joining) < self._batch.most_rows:
            row = heapq.heappop(self._waiting)[2]
            if row.live:
                joining.append(row)
        return joining

    def _ended(self, running: asyncio.Task[None]) -> None:
        """Whatever it was that ended the decoding, nobody goes on waiting for it."""
        if not running.cancelled():
            error = running.exception()
            self._fail(EngineError(f"transformers failed while decoding: {type(error).__name__}: {error}"))

    def _fail(self, error: EngineError) -> None:
        self._failure = error
        for row in [*self._batch.rows, *self._joining, *(row for _, _, row in self._waiting)]:
            row.chunks.put_nowait(error)


class _Batch:
    """Rows in step, row number n in slot number n of the cache."""

    def __init__(self, model: Any, vocabulary: int, context_length: int):
        self.rows: list[_Row] = []
        self.most_rows = _most_rows(model, context_length)
        self.context_length = context_length
        self._model = model
        self._vocabulary = vocabulary
        self._device = model.device
        self._cache = Slots(2 * self.most_rows, context_length)

    def step(self, joining: list[_Row]) -> list[tuple[_Row, Chunk]]:
        """Decodes one token of every row, those that join included."""
        for slot in reversed(range(len(self.rows))):
            if not self.rows[slot].live:
                self.rows[slot] = self.rows[-1]
                self.rows.pop()
                self._cache.leave(slot)
        emitted: list[tuple[_Row, Chunk]] = []
        if self.rows:
            emitted += self._advance(0, self.rows, [[row.last] for row in self.rows])
        first = len(self.rows)
        missing = []
        for row in joining:
            missing.append(row.request.prompt[self._cache.take(row.request.prompt) :])
            if row.request.sampling.penalizes:
                row.penalties = Penalties(row.request, self._vocabulary, self._device)
        self.rows.extend(joining)
        for begin, end in _spans(missing):
            emitted += self._advance(first + begin, joining[begin:end], missing[begin:end])
        return emitted

    def _advance(self, first: int, rows: list[_Row], tokens: Sequence[Sequence[int]]) -> list[tuple[_Row, Chunk]]:
        """Adds `tokens` to the rows from number `first` on, and decodes one more of each."""
        ids, positions, mask = self._cache.batch(first, tokens, self._device)
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1, : self._vocabulary].float()
        told = _Told(rows, logits)
        chosen = self._choose(rows, logits)
        believed, chances = told.beliefs(chosen), told.chances()
        return [
            (row, _take(row, token, believed.get(index, ()), chances.get(index, ())))
            for index, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True))
        ]

    def _choose(self, rows: list[_Row], logits: torch.Tensor) -> torch.Tensor:
        """The next token of each row, [batch]."""
        for index, row in enumerate(rows):
            if row.penalties is not None:
                row.penalties.apply(logits[index])
            if row.count == 0 and row.request.forbid_stop_first:
                logits[index, list(row.request.stop)] = -torch.inf
            if row.request.forbidden:
                logits[index, list(row.request.forbidden)] = -torch.inf
        chosen = logits.argmax(-1)
        sampled = [index for index, row in enumerate(rows) if row.request.sampling.temperature > 0]
        if sampled:
            samplings = [rows[index].request.sampling for index in sampled]
            uniforms = [uniform(rows[index].request.seed, rows[index].position) for index in sampled]
            chosen[sampled] = draw(logits[sampled], samplings, uniforms)
        return chosen


class _Told:
    """How likely tokens were, of the rows that ask: by the model itself, whatever is done to its logits afterwards."""

    def __init__(self, rows: Sequence[_Row], logits: torch.Tensor):
        """`logits` is [batch, vocabulary]."""
        self._sure = [index for index, row in enumerate(rows) if row.request.beliefs and not row.request.among]
        self._among = {index: list(row.request.among) for index, row in enumerate(rows) if row.request.among}
        self._logprobs = logits[[*self._sure, *self._among]].log_softmax(-1)  # a copy

    def beliefs(self, chosen: torch.Tensor) -> dict[int, tuple[Belief]]:
        """By row; `chosen` are the tokens of all, [batch]."""
        if not self._sure:
            return {}
        sure = beliefs(self._logprobs[: len(self._sure)], chosen[self._sure])
        return {index: (each,) for index, each in zip(self._sure, sure, strict=True)}

    def chances(self) -> dict[int, tuple[tuple[float, ...]]]:
        """By row."""
        of_rows = zip(self._among.items(), self._logprobs[len(self._sure) :], strict=True)
        return {index: (tuple(logprobs[among].tolist()),) for (index, among), logprobs in of_rows}


def _take(row: _Row, token: int, believed: Sequence[Belief], chances: Sequence[tuple[float, ...]]) -> Chunk:
    """Gives `row` its new token, and says what it yields."""
    if token in row.request.stop:
        row.live = False
        return Chunk([], "stop")
    row.count += 1
    row.last = token
    if row.penalties is not None:
        row.penalties.count([token])
    row.live = row.live and row.count < row.request.max_tokens
    end: Literal["length"] | None = "length" if row.count == row.request.max_tokens else None
    return Chunk([token], end, believed, chances)


def _spans(missing: list[tuple[int, ...]]) -> Iterator[tuple[int, int]]:
    """Rows to prefill together, as ranges: not too many tokens once padded."""
    begin = longest = 0
    for index, tokens in enumerate(missing):
        longest = max(longest, len(tokens))
        if index > begin and (index + 1 - begin) * longest > PREFILL_TOKENS:
            yield begin, index
            begin, longest = index, len(tokens)
    if missing:
        yield begin, len(missing)


def _most_rows(model: Any, context_length: int) -> int:
    """Rows whose slots, and as many idle ones, fit into the memory that may be taken."""
    settings = model.config.get_text_config()
    heads = getattr(settings, "num_key_value_heads", None) or settings.num_attention_heads
    dim = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
    row = 2 * settings.num_hidden_layers * heads * dim * model.dtype.itemsize * context_length
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
    else:
        free = psutil.virtual_memory().available
    return max(1, min(MOST_ROWS, int(free * CACHE_SHARE) // (2 * row)))
