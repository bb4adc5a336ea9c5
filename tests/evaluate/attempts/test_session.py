"""Attempts that are steered by hand are what a sweep would have decoded, whatever they were forked from."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.attempts.attempt import Attempt, Settings, Stretch
from jobs.evaluate.attempts.session import Session, Unsteerable
from jobs.evaluate.decode.walker import Walker
from jobs.evaluate.engines.protocol import Request, Sampling
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.extensions import Extension
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.prompts import Prompter
from jobs.evaluate.sweep.tree import Key, grow, leaf
from jobs.evaluate.traces.segments import Trace
from jobs.template import TEMPLATES, UNMARKED
from tests.evaluate import tiny
from tests.evaluate.scripted import Script, ScriptedEngine

CONTEXT, ANSWER = 160, 12
SETTINGS = Settings(Sampling())
TOKENIZER = tiny.tokenizer()
PROMPTER = Prompter(TOKENIZER, TEMPLATES["think"], [TOKENIZER.eos_token_id])


def session(script: Script, **engine: Any) -> tuple[Session, ScriptedEngine]:
    scripted = ScriptedEngine(script, **engine)
    return Session(PROMPTER, scripted, CONTEXT, ANSWER, "scripted"), scripted


def thinking(attempt: Attempt) -> list[int]:
    return [token for path in _path(attempt) for token in attempt.trace.tokens(Key(path, "thinking"))]


def _path(attempt: Attempt) -> list[tuple[str, ...]]:
    return [attempt.path[:depth] for depth in range(len(attempt.path) + 1)]


def alone(script: Script, attempt: Attempt, policy: Policy) -> tuple[Any, list[int]]:
    """The account and the answer of a policy that a sweep decodes by itself."""
    forcing = PROMPTER.forcing([policy])
    tree = grow([policy], {string: len(ids) for string, ids in forcing.injected.items()})
    trace = Trace(attempt.unit, forcing)
    walker = Walker(ScriptedEngine(script), tree, forcing, Sampling(), 0, lambda segment: None)
    asyncio.run(walker.walk(attempt.unit, trace))
    account = leaf(tree, policy, attempt.unit.room, trace.extent)
    return account, list(trace.tokens(account.answer))[: account.answer_tokens]


def answer(attempt: Attempt) -> list[int]:
    assert attempt.leaf is not None
    return list(attempt.trace.tokens(attempt.leaf.answer))[: attempt.leaf.answer_tokens]


SCRIPTS = st.builds(Script, st.integers(0, 1000), st.sampled_from([0, 4, 16, 60, 256]))


@given(SCRIPTS, st.integers(0, 3), st.integers(1, 60), st.sampled_from(["Wait", "Hmm\n", ""]))
def test_what_is_appended_at_natural_ends_is_an_extension_of_a_sweep(
    script: Script, times: int, budget: int, string: str
) -> None:
    tried, engine = session(script, chunk=3)
    settings = Settings(Sampling(), budget)
    attempt = tried.ask("How many?", settings)
    asyncio.run(tried.decode(attempt))
    assert (attempt.leaf, answer(attempt)) == alone(script, attempt, Budget(budget))
    for done in range(1, times + 1):
        before = engine.decoded
        if attempt.leaf.thinking_end != "natural":
            return
        expected, tokens = alone(script, attempt, Extension(budget, string, done))
        if expected.extensions_skipped:
            with pytest.raises(Unsteerable, match="raise the budget"):
                tried.append(attempt, string, settings)
            return
        longer = tried.append(attempt, string, settings)
        asyncio.run(tried.decode(longer))
        assert (longer.leaf, answer(longer)) == (expected, tokens)
        assert engine.decoded - before == longer.trace.decoded  # and so nothing of what came before
        assert longer.appended == (*attempt.appended, (string, attempt.thinking, True))
        assert longer.name == Extension(budget, string, done).name
        attempt = longer


@given(SCRIPTS, st.integers(1, 60))
def test_what_is_cut_is_the_budget_of_a_sweep(script: Script, at: int) -> None:
    tried, _ = session(script)
    attempt = tried.ask("How many?", SETTINGS)
    asyncio.run(tried.decode(attempt))
    if at > attempt.thinking:
        with pytest.raises(Unsteerable, match="has no token"):
            tried.cut(attempt, SETTINGS, at)
        return
    cut = tried.cut(attempt, SETTINGS, at)
    asyncio.run(tried.decode(cut))
    assert (cut.leaf, answer(cut)) == alone(script, attempt, Budget(at))
    assert [part for part in cut.parts if part.kind == "cut"] == [Stretch("cut", "Final Answer:", at)]
    assert cut.trace.decoded == cut.leaf.answer_tokens


@given(SCRIPTS, st.data())
def test_a_fork_in_the_middle_goes_on_from_exactly_what_was_thought_by_then(
    script: Script, data: st.DataObject
) -> None:
    tried, engine = session(script)
    attempt = tried.ask("How many?", SETTINGS)
    asyncio.run(tried.decode(attempt))
    at = data.draw(st.integers(0, attempt.thinking))
    wait = tuple(TOKENIZER.encode("Wait"))
    if at + len(wait) >= attempt.unit.room.thinking:
        with pytest.raises(Unsteerable, match="leave it at an earlier token"):
            tried.append(attempt, "Wait", SETTINGS, at)
        return
    fork = tried.append(attempt, "Wait", SETTINGS, at)
    engine.requests.clear()
    asyncio.run(tried.decode(fork))
    first: Request = engine.requests[0]
    assert first.prompt == (*attempt.unit.prompt, *thinking(attempt)[:at], *wait)
    assert first.forbid_stop_first
    assert fork.appended == (("Wait", at, at == attempt.thinking and attempt.leaf.thinking_end == "natural"),)
    assert fork.text_before(None).startswith(attempt.text_before(at) + "Wait")
    assert attempt.text_before(None).startswith(attempt.text_before(at))
    assert fork.leaf.injected_tokens == len(wait)
    assert tried.append(fork, "Hmm", SETTINGS, at).path == ("Hmm",)  # before what was appended there


@given(SCRIPTS, st.integers(1, 30))
def test_what_was_stopped_goes_on_as_if_it_had_not_been(script: Script, after: int) -> None:
    whole, _ = session(script)
    expected = whole.ask("How many?", SETTINGS)
    asyncio.run(whole.decode(expected))

    async def stopped() -> Attempt:
        tried, _ = session(script, chunk=2)
        attempt = tried.ask("How many?", SETTINGS)
        stop = asyncio.Event()

        def hear(which: Attempt, part: Stretch) -> None:
            if which.trace.decoded >= after:
                stop.set()

        decoding = asyncio.create_task(tried.decode(attempt, hear))
        await asyncio.wait([decoding, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
        decoding.cancel()
        await asyncio.gather(decoding, return_exceptions=True)
        fork = tried.cut(attempt, SETTINGS) if attempt.thinking else None
        await tried.decode(attempt)
        if fork is not None:
            await tried.decode(fork)
            assert fork.leaf.thinking_tokens <= attempt.thinking
        return attempt

    attempt = asyncio.run(stopped())
    assert (attempt.leaf, attempt.answer, attempt.parts) == (expected.leaf, expected.answer, expected.parts)


def test_several_are_decoded_at_once_and_each_is_told_apart() -> None:
    tried, engine = session(Script(3, 4), chunk=1)
    first = tried.ask("How many?", SETTINGS)
    asyncio.run(tried.decode(first))
    forks = [tried.append(first, text, SETTINGS, 5) for text in ("Wait", "Hmm")]
    heard: list[int] = []
    asyncio.run(tried.decode_all(forks, lambda attempt, part: heard.append(attempt.number)))
    assert sorted(set(heard)) == [2, 3]
    assert heard != sorted(heard)  # in turns
    assert [each.parent for each in forks] == [1, 1]
    assert engine.open == 0


def test_what_is_read_is_what_is_kept() -> None:
    tried, _ = session(Script(5, 12))
    attempt = tried.append(first := tried.ask("How many?", SETTINGS), "Wait", SETTINGS, 0)
    assert first.thinking == 0
    asyncio.run(tried.decode(attempt))
    record = attempt.record()
    assert (
        record["thinking"]
        == attempt.text_before(None)
        == "".join(part.text for part in attempt.parts if part.kind in ("thinking", "appended"))
    )
    assert record["appended"] == [{"text": "Wait", "at": 0, "natural": False}]
    assert (record["parent"], record["how"], record["policy"]) == (1, "appended", '"Wait" at 0')
    assert record["thinking_tokens"] == attempt.leaf.thinking_tokens == attempt.thinking


def test_a_model_that_marks_no_thinking_is_asked_and_not_steered() -> None:
    prompter = Prompter(TOKENIZER, UNMARKED, [TOKENIZER.eos_token_id])
    tried = Session(prompter, ScriptedEngine(Script(1, 30)), CONTEXT, ANSWER, "plain")
    attempt = tried.ask("How many?", SETTINGS)
    asyncio.run(tried.decode(attempt))
    assert attempt.leaf.answer_tokens
    assert attempt.thinking == 0
    for steer in (tried.cut, tried.again):
        with pytest.raises(Unsteerable, match="thinking is not told from the answer here"):
            steer(attempt, SETTINGS)


@pytest.mark.parametrize(
    ("question", "settings", "said"),
    [
        ("  ", SETTINGS, "the question is empty"),
        ("x" * 200, SETTINGS, "leaves no room to think in a context of 160: ask a shorter one"),
        ("Why?", Settings(Sampling(), effort="high"), "effort"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_line(question: str, settings: Settings, said: str) -> None:
    tried, _ = session(Script(1, 30))
    with pytest.raises(Unsteerable, match=said) as refused:
        tried.ask(question, settings)
    assert "\n" not in str(refused.value)
    assert tried.attempts == []
