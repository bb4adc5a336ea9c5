"""Lines that are no questions, and what a terminal is shown of what a model wrote."""

from __future__ import annotations

import asyncio

import pytest

from jobs.evaluate.attempts.attempt import Settings, Stretch
from jobs.evaluate.attempts.orders import HELP, Order, changed, described, order
from jobs.evaluate.attempts.session import Unsteerable
from jobs.evaluate.attempts.show import attempt_text, comparison, part_text, point, tail
from jobs.evaluate.engines.protocol import Sampling
from orchestrator.display import PlainConsole
from tests.evaluate.attempts.test_session import session
from tests.evaluate.scripted import Script

SETTINGS = Settings(Sampling())
HOSTILE = "a\x1b]0;owned\x07b\x1b[2Jc\x9b31md\u202ee[red]f[/red] :smile: g\rh"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/append Wait", Order("append", "Wait")),
        ("/append Wait @12", Order("append", "Wait", 12)),
        ("/append  and so, @home", Order("append", " and so, @home")),
        ("/cut @3", Order("cut", "", 3)),
        ("/budget 64", Order("budget", "64")),
        ("/quit", Order("quit")),
    ],
)
def test_an_order_is_a_word_a_text_and_a_place(line: str, expected: Order) -> None:
    assert order(line) == expected


def test_an_unknown_order_names_those_there_are() -> None:
    with pytest.raises(Unsteerable, match=r"/wait is none of /append, /cut, .*; /help says what they do"):
        order("/wait")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("budget", "64", "budget 64, effort default, temperature 0, seed 0"),
        ("budget", "auto", "budget auto, effort default, temperature 0, seed 0"),
        ("effort", "low", "budget auto, effort low, temperature 0, seed 0"),
        ("temperature", "0.6", "budget auto, effort default, temperature 0.6, seed 0"),
        ("seed", "7", "budget auto, effort default, temperature 0, seed 7"),
    ],
)
def test_settings_are_changed_one_at_a_time(name: str, text: str, said: str) -> None:
    assert described(changed(SETTINGS, name, text)) == said


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("budget", "0", "budget: 0 is not a whole number from 1 on, or auto"),
        ("budget", "²", "budget: ² is not"),
        ("temperature", "nan", "temperature: nan is not a number from 0 to 10"),
        ("temperature", "", "temperature: nothing is not a number from 0 to 10"),
        ("seed", "-1", "seed: -1 is not a whole number from 0 on"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(name: str, text: str, said: str) -> None:
    with pytest.raises(Unsteerable, match=said):
        changed(SETTINGS, name, text)


def test_what_a_model_writes_is_text_on_a_terminal_and_nothing_else() -> None:
    tried, _ = session(Script(1, 20))
    attempt = tried.ask(f"Why {HOSTILE}?", SETTINGS)
    asyncio.run(tried.decode(attempt))
    attempt.parts = [Stretch("thinking", HOSTILE, 0), Stretch("appended", HOSTILE, 3), Stretch("answer", HOSTILE, 0)]
    attempt.answer = HOSTILE
    attempt.text_before = lambda at: HOSTILE if at is None else HOSTILE[:at]  # type: ignore[method-assign]
    out = PlainConsole(force_terminal=False, record=True, width=300)
    for shown in (
        attempt_text(attempt),
        comparison([attempt, attempt]),
        point(attempt, 4, 100),
        part_text(attempt.parts[0]),
    ):
        out.print(shown)
    text = out.export_text()
    assert not any(letter in text for letter in "\x1b\x07\x9b\u202e\r")
    assert text.count("[red]f[/red] :smile: g") >= 4


def test_the_end_of_long_thinking_is_shown_where_it_is_gone_on_from() -> None:
    parts = [
        Stretch("thinking", "x" * 100, 0),
        Stretch("stop", "", 9),
        Stretch("appended", "Wait", 9),
        Stretch("thinking", "yz", 10),
    ]
    assert tail(parts, 1000) == parts
    assert tail(parts, 10) == [Stretch("thinking", "…xxxx", 0), *parts[1:]]


def test_what_the_help_says_can_be_said() -> None:
    for line in HELP:
        order(line.partition(" ")[0])
