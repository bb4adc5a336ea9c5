"""Decodes a stream in which some strings are never written, on engines that know nothing of strings.

A token that would complete one is dropped, with all that came after it, and the next is drawn again without it, by a
random stream of its own; so are those that come instead, until one completes none. At temperature 1 that is a draw from
the model's distribution with all such tokens left out: each draw is independent of those that were refused. Engines do
it no better: their own masks are for sequences of ids, of which a string has too many (``" Wait"``, ``"Wa", "it"``).

What is dropped was decoded for nothing, a token or a hand-over of them at a time, and is no token of the trace.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from jobs.evaluate.engines.protocol import Belief, Chunk, Engine, EngineError, Request
from jobs.evaluate.sweep.token_text import Finder


@dataclass(frozen=True)
class BanningEngine:
    """An engine that decodes thinking in which none of `banned` is written."""

    engine: Engine
    banned: Sequence[str]
    pieces: Sequence[bytes]
    """What each id says."""

    @property
    def cache_tokens(self) -> int | None:
        """The engine's own."""
        return self.engine.cache_tokens

    def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """See :meth:`Engine.stream`."""
        finder = Finder(self.banned, self.pieces)
        for token in request.written:
            finder.add(token)
        return _stream_without(self.engine, request, finder)

    async def close(self) -> None:
        """See :meth:`Engine.close`."""
        await self.engine.close()


async def _stream_without(engine: Engine, request: Request, finder: Finder) -> AsyncGenerator[Chunk, None]:
    """The stream of `request`, none of whose tokens completes a string of `finder`. Raises EngineError."""
    written: list[int] = []
    while True:
        refused = None
        async with aclosing(engine.stream(request.after(written))) as stream:
            async for chunk in stream:
                kept: list[int] = []
                for token in chunk.tokens:
                    if finder.completes(token):
                        refused = token
                        break
                    finder.add(token)
                    kept.append(token)
                written += kept
                if refused is not None:
                    if kept:
                        yield chunk.first(len(kept))
                    break
                yield chunk
                if chunk.end is not None:
                    return
        if refused is None:
            raise EngineError("the engine ended a stream without saying why")
        instead = await _another(engine, request.after(written), finder, refused)
        written += instead.tokens
        whole = instead.end == "length" and len(written) < request.max_tokens
        yield instead._replace(end=None) if whole else instead
        if not whole:
            return


async def _another(engine: Engine, request: Request, finder: Finder, refused: int) -> Chunk:
    """One more token, or a stop, instead of `refused`."""
    forbidden = [refused]
    while True:
        name = repr((request.seed, request.position, tuple(forbidden)))
        seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) >> 2
        draw = replace(request, max_tokens=1, forbidden=tuple(forbidden), seed=seed, position=0)
        drawn, ended, beliefs = list[int](), None, list[Belief]()
        async with aclosing(engine.stream(draw)) as stream:
            async for tokens, end, believed, _ in stream:
                drawn += tokens
                beliefs += believed
                ended = end
        if not drawn:
            return Chunk([], ended)
        (token,) = drawn
        if token in forbidden:
            raise EngineError(f"the engine drew id {token}, which it was told to leave out")
        if not finder.completes(token):
            finder.add(token)
            return Chunk([token], "length", beliefs)
        forbidden.append(token)
