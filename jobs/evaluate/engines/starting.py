"""What a replica does first, in its own process: it sees that its machine has the model, and starts the engine.

A room of its own, because a process imports the module of whatever it is handed: with the sweep's
(:mod:`jobs.evaluate.run`) come tables, statistics and plots, and every replica would load them for seconds before its
model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from jobs.evaluate.engines import protocol
from jobs.evaluate.engines.protocol import Engine, EngineSpec
from jobs.evaluate.engines.weights import fetch, untold
from orchestrator.job.context import StepInput


def fetched(engine: EngineSpec, made: StepInput | None, tell: Callable[[int, int], None] = untold) -> EngineSpec:
    """The engine with its model in a folder of this machine, to which it is fetched first where that was not done:
    what a step made from the store, a name from the hub. `tell` is told how many bytes of how many are there.

    Raises EngineError and StoreError where it cannot be had.
    """
    if engine.adapter is not None and engine.adapter.revision is not None:
        folder = fetch(engine.adapter.source, engine.adapter.revision, tell)
        engine = replace(engine, adapter=replace(engine.adapter, source=str(folder), revision=None))
    if made is not None:
        return replace(engine, model=str(made.output))
    if engine.revision is None:  # a folder already, or a server's own
        return engine
    return replace(engine, model=str(fetch(engine.model, engine.revision, tell)), revision=None)


def fetch_model(engine: EngineSpec, made: StepInput | None, tell: Callable[[int, int], None]) -> None:
    """Sees that this machine has the model."""
    fetched(engine, made, tell)


async def start(engine: EngineSpec, made: StepInput | None) -> Engine:
    """Starts the engine on this machine, which has the model."""
    return await protocol.start(await asyncio.to_thread(fetched, engine, made))
