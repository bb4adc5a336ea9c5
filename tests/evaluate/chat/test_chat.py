"""Sweeps on a server that only chats: a real HTTP server of the test's own, with a script of what it answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.run import run
from orchestrator.complaints import ExperimentError
from orchestrator.experiment import load
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from tests.evaluate.chat.chat_server import Body, ChatServer, Part, Refusal, Reply, said

ITEMS = 4
EFFORTS = {"low": 10, "medium": 40, "high": 160}
SWEEP: dict[str, Any] = {
    "tasks": [{"name": "letters", "items": ITEMS}],
    "engine": "openai",
    "served_model": "m",
    "chat": {"budget": "thinking.budget_tokens", "parameters": {"thinking": {"type": "enabled"}, "temperature": 0.5}},
}


def config(url: str = "http://host/v1", server: dict[str, Any] | None = None, **changes: Any) -> EvaluateConfig:
    resources = {"server": {"url": url, "retries": 2, "deadline": 20} | (server or {})}
    return EvaluateConfig.model_validate_json(json.dumps(SWEEP | {"resources": resources} | changes))


def think(body: Body) -> list[Part]:
    """So long as its effort says, or its budget, and else for 80 tokens."""
    budget = body["thinking"].get("budget_tokens", 1000)
    return said("Final Answer: 2", min(budget, EFFORTS.get(body.get("reasoning_effort", ""), 80)))


def evaluate(asked: EvaluateConfig, store: Path, step: str = "step") -> tuple[pd.DataFrame, dict[str, float]]:
    context = StepContext("experiment", "sweep", step, store / step, store / "traces")
    context.folder.mkdir(parents=True)
    run(asked, context)
    decode = json.loads((context.output / "decode.json").read_text())
    samples = pd.read_parquet(context.output / "samples.parquet")
    return samples.set_index(["policy", "item", "sample"]).sort_index(), decode


def torn(parts: list[Part]) -> list[Part]:
    return [*parts[:2], None]


METHODS = {
    "baseline": True,
    "efforts": ["high", "low"],
    "budgets": [32, 64],
    "conditional": {"tokens": [16], "classes": ["short"]},
    "rejection": {"limits": [70, 90], "max_tries": 2},
    "samples": 2,
}


@pytest.mark.seconds
def test_efforts_budgets_and_wishes_are_requests_and_become_curves(tmp_path: Path) -> None:
    server = ChatServer(think)
    with server.serving() as url:
        samples, decode = evaluate(config(url, **METHODS), tmp_path)
    thinking = samples["thinking_tokens"].groupby("policy").unique().map(list)
    assert thinking.to_dict() == {
        "32": [32],
        "64": [64],
        "no forcing": [80],
        "reasoning effort low": [10],
        "reasoning effort high": [160],
        "token-conditional 16": [80],
        "class-conditional short": [80],
        "rejection sampling 70": [80],
        "rejection sampling 90": [80],
    }
    ends = samples["thinking_end"].groupby("policy").unique().map(list)
    assert ends["32"] == ["forced"]
    assert ends["no forcing"] == ends["rejection sampling 90"] == ["natural"]
    assert ends["rejection sampling 70"] == ["rejected"]
    assert set(samples.loc["rejection sampling 70", "tries"]) == {2}
    assert set(samples.loc["reasoning effort low", "answer"]) == {"Final Answer: 2"}
    assert set(samples["answer_tokens"]) == {0, 3}
    # Each request once: rejection sampling looks at the baseline's answers.
    per_policy = 2 * ITEMS
    assert decode["units"] == len(server.bodies) == 7 * per_policy
    asked = Counter((body.get("reasoning_effort"), body["thinking"].get("budget_tokens")) for body in server.bodies)
    assert asked == {(None, 32): 8, (None, 64): 8, ("low", None): 8, ("high", None): 8, (None, None): 24}
    assert {(body["model"], body["temperature"], body["thinking"]["type"]) for body in server.bodies} == {
        ("m", 0.5, "enabled")
    }
    curves = json.loads((tmp_path / "step" / "output" / "curves.json").read_text())
    assert [curve["curve"] for curve in curves][:3] == ["budget", "no forcing", "reasoning effort"]
    assert [point["label"] for point in curves[2]["points"]] == ["low", "high"]


@pytest.mark.seconds
def test_what_was_answered_is_not_asked_again_and_damage_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    server = ChatServer(think)
    with server.serving() as url:
        first, _ = evaluate(config(url, efforts=["low"]), tmp_path, "first")
        more, decode = evaluate(config(url, efforts=["low", "high"], baseline=True), tmp_path, "more")
        assert len(server.bodies) == 3 * ITEMS
        assert decode["thinking_tokens_decoded"] == ITEMS * (160 + 80)
        pd.testing.assert_frame_equal(first, more.loc[first.index])
        evaluate(config("http://127.0.0.1:1/v1", efforts=["high"]), tmp_path, "none")
        (folder,) = (tmp_path / "traces").iterdir()
        oldest = min(file for file in folder.glob("*.json") if file.name != "key.json")
        oldest.write_text(oldest.read_text().replace("Final", "Finer"))
        again, _ = evaluate(config(url, efforts=["low", "high"], baseline=True), tmp_path, "again")
    assert 3 * ITEMS < len(server.bodies) <= 4 * ITEMS  # of the file's answers alone
    assert "is damaged: they are asked for again" in capfd.readouterr().out
    pd.testing.assert_frame_equal(more, again)


@pytest.mark.seconds
def test_a_system_prompt_is_the_first_message_and_another_question(tmp_path: Path) -> None:
    server = ChatServer(think)
    with server.serving() as url:
        evaluate(config(url, baseline=True), tmp_path, "without")
        evaluate(config(url, baseline=True, system="Be brief."), tmp_path, "with")
    roles = [[message["role"] for message in body["messages"]] for body in server.bodies]
    assert roles == [["user"]] * ITEMS + [["system", "user"]] * ITEMS
    assert {body["messages"][0]["content"] for body in server.bodies[ITEMS:]} == {"Be brief."}


def test_a_budget_that_the_server_ignores_is_reported_and_never_counted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = ChatServer(lambda body: said("Final Answer: 2", 80))
    with server.serving() as url:
        samples, decode = evaluate(config(url, budgets=[64, 128], baseline=True), tmp_path)
    assert set(samples.loc["64", "thinking_end"]) == {"ignored"}
    assert set(samples.loc["64", "verdict"]) == {"error"}
    assert "error" not in set(samples.loc["128", "verdict"])
    assert decode["answers_beyond_their_budget"] == ITEMS
    assert "beyond thinking.budget_tokens in 4 answers: they are not counted" in capfd.readouterr().out
    table = pd.read_csv(tmp_path / "step" / "output" / "table.csv", dtype={"policy": str}).set_index("policy")
    assert table.loc["64", "error_share"] == 1
    assert pd.isna(table.loc["64", "accuracy"])
    assert table.loc["128", "error_share"] == 0


def test_thinking_that_fills_the_context_and_answers_that_are_withheld_have_no_answer(tmp_path: Path) -> None:
    def script(body: Body) -> list[Part]:
        return said("", 500, 0, "length") if "reasoning_effort" in body else said("secret", 5, 2, "content_filter")

    with ChatServer(script).serving() as url:
        samples, _ = evaluate(config(url, efforts=["high"], baseline=True), tmp_path)
    assert set(samples["verdict"]) == {"no_answer"}
    assert set(samples["answer"]) == {""}
    assert set(samples.loc["reasoning effort high", "thinking_end"]) == {"context"}
    assert set(samples.loc["no forcing", "answer_end"]) == {"none"}


def test_thinking_is_counted_where_sglang_says_it(tmp_path: Path) -> None:
    def script(body: Body) -> Reply:
        *said, usage, done = think(body)
        assert isinstance(usage, dict)
        details = usage["usage"].pop("completion_tokens_details")
        return [*said, {**usage, "usage": usage["usage"] | details}, done]

    with ChatServer(script).serving() as url:
        samples, _ = evaluate(config(url, baseline=True), tmp_path)
    assert set(samples["thinking_tokens"]) == {80}


@pytest.mark.seconds
def test_a_busy_server_and_one_that_cuts_an_answer_off_are_asked_again(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    def script(body: Body) -> Reply:
        question = body["messages"][0]["content"]
        seen[question] += 1
        if seen[question] == 1:
            return Refusal(429, "busy", {"Retry-After": "0.01"})
        whole = think(body)
        return torn(whole) if seen[question] == 2 else whole

    with ChatServer(script).serving() as url:
        samples, _ = evaluate(config(url, baseline=True), tmp_path)
    assert set(seen.values()) == {3}
    assert set(samples["answer"]) == {"Final Answer: 2"}


USAGE = {"completion_tokens": 5}


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (Refusal(401, "no such key"), "refused a request with 401: no such key"),
        (Refusal(200, "<html>"), "answered with text/plain"),
        ([b"data: {nonsense\n\n"], "something other than what was asked for"),
        ([{"choices": [{"delta": {"content": 5}}]}], "something other than what was asked for"),
        ([{"error": {"message": "out of memory"}}], "failed while it answered: out of memory"),
        ([*said("2", 1)[:2], b"data: [DONE]\n\n"], "ended an answer without saying why"),
        ([*said("2", 1)[:3], b"data: [DONE]\n\n"], "does not report the tokens of an answer"),
        ([*said("2", 1)[:3], {"choices": [], "usage": USAGE}, b"data: [DONE]\n\n"], "does not count its thinking"),
        (said("2", 9, -4), "counts 9 tokens of thinking among 5 in all"),
        ([*said("22", 1)[:3], *said("22", 1)], "went on after the end of an answer"),
        ([*said("22", 1)[:2], None], "cut off an answer 3 times"),
        (said("2", 0), "shows thinking and counts no tokens of it"),
    ],
)
def test_a_server_that_misbehaves_ends_the_step_in_one_line(tmp_path: Path, answer: Any, wrong: str) -> None:
    with ChatServer(lambda body: answer).serving() as url, pytest.raises(StepError, match=wrong) as caught:
        evaluate(config(url, {"requests": 1}, baseline=True), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.seconds
def test_what_was_answered_before_an_error_is_kept(tmp_path: Path) -> None:
    answers: Iterator[Callable[[Body], Reply]] = iter([think, think, lambda body: Refusal(400, "enough")])
    with ChatServer(lambda body: next(answers)(body)).serving() as url, pytest.raises(StepError, match="enough"):
        evaluate(config(url, {"requests": 1}, baseline=True), tmp_path, "first")
    server = ChatServer(think)
    with server.serving() as url:
        evaluate(config(url, baseline=True), tmp_path, "second")
    assert len(server.bodies) == ITEMS - 2


def test_the_key_is_sent_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_TEST_KEY", "sk-canary-83be01")
    refusal = ChatServer(lambda body: Refusal(403, "sk-canary-83be01 is not allowed"))
    with refusal.serving() as url, pytest.raises(StepError, match=r"403: \(the key\) is not allowed"):
        evaluate(config(url, {"key_variable": "CHAT_TEST_KEY"}, baseline=True), tmp_path, "refused")
    with ChatServer(think).serving() as url:
        evaluate(config(url, {"key_variable": "CHAT_TEST_KEY"}, baseline=True), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"canary" in path.read_bytes()]


def complaints(tmp_path: Path, fields: dict[str, Any]) -> list[str]:
    step = SWEEP | {"job": "evaluate", "resources": {"server": {"url": "http://host/v1"}}} | fields
    file = tmp_path / "experiment.yaml"
    file.write_text(json.dumps({"name": "chat", "steps": {"sweep": step}}))
    try:
        load(file, ())
    except ExperimentError as error:
        return str(error).splitlines()
    return []


def test_every_policy_that_a_chat_server_cannot_do_is_refused_in_a_line_of_its_own(tmp_path: Path) -> None:
    asked = {
        "budgets": [64, "auto"],
        "extensions": {"strings": ["Wait"], "counts": [1]},
        "step_budgets": [4],
        "conditional": {"tokens": [8], "budget_forcing": True},
        "max_answer_tokens": 64,
        "context_length": 1024,
        "template": {"name": "think", "step": "<step>"},
        "temperature": 1.0,
        "top_p": 0.9,
        "model": "some/model",
        "chat_template_kwargs": {"enable_thinking": True},
        "date": "2026-05-01",
        "chat": {},
    }
    lines = complaints(tmp_path, asked)
    fields = [
        *("budgets[0]", "budgets[1]", "extensions", "step_budgets", "conditional.budget_forcing"),
        *("max_answer_tokens", "context_length", "template", "temperature", "top_p", "model"),
        *("chat_template_kwargs", "date"),
    ]
    assert {line.split("steps.sweep.")[1].split(": ")[0] for line in lines} == set(fields)
    assert len(lines) == len(fields)
    assert all("leave" in line or "chat.parameters" in line for line in lines)
    assert complaints(tmp_path, METHODS) == []


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"chat": None, "baseline": True}, "has no model, which is needed"),
        ({"engine": "vllm", "served_model": None, "resources": {}}, "chat: engine vllm has no server"),
        ({"efforts": ["hard"]}, "'none', 'minimal', 'low'"),
        ({"efforts": []}, "the list is empty"),
        ({"chat": {"parameters": {"model": "x"}}}, "model is set by the sweep"),
        ({"chat": {"budget": "a.b", "parameters": {"a": {"b": 1}}}}, "a.b is set by budgets"),
        ({"chat": {"budget": "a.b", "parameters": {"a": 1}}}, "has a value where a.b belongs"),
        ({"chat": {"budget": "a..b"}}, "match pattern"),
    ],
)
def test_what_cannot_be_meant_is_one_error(change: dict[str, Any], wrong: str) -> None:
    fields = SWEEP | {"resources": {"server": {"url": "http://host/v1"}}} | change
    with pytest.raises(ValidationError) as caught:
        EvaluateConfig.model_validate_json(json.dumps(fields))
    (error,) = caught.value.errors()
    assert wrong in error["msg"]


def test_a_sweep_of_nothing_is_refused(tmp_path: Path) -> None:
    assert ["has nothing to compare" in line for line in complaints(tmp_path, {})] == [True]
