"""The client of servers against one that does what a test says: everything that goes wrong is seen, and said."""

from __future__ import annotations

import asyncio
import json
import pickle
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from jobs.evaluate.config import Config
from jobs.evaluate.engines import Engine, EngineError, EngineSpec, Request, Sampling, ServedModel, start
from jobs.evaluate.engines.turns import Turns
from jobs.evaluate.run import prepare
from jobs.evaluate.server import Server
from orchestrator.step import StepContext
from tests.evaluate import tiny

VOCABULARY, IDS, CONTEXT = 100, 103, 64
STOP = 7
REQUEST = Request((1, 2, 3), 5, (STOP, 8))
KEY = "sk-canary-41c7d2"
VARIABLE = "SCRIPTED_SERVER_KEY"

CUT, SILENCE = object(), object()
Part = bytes | object
Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def event(tokens: list[int], end: str | None = None, **more: object) -> bytes:
    return line({"choices": [{"index": 0, "text": "\u2028", "token_ids": tokens, "finish_reason": end, **more}]})


def line(value: object) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


DONE = b"data: [DONE]\n\n"
PROBE = [event([0], "length"), DONE]


class Scripted:
    """Answers each request with the next script; the last one again and again. The first is the engine's own probe."""

    def __init__(self, *scripts: list[Part] | web.Response):
        self.scripts = [PROBE, *scripts]
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.models: object = {"object": "list", "data": [{"id": "m", "max_model_len": CONTEXT}]}
        self.left = asyncio.Event()

    async def complete(self, request: web.Request) -> web.StreamResponse:
        script = self.scripts[min(len(self.bodies), len(self.scripts) - 1)]
        self.bodies.append(await request.json())
        self.times.append(time.monotonic())
        if isinstance(script, web.Response):
            return web.Response(status=script.status, body=script.body, headers=script.headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in script:
            if part is CUT:
                assert request.transport is not None
                request.transport.abort()
            elif part is SILENCE:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.left.set()
                    raise
            else:
                assert isinstance(part, bytes)
                await response.write(part)
        return response

    async def list_models(self, request: web.Request) -> web.Response:
        if isinstance(self.models, web.Response):
            return self.models
        return web.json_response(self.models)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/v1/completions", self.complete)
        app.router.add_get("/v1/models", self.list_models)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()


def spec(url: str, **access: Any) -> EngineSpec:
    server = Server(**({"url": url, "retries": 1, "deadline": 20} | access))
    return EngineSpec("openai", "m", None, "float32", CONTEXT, VOCABULARY, 0, 1, ServedModel("m", IDS, server))


@asynccontextmanager
async def engine_of(scripted: Scripted, **access: Any) -> AsyncIterator[Engine]:
    async with scripted.serving() as url:
        engine = await start(spec(url, **access))
        try:
            yield engine
        finally:
            await engine.close()


async def whole(engine: Engine, request: Request) -> tuple[list[int], str | None]:
    tokens: list[int] = []
    end = None
    async with aclosing(engine.stream(request)) as chunks:
        async for chunk in chunks:
            tokens += chunk.tokens
            end = chunk.end
    return tokens, end


def decoded(scripted: Scripted, request: Request = REQUEST, **access: Any) -> tuple[list[int], str | None]:
    async def use() -> tuple[list[int], str | None]:
        async with engine_of(scripted, **access) as engine:
            return await whole(engine, request)

    return asyncio.run(use())


def test_a_request_says_all_that_it_means() -> None:
    scripted = Scripted([event([4, 5], prompt_token_ids=[1, 2, 3]), line({"choices": []}), event([STOP], "stop"), DONE])
    assert decoded(scripted) == ([4, 5], "stop")
    body = scripted.bodies[1]
    assert body["prompt"] == [1, 2, 3]
    assert (body["max_tokens"], body["min_tokens"], body["stop_token_ids"]) == (5, 0, [STOP, 8])
    assert (body["temperature"], body["top_p"], body["top_k"], body["ignore_eos"]) == (0, 1, 0, True)
    assert body["logit_bias"] == {"100": -100, "101": -100, "102": -100}
    assert body["return_token_ids"] is True
    assert "seed" not in body


def test_a_sampled_request_has_a_seed_that_position_changes() -> None:
    scripted = Scripted([event([4], "length"), DONE])
    sampled = Request((1,), 1, (), True, Sampling(0.7, 0.9), seed=2**61)
    later = Request((1,), 1, (), True, Sampling(0.7, 0.9), seed=2**61, position=1)

    async def use() -> None:
        async with engine_of(scripted) as engine:
            for request in (sampled, sampled, later):
                await whole(engine, request)

    asyncio.run(use())
    first, same, other = (body["seed"] for body in scripted.bodies[1:])
    assert first == same != other
    assert max(first, other) < 2**63
    assert (scripted.bodies[1]["temperature"], scripted.bodies[1]["top_p"]) == (0.7, 0.9)
    assert scripted.bodies[1]["min_tokens"] == 1


def test_events_may_come_in_any_pieces() -> None:
    stream = event([4, 5]) + b": still here\r\n\r\n" + event([6, STOP], "stop") + DONE
    assert decoded(Scripted([stream[index : index + 7] for index in range(0, len(stream), 7)])) == ([4, 5, 6], "stop")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ([event([4] * 6)], "ignored max_tokens: 6 tokens came, of 5 at most"),
        ([event([4] * 3), event([4] * 3, "length"), DONE], "ignored max_tokens: 6 tokens came"),
        ([event([4] * 3, "length"), DONE], "gave up after 3 of 5 tokens"),
        ([event([4, STOP, 4])], f"ignored stop_token_ids: it went on after {STOP}"),
        ([event([4], "stop"), DONE], r"stopped at \[4\], which is none of its stops"),
        ([event([], "stop"), DONE], "stopped at nothing, which is none of its stops"),
        ([event([4, VOCABULARY])], "decoded id 100, and the tokenizer has 100"),
        ([event([4], prompt_token_ids=[0, 1, 2, 3])], "changed the prompt: 3 ids were sent, 4 taken"),
        ([event([4], "abort"), DONE], "something else than was asked for.*finish_reason"),
        ([event([-4])], "something else than was asked for.*token_ids"),
        ([line({"choices": [{"index": 0, "text": "abc", "token_ids": ["abc"]}]})], "something else than was asked for"),
        ([line({"choices": [{"index": 0, "text": "abc"}]})], "gives no token ids: it must know return_token_ids"),
        ([b"data: {nonsense\n\n"], "something else than was asked for.*nonsense"),
        ([line(17)], "something else than was asked for"),
        ([line({"error": {"message": "out of memory", "code": 500}})], "failed while decoding: out of memory"),
        ([event([4]), DONE], "ended a completion without saying why"),
        ([event([4] * 5, "length"), event([4]), DONE], "went on after the end"),
        ([event([4]), CUT], r"cut off a request 2 times, after 2 tokens"),
        ([event([4])], r"cut off a request 2 times, after 2 tokens: its stream just ended"),
        (web.Response(body=b"<html>", content_type="text/html"), "answered with text/html.* where a stream"),
        (
            web.Response(status=400, body=b'{"error": {"message": "too long"}}'),
            "refused a request with 400: .*too long",
        ),
        (web.Response(status=503, body=b"busy"), "refused a request with 503: busy"),
    ],
)
def test_a_server_that_misbehaves_is_an_error_in_one_line(script: Any, said: str) -> None:
    with pytest.raises(EngineError, match=said) as caught:
        decoded(Scripted(script))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_stop_that_was_forbidden_is_seen() -> None:
    with pytest.raises(EngineError, match="ignored min_tokens"):
        decoded(Scripted([event([STOP], "stop"), DONE]), Request((1,), 5, (STOP,), forbid_stop_first=True))


