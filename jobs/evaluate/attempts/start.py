"""Brings a model up to be tried: from a sweep's own fields, or from a model alone."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import dataclass, replace

import click
from pydantic import ValidationError

from jobs.evaluate.attempts.attempt import Settings
from jobs.evaluate.attempts.log import Log
from jobs.evaluate.attempts.once import once
from jobs.evaluate.attempts.quiet import Quiet
from jobs.evaluate.attempts.session import MOST_AT_ONCE, Session
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.engines import model as models
from jobs.evaluate.engines import starting
from jobs.evaluate.engines.protocol import EngineError, EngineSpec
from jobs.evaluate.sweep.prompts import Prompter
from orchestrator.display import console
from orchestrator.job.context import StepContext, StepInput
from orchestrator.job.errors import StepError
from orchestrator.job.record import TryRequest
from orchestrator.job.references import Reference


@dataclass(frozen=True)
class Ready:
    """Everything but the engine."""

    prompter: Prompter
    engine: EngineSpec
    made: StepInput | None
    """The step that made the model."""
    answer_tokens: int
    settings: Settings
    name: str

    async def start(self) -> Session:
        """Loads the model and starts its engine. Raises EngineError and StoreError."""
        engine = await starting.start(self.engine, self.made)
        return Session(self.prompter, engine, self.engine.context_length, self.answer_tokens, self.name)


def config_of(request: TryRequest) -> EvaluateConfig:
    """A sweep's config with the model of a request, and questions that it never asks. Raises StepError."""
    fields = {"template": "auto", **request.fields, "model": request.model, "tasks": ["letters"]}
    try:
        return EvaluateConfig.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "model"
        raise StepError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None


def ready(config: EvaluateConfig, context: StepContext) -> Ready:
    """Reads the model's small files. Raises StepError where it cannot be tried."""
    if config.chat is not None:
        raise StepError("chat: a server that only chats cannot be steered while it thinks: try a model of your own")
    model = models.resolve(config, context)
    prompter = Prompter(model.tokenizer, config.template.style, model.end_of_turn, config.instructions)
    sampling = models.sampling(config, model)
    return Ready(
        prompter=prompter,
        engine=replace(models.engine(config, model, sampling, 2 * MOST_AT_ONCE), in_flight=MOST_AT_ONCE),
        made=context.input(config.base) if isinstance(config.base, Reference) else None,
        answer_tokens=models.answer_tokens(config, model),
        settings=Settings(sampling, seed=config.seed),
        name=context.name if isinstance(config.base, Reference) else str(config.model),
    )


def try_model(config: EvaluateConfig | None, context: StepContext, request: TryRequest) -> None:
    """Brings the model up, and lets somebody try it: a question, a prompt or a page. Raises StepError."""
    if request.ask is None and request.port is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise StepError("a prompt needs a terminal: give --ask or --page")
    with asyncio.Runner() as runner, Quiet() as quiet:
        try:
            up = ready(config or config_of(request), context)
            session = runner.run(up.start())
        except EngineError as error:
            raise StepError(str(error).strip().partition("\n")[0]) from None
        quiet.speak()
        try:
            _opened(runner, session, _settings(up.settings, request), request)
        except EngineError as error:
            raise StepError(f"the engine failed: {error}") from None
        finally:
            runner.run(session.close())


def _settings(settings: Settings, request: TryRequest) -> Settings:
    sampling = settings.sampling
    if request.temperature is not None:
        sampling = replace(sampling, temperature=request.temperature)
    seed = settings.seed if request.seed is None else request.seed
    return Settings(sampling, request.budget, request.effort, seed)


def _opened(runner: asyncio.Runner, session: Session, settings: Settings, request: TryRequest) -> None:
    log = Log(request.save, session.name)
    if request.ask is not None:
        runner.run(once(session, settings, request, console(), log))
        return
    if request.port is not None:
        from jobs.evaluate.attempts.page import serve

        try:
            with suppress(KeyboardInterrupt):
                runner.run(serve(session, settings, log, request.port, click.echo))
        except OSError as error:
            raise StepError(f"--port: {request.port}: {error.strerror}: give another, or none") from None
        return
    from jobs.evaluate.attempts.terminal import Prompt  # needs a terminal's modules, which not every system has

    Prompt(session, settings, runner, console(), log).run()
