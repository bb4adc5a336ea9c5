"""The client of servers against one that does what a test says: everything that goes wrong is seen, and said."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from jobs.evaluate.engines.priority_semaphore import PrioritySemaphore
from jobs.evaluate.engines.protocol import EngineError, Request, Sampling, start
from tests.evaluate.scripted_server import (
    CUT,
    DONE,
    REQUEST,
    SILENCE,
    STOP,
    VOCABULARY,
    Part,
    Scripted,
    decoded,
    engine_of,
    event,
    line,
    spec,
    whole,
)


def test_a_request_says_all_that_it_means() -> None:
    scripted = Scripted([event([4, 5], prompt_token_ids=[1, 2, 3]), line({"choices": []}), event([STOP], "stop"), DONE])
    assert decoded(scripted) == ([4, 5], "stop")
    body = scripted.bodies[1]
    assert body["prompt"] == [1, 2, 3]
    assert (body["max_tokens"], body["min_tokens"], body["stop_token_ids"]) == (5, 0, [STOP, 8])
    assert (body["temperature"], body["top_p"], body["top_k"], body["ignore_eos"]) == (0, 1, -1, True)
    assert body["logit_bias"] == {"100": -100, "101": -100, "102": -100}
    assert body["return_token_ids"] is True
    assert "seed" not in body


def test_a_sampled_request_has_a_seed_that_position_changes() -> None:
    scripted = Scripted([event([4], "length"), DONE])
    sampled = Request((1,), 1, (), forbid_stop_first=True, sampling=Sampling(0.7, 0.9), seed=2**61)
    later = Request((1,), 1, (), forbid_stop_first=True, sampling=Sampling(0.7, 0.9), seed=2**61, position=1)

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


def test_a_server_whose_noise_is_by_position_is_sent_the_same_seed() -> None:
    scripted = Scripted([event([4], "length"), DONE])
    sampled = Request((1,), 1, (), forbid_stop_first=True, sampling=Sampling(0.7, 0.9), seed=2**61)

    async def use() -> None:
        async with engine_of(scripted, seeds_by_position=True) as engine:
            for request in (sampled, replace(sampled, prompt=(1, 4), position=1)):
                await whole(engine, request)

    asyncio.run(use())
    assert [body["seed"] for body in scripted.bodies[1:]] == [2**61, 2**61]


def test_events_may_come_in_any_pieces() -> None:
    stream = event([4, 5]) + b": still here\r\n\r\n" + event([6, STOP], "stop") + DONE
    assert decoded(Scripted([stream[index : index + 7] for index in range(0, len(stream), 7)])) == ([4, 5, 6], "stop")


@pytest.mark.seconds
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
        ([event([4], "abort"), DONE], "something other than what was asked for.*finish_reason"),
        ([event([-4])], "something other than what was asked for.*token_ids"),
        (
            [line({"choices": [{"index": 0, "text": "abc", "token_ids": ["abc"]}]})],
            "something other than what was asked for",
        ),
        ([line({"choices": [{"index": 0, "text": "abc"}]})], "gives no token ids: it must know return_token_ids"),
        ([b"data: {nonsense\n\n"], "something other than what was asked for.*nonsense"),
        ([line(17)], "something other than what was asked for"),
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


@pytest.mark.seconds
def test_a_busy_server_is_asked_again_when_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = web.Response(status=429, headers={"Retry-After": "1"})
    scripted = Scripted(busy, web.Response(status=503), [event([STOP], "stop"), DONE])
    assert decoded(scripted, retries=2) == ([], "stop")
    _, first, second, third = scripted.times
    assert second - first >= 1.0, "Retry-After was one second"
    assert third - second > 0.3, "the backoff begins with half a second"


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
        semaphore = PrioritySemaphore(1)

        async def take() -> None:
            async with semaphore.held(0):
                await asyncio.sleep(0)

        async with semaphore.held(0):
            waiting = [asyncio.create_task(take()) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
        waiting[1].cancel()  # it was granted its turn, and has not heard of it
        await asyncio.gather(*waiting, return_exceptions=True)
        async with asyncio.timeout(60), semaphore.held(0):
            pass

    asyncio.run(use())


@pytest.mark.parametrize("script", [[SILENCE], [event([4]), SILENCE], [event([]), line({"choices": []}), SILENCE]])
def test_a_silent_server_is_given_up(script: list[Part]) -> None:
    with pytest.raises(EngineError, match=r"sent nothing for 0.3 s"):
        decoded(Scripted(script), deadline=0.3)


def test_a_stream_that_is_left_is_closed() -> None:
    scripted = Scripted([event([4]), SILENCE])

    async def use() -> None:
        async with engine_of(scripted) as engine:
            async with aclosing(engine.stream(REQUEST)) as chunks:
                await anext(chunks)
            async with asyncio.timeout(60):
                await scripted.left.wait()

    asyncio.run(use())


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ({"data": []}, "no model 'm'"),
        ({"data": [{"id": "other"}]}, "no model 'm': it serves 'other'"),
        ({"data": [{"id": "m", "max_model_len": 32}]}, "context is 32 tokens, and 64 are needed"),
        ({"detail": "?"}, "something other than what was asked for"),
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
