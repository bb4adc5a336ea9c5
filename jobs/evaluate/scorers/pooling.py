"""Reward models in vLLM's pooling runner: process reward models score steps, outcome reward models whole replies.

A process reward model is given the whole trace in one prompt, with a tag after each step, and says at each tag how good
that step is; the last is the score. vLLM has neither a prefix cache nor chunked prefill for that, so every score reads
the whole prompt, and a step of the engine must hold the longest. Where no tag is found it returns nothing and no error;
here that is one.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import psutil

from jobs.evaluate.engines.log_tail import log_tail
from jobs.evaluate.engines.protocol import EngineError, own_cards
from jobs.evaluate.engines.starting import fetched
from jobs.evaluate.engines.vllm import CLOSING_SECONDS, common, environment, processes_of, with_reason
from jobs.evaluate.scorers.layout import Layout, layout, single
from jobs.evaluate.scorers.protocol import ScorerSpec, Standing, StepScore
from jobs.evaluate.sweep.prompts import Prompter


async def start_process(spec: ScorerSpec) -> ProcessScorer:
    """Loads a process reward model."""
    assert spec.reader is not None, "it has a model"
    assert spec.tag is not None, "and its steps have a tag"
    tag = single(spec.reader, spec.tag, "tag")
    return ProcessScorer(spec, await _start(spec, "token_classify", step_tag_id=tag), layout(spec))


async def start_outcome(spec: ScorerSpec) -> OutcomeScorer:
    """Loads an outcome reward model."""
    return OutcomeScorer(spec, await _start(spec, "classify"), layout(spec))


class ProcessScorer:
    """Scores the last step of a trace."""

    def __init__(self, spec: ScorerSpec, model: _Pooling, written: Layout):
        self._spec = spec
        self._model = model
        self._layout = written

    async def score(self, standing: Standing) -> StepScore:
        """See :meth:`jobs.evaluate.scorers.protocol.Scorer.score`."""
        prompt = self._layout.prompt(self._spec.question(standing.unit), self._spec.texts(standing))
        scores = await self._model.encode(prompt, "token_classify")
        return StepScore(last_tag(scores), len(prompt))

    async def close(self) -> None:
        """Ends the engine."""
        await self._model.close()


class OutcomeScorer:
    """Scores a trace with the answer that it gives where it stands."""

    def __init__(self, spec: ScorerSpec, model: _Pooling, written: Layout):
        writer = spec.writer
        self._spec = spec
        self._model = model
        self._layout = written
        self._prompter = Prompter(writer.tokenizer, writer.template, writer.end_of_turn, writer.said)

    async def score(self, standing: Standing) -> StepScore:
        """See :meth:`jobs.evaluate.scorers.protocol.Scorer.score`."""
        assert standing.answer is not None, "it reads answers"
        answer = self._prompter.answer(standing.closing, standing.answer)
        steps = [*self._spec.texts(standing), f"\n{answer.strip()}"]
        prompt = self._layout.prompt(self._spec.question(standing.unit), steps)
        logits = await self._model.encode(prompt, "classify", use_activation=False)
        return StepScore(share_of_last(logits.flatten().tolist()), len(prompt))

    async def close(self) -> None:
        """Ends the engine."""
        await self._model.close()


def last_tag(scores: Any) -> float:
    """The chance that the step before the last tag is good; `scores` are [tags, 2]. Raises EngineError for no tags."""
    if not len(scores):
        raise EngineError("the scorer found no tag in a trace: search.scorer.tag is not what its model scores at")
    return float(scores[-1][-1])


def share_of_last(logits: Sequence[float]) -> float:
    """The chance of the last label; of a single one, the logistic function of its logit: 0 … 1 whatever a checkpoint
    says of its activation, so that traces can vote by it."""
    if len(logits) == 1:
        return 1 / (1 + math.exp(min(-logits[0], 700)))
    most = max(logits)
    return math.exp(logits[-1] - most) / math.fsum(math.exp(each - most) for each in logits)


async def _start(spec: ScorerSpec, task: str, **pooler: Any) -> _Pooling:
    """Loads the model of `spec`. Raises EngineError where it cannot do that `task` of vLLM's."""
    assert spec.engine is not None, "it has a model"
    engine = await asyncio.to_thread(fetched, spec.engine, spec.made)
    environment(engine)

    from vllm.config.pooler import PoolerConfig
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    arguments = common(engine) | {
        "runner": "pooling",
        "skip_tokenizer_init": True,
        "pooler_config": PoolerConfig(**pooler),
        "max_num_batched_tokens": max(engine.context_length, MOST_TOKENS),
    }
    with log_tail() as tail:
        try:
            config = AsyncEngineArgs(**arguments).create_engine_config(UsageContext.ENGINE_CONTEXT)
            with own_cards(engine):
                started = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
        except (RuntimeError, ValueError, OSError, MemoryError) as error:
            raise EngineError(f"vllm cannot load {engine.model}: {with_reason(error, tail)}") from error
    model = _Pooling(started, tail)
    if task not in (able := await started.get_supported_tasks()):
        await model.close()
        raise EngineError(
            f"{engine.model} is no reward model of kind {spec.kind}: vllm has {task} for those, and for this one "
            f"{', '.join(able)}: give one, or another kind"
        )
    return model


MOST_TOKENS = 8192
"""Of a step of the engine: several prompts at once."""


class _Pooling:
    """An AsyncLLM that pools."""

    def __init__(self, engine: Any, tail: deque[str]):
        self._engine = engine
        self._tail = tail
        self._names = itertools.count()
        self._processes = processes_of(engine)

    async def encode(self, prompt: tuple[int, ...], task: str, **parameters: Any) -> Any:
        """What the model says of `prompt`, as a tensor; `parameters` are vLLM's PoolingParams."""
        from vllm import PoolingParams
        from vllm.inputs import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        said: Any = None
        try:
            outputs = self._engine.encode(
                tokens_input(list(prompt)), PoolingParams(task=task, **parameters), f"score-{next(self._names)}"
            )
            async for output in outputs:
                said = output.outputs.data
        except (EngineDeadError, EngineGenerateError, TimeoutError, ValueError) as error:
            raise EngineError(f"vllm failed while scoring: {with_reason(error, self._tail)}") from error
        return said

    async def close(self) -> None:
        """Stops the engine's processes, and no others."""
        self._engine.shutdown()
        _, alive = await asyncio.to_thread(psutil.wait_procs, self._processes, CLOSING_SECONDS)
        for process in alive:
            process.kill()
