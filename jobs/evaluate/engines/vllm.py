"""Decodes with vLLM's AsyncLLM, on GPUs or, with the CPU build, on CPUs.

The engine core runs in processes of its own, children of this one; they die with it. Prefix caching makes a fork cost
its new tokens only, and priority scheduling lets forks go first while their prefix is still cached.

vLLM has two model runners: V2 wherever Triton is, which is on GPUs, and V1 elsewhere. They differ in what masks ids and
in where random numbers come from; both draw each token by the request's stream and the token's position in it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import re
import tempfile
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil
from pydantic import ValidationError

from jobs.architecture import keeps_states
from jobs.evaluate.adapter import RANKS, Adapter
from jobs.evaluate.engines.log_tail import log_tail, reason
from jobs.evaluate.engines.protocol import LIKELIEST, Belief, Chunk, EngineError, EngineSpec, Request
from jobs.evaluate.engines.weights import ready_seconds
from orchestrator.job.local_files import locate

T = TypeVar("T")

CPU_CACHE_SHARE, CPU_CACHE_MOST = 0.25, 4 << 30
"""Key-value cache on CPUs: this share of the memory that is free, at most so many bytes."""
STREAM_TOKENS = 8
"""Tokens handed over at once: each hand-over wakes a task, on cores that a CPU engine needs itself."""
CLOSING_SECONDS = 30.0
FORBIDDEN = -100.0
"""The least bias that vLLM takes; what is drawn all the same is noticed by whoever forbade it."""
LOOK_SECONDS = 1.0
"""Between two looks whether the engine's processes are alive."""
SAID_SECONDS = 0.2
"""Until what was logged before an error has come through the log's pipe."""
_MISSING = re.compile(r"No module named '([\w.]+)'")
LONGEST_SOCKET_FOLDER = 107 - len("/") - 36
"""Bytes. vLLM's sockets lie in the folder for temporary files, named by UUIDs; a socket's path has at most 107."""


@dataclass
class CacheUse:
    """Tokens of prompts, and how many of them were computed before."""

    asked: int = 0
    cached: int = 0


async def start(spec: EngineSpec, **overrides: Any) -> VllmEngine:
    """Starts the engine's processes and loads the model: half a minute on CPUs, minutes on GPUs.

    `overrides` are arguments of vLLM's own, for measurements.
    """
    environment(spec)

    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    from jobs.evaluate.engines.vllm_language_model import language_model_alone

    arguments: dict[str, Any] = {
        "skip_tokenizer_init": True,
        "language_model_only": True,  # of a multimodal checkpoint, which then needs no processor
        # On CPUs, layers with states compute none of the states inside a prompt that its cache would take.
        "enable_prefix_caching": bool(spec.gpus) or not keeps_states(locate(spec.model)),
        "scheduling_policy": "priority",
        "additional_config": {"vocabulary": spec.vocabulary},
        **language_model_alone(spec),
        **common(spec),
        **limits(spec, *AsyncEngineArgs.get_batch_defaults(max(1, spec.gpus))),
    }
    with log_tail() as tail:
        try:
            config = AsyncEngineArgs(**arguments | overrides).create_engine_config(UsageContext.ENGINE_CONTEXT)
            config.model_config.logits_processors = processors(config, spec.vocabulary, spec.counts_written)
            engine = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
        except (RuntimeError, ValueError, OSError, MemoryError) as error:
            await asyncio.sleep(SAID_SECONDS)
            raise EngineError(f"vllm cannot load {spec.model}: {with_reason(error, tail)}") from error
    runner = "V2" if config.use_v2_model_runner else "V1"
    scheduler = config.scheduler_config
    print(
        f"vllm: model runner {runner}, max_num_seqs {scheduler.max_num_seqs}, max_num_batched_tokens "
        f"{scheduler.max_num_batched_tokens} (resources.max_num_seqs and max_num_batched_tokens set others)",
        flush=True,
    )
    return VllmEngine(engine, tail, spec.adapter)


