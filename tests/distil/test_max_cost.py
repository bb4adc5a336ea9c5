"""``max_cost`` is not passed by what a teacher charges. The server keeps the account that it is checked against."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.distil.run import run
from jobs.evaluate.chat import client
from orchestrator.experiment import ExperimentError, load
from orchestrator.job.errors import OutOfMoney, StepError
from tests.distil.test_distil import TEACHER, asked, config, context_of, told
from tests.evaluate.chat.chat_server import Body, ChatServer, Refusal, Reply

PROMPT, COMPLETION, LIMIT = 2.0, 10.0, 1000
MOST = ((200 + 7) * PROMPT + LIMIT * COMPLETION) / 1e6
"""Of one request for "Ask 07": its bytes, and what a server may write around them, at the price of prompts."""
ROWS = [{"id": f"q{n:02}", "question": f"Ask {n:02}", "answer": "2", "type": "integer"} for n in range(60)]
ASKED = {"chat": {"parameters": {"max_tokens": LIMIT}}, "keep": "all"}
SERVER: dict[str, Any] = {"price": {"prompt": PROMPT, "completion": COMPLETION}, "requests": 8, "retries": 3}


class Cashier:
    """A server that charges for whatever it does, and says of what it finishes how much that was."""

    def __init__(self, refuses: int = 0, tears: int = 0, tokens: int | None = None):
        """It refuses, and then tears, each question so many times. Answers have so many tokens; None: 1 to LIMIT."""
        self.refuses, self.tears, self.tokens = refuses, tears, tokens
        self.times: Counter[str] = Counter()
        self.bill = 0.0

    def __call__(self, body: Body) -> Reply:
        question = asked(body)
        self.times[question] += 1
        if self.times[question] <= self.refuses:
            return Refusal(429, "slow down", {"Retry-After": "0.01"})
        if self.times[question] <= self.refuses + self.tears:
            self.bill += (7 * PROMPT + LIMIT * COMPLETION) / 1e6
            return [*told("hm", "Answer: 2")[:2], None]
        tokens = self.tokens or 1 + 37 * int(question.split()[1]) % LIMIT
        self.bill += (7 * PROMPT + tokens * COMPLETION) / 1e6
        return [
            {"choices": [{"delta": {"reasoning_content": "hm", "content": "Answer: 2"}, "finish_reason": "stop"}]},
            {
                "choices": [],
                "usage": {
                    "prompt_tokens": 7,
                    "completion_tokens": tokens,
                    "completion_tokens_details": {"reasoning_tokens": tokens},
                },
            },
            b"data: [DONE]\n\n",
        ]


def distil(url: str, store: Path, may_spend: float, step: str = "step", **server: Any) -> dict[str, Any]:
    """Does the step with so much money; gives what it said that it held."""
    context = replace(context_of(store, ROWS, step), may_spend=may_spend)
    run(config(url, SERVER | server, **ASKED), context)
    held: dict[str, Any] = json.loads((context.folder / "held.json").read_text())
    return held


@pytest.mark.parametrize("tokens", [None, LIMIT])
def test_requests_stop_before_it_is_passed_and_go_on_from_there_with_more(tmp_path: Path, tokens: int | None) -> None:
    cashier = Cashier(tokens=tokens)
    with ChatServer(cashier).serving() as url:
        with pytest.raises(OutOfMoney, match=r"a request may cost \$0\.010"):
            distil(url, tmp_path, 0.2)
        held = json.loads((tmp_path / "step" / "held.json").read_text())
        assert held["usd"] == pytest.approx(cashier.bill)
        assert held["usd_under_way"] == pytest.approx(0, abs=1e-9)
        assert 0.2 - MOST < cashier.bill <= 0.2, "as far as it goes, and no further"
        before, first = Counter(cashier.times), cashier.bill
        held = distil(url, tmp_path, 1.0, "more")
    assert held["usd"] == pytest.approx(cashier.bill - first)
    assert set(cashier.times.values()) == {1}, "what was answered is not paid for again"
    assert len(cashier.times) == 60 > len(before) > 15


def test_what_was_torn_is_reckoned_at_its_most_for_nobody_says_what_it_cost(tmp_path: Path) -> None:
    cashier = Cashier(tears=1)
    with ChatServer(cashier).serving() as url, pytest.raises(OutOfMoney):
        distil(url, tmp_path, 0.2)
    held = json.loads((tmp_path / "step" / "held.json").read_text())
    assert cashier.bill <= 0.2
    assert cashier.bill <= held["usd"] + held["usd_under_way"] <= 0.2 < held["usd"] + held["usd_under_way"] + MOST


@pytest.mark.seconds
@pytest.mark.parametrize("seed", range(3))
def test_whatever_a_server_does_its_bill_stays_within_each_limit_and_no_answer_is_paid_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Busy, broken, torn, nonsense, whole, at random, over as many runs as it takes."""
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
    rng, cashier, whole, limit = random.Random(seed), Cashier(), Counter[str](), 0.15

    def script(body: Body) -> Reply:
        way = rng.choice(["busy", "broken", "torn", "nonsense", *["whole"] * 6])
        if way in ("busy", "broken"):
            cashier.times[asked(body)] += 1
            return Refusal(429, "slow down", {"Retry-After": "0.01"}) if way == "busy" else Refusal(500, "oops")
        said = cashier(body)
        if way == "whole":
            whole[asked(body)] += 1
            return said
        assert not isinstance(said, Refusal)
        return [said[0], None] if way == "torn" else [b"data: {nonsense\n\n"]

    with ChatServer(script).serving() as url:
        for attempt in range(30):
            before, times = cashier.bill, Counter(cashier.times)
            try:
                distil(url, tmp_path, limit, f"step{attempt}")
                break
            except (OutOfMoney, StepError):
                continue
            finally:
                assert cashier.bill - before <= limit + 1e-9
                assert max((cashier.times - times).values(), default=0) <= 1 + SERVER["retries"]
        else:
            raise AssertionError("it never ended")
    assert whole == Counter({row["question"]: 1 for row in ROWS})


def test_what_is_refused_costs_nothing(tmp_path: Path) -> None:
    cashier = Cashier(refuses=1, tokens=10)
    with ChatServer(cashier).serving() as url:
        held = distil(url, tmp_path, 60 * (7 * PROMPT + 10 * COMPLETION) / 1e6 + 8 * MOST)
    assert set(cashier.times.values()) == {2}
    assert held["usd"] == pytest.approx(cashier.bill)


def test_a_server_that_is_not_there_costs_nothing(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="no answer from"):
        distil("http://127.0.0.1:1/v1", tmp_path, 0.2, retries=0)
    held = json.loads((tmp_path / "step" / "held.json").read_text())
    assert (held["usd"], held["usd_under_way"]) == (0, pytest.approx(0, abs=1e-9))


def test_a_limit_of_cost_needs_a_limit_of_length_before_anything_is_paid(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    step = TEACHER | {"job": "distil", "questions": {"name": "q", "path": str(tmp_path / "q.jsonl"), "type": "integer"}}
    step["resources"] = {"server": {"url": "http://host/v1", "price": SERVER["price"]}}
    file = tmp_path / "experiment.yaml"
    file.write_text(json.dumps({"name": "x", "max_cost": 5, "steps": {"traces": step}}))
    with pytest.raises(
        ExperimentError, match=r"steps\.traces\.chat\.parameters: max_cost counts .*\{max_tokens: 32768\}"
    ):
        load(file)
    file.write_text(json.dumps({"name": "x", "steps": {"traces": step}}))
    assert load(file).max_cost is None
