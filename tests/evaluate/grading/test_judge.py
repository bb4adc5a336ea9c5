"""The judge: what it is told, how its word is read, and a sweep that is finished without it and completed with it."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.grading.judge import LONGEST, JudgeQuestion, read_judgements, read_verdict, verdict_of
from jobs.evaluate.grading.judge_actor import JudgeSession
from jobs.evaluate.regrade import regrade
from jobs.evaluate.run import run
from orchestrator.job.context import StepContext
from tests.evaluate import tiny
from tests.ray_cluster import CPUS

QUESTION = JudgeQuestion("essay", "sky", "Why is the sky blue?", "Rayleigh scattering", "short waves scatter more")
TOKENIZER = tiny.tokenizer()


def test_the_judge_sees_both_answers_and_not_which_is_gold() -> None:
    prompt = QUESTION.prompt
    assert "Question: Why is the sky blue?" in prompt
    assert re.search(r"\b(gold|reference|correct answer|expected)\b", prompt) is None
    swapped = replace(QUESTION, gold=QUESTION.answer, answer=QUESTION.gold)
    assert set(prompt.splitlines()) - set(swapped.prompt.splitlines()) <= {
        f"Answer {letter}: {json.dumps(text)}" for letter in "AB" for text in (QUESTION.gold, QUESTION.answer)
    }


def test_which_comes_first_is_as_likely_as_not_and_always_the_same() -> None:
    questions = [replace(QUESTION, answer=f"answer {number}") for number in range(400)]
    first = sum(question.gold_first for question in questions)
    assert 150 < first < 250
    assert [question.gold_first for question in questions] == [question.gold_first for question in questions]
    for question in questions[:20]:
        gold, answer = (question.prompt.index(json.dumps(text)) for text in (question.gold, question.answer))
        assert (gold < answer) == question.gold_first


@pytest.mark.seconds
@given(st.text())
def test_an_answer_is_one_quoted_line_whatever_it_says(answer: str) -> None:
    lines = replace(QUESTION, answer=answer).prompt.split("\n")
    assert len(lines) == len(QUESTION.prompt.split("\n"))
    quoted = [line.partition(": ")[2] for line in lines if line.startswith(("Answer A: ", "Answer B: "))]
    assert sorted(json.loads(text) for text in quoted) == sorted([QUESTION.gold, answer[:LONGEST]])


@pytest.mark.parametrize(
    ("reply", "same"),
    [
        ("Verdict: SAME", True),
        ("Both say so.\n\n**Verdict: DIFFERENT**\n", False),
        ("verdict: same.", True),
        ("<think>Verdict: DIFFERENT\n</think>\nVerdict: SAME", True),
        ("Verdict: SAME\nOr maybe not.", None),
        ("Verdict: SAME or DIFFERENT", None),
        ("Not Verdict: SAME", None),
        ("SAME", None),
        ("", None),
    ],
)
def test_only_the_last_line_decides_and_nothing_is_guessed(reply: str, same: bool | None) -> None:
    assert read_verdict(reply) is same


class Judge:
    """A server that completes token ids, and finds that answers are the same when they begin with the same letter."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def reply(self, prompt: str) -> str:
        first, second = (json.loads(re.findall(rf"Answer {letter}: (.*)", prompt)[-1]) for letter in "AB")
        if "?" in first + second:
            return "I cannot tell."
        return f"Verdict: {'SAME' if first[:1] == second[:1] else 'DIFFERENT'}"

    @contextmanager
    def serving(self, port: int) -> Iterator[None]:
        judge = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send("application/json", {"data": [{"id": "judge", "max_model_len": 4096}]})

            def do_POST(self) -> None:
                body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                events: list[tuple[list[int], str | None]]
                if body["max_tokens"] == 1:
                    events = [([0], "length")]
                else:
                    prompt = TOKENIZER.decode(body["prompt"])
                    judge.prompts.append(prompt)
                    events = [(TOKENIZER.encode(judge.reply(prompt)), None), ([TOKENIZER.eos_token_id], "stop")]
                choices = [{"index": 0, "text": "", "token_ids": ids, "finish_reason": end} for ids, end in events]
                lines = [f"data: {json.dumps({'choices': [choice]})}\n\n" for choice in choices]
                self._send("text/event-stream", "".join([*lines, "data: [DONE]\n\n"]))

            def _send(self, kind: str, content: object) -> None:
                data = (content if isinstance(content, str) else json.dumps(content)).encode()
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()


