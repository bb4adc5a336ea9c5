"""The judge at work: its model loaded behind an engine, in a Ray actor that is there while it is asked.

It replies greedily, from the chat template of its own tokenizer. Where it cannot be had (no such model, no free GPU, a
server that is away), what it was to be asked is ``ungraded``: the sweep finishes, and ``python -m orchestrator grade``
asks it later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.decode.leftovers import mark
from jobs.evaluate.engines import model as models
from jobs.evaluate.engines.protocol import Engine, EngineError, EngineSpec, Request, ServedModel, start
from jobs.evaluate.engines.registry import chosen
from jobs.evaluate.grading.config import Judge
from jobs.evaluate.grading.judge import Judgements, JudgeQuestion, read_judgements, verdict_of
from jobs.evaluate.grading.workers import Workers
from jobs.evaluate.sweep.ledger import Verdict
from orchestrator.job.context import StepContext, StepInput
from orchestrator.job.errors import StepError
from orchestrator.job.references import Reference

_AT_ONCE = 256
"""Questions in one call: what is lost when the judge goes away in the middle."""
_REPLY_SECONDS = 3600.0
"""For one call."""
_LEAVE_SECONDS = 60.0


class _Actor:
    """Holds the engine; everything in it happens on one event loop."""

    async def start(self, spec: EngineSpec, made: StepInput | None) -> None:
        """Loads the model, which may be one that a step made. Raises EngineError where that fails."""
        mark()
        self._engine: Engine = await start(await asyncio.to_thread(models.fetched, spec, made))

    async def replies(self, requests: Sequence[Request], at_once: int) -> list[list[int]]:
        """The tokens that follow each request."""
        slots = asyncio.Semaphore(at_once)

        async def one(request: Request) -> list[int]:
            async with slots:
                return [token async for chunk in self._engine.stream(request) for token in chunk.tokens]

        return list(await asyncio.gather(*(one(request) for request in requests)))

    async def close(self) -> None:
        """Ends the engine."""
        await self._engine.close()


class JudgeSession:
    """The judge while a step grades. A context manager: leaving it frees what the judge held."""

    def __init__(self, judge: Judge, config: EvaluateConfig, context: StepContext, workers: Workers | None = None):
        self._judge = judge
        self._config = config
        self._context = context
        self._workers = workers or Workers()
        self._model: models.ResolvedModel | None = None
        self._actor: Any = None
        self._away = ""
        """Why it cannot be asked; empty while it can."""
        self._known: Judgements | None = None

    def __enter__(self) -> JudgeSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.__exit__(kind, error, trace)
        if self._actor is None:
            return
        with suppress(RayError):  # it is ended in any case
            ray.get(self._actor.close.remote(), timeout=_LEAVE_SECONDS)
        ray.kill(self._actor)

    def verdicts(self, questions: Sequence[JudgeQuestion]) -> list[Verdict]:
        """Of each question, in order; ``ungraded`` where the judge cannot be asked. Says why, once."""
        known = self._judgements()
        new = [] if known is None else [each for each in dict.fromkeys(questions) if known.find(each) is None]
        for at in range(0, len(new), _AT_ONCE):
            if self._away or known is None:
                break
            self._ask(new[at : at + _AT_ONCE], known)
        judgements = [None if known is None else known.find(each) for each in questions]
        decided = self._workers.judgements([each.reply for each in judgements if each is not None])
        of_found = iter(decided)
        return ["ungraded" if each is None else verdict_of(next(of_found)) for each in judgements]

    def write(self, folder: Path) -> None:
        """Puts what verdicts were taken from into `folder`."""
        if self._known is not None:
            self._known.write(folder)

    def _judgements(self) -> Judgements | None:
        if self._known is None and not self._away:
            try:
                self._model = models.resolve(self._as_model(), self._context)
            except StepError as error:
                self._give_up(str(error))
            else:
                named = self._judge.served_model or str(self._judge.model)
                identity = f"{named} ({self._model.identity})"
                self._known = Judgements(identity, tuple(read_judgements(self._context.output)))
        return self._known

    def _as_model(self) -> EvaluateConfig:
        """The sweep's config with the judge in the model's place: what says how to find a model."""
        changes = {"model": self._judge.model, "context_length": "auto", "dtype": "auto"}
        return self._config.model_copy(update=changes)

    def _ask(self, questions: Sequence[JudgeQuestion], known: Judgements) -> None:
        assert self._model is not None
        model, resources = self._model, self._config.resources.judge
        room = model.context_length - self._judge.max_tokens
        requests = [
            Request(self._prompt(question, room), self._judge.max_tokens, model.end_of_turn) for question in questions
        ]
        try:
            actor = self._started()
            replies = ray.get(actor.replies.remote(requests, resources.in_flight), timeout=_REPLY_SECONDS)
        except (RayError, EngineError, StepError) as error:
            self._give_up(str(getattr(error, "cause", None) or error))
            return
        for question, reply in zip(questions, replies, strict=True):
            known.add(question, str(model.tokenizer.decode(reply, skip_special_tokens=True)))

    def _prompt(self, question: JudgeQuestion, room: int) -> tuple[int, ...]:
        assert self._model is not None
        tokenizer = self._model.tokenizer
        turns = [{"role": "user", "content": question.prompt}]
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        ids = tuple(tokenizer.encode(text, add_special_tokens=False))
        if len(ids) > room:
            raise StepError(
                f"judge: its context has room for {room} tokens of a question, and one takes {len(ids)}: lower "
                "judge.max_tokens, or take a judge with a longer context"
            )
        return ids

    def _started(self) -> Any:
        if self._actor is not None:
            return self._actor
        assert self._model is not None
        model, resources = self._model, self._config.resources.judge
        served = None
        if self._judge.served_model is not None and resources.server is not None:
            served = ServedModel(self._judge.served_model, model.ids, resources.server)
        spec = EngineSpec(
            name=chosen(self._judge.engine, resources.gpus),
            model=model.source,
            revision=model.revision,
            dtype=model.dtype,
            context_length=model.context_length,
            vocabulary=len(model.tokenizer),
            gpus=resources.gpus,
            cpus=resources.cpus,
            served=served,
        )
        actor = ray.remote(_Actor).options(num_cpus=resources.cpus, num_gpus=resources.gpus).remote()
        source, wait = self._judge.model, self._config.resources.wait
        made = self._context.input(source) if isinstance(source, Reference) else None
        began = time.monotonic()
        try:
            ray.get(actor.start.remote(spec, made), timeout=wait)
        except GetTimeoutError:
            ray.kill(actor)
            raise StepError(
                f"judge: it was not given {resources.cpus} CPUs and {resources.gpus} GPUs, or did not load, within "
                f"{time.monotonic() - began:.0f} s (resources.wait): raise it, or ask for less"
            ) from None
        self._actor = actor
        return actor

    def _give_up(self, reason: str) -> None:
        self._away = reason.strip().partition("\n")[0]
        print(f"judge: cannot be asked: {self._away}; its answers are ungraded until `python -m orchestrator grade`")