def environment(spec: EngineSpec) -> None:
    """Sets what is read when vllm is imported and when its processes start; what the user has set stays."""
    quiet = {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENGINE_READY_TIMEOUT_S": str(ready_seconds(spec.model)),
    }
    # Binding threads to cores would put every replica of a machine on the same ones. oneDNN compiles a kernel for every
    # number of tokens a step may have; it keeps 1,024 of them, which steps of forks and trunks together run through.
    on_cpus = {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(spec.cpus),
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16384",
    }
    if len(os.fsencode(tempfile.gettempdir())) > LONGEST_SOCKET_FOLDER:
        quiet |= {"VLLM_RPC_BASE_PATH": "/tmp"}
    for name, value in (quiet | ({} if spec.gpus else on_cpus)).items():
        os.environ.setdefault(name, value)
    # Traces are kept by it, so the environment has no say.
    os.environ["VLLM_BATCH_INVARIANT"] = str(int(spec.batch_invariant))


def common(spec: EngineSpec) -> dict[str, Any]:
    """The arguments of any engine for `spec`: the model, and where it runs."""
    from vllm.v1.executor.uniproc_executor import UniProcExecutor

    arguments: dict[str, Any] = {
        "model": spec.model,
        "revision": spec.revision,
        "dtype": spec.dtype,
        "max_model_len": spec.context_length,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if spec.adapter is not None:
        room = next(rank for rank in RANKS if rank >= spec.adapter.rank)
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": room}
    if spec.gpus:
        if spec.memory is not None:
            arguments["gpu_memory_utilization"] = spec.memory
        return arguments | {
            "tensor_parallel_size": spec.gpus,
            "distributed_executor_backend": "mp" if spec.gpus > 1 else "uni",
        }
    # Compiling takes longer than it saves on models that fit a CPU. Blocks are what a prefix is found by: the CPU
    # build's 128 tokens would have every fork compute up to as many again. The executor is given as a class: of its
    # name "uni" the CPU build makes "mp", a worker in a process of its own, for which the engine's core then waits
    # in a loop that takes a whole CPU. What that is for, the number of threads, is settled in its environment.
    arguments |= {"enforce_eager": True, "block_size": 32, "distributed_executor_backend": UniProcExecutor}
    if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
        free = psutil.virtual_memory().available
        arguments |= {"kv_cache_memory_bytes": min(int(free * CPU_CACHE_SHARE), CPU_CACHE_MOST)}
    return arguments


def limits(spec: EngineSpec, tokens: Mapping[Any, int], requests: Mapping[Any, int]) -> dict[str, int]:
    """How many requests a step may have, and how many tokens; what `spec` leaves open follows from its seats and the
    card.

    `tokens` and `requests` are vLLM's own defaults for the card by what an engine is used for. Those of an engine by
    itself are for trying it out: 128 and 2,048. A seat costs memory for logits, so past the most that vLLM
    takes for the card there are only two for each unit in flight: one for its branch, and one for what is forked from
    it.
    """
    from vllm.usage.usage_lib import UsageContext

    most = max(requests[UsageContext.LLM_CLASS], 2 * spec.in_flight)
    asked = spec.max_num_batched_tokens
    seats = spec.max_num_seqs or min(spec.seats, most, asked or spec.seats)
    return {
        "max_num_seqs": seats,
        "max_num_batched_tokens": asked or max(tokens[UsageContext.OPENAI_API_SERVER], seats),
    }


def processors(config: Any, vocabulary: int, counts_written: bool = False) -> list[str]:
    """The logits processors that the model runner of `config` needs: none where V2 decodes a model without padding and
    no penalty counts what was written (`counts_written`)."""
    masks, streams = f"{__package__}.vllm_vocabulary", f"{__package__}.vllm_streams"
    padded = config.model_config.get_vocab_size() > vocabulary
    if config.use_v2_model_runner:
        counted = [f"{__package__}.vllm_penalties:WrittenPenalties"] * counts_written
        return [*[f"{masks}:VocabularyMask"] * padded, *counted]
    return [*[f"{masks}:VocabularyMaskV1"] * padded, f"{streams}:Streams"]


class VllmEngine:
    """An AsyncLLM behind the protocol of engines."""

    def __init__(self, engine: Any, tail: deque[str], adapter: Adapter | None = None):
        """`tail` are the last lines that the engine's processes wrote."""
        from vllm.lora.request import LoRARequest

        self._adapter = None if adapter is None else LoRARequest("adapter", 1, adapter.source)
        self._engine = engine
        self._tail = tail
        self._names = itertools.count()
        self._seeded: bool = engine.vllm_config.use_v2_model_runner
        """Whether a seed is a stream by position; else a logits processor draws."""
        self.cache_use: defaultdict[int, CacheUse] = defaultdict(CacheUse)
        """By priority of the request."""
        self._processes = processes_of(engine)
        cache = engine.vllm_config.cache_config
        # Blocks alone do not tell: layers with a window, or with a state in place of keys and values, take fewer.
        self._cache_tokens: int = cache.kv_cache_size_tokens or cache.num_gpu_blocks * cache.block_size
        self._waits: set[asyncio.Timeout] = set()
        self._watch = asyncio.create_task(self._end_waits_when_dead())

    @property
    def cache_tokens(self) -> int | None:
        """Those of the reserved key-value cache."""
        return self._cache_tokens

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """See :meth:`Engine.stream`."""
        from vllm import SamplingParams
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        parameters = SamplingParams(
            **(_by_vllm(request) if self._seeded else _by_streams(request)),
            max_tokens=request.max_tokens,
            min_tokens=int(request.forbid_stop_first),
            stop_token_ids=list(request.stop),
            logit_bias=dict.fromkeys(request.forbidden, FORBIDDEN) or None,
            ignore_eos=True,  # `stop` says all of it
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            stream_interval=STREAM_TOKENS,
            logprobs=LIKELIEST if request.beliefs and not request.among else None,
            logprob_token_ids=list(request.among) or None,
        )
        outputs = self._engine.generate(
            tokens_input(list(request.prompt)),  # anything else goes through a thread that tokenizes
            parameters,
            str(next(self._names)),
            priority=request.priority,
            lora_request=self._adapter,
        )
        try:
            async with aclosing(outputs):
                seen = False
                while (output := await self._while_alive(anext(outputs, None))) is not None:
                    if not seen:
                        seen = True
                        use = self.cache_use[request.priority]
                        use.asked += len(request.prompt)
                        use.cached += output.num_cached_tokens or 0
                    yield _chunk(output.outputs[0], request.among)
        except (EngineDeadError, EngineGenerateError, TimeoutError, ValueError) as error:
            raise EngineError(f"vllm failed while decoding: {with_reason(error, self._tail)}") from error

    async def _while_alive(self, waited_for: Awaitable[T]) -> T:
        """What `waited_for` gives; raises TimeoutError once the engine is dead and vllm leaves it at that."""
        async with asyncio.timeout(None) as wait:
            self._waits.add(wait)
            try:
                return await waited_for
            finally:
                self._waits.discard(wait)

    async def _end_waits_when_dead(self) -> None:
        """vllm leaves one request unanswered: the first, which asks what the engine can do, if it dies meanwhile."""
        while not self._engine.errored:
            await asyncio.sleep(LOOK_SECONDS)
        await asyncio.sleep(LOOK_SECONDS)  # vllm's own errors say more
        while True:
            for wait in self._waits:
                if not wait.expired():
                    wait.reschedule(0)
            await asyncio.sleep(LOOK_SECONDS)

    async def forget(self) -> None:
        """Empties the prefix cache. Nothing may be under way."""
        if not await self._engine.reset_prefix_cache():
            raise EngineError("vllm's prefix cache is in use")

    async def close(self) -> None:
        """Stops the engine's processes, and no others; raises EngineError when one of them does not go."""
        processes = list({*self._processes, *processes_of(self._engine)})
        self._watch.cancel()
        self._engine.shutdown()
        _, alive = await asyncio.to_thread(psutil.wait_procs, processes, CLOSING_SECONDS)
        for process in alive:
            process.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, alive, CLOSING_SECONDS)
        if alive:
            raise EngineError(f"vllm's processes {[process.pid for process in alive]} do not end")


