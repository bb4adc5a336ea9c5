"""One question without a prompt: left to itself, then with each string appended, then cut where that is asked for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import click
from rich.console import Console

from jobs.evaluate.attempts.attempt import Attempt, Settings
from jobs.evaluate.attempts.log import Log
from jobs.evaluate.attempts.session import Session, Unsteerable
from jobs.evaluate.attempts.show import attempt_text, comparison
from orchestrator.job.errors import StepError
from orchestrator.job.record import TryRequest


async def once(session: Session, settings: Settings, request: TryRequest, out: Console, log: Log) -> None:
    """Tries it, and shows each attempt as it is finished. Raises StepError for a question that cannot be asked."""
    async for attempt in _attempts(session, settings, request):
        log.add(attempt)
        if request.as_json:
            click.echo(json.dumps({"model": session.name, **attempt.record()}))
        else:
            out.print(attempt_text(attempt), end="\n\n", soft_wrap=True)
    if not request.as_json and len(session.attempts) > 1:
        out.print(comparison(session.attempts))


async def _attempts(session: Session, settings: Settings, request: TryRequest) -> AsyncIterator[Attempt]:
    assert request.ask is not None
    settings = replace(settings, budget=request.budget)
    try:
        first = last = session.ask(request.ask, settings)
    except Unsteerable as error:
        raise StepError(f"--ask: {error}") from None
    await session.decode(first)
    yield first
    for text in request.append:
        try:
            last = session.append(last, text, settings)
        except Unsteerable as error:
            click.echo(f"--append: {error}", err=True)
            break
        await session.decode(last)
        yield last
    for at in request.cut:
        try:
            cut = session.cut(first, settings, at)
        except Unsteerable as error:
            click.echo(f"--cut: {error}", err=True)
            continue
        await session.decode(cut)
        yield cut