def test_a_line_without_end_is_not_kept_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.evaluate.engines.connection.LONGEST_EVENT", 1000)
    with pytest.raises(EngineError, match="bytes without an end of line"):
        decoded(Scripted([b"data: " + b"x" * 2000, SILENCE]))


def test_a_stream_that_is_cut_off_is_continued_where_it_ended() -> None:
    scripted = Scripted([event([4, 5]), CUT], [event([6]), CUT], [event([9, STOP], "stop"), DONE])
    assert decoded(scripted, Request((1,), 5, (STOP,), forbid_stop_first=True), retries=2) == ([4, 5, 6, 9], "stop")
    asked = [(body["prompt"], body["max_tokens"], body["min_tokens"]) for body in scripted.bodies[1:]]
    assert asked == [([1], 5, 1), ([1, 4, 5], 3, 0), ([1, 4, 5, 6], 2, 0)]


def test_a_stream_that_is_cut_off_after_its_last_token_is_whole() -> None:
    for last in ([event([4] * 5), CUT], [event([4] * 5, "length"), CUT]):
        scripted = Scripted(last)
        assert decoded(scripted, retries=0) == ([4] * 5, "length")
        assert len(scripted.bodies) == 2


def test_a_busy_server_is_asked_again_when_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = web.Response(status=429, headers={"Retry-After": "1"})
    scripted = Scripted(busy, web.Response(status=503), [event([STOP], "stop"), DONE])
    assert decoded(scripted, retries=2) == ([], "stop")
    _, first, second, third = scripted.times
    assert 1.0 <= second - first < 2.0, "Retry-After was one second"
    assert 0.3 < third - second < 2.0, "the backoff begins with half a second"