def _by_vllm(request: Request) -> dict[str, Any]:
    """How model runner V2 is told to sample: nothing that changes nothing, because that takes it time too.

    Its repetition penalty is of prompt and trace alike. The other two would count what this request writes; those are
    left to a processor that knows the whole trace.
    """
    from jobs.evaluate.engines.vllm_penalties import penalties_of

    sampling = request.sampling
    parameters: dict[str, Any] = {
        "temperature": sampling.temperature,
        "repetition_penalty": sampling.repetition_penalty,
    }
    if sampling.temperature > 0:
        parameters |= {"top_p": sampling.top_p, "top_k": sampling.top_k, "min_p": sampling.min_p, "seed": request.seed}
    return parameters | {"extra_args": penalties_of(request)}


def _by_streams(request: Request) -> dict[str, Any]:
    """How V1 is told to: a processor draws, and greedy decoding takes what it has drawn."""
    from jobs.evaluate.engines.vllm_streams import stream_of

    drawn = request.sampling.temperature > 0 or request.sampling.penalizes
    return {"temperature": 0.0, "extra_args": stream_of(request) if drawn else None}


def processes_of(engine: Any) -> list[psutil.Process]:
    """The engine's core, and what it started (a worker per GPU). Once the core is dead, nobody can tell the latter."""
    processes = []
    for core in engine.engine_core.resources.engine_manager.processes:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(core.pid)
            processes += [process, *process.children(recursive=True)]
    return processes


