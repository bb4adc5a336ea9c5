"""Distilling from a server that chats: a real HTTP server with a script, which counts what it is asked."""

from __future__ import annotations

import json
import pickle
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.collect.config import CollectConfig
from jobs.distil.config import DistilConfig
from jobs.distil.run import run
from jobs.evaluate.planning.estimate import ASSUMED, estimate
from jobs.evaluate.planning.priced import PROMPT
from jobs.fates import Funnel
from jobs.finetune.data_config import DataConfig
from jobs.finetune.samples import read_samples
from jobs.forecasts import DatasetForecast
from orchestrator.complaints import ExperimentError
from orchestrator.experiment import load
from orchestrator.job.config import Upcoming
from orchestrator.job.context import StepContext, StepInput
from orchestrator.job.errors import StepError
from orchestrator.job.outputs import Dataset
from tests.collect.questions import read
from tests.evaluate.chat.chat_server import Body, ChatServer, Part, Refusal, Reply

ROWS = [
    {"id": "two", "question": "What is 1 + 1?", "answer": "2", "type": "integer", "source": "sums", "level": 1},
    {
        "id": "half",
        "question": "What is 1 / 2?",
        "answer": r"\frac{1}{2}",
        "type": "math",
        "source": "sums",
        "level": 2,
    },
    {"id": "open", "question": "What is love?", "answer": "", "type": "text", "source": "songs", "level": 3},
]
TEACHER: dict[str, Any] = {"questions": "${q}", "engine": "openai", "served_model": "r1", "chat": {}}


def config(url: str, server: dict[str, Any] | None = None, **changes: Any) -> DistilConfig:
    resources = {"server": {"url": url, "retries": 3, "deadline": 20} | (server or {})}
    return DistilConfig.model_validate_json(json.dumps(TEACHER | {"resources": resources} | changes))


def told(thought: str, answer: str, end: str = "stop") -> list[Part]:
    """A reply as servers with a reasoning parser stream it."""
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 20,
        "completion_tokens_details": {"reasoning_tokens": 15 if thought else 0},
    }
    return [
        {"model": "r1-0528", "choices": [{"delta": {"reasoning_content": thought[:3]}}]},
        {"choices": [{"delta": {"reasoning_content": thought[3:]}}]},
        {"choices": [{"delta": {"content": answer}, "finish_reason": end}]},
        {"choices": [], "usage": usage},
        b"data: [DONE]\n\n",
    ]


def asked(body: Body) -> str:
    return str(body["messages"][-1]["content"])


