"""What is banned is never written, and the rest is drawn as if it had never been there."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import pytest

from jobs.evaluate.decode.banning import BanningEngine
from jobs.evaluate.engines.protocol import Chunk, EngineError, Request, Sampling

PIECES = (b"Wa", b"it", b"b", b"c")
SHARES = (0.4, 0.3, 0.2, 0.1)


@dataclass
class Drawing:
    """An engine that draws each token by the same shares, which are those of what is left where some are forbidden."""

    deaf: bool = False
    cache_tokens: int | None = None

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        for count in range(request.max_tokens):
            chance = random.Random(f"{request.seed} {request.position + count}")
            left = [token for token in range(4) if self.deaf or token not in request.forbidden]
            token = chance.choices(left, [SHARES[token] for token in left])[0]
            yield Chunk([token], "length" if count + 1 == request.max_tokens else None)

    async def close(self) -> None:
        """Holds nothing."""


def drawn(seed: int, tokens: int, *banned: str, deaf: bool = False, position: int = 0) -> list[int]:
    async def all_of_it() -> list[int]:
        engine = BanningEngine(Drawing(deaf), banned, PIECES)
        request = Request((9,), tokens, (), sampling=Sampling(1.0), given=1, seed=seed, position=position)
        return [token async for chunk in engine.stream(request) for token in chunk.tokens]

    return asyncio.run(all_of_it())


def test_a_string_across_tokens_is_not_written_and_its_beginning_is() -> None:
    texts = [b"".join(PIECES[token] for token in drawn(seed, 30, "Wait")) for seed in range(20)]
    assert not any(b"Wait" in text for text in texts)
    assert sum(b"Wa" in text and b"it" in text for text in texts) > 10


@pytest.mark.seconds
def test_what_is_left_is_drawn_by_its_own_shares() -> None:
    """Two of four are banned, so some draws are refused twice."""
    found = Counter(drawn(seed, 1, "Wa", "it")[0] for seed in range(6000))
    assert set(found) == {2, 3}
    assert found[2] / 6000 == pytest.approx(2 / 3, abs=0.025)


def test_a_piece_that_is_continued_is_as_if_undisturbed() -> None:
    whole = drawn(3, 12, "Wa")
    assert drawn(3, 5, "Wa") + drawn(3, 7, "Wa", position=5) == whole


def test_an_engine_that_draws_what_it_was_told_to_leave_out_is_an_error() -> None:
    with pytest.raises(EngineError, match="which it was told to leave out"):
        [drawn(seed, 1, "Wa", "it", "b", deaf=True) for seed in range(20)]
