"""Decodes with transformers, on any machine it runs on: one batch that requests join and leave at every step.

The reference that other engines are checked against, and the engine for small models on CPUs. Rows of the batch are
padded on the left, so that all of them grow at the same end. New requests are prefilled together and their keys and
values put beside those of the batch; rows that finished are dropped once enough of them have gathered.

Random numbers depend on the request's stream and the token's position alone, so a row samples the same tokens whatever
shares its batch, and a continued one goes on as if it had never stopped.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
import struct
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils.logging import disable_progress_bar

from jobs.evaluate.engines import Chunk, EngineError, EngineSpec, Request

MOST_ROWS = 128
"""Rows decoded at once; a small model on a CPU core decodes no faster per token with more."""
PREFILL_TOKENS = 16384
"""Padded tokens prefilled at once, which bounds the memory of their activations."""
IDLE_SHARE = 0.25
"""Finished rows are dropped when they make up this share of the batch: dropping copies the whole cache."""


async def start(spec: EngineSpec) -> TransformersEngine:
    """Loads the model on the GPU if the replica has one, else on its CPU cores."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
    model = await asyncio.get_running_loop().run_in_executor(thread, _load, spec)
    return TransformersEngine(_Batch(model, spec.vocabulary), thread)


def _load(spec: EngineSpec) -> Any:
    disable_progress_bar()
    torch.set_num_threads(spec.cpus)
    torch.set_grad_enabled(False)  # holds for this thread, which does all of the engine's work
    device = "cuda" if spec.gpus else "cpu"
    dtype = getattr(torch, spec.dtype)
    try:
        model = AutoModelForCausalLM.from_pretrained(spec.model, revision=spec.revision, dtype=dtype)
        return model.to(device).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise EngineError(f"transformers cannot load {spec.model}: {error}") from error


@dataclass(eq=False)
class _Row:
    request: Request
    chunks: asyncio.Queue[Chunk | EngineError] = field(default_factory=asyncio.Queue)
    count: int = 0
    """Tokens decoded so far."""
    live: bool = True
    """False once finished or no longer wanted."""


class TransformersEngine:
    """One model, one batch, one thread that computes."""

    def __init__(self, batch: _Batch, thread: ThreadPoolExecutor):
        self._batch = batch
        self._thread = thread
        self._waiting: list[tuple[int, int, _Row]] = []
        self._arrivals = itertools.count()
        self._work = asyncio.Event()
        self._failure: EngineError | None = None
        self._running = asyncio.create_task(self._run())

    @property
    def sequences(self) -> int | None:
        """None: the cache is as large as the batch asks."""
        return None

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """See :meth:`Engine.stream`."""
        if self._failure is not None:
            raise self._failure
        row = _Row(request)
        heapq.heappush(self._waiting, (request.priority, next(self._arrivals), row))
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
        self._thread.shutdown()
        self._fail(EngineError("the engine was closed"))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._work.wait()
            joining = self._admit()
            if not joining and not self._batch.rows:
                self._work.clear()
                continue
            try:
                emitted = await loop.run_in_executor(self._thread, self._batch.step, joining)
            except RuntimeError as error:  # torch's own errors, running out of memory among them
                self._fail(EngineError(f"transformers failed while decoding: {error}"))
                return
            for row, chunk in emitted:
                row.chunks.put_nowait(chunk)
            await asyncio.sleep(0)  # whoever took a token may have a request to make

    def _admit(self) -> list[_Row]:
        joining: list[_Row] = []
        while self._waiting and len(self._batch.rows) + len(joining) < MOST_ROWS:
            row = heapq.heappop(self._waiting)[2]
            if row.live:
                joining.append(row)
        return joining

    def _fail(self, error: EngineError) -> None:
        self._failure = error
        for row in [*self._batch.rows, *(row for _, _, row in self._waiting)]:
            row.chunks.put_nowait(error)