def context_of(store: Path, rows: list[dict[str, Any]] = ROWS, step: str = "step") -> StepContext:
    made = store / "q" / "output"
    made.mkdir(parents=True, exist_ok=True)
    (made / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    context = StepContext(
        "experiment", "traces", step, store / step, store / "traces", {"q": StepInput("q", "0", made)}
    )
    context.folder.mkdir(parents=True, exist_ok=True)
    return context


def distil(asked_for: DistilConfig, store: Path, **more: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    context = context_of(store, **more)
    run(asked_for, context)
    assert list(Dataset.faults(context.output)) == []
    kept, gone = read(context.output / "train.jsonl"), read(context.output / "dropped.jsonl")
    funnel = Funnel.of(json.loads((context.output / "funnel.json").read_text()))
    assert sum(funnel.out.values()) == len(kept)
    assert sum(funnel.came.values()) == len(kept) + len(gone)
    return kept, gone


class Teacher:
    """Answers by question and by how often it was asked it."""

    def __init__(self, answers: dict[str, list[Reply]]):
        self.answers = answers
        self.times: Counter[str] = Counter()

    def __call__(self, body: Body) -> Reply:
        question = asked(body)
        self.times[question] += 1
        replies = self.answers[question]
        return replies[(self.times[question] - 1) % len(replies)]


def test_what_is_kept_is_graded_by_each_questions_own_type_and_has_where_it_came_from(tmp_path: Path) -> None:
    teacher = Teacher(
        {
            "What is 1 + 1?": [told("one and one", "Answer: 3"), told("a pair", "Answer: 2")],
            "What is 1 / 2?": [told("a half", r"\boxed{0.5}"), told("on and on", "", "length")],
            "What is love?": [told("baby", "Answer: pain"), told("oh baby", "Answer: pain")],
        }
    )
    with ChatServer(teacher).serving() as url:
        kept, gone = distil(config(url, {"requests": 1}, samples=2), tmp_path)
    assert [(row["id"], row["trace"], row["answer"]) for row in kept] == [
        ("two", "a pair", "Answer: 2"),
        ("half", "a half", r"\boxed{0.5}"),
        ("open", "baby", "Answer: pain"),
        ("open", "oh baby", "Answer: pain"),
    ]
    assert {(row["id"], row["stage"], row["reason"]) for row in gone} == {
        ("two", "answers", "wrong"),
        ("half", "empty", "no answer text"),
    }
    first = kept[0]
    assert (first["level"], first["source"], first["model"], first["verdict"]) == (1, "sums", "r1", "correct")
    assert (first["reference"], first["sample"], first["answer_end"]) == ("2", 1, "stop")
    assert (first["thinking_tokens"], first["answer_tokens"]) == (15, 5)
    assert {row["verdict"] for row in kept if row["id"] == "open"} == {"ungraded"}
    asked_next = read(tmp_path / "step" / "output" / "test.jsonl")
    assert [(row["id"], row["answer"], row["type"]) for row in asked_next] == [
        ("two", "2", "integer"),
        ("half", r"\frac{1}{2}", "math"),
    ]
    card = (tmp_path / "step" / "output" / "README.md").read_text()
    assert "teacher: r1" in card
    samples = list(read_samples(DataConfig.model_validate(str(tmp_path / "step" / "output" / "train.jsonl"))))
    assert samples[0].trace == "a pair"


def test_more_samples_and_more_questions_ask_only_for_what_is_new(tmp_path: Path) -> None:
    server = ChatServer(lambda body: told("hm", "Answer: 2"))
    with server.serving() as url:
        distil(config(url, keep="all"), tmp_path, rows=ROWS[:1])
        distil(config(url, keep="all", samples=3), tmp_path, rows=ROWS[:1], step="more")
        assert len(server.bodies) == 3
        distil(config(url, keep="all", samples=3), tmp_path, rows=ROWS[:2], step="further")
        assert len(server.bodies) == 6
        kept, _ = distil(config(url, keep="first_correct", samples=3), tmp_path, rows=ROWS[:2], step="fewer")
    assert len(server.bodies) == 6
    assert [(row["id"], row["sample"]) for row in kept] == [("two", 0)]


def fails(kind: int) -> Reply:
    ways: list[Reply] = [
        Refusal(429, "slow down", {"Retry-After": "0.01"}),
        Refusal(503, "restarting"),
        Refusal(500, "oops"),
        [*told("on", "Answer: 2")[:2], None],
        [b"data: {nonsense\n\n"],
        [*told("on", "Answer: 2")[:2], b"data: [DONE]\n\n"],
        Refusal(200, "<html>"),
    ]
    return ways[kind]


@pytest.mark.seconds
def test_whatever_goes_wrong_for_a_while_costs_no_answer(tmp_path: Path) -> None:
    rows = [{"id": f"q{n}", "question": f"Ask {n}", "answer": "2", "type": "integer"} for n in range(21)]
    times: Counter[str] = Counter()

    def script(body: Body) -> Reply:
        question = asked(body)
        times[question] += 1
        return fails(int(question.split()[1]) % 7) if times[question] <= 2 else told("hm", "Answer: 2")

    with ChatServer(script).serving() as url:
        kept, gone = distil(config(url), tmp_path, rows=rows)
    assert (len(kept), len(gone)) == (21, 0)
    assert set(times.values()) == {3}


def test_one_question_that_always_fails_costs_none_of_the_others(tmp_path: Path) -> None:
    rows = [{"id": f"q{n}", "question": f"Ask {n}", "answer": "2", "type": "integer"} for n in range(12)]
    server = ChatServer(lambda body: Refusal(400, "too long") if asked(body) == "Ask 5" else told("hm", "Answer: 2"))
    with server.serving() as url:
        with pytest.raises(StepError, match=r"refused a request with 400: too long \(1 of 12 requests failed\)"):
            distil(config(url), tmp_path, rows=rows)
        assert Counter(map(asked, server.bodies)) == Counter({f"Ask {n}": 1 for n in range(12)})
        server.script = lambda body: told("hm", "Answer: 2")
        kept, _ = distil(config(url), tmp_path, rows=rows)
    assert (len(kept), len(server.bodies)) == (12, 13)


def test_a_server_that_answers_nobody_is_not_asked_for_ever(tmp_path: Path) -> None:
    rows = [{"id": f"q{n}", "question": f"Ask {n}", "answer": "2", "type": "integer"} for n in range(50)]
    server = ChatServer(lambda body: Refusal(401, "no such key"))
    with server.serving() as url, pytest.raises(StepError, match="no such key"):
        distil(config(url, {"requests": 4}), tmp_path, rows=rows)
    assert len(server.bodies) <= 8


@pytest.mark.seconds
def test_a_stalled_answer_is_asked_for_again_after_the_deadline(tmp_path: Path) -> None:
    stalls = iter([True])

    def script(body: Body) -> Reply:
        if next(stalls, False):
            time.sleep(1.5)
        return told("hm", "Answer: 2")

    with ChatServer(script).serving() as url:
        kept, _ = distil(config(url, {"deadline": 0.5}), tmp_path, rows=ROWS[:1])
    assert len(kept) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"efforts": ["low", "high"]}, "a teacher thinks in one way, and these are 2"),
        ({"keep": "best"}, "'best' is not a rule: known are all, correct, first_correct, shortest_correct"),
        ({"questions": []}, "the list is empty"),
        ({"per_question": 0}, "greater than or equal to 1"),
        ({"published": {"source": "x"}}, "published: is for sweeps"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config("http://host/v1", **changes)


def test_mistakes_are_told_at_the_field_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"id": "1", "question": "x", "answer": "about two"}\n')
    step = TEACHER | {"job": "distil", "questions": {"name": "bad", "path": str(tmp_path / "bad.jsonl")}}
    step["resources"] = {"server": {"url": "http://host/v1"}}
    file = tmp_path / "experiment.yaml"
    file.write_text(json.dumps({"name": "x", "steps": {"traces": step}}))
    with pytest.raises(ExperimentError, match=r"steps\.traces\.questions\[0\]\.path: .*'about two' is not an integer"):
        load(file)
    file.write_text(json.dumps({"name": "x", "steps": {"traces": {**step, "tasks": ["letters"]}}}))
    with pytest.raises(ExperimentError, match=r"steps\.traces\.tasks: is not a key here"):
        load(file)