def with_reason(error: Exception, tail: deque[str]) -> str:
    """`error`, and what the engine's processes said last: the error itself says no more than that one died."""
    said = reason(tail.copy())
    what = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else error
    missing = next(filter(None, map(_MISSING.search, tail.copy())), None)
    if missing:
        return f"it has no {missing[1]}: install that where replicas run, of the same build as torch"
    return f"{what or type(error).__name__}{said and f'; its log says: {said}'}"


def _chunk(output: Any, among: Sequence[int]) -> Chunk:
    tokens, of_tokens = list(output.token_ids), output.logprobs or ()
    beliefs: list[Belief] = []
    chances: list[tuple[float, ...]] = []
    if among:
        chances = [tuple(of_token[each].logprob for each in among) for of_token in of_tokens]
    else:
        beliefs = [belief(of_token, token) for of_token, token in zip(of_tokens, tokens, strict=False)]
    if output.finish_reason is None:
        return Chunk(tokens, None, beliefs, chances)
    if output.finish_reason == "stop":
        return Chunk(tokens[:-1], "stop", beliefs[: len(tokens) - 1], chances[: len(tokens) - 1])
    if output.finish_reason == "length":
        return Chunk(tokens, "length", beliefs, chances)
    raise EngineError(f"vllm ended a request as {output.finish_reason!r}")


def belief(logprobs: Mapping[int, Any], token: int) -> Belief:
    """How sure the model was of `token`, from vLLM's log-probabilities of it and of the likeliest."""
    likeliest = sorted((each.logprob for each in logprobs.values()), reverse=True)[:LIKELIEST]
    shares = [math.exp(each) for each in likeliest]
    rest = max(0.0, 1 - sum(shares))
    entropy = -sum(share * each for share, each in zip(shares, likeliest, strict=True) if share)
    entropy -= rest * math.log(rest) if rest else 0.0
    return Belief(logprobs[token].logprob, -sum(likeliest) / len(likeliest), entropy)
