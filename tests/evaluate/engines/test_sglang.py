"""Budget forcing on a server that speaks SGLang's dialect: a stand-in that knows its fields, its checks and its errors.

Written after SGLang's ``entrypoints/openai/protocol.py``, ``serving_completions.py``, ``sampling_params.py`` and
``schedule_batch.py``: fields that it does not know are passed over, ``top_k`` is -1 or from 1, ``ignore_eos`` has it
look for no stop at all, and what ends a completion is its last id.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from pydantic import BaseModel

from jobs.evaluate.decode.walker import Walker
from jobs.evaluate.engines.protocol import EngineError, Request, Sampling
from jobs.evaluate.sweep.policies.baseline import Baseline
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.closings import ClosedBy
from jobs.evaluate.sweep.policies.extensions import Extension
from jobs.evaluate.sweep.policies.stop_strings import StopStrings
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.sweep.tree import Room, grow, leaf
from jobs.evaluate.traces.segments import Segment, Trace
from tests.evaluate.oracle import alone
from tests.evaluate.scripted import END_OF_TURN, Script, forcing
from tests.evaluate.scripted_server import CONTEXT, DONE, Scripted, engine_of, line, whole

INJECTED = {"Wait": (16,), "": ()}
FORCING = forcing(INJECTED)
POLICIES: list[Policy] = [
    Budget(4),
    Budget(12),
    Budget(),
    Baseline(),
    Extension(None, "Wait", 2),
    Extension(20, "", 1),
    StopStrings(("ab", "c")),
    ClosedBy(Budget(12), ""),
]


class Asked(BaseModel):
    """What it reads of a request to complete."""

    model: str
    prompt: list[int]
    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    min_tokens: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    logit_bias: dict[str, float] | None = None
    return_token_ids: bool = False
    stream: bool = False

    def problem(self) -> str | None:
        if self.top_k != -1 and self.top_k < 1:
            return f"top_k must be -1 (disable) or at least 1, got {self.top_k}."
        if self.min_tokens > self.max_tokens:
            return f"min_new_tokens must be in [0, max_new_tokens({self.max_tokens})], got {self.min_tokens}."
        if len(self.prompt) + self.max_tokens > CONTEXT:
            return f"Requested token count exceeds the model's maximum context length of {CONTEXT} tokens."
        return None


class Sglang(Scripted):
    """Decodes what a script says."""

    def __init__(self, script: Script, end_of_turn: int = END_OF_TURN):
        super().__init__()
        self.script, self.end_of_turn = script, end_of_turn
        card = {"id": "m", "object": "model", "created": 1, "owned_by": "sglang", "root": "m", "parent": None}
        self.models = {"object": "list", "data": [card | {"max_model_len": CONTEXT}]}

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await request.json()
        self.bodies.append(body)
        asked = Asked.model_validate(body)
        if problem := asked.problem():
            error = {"object": "error", "message": problem, "type": "BadRequestError", "param": None, "code": 400}
            return web.json_response(error, status=400)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        tokens, end = self.decode(asked)
        for at in range(0, len(tokens), 3):
            last = at + 3 >= len(tokens)
            matched = tokens[-1] if last and end == "stop" else None
            choice = {"index": 0, "text": "…", "logprobs": None, "finish_reason": end if last else None}
            choice |= {"matched_stop": matched, "token_ids": tokens[at : at + 3]}
            choice |= {} if at else {"prompt_token_ids": asked.prompt}
            await response.write(line({"id": "1", "object": "text_completion", "model": "m", "choices": [choice]}))
        await response.write(DONE)
        return response

    def decode(self, asked: Asked) -> tuple[list[int], str]:
        stops = () if asked.ignore_eos else (*(asked.stop_token_ids or ()), self.end_of_turn)
        banned = [int(token) for token, bias in (asked.logit_bias or {}).items() if bias == -100]
        tokens: list[int] = []
        while len(tokens) < asked.max_tokens:
            early = len(tokens) < asked.min_tokens
            may_say = tuple(dict.fromkeys(asked.stop_token_ids or (self.end_of_turn,)))
            tokens.append(self.script.next((*asked.prompt, *tokens), may_say, early, banned))
            if tokens[-1] in stops:
                return tokens, "stop"
        return tokens, "length"


@pytest.mark.parametrize("banned", [(), ("a",)])
@pytest.mark.parametrize("seed", range(3))
def test_every_policy_comes_to_what_it_comes_to_alone(seed: int, banned: tuple[str, ...]) -> None:
    script = Script(seed, 24)
    tree = grow(POLICIES, {string: len(ids) for string, ids in INJECTED.items()}, 0, FORCING.longer)
    unit = Unit("item", 0, (5, 6, 7), Room(40, 8), banned=banned)
    trace, kept = Trace(unit, FORCING), list[Segment]()

    async def walk() -> None:
        async with engine_of(Sglang(script)) as engine:
            await Walker(engine, tree, FORCING, Sampling(), 0, kept.append).walk(unit, trace)

    asyncio.run(walk())
    for policy in POLICIES:
        expected, got = alone(policy, unit, script, FORCING), leaf(tree, policy, unit.room, trace.extent)
        answer = () if got.answer is None else tuple(trace.tokens(got.answer))[: got.answer_tokens]
        assert (got.thinking_tokens, got.thinking_end) == (len(expected.thinking), expected.thinking_end)
        assert (answer, got.answer_end) == (expected.answer, expected.answer_end)


def said(server: Sglang, request: Request) -> str:
    async def use() -> None:
        async with engine_of(server) as engine:
            await whole(engine, request)

    with pytest.raises(EngineError) as caught:
        asyncio.run(use())
    return str(caught.value)


def test_a_penalty_that_it_counts_otherwise_is_one_line() -> None:
    asked = Request((1, 2, 3), 20, (0,), sampling=Sampling(repetition_penalty=1.1))
    assert said(Sglang(Script(0, 0)), asked) == (
        "repetition_penalty: SGLang counts what one request writes, not whole traces: leave it out"
    )


def test_a_request_beyond_its_context_is_told_in_its_words() -> None:
    message = said(Sglang(Script(0, 0)), Request((1,) * 60, 20, (0,)))
    assert message.startswith("the server refused a request with 400: ")
    assert "exceeds the model's maximum context length of 64 tokens" in message
    assert "\n" not in message


def test_an_end_of_its_own_that_is_none_of_the_models_is_seen() -> None:
    """A server of another model: it stops where its own tokenizer ends a turn."""
    word = Script(0, 0).next((1, 2, 3), (0,), False)
    message = said(Sglang(Script(0, 0), end_of_turn=word), Request((1, 2, 3), 20, (0,)))
    assert message == f"the server stopped at [{word}], which is none of its stops"