def free_port() -> int:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return server.server_port


def regraded(config: EvaluateConfig, context: StepContext) -> tuple[pd.DataFrame, str]:
    found = regrade(config, context)
    if found.changed:
        found.apply()
    return pd.read_parquet(context.output / "samples.parquet"), found.title


def test_a_sweep_whose_judge_is_away_is_finished_and_completed_later(
    cluster: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    questions = tmp_path / "essay.jsonl"
    gold = ["\\", "0", "z", "a"]
    lines = [{"id": f"q{at}", "question": f"Why {at}?", "answer": answer} for at, answer in enumerate(gold)]
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = EvaluateConfig.model_validate_json(
        json.dumps(
            {
                "model": str(tiny.save(tmp_path / "model")),
                "tasks": [{"name": "essay", "path": str(questions), "type": "judged"}],
                "budgets": [4],
                "max_answer_tokens": 12,
                "judge": {
                    "model": str(tiny.save(tmp_path / "judge", context_length=4096)),
                    "engine": "openai",
                    "served_model": "judge",
                    "max_tokens": 64,
                },
                "resources": {
                    "judge": {"server": {"url": f"http://127.0.0.1:{port}/v1", "retries": 0, "deadline": 20}}
                },
            }
        )
    )
    context = StepContext("experiment", "sweep", "f", tmp_path / "f", tmp_path / "traces")
    context.folder.mkdir()
    run(config, context)
    away = pd.read_parquet(context.output / "samples.parquet")
    assert set(away["verdict"]) <= {"ungraded", "no_answer"}
    assert "ungraded" in set(away["verdict"])
    assert "judge: cannot be asked: " in capfd.readouterr().out
    still_away, title = regraded(config, context)
    pd.testing.assert_frame_equal(away, still_away)
    assert "0 of 4 verdicts differ" in title

    judge = Judge()
    with judge.serving(port):
        complete, title = regraded(config, context)
    assert "ungraded" not in set(complete["verdict"])
    judgements = {each.item: each for each in read_judgements(context.output)}
    assert len(judge.prompts) == len(judgements) == (away["verdict"] == "ungraded").sum()
    for row in complete[away["verdict"] == "ungraded"].itertuples():
        said = judgements[row.item]
        verdict = verdict_of(read_verdict(said.reply))
        assert (said.gold, said.answer, verdict) == (row.gold, row.extracted, row.verdict)
        assert any(said.prompt in prompt for prompt in judge.prompts)
        unclear = "?" in row.gold + row.extracted
        assert row.verdict == ("error" if unclear else "correct" if row.gold[0] == row.extracted[0] else "wrong")

    later, title = regraded(config, context)
    pd.testing.assert_frame_equal(complete, later)
    assert "0 of 4 verdicts differ" in title
    assert len(judge.prompts) == len(judgements), "what was judged is not asked again, and needs no judge"


def test_a_judge_of_ones_own_is_asked_through_its_engine_and_gives_back_what_it_held(
    cluster: None, tmp_path: Path
) -> None:
    check_own_judge(tmp_path, "transformers")


def check_own_judge(tmp_path: Path, engine: str) -> None:
    """On the Ray cluster that is connected to."""
    judge = tiny.save_speaker(tmp_path / "judge", "Verdict: SAME")
    task = {"name": "essay", "path": "essay.jsonl", "type": "judged"}
    fields = {"model": "a/model", "tasks": [task], "judge": {"model": str(judge), "engine": engine}}
    config = EvaluateConfig.model_validate_json(json.dumps(fields))
    assert config.judge is not None
    context = StepContext("experiment", "sweep", "f", tmp_path / "f", tmp_path / "traces")
    context.output.mkdir(parents=True)
    questions = [replace(QUESTION, answer=f"answer {number}") for number in range(3)]
    with JudgeSession(config.judge, config, context) as session:
        assert session.verdicts(questions) == ["correct"] * 3
        session.write(context.output)
    said = list(read_judgements(context.output))
    assert [each.reply for each in said] == ["Verdict: SAME"] * 3
    assert {each.prompt for each in said} == {question.prompt for question in questions}
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU") != CPUS:
        assert time.monotonic() < deadline, "the judge still holds what it ran on"
        time.sleep(0.1)