def test_what_will_never_work_is_asked_once() -> None:
    scripted = Scripted(web.Response(status=422))
    with pytest.raises(EngineError, match="422"):
        decoded(scripted, retries=5)
    assert len(scripted.bodies) == 2


def test_no_more_requests_than_the_limit_and_forks_go_first() -> None:
    class Counting(Scripted):
        now = most = 0

        async def complete(self, request: web.Request) -> web.StreamResponse:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.02)
            try:
                return await super().complete(request)
            finally:
                self.now -= 1

    scripted = Counting([event([4], "length"), DONE])

    async def use() -> None:
        async with engine_of(scripted, requests=2) as engine:
            trunks = [Request((1, n), 1, (), priority=2) for n in range(8)]
            forks = [Request((2, n), 1, (), priority=0) for n in range(4)]
            await asyncio.gather(*(whole(engine, request) for request in [*trunks, *forks]))

    asyncio.run(use())
    assert scripted.most == 2
    kinds = [body["prompt"][0] for body in scripted.bodies[1:]]
    assert kinds == [1, 1, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]


def test_a_turn_that_is_given_up_is_not_lost() -> None:
    async def use() -> None:
        turns = Turns(1)

        async def take() -> None:
            async with turns.turn(0):
                await asyncio.sleep(0)

        async with turns.turn(0):
            waiting = [asyncio.create_task(take()) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
        waiting[1].cancel()  # it was granted its turn, and has not heard of it
        await asyncio.gather(*waiting, return_exceptions=True)
        async with asyncio.timeout(1), turns.turn(0):
            pass

    asyncio.run(use())


@pytest.mark.parametrize("script", [[SILENCE], [event([4]), SILENCE], [event([]), line({"choices": []}), SILENCE]])
def test_a_silent_server_is_given_up(script: list[Part]) -> None:
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"sent nothing for 0.3 s"):
        decoded(Scripted(script), deadline=0.3)
    assert time.monotonic() - began < 5


def test_a_stream_that_is_left_is_closed() -> None:
    scripted = Scripted([event([4]), SILENCE])

    async def use() -> None:
        async with engine_of(scripted) as engine:
            async with aclosing(engine.stream(REQUEST)) as chunks:
                await anext(chunks)
            async with asyncio.timeout(5):
                await scripted.left.wait()

    asyncio.run(use())


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ({"data": []}, "no model 'm'"),
        ({"data": [{"id": "other"}]}, "no model 'm': it serves 'other'"),
        ({"data": [{"id": "m", "max_model_len": 32}]}, "context is 32 tokens, and 64 are needed"),
        ({"detail": "?"}, "something else than was asked for"),
        (web.Response(status=404, text="nothing here"), "refused a request with 404: nothing here"),
    ],
)
def test_a_server_that_cannot_do_it_is_known_at_the_start(models: object, said: str) -> None:
    async def use() -> None:
        scripted = Scripted()
        scripted.models = models
        async with engine_of(scripted):
            pass

    with pytest.raises(EngineError, match=said):
        asyncio.run(use())


