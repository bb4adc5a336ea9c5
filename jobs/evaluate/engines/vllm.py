"""Decodes with vLLM's AsyncLLM, on GPUs or, with the CPU build, on CPUs.

The engine core runs in processes of its own, children of this one; they die with it. Prefix caching makes a fork cost
its new tokens only, and priority scheduling lets forks go first while their prefix is still cached.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import psutil

from jobs.evaluate.engines import Chunk, EngineError, EngineSpec, Request

CPU_CACHE_SHARE, CPU_CACHE_MOST = 0.25, 4 << 30
"""Key-value cache on CPUs: this share of the memory that is free, at most so many bytes."""
CLOSING_SECONDS = 30.0


async def start(spec: EngineSpec) -> VllmEngine:
    """Starts the engine's processes and loads the model: half a minute on CPUs, minutes on GPUs."""
    # Read when vllm is imported and when its processes start; what the user has set stays.
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
    # Binding threads to cores would put every replica of a machine on the same ones.
    threads = {} if spec.gpus else {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(spec.cpus)}
    for name, value in (quiet | threads).items():
        os.environ.setdefault(name, value)

    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    arguments: dict[str, Any] = {
        "model": spec.model,
        "revision": spec.revision,
        "dtype": spec.dtype,
        "max_model_len": spec.context_length,
        "skip_tokenizer_init": True,
        "enable_prefix_caching": True,
        "scheduling_policy": "priority",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "logits_processors": ["jobs.evaluate.engines.vllm_vocabulary:VocabularyMask"],
        "additional_config": {"vocabulary": spec.vocabulary},
    }
    if spec.gpus:
        arguments |= {
            "tensor_parallel_size": spec.gpus,
            "distributed_executor_backend": "mp" if spec.gpus > 1 else "uni",
        }
    else:
        # Compiling takes longer than it saves on models that fit a CPU.
        arguments |= {"enforce_eager": True}
        if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            free = psutil.virtual_memory().available
            arguments |= {"kv_cache_memory_bytes": min(int(free * CPU_CACHE_SHARE), CPU_CACHE_MOST)}
    try:
        return VllmEngine(AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments)), spec.context_length)
    except (RuntimeError, ValueError, OSError) as error:
        raise EngineError(f"vllm cannot load {spec.model}: {error}") from error


class VllmEngine:
    """An AsyncLLM behind the protocol of engines."""

    def __init__(self, engine: Any, context_length: int):
        self._engine = engine
        self._names = itertools.count()
        cache = engine.vllm_config.cache_config
        self._sequences = cache.num_gpu_blocks * cache.block_size // context_length

    @property
    def sequences(self) -> int | None:
        """Sequences of full length that the reserved key-value cache holds."""
        return self._sequences

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """See :meth:`Engine.stream`."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        parameters = SamplingParams(
            max_tokens=request.max_tokens,
            min_tokens=int(request.forbid_stop_first),
            temperature=request.sampling.temperature,
            top_p=request.sampling.top_p,
            seed=None if request.sampling.temperature == 0 else request.generator_seed,
            stop_token_ids=list(request.stop),
            ignore_eos=True,  # `stop` says all of it
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        outputs = self._engine.generate(
            {"prompt_token_ids": list(request.prompt)},
            parameters,
            str(next(self._names)),
            priority=request.priority,
        )
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    yield _chunk(output.outputs[0])
        except (EngineDeadError, EngineGenerateError, ValueError) as error:
            raise EngineError(f"vllm failed while decoding: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """Stops the engine's processes; raises EngineError when one of them does not go."""
        children = psutil.Process().children(recursive=True)
        self._engine.shutdown()
        _, alive = await asyncio.to_thread(psutil.wait_procs, children, CLOSING_SECONDS)
        for process in alive:
            process.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, alive, CLOSING_SECONDS)
        if alive:
            raise EngineError(f"vllm's processes {[process.pid for process in alive]} do not end")


def _chunk(output: Any) -> Chunk:
    tokens = list(output.token_ids)
    if output.finish_reason is None:
        return Chunk(tokens)
    if output.finish_reason == "stop":
        return Chunk(tokens[:-1], "stop")
    if output.finish_reason == "length":
        return Chunk(tokens, "length")
    raise EngineError(f"vllm ended a request as {output.finish_reason!r}")
