"""A language model for tests: a seeded pure function of the prefix, behind the protocol of engines.

Tokens 0 and 1 are stops (close, end of turn), 2 is a newline; the rest, up to 16, are words.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import resource
import time
from array import array
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobs.evaluate.engines import protocol
from jobs.evaluate.engines.protocol import Chunk, Engine, EngineError, EngineSpec, Request
from jobs.evaluate.sweep.close_search import Pattern
from jobs.evaluate.sweep.prompts import Forcing

CLOSE, END_OF_TURN, NEWLINE, FINAL, FIRST_WORD, VOCABULARY = 0, 1, 2, 3, 4, 16
INJECTED_NEWLINE = 31
"""Ends in a newline, and is never decoded."""
STEP = (NEWLINE, NEWLINE)
"""The header of a step."""
WORDS = (b"a", b"b", b"ab", b"ba", b"c", b" ", b"\xe2\x82", b"\xac", b"d", b"e", b"f", b"g")
PIECES = (b"</think>", b"<end>", b"\n", b":", *WORDS, *(b"w" for _ in range(16)))
"""What each token says. Two of them are halves of a character."""
CLOSINGS = {"Time is up.\n{close}": ((21, 22, 23, 24), ()), "So:": ((), (NEWLINE, 25))}
"""Longer than the usual one, and as long."""


SPELLED = Pattern("</>", {CLOSE: "<", 5: "/>", 6: ">", 7: "/", 8: "x<", 9: ">x"})
"""A close delimiter that takes several tokens, which may be spelled in several ways and begin within a token."""


def forcing(injected: dict[str, tuple[int, ...]], step: tuple[int, ...] = (), ends: Pattern | None = None) -> Forcing:
    return Forcing(
        close=(CLOSE, 5),
        newline=(NEWLINE,),
        final=(NEWLINE, FINAL),
        newline_ends=frozenset({NEWLINE, INJECTED_NEWLINE}),
        end_of_turn=(END_OF_TURN,),
        injected=injected,
        step=step,
        ends=ends,
        closings=CLOSINGS,
        pieces=PIECES,
    )


@dataclass(frozen=True)
class Script:
    """Which token follows a prefix. `stop_share` of 256 prefixes end: 0 never, 256 as soon as allowed."""

    seed: int
    stop_share: int

    def next(self, prefix: Sequence[int], stop: Sequence[int], forbid_stop: bool, forbidden: Sequence[int] = ()) -> int:
        """The likeliest token that is allowed: a prefix has an order of them."""
        key = self.seed.to_bytes(8, "little")
        for place in itertools.count():
            said = array("i", prefix).tobytes() + bytes(place)
            digest = hashlib.blake2b(said, digest_size=4, key=key).digest()
            token = FIRST_WORD + digest[3] % (VOCABULARY - FIRST_WORD)
            if digest[0] < self.stop_share and not forbid_stop:
                token = stop[digest[1] % len(stop)]
            elif digest[2] % 5 == 0:
                token = NEWLINE
            if token not in forbidden:
                return token
        raise AssertionError("there is always another")


class Speller(Script):
    """Often writes what may become :data:`SPELLED`, and may not."""

    def next(self, prefix: Sequence[int], stop: Sequence[int], forbid_stop: bool, forbidden: Sequence[int] = ()) -> int:
        token = super().next(prefix, stop, forbid_stop, forbidden)
        chance = (sum(prefix) * 31 + self.seed + len(prefix)) % 16
        if token in stop or (chance > 9 and prefix[-1] not in (CLOSE, 7, 8)):
            return token
        if prefix[-1] in (CLOSE, 8):
            after = (5, 7, 5, 6, CLOSE)[chance % 5]
            return 5 if forbid_stop and after in stop else after
        return CLOSE if chance < 4 and not forbid_stop else (6, 9, 7, 8)[chance % 4]


@dataclass
class ScriptedEngine:
    """Streams what the script says, in chunks of one to `chunk` tokens, and counts what is asked of it."""

    script: Script
    chunk: int = 1
    fail_after: int | None = None
    """Requests after which every stream fails."""
    delay: float = 0
    """Seconds that each chunk takes."""
    hang_after: int | None = None
    """Requests after which no stream goes on."""
    holds_loop: bool = False
    """Whether a hanging engine lets nothing else in its process go on either."""
    requests: list[Request] = field(default_factory=list)
    open: int = 0
    decoded: int = 0
    closed: bool = False

    @property
    def cache_tokens(self) -> int | None:
        return None

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.requests.append(request)
        self.open += 1
        try:
            prefix = list(request.prompt)
            pending: list[int] = []
            for count in range(request.max_tokens):
                if self.fail_after is not None and len(self.requests) > self.fail_after:
                    raise EngineError("the script says so")
                if self.hang_after is not None and len(self.requests) > self.hang_after:
                    if self.holds_loop:
                        time.sleep(3600)
                    await asyncio.Event().wait()
                token = self.script.next(
                    prefix, request.stop, request.forbid_stop_first and count == 0, request.forbidden
                )
                if token in request.stop:
                    yield Chunk(pending, "stop")
                    return
                self.decoded += 1
                prefix.append(token)
                pending.append(token)
                if count + 1 < request.max_tokens and len(pending) > len(prefix) % self.chunk:
                    yield Chunk(pending)
                    pending = []
                    await asyncio.sleep(self.delay)
            yield Chunk(pending, "length")
        finally:
            self.open -= 1

    async def close(self) -> None:
        self.closed = True


async def start(pids: Path, script: Script, fail_after: int | None = None, delay: float = 0) -> ScriptedEngine:
    """For replicas. Leaves a file named by its process, so that a test can kill it."""
    (pids / str(os.getpid())).touch()
    return ScriptedEngine(script, fail_after=fail_after, delay=delay)


async def start_and_hang_once(pids: Path, script: Script, holds_loop: bool) -> ScriptedEngine:
    """Only the first engine that is started hangs, after a while."""
    first = not any(pids.iterdir())
    engine = await start(pids, script, delay=0.005)
    engine.hang_after = 40 if first else None
    engine.holds_loop = holds_loop
    return engine


async def start_on_a_full_disk(pids: Path, script: Script, most: int) -> ScriptedEngine:
    """No file of the replica's process can grow beyond `most` bytes, which is what a full disk looks like to it."""
    engine = await start(pids, script)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    return engine


async def start_real(pids: Path, spec: EngineSpec) -> Engine:
    """A real engine, in a process that leaves a file with its name."""
    (pids / str(os.getpid())).touch()
    return await protocol.start(spec)


async def start_in_vain() -> ScriptedEngine:
    """An engine that cannot be started."""
    raise EngineError("out of memory")