def test_a_server_that_gives_text_only_is_known_at_the_start() -> None:
    async def use() -> None:
        scripted = Scripted()
        scripted.scripts = [[line({"choices": [{"index": 0, "text": "abc", "finish_reason": "length"}]}), DONE]]
        async with engine_of(scripted):
            pass

    with pytest.raises(EngineError, match="gives no token ids"):
        asyncio.run(use())


def test_a_server_that_is_not_there_is_said() -> None:
    with pytest.raises(EngineError, match=r"no answer from http://127.0.0.1:1/v1: .*onnect"):
        asyncio.run(start(spec("http://127.0.0.1:1/v1", retries=0)))


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, f"{VARIABLE} is not set where replicas run"), ("", "is not set"), (f"{KEY}\n", "is no key")],
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


def test_traces_from_a_server_are_kept_by_what_it_serves(tmp_path: Path) -> None:
    context = StepContext("experiment", "sweep", "step", tmp_path / "step", tmp_path / "traces")
    model = tiny.save(tmp_path / "model")
    (tmp_path / "questions.jsonl").write_text(json.dumps({"id": "q", "question": "1+1?", "answer": "2"}))
    fields = {"model": str(model), "tasks": [{"name": "sums", "path": str(tmp_path / "questions.jsonl")}]}
    elsewhere = {"url": "http://10.0.0.8:8000/v1"}

    here, there, other, ours = (
        prepare(each, context).folder
        for each in (
            config(**fields),
            config(elsewhere, **fields),
            config(**fields, served_model="n"),
            config(**fields, engine="transformers", served_model=None, resources={}),
        )
    )
    assert here == there
    assert len({here, other, ours}) == 3


SWEEP: dict[str, Any] = {"model": "org/m", "tasks": ["letters"], "engine": "openai", "served_model": "m"}
SERVER = {"url": "http://10.0.0.7:8000/v1"}


def config(server: object = SERVER, **changes: Any) -> Config:
    return Config.model_validate_json(json.dumps(SWEEP | {"resources": {"server": server}} | changes))


def test_where_the_server_is_does_not_identify_a_sweep_and_what_it_serves_does() -> None:
    here, there = config(), config({"url": "https://models.example.com/v1", "key_variable": "MY_KEY", "requests": 8})
    other = config(served_model="n")
    plain = [each.model_dump_json(exclude={"resources"}) for each in (here, there, other)]
    assert plain[0] == plain[1] != plain[2]
    assert here.engine_name == "openai"
    assert here.demands() == [{"CPU": 1.0}]


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"url": "10.0.0.7:8000"}, "url", "is no address of a server: give one like http://"),
        ({"url": "ftp://host/v1"}, "url", "is no address of a server"),
        ({"url": "http://host:99999/v1"}, "url", "is no address of a server"),
        ({"url": f"http://me:{KEY}@host/v1"}, "url", "has no credentials"),
        ({"url": f"http://host/v1?key={KEY}"}, "url", "has no credentials"),
        (SERVER | {"key_variable": KEY}, "key_variable", "is no name of an environment variable"),
        (SERVER | {"requests": 0}, "requests", "greater than or equal to 1"),
        (SERVER | {"retries": -1}, "retries", "greater than or equal to 0"),
        (SERVER | {"deadline": 0}, "deadline", "greater than 0"),
        ({}, "url", "required"),
    ],
)
def test_a_server_that_cannot_be_meant_is_one_error_without_secrets(
    change: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        config(change)
    (error,) = caught.value.errors()
    assert error["loc"] == ("resources", "server", field)
    assert said in error["msg"]
    assert KEY not in error["msg"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"engine": "vllm"}, "served_model: engine vllm has no server"),
        ({"engine": "auto", "served_model": None}, "resources.server: engine auto has no server"),
        ({"served_model": None}, "engine: openai needs served_model"),
        ({"resources": {}}, "engine: openai needs resources.server"),
        ({"dtype": "float32"}, "dtype: float32 is not ours to choose"),
        ({"batch_invariant": True}, "batch_invariant: true is for vllm on GPUs, and this is openai"),
        ({"resources": {"server": SERVER, "gpus": 1}}, "resources.gpus: 1 would idle"),
    ],
)
def test_a_server_is_said_where_one_decodes(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        config(**change)
    (error,) = caught.value.errors()
    assert said in error["msg"]