class _Batch:
    """Rows in step with their cache. `[batch]` below counts rows, dead ones included; `[length]` is padded."""

    def __init__(self, model: Any, vocabulary: int):
        self.rows: list[_Row] = []
        self._model = model
        self._vocabulary = vocabulary
        self._device = model.device
        self._cache: list[tuple[torch.Tensor, torch.Tensor]] = []
        """Per layer, keys and values: [batch, heads, length, dim]."""
        self._mask = torch.zeros(0, 0, dtype=torch.long, device=self._device)
        """[batch, length]: 1 where there is a token."""
        self._last = torch.zeros(0, dtype=torch.long, device=self._device)
        """[batch]: the token decoded last, not yet in the cache."""

    def step(self, joining: list[_Row]) -> list[tuple[_Row, Chunk]]:
        """Decodes one token of every row, those that join included."""
        emitted: list[tuple[_Row, Chunk]] = []
        if self.rows:
            self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
            logits, self._cache = self._forward(self._last[:, None], self._mask, self._cache)
            self._last = self._choose(self.rows, logits)
            emitted += _emit(self.rows, self._last.tolist())
        for rows in _groups(joining):
            emitted += self._join(rows)
        self._drop_idle()
        return emitted

    def _join(self, rows: list[_Row]) -> list[tuple[_Row, Chunk]]:
        length = max(len(row.request.prompt) for row in rows)
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        mask = torch.zeros(len(rows), length, dtype=torch.long)
        for index, row in enumerate(rows):
            size = len(row.request.prompt)
            ids[index, length - size :] = torch.tensor(row.request.prompt)
            mask[index, length - size :] = 1
        mask = mask.to(self._device)
        logits, cache = self._forward(ids.to(self._device), mask, [])
        last = self._choose(rows, logits)
        if self.rows:
            total = max(length, self._mask.shape[1])
            self._mask = torch.cat([_pad(self._mask, total, 1), _pad(mask, total, 1)])
            self._last = torch.cat([self._last, last])
            self._cache = [
                (
                    torch.cat([_pad(keys, total, 2), _pad(new_keys, total, 2)]),
                    torch.cat([_pad(values, total, 2), _pad(new_values, total, 2)]),
                )
                for (keys, values), (new_keys, new_values) in zip(self._cache, cache, strict=True)
            ]
        else:
            self._mask, self._last, self._cache = mask, last, cache
        self.rows.extend(rows)
        return _emit(rows, last.tolist())

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, cache: list[tuple[torch.Tensor, torch.Tensor]]
    ) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        """Logits of the last position, [batch, vocabulary], and the cache with `ids` added to it."""
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        past = DynamicCache(cache)
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=past,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1, : self._vocabulary].float(), [(layer.keys, layer.values) for layer in past.layers]

    def _choose(self, rows: list[_Row], logits: torch.Tensor) -> torch.Tensor:
        """The next token of each row, [batch]."""
        for index, row in enumerate(rows):
            if row.count == 0 and row.request.forbid_stop_first:
                logits[index, list(row.request.stop)] = -torch.inf
        greedy = logits.argmax(-1)
        sampled = [index for index, row in enumerate(rows) if row.live and row.request.sampling.temperature > 0]
        if sampled:
            requests = [rows[index].request for index in sampled]
            uniform = [
                _uniform(row.request.seed, row.request.position + row.count) for row in map(rows.__getitem__, sampled)
            ]
            greedy[sampled] = sample(
                logits[sampled],
                torch.tensor([request.sampling.temperature for request in requests], device=self._device),
                torch.tensor([request.sampling.top_p for request in requests], device=self._device),
                torch.tensor(uniform, device=self._device),
            )
        return greedy

    def _drop_idle(self) -> None:
        keep = [index for index, row in enumerate(self.rows) if row.live]
        if len(self.rows) - len(keep) <= IDLE_SHARE * len(self.rows) and keep:
            return
        self.rows = [self.rows[index] for index in keep]
        chosen = torch.tensor(keep, dtype=torch.long, device=self._device)
        mask = self._mask[chosen]
        padding = int(mask.argmax(1).min()) if keep else mask.shape[1]
        self._mask, self._last = mask[:, padding:], self._last[chosen]
        self._cache = [(keys[chosen, :, padding:], values[chosen, :, padding:]) for keys, values in self._cache]


def _emit(rows: list[_Row], tokens: list[int]) -> list[tuple[_Row, Chunk]]:
    """What each live row yields for its new token."""
    emitted = []
    for row, token in zip(rows, tokens, strict=True):
        if not row.live:
            continue
        if token in row.request.stop:
            chunk = Chunk([], "stop")
        else:
            row.count += 1
            chunk = Chunk([token], "length" if row.count == row.request.max_tokens else None)
        row.live = chunk.end is None
        emitted.append((row, chunk))
    return emitted


def _groups(rows: list[_Row]) -> list[list[_Row]]:
    """Rows to prefill together: of like length, and not too many tokens once padded."""
    groups: list[list[_Row]] = []
    for row in sorted(rows, key=lambda row: len(row.request.prompt)):
        size = len(row.request.prompt)
        if groups and (len(groups[-1]) + 1) * size <= PREFILL_TOKENS:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _pad(tensor: torch.Tensor, length: int, dim: int) -> torch.Tensor:
    """Zeros on the left of `dim`, up to `length`."""
    after = 2 * (tensor.dim() - 1 - dim)
    return torch.nn.functional.pad(tensor, (*([0] * after), length - tensor.shape[dim], 0))


def _uniform(seed: int, position: int) -> float:
    """The number of the stream `seed` at `position`, in [0, 1)."""
    digest = hashlib.blake2b(struct.pack("<QQ", seed, position), digest_size=4).digest()
    return int.from_bytes(digest) / 2**32


def sample(logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Tokens drawn by inverting the cumulative distribution at `uniform`.

    `logits` is [batch, vocabulary], the others [batch]; the result is [batch]. Of the tokens in falling order of
    probability, those before which less than `top_p` is reached take part.
    """
    probability, order = (logits / temperature[:, None]).softmax(-1).sort(-1, descending=True)
    reached = probability.cumsum(-1)
    probability = probability.masked_fill(reached - probability >= top_p[:, None], 0)
    reached = probability.cumsum(-1)
    drawn = torch.searchsorted(reached, (uniform * reached[:, -1])[:, None], right=True)
    last = (probability > 0).sum(-1, keepdim=True) - 1
    return order.gather(1, torch.minimum(drawn, last))[:, 0]
