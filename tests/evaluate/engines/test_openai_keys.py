"""A server's key: where it comes from, where it goes, and that no message has it."""

from __future__ import annotations

import asyncio
import json
import pickle
import traceback

import pytest
from aiohttp import web

from jobs.evaluate.engines.protocol import EngineError, start
from tests.evaluate.scripted_server import (
    DONE,
    PROBE,
    STOP,
    Part,
    Scripted,
    decoded,
    event,
    line,
    spec,
)

KEY = "sk-canary-41c7d2"
VARIABLE = "SCRIPTED_SERVER_KEY"


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, f"{VARIABLE} is not set where replicas run"), ("", "is not set"), (f"{KEY}\n", "is not a key")],
)
def test_a_key_that_is_none_is_said_without_it(monkeypatch: pytest.MonkeyPatch, value: str | None, said: str) -> None:
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(EngineError, match=said) as caught:
        asyncio.run(start(spec("http://127.0.0.1:1/v1", key_variable=VARIABLE)))
    assert KEY not in str(caught.value)


class Echo(Scripted):
    """Says the key back, in every way there is."""

    def __init__(self, way: str):
        super().__init__()
        self.way = way

    async def complete(self, request: web.Request) -> web.StreamResponse:
        given = request.headers["Authorization"]
        self.scripts = [PROBE, self.answer(given)]
        return await super().complete(request)

    def answer(self, given: str) -> list[Part] | web.Response:
        match self.way:
            case "refusal":
                return web.Response(status=401, text=json.dumps({"error": {"message": f"bad: {given}"}}))
            case "page":
                return web.Response(text=given, headers={"Content-Type": f"text/{given.split()[-1]}"})
            case "error":
                return [line({"error": {"message": given}})]
            case "end":
                return [event([4], given)]
            case "edge":
                return [b"data: " + b"x" * 200 + given.encode() * 9 + b"\n\n"]
            case _:
                return [line({"choices": [{"token_ids": given}]})]


@pytest.mark.parametrize("way", ["refusal", "page", "error", "end", "edge", "ids"])
def test_a_key_that_is_said_back_is_in_no_message(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    with pytest.raises(EngineError) as caught:
        decoded(Echo(way), key_variable=VARIABLE)
    error = caught.value
    for said in (str(error), "".join(traceback.format_exception(error)), repr(pickle.dumps(error))):
        assert KEY[: len(KEY) // 2] not in said


def test_no_key_is_sent_that_was_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    class Listening(Scripted):
        given = ""

        async def complete(self, request: web.Request) -> web.StreamResponse:
            self.given += str(request.headers)
            return await super().complete(request)

    scripted = Listening([event([STOP], "stop"), DONE])
    decoded(scripted)
    assert scripted.given
    assert KEY not in scripted.given