def test_a_reference_that_cannot_be_read_stops_the_step_before_anything_is_asked(tmp_path: Path) -> None:
    server = ChatServer(lambda body: told("hm", "Answer: 2"))
    rows = [*ROWS, {"id": "bad", "question": "x", "answer": "about two", "type": "integer"}]
    with server.serving() as url, pytest.raises(StepError, match="'about two' is not an integer"):
        distil(config(url), tmp_path, rows=rows)
    assert server.bodies == []


def test_what_a_server_charges_is_planned_and_accounted(tmp_path: Path) -> None:
    price = {"prompt": 0.5, "completion": 2.0}
    rows = [{"id": f"q{n}", "question": f"Ask {n}", "answer": "2", "type": "integer"} for n in range(6)]
    config_of = {"server": {"price": price}, "samples": 2}
    with ChatServer(lambda body: told("hm", "Answer: 2")).serving() as url:
        distil(config(url, **config_of), tmp_path, rows=rows)
        held = json.loads((tmp_path / "step" / "held.json").read_text())
        assert (held["devices"], held["tokens"]) == (0, 240)
        assert held["usd"] == pytest.approx((12 * 7 * 0.5 + 240 * 2.0) / 1e6)
        distil(config(url, **config_of), tmp_path, rows=rows, step="again")
        assert not (tmp_path / "again" / "held.json").exists()
    upcoming = Upcoming(CollectConfig.model_validate({"sources": ("letters",)}), None, DatasetForecast(questions=1000))
    told_before = estimate(config("http://host/v1", **config_of), {"q": upcoming})
    tokens = 2000 * (ASSUMED.natural + ASSUMED.answer)
    assert told_before.tokens == tokens
    assert told_before.usd == pytest.approx((2000 * PROMPT * 0.5 + tokens * 2.0) / 1e6)
    assert "price" in estimate(config("http://host/v1"), {"q": upcoming}).holder


@pytest.mark.parametrize(
    ("text", "trace", "answer", "thinking"),
    [
        ("<think>hm hm</think>Answer: 2", "hm hm", "Answer: 2", 11),
        ("hm hm\n</think>\n\nAnswer: 2", "hm hm", "Answer: 2", 7),
        ("<think>for ever and ever", None, None, None),
        ("Answer: 2", None, None, None),
    ],
)
def test_thinking_in_tags_is_told_from_the_answer(
    tmp_path: Path, text: str, trace: str | None, answer: str | None, thinking: int | None
) -> None:
    parts: list[Part] = [
        {"choices": [{"delta": {"content": text[:5]}}]},
        {"choices": [{"delta": {"content": text[5:]}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"completion_tokens": 20}},
        b"data: [DONE]\n\n",
    ]
    asked_for = {"chat": {"think_tags": True}, "keep": "all"}
    with ChatServer(lambda body: parts).serving() as url:
        if trace is None:
            with pytest.raises(StepError, match=r"keeps none of 1 samples: 1 no (thinking|answer text)"):
                distil(config(url, **asked_for), tmp_path, rows=ROWS[:1])
            return
        kept, _ = distil(config(url, **asked_for), tmp_path, rows=ROWS[:1])
    (row,) = kept
    assert (row["trace"], row["answer"]) == (trace, answer)
    assert (row["thinking_tokens"], row["thinking_tokens"] + row["answer_tokens"]) == (thinking, 20)


def test_answers_that_were_stored_before_there_were_tags_are_found() -> None:
    assert config("http://h/v1").chat.model_dump(mode="json") == {"budget": None, "parameters": {}}
    assert config("http://h/v1", chat={"think_tags": True}).chat.model_dump(mode="json")["think_tags"] is True


def test_a_config_that_travels_stays_a_distilling_one() -> None:
    config = DistilConfig.model_validate_json(
        json.dumps({"model": "owner/name", "questions": "${q}", "extensions": {"strings": ["Wait"], "counts": [1]}})
    )
    arrived = pickle.loads(pickle.dumps(config))
    assert isinstance(arrived, DistilConfig)
    assert (arrived, arrived.policies) == (config, config.policies)
