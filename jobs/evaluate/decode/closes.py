"""Thinking as an engine streams it, ended where all of the close delimiter stands.

Engines stop at single tokens. Where it takes a sequence to end thinking, what may be its beginning is held back until
it is whole, or is none: whoever reads the stream sees thinking alone, as if a single token had ended it, with every
engine and wherever the engine's chunks begin and end.

A match that begins within the budget ends thinking within it, so a few tokens more than the budget are asked for:
whether a policy's thinking ended by itself then does not depend on what other budgets the sweep has.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from jobs.evaluate.engines.protocol import Belief, Chunk, Engine, Request
from jobs.evaluate.sweep.close_search import Search
from jobs.evaluate.sweep.prompts import Forcing


async def thinking_stream(
    engine: Engine, request: Request, forcing: Forcing, known: Sequence[int]
) -> AsyncGenerator[Chunk, None]:
    """What `engine` decodes of a branch, as for a `request` whose stops are all that ends thinking.

    `known` are the branch's tokens from before. Raises EngineError as the engine does.
    """
    if forcing.ends is None:
        async with aclosing(engine.stream(request)) as stream:
            async for chunk in stream:
                yield chunk
        return
    search = Search(forcing.ends)
    before = known[len(known) - min(len(known), forcing.overrun) :]
    search.feed(before)
    decoded: list[int] = []
    beliefs: list[Belief] = []
    given = 0
    async with aclosing(_decoded(engine, request, forcing)) as stream:
        async for tokens, end, believed, _ in stream:
            decoded += tokens
            beliefs += believed
            search.feed(tokens)
            if search.found is not None:
                end, settled = "stop", max(0, search.found - len(before))
            else:
                settled = len(decoded) if end else search.settled - len(before)
            if settled >= request.max_tokens:
                end, settled = "length", request.max_tokens
            if end or settled > given:
                yield Chunk(decoded[given:settled], end, beliefs[given:settled])
                given = settled
            if end:
                return


async def _decoded(engine: Engine, request: Request, forcing: Forcing) -> AsyncGenerator[Chunk, None]:
    """The stream of `request`, and as many tokens more as it takes to see whether thinking ended within it.

    Where the first token may not end thinking, it may not begin the delimiter either: a request of its own sees to it.
    """
    most = request.max_tokens + forcing.overrun
    if request.forbid_stop_first:
        first: list[int] = []
        async with aclosing(engine.stream(replace(request, max_tokens=1, stop=forcing.first_stops))) as stream:
            async for tokens, _, believed, _ in stream:
                first += tokens
                yield Chunk(tokens, None, believed)
        request = request.after(first)
        most -= len(first)
    async with aclosing(engine.stream(replace(request, max_tokens=most))) as stream:
        async for chunk in stream:
            yield chunk
