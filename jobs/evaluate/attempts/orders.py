"""What can be said to a prompt beside a question: ``/budget 512``, ``/append Wait @40``. Pure: lines in, orders out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from jobs.evaluate.attempts.attempt import Settings
from jobs.evaluate.attempts.session import Unsteerable

HELP = {
    "/append TEXT [@N]": "append TEXT where thinking ended, or after its first N tokens, and let it go on",
    "/cut [@N]": "cut thinking there, and have it answered",
    "/again [@N]": "let it go on from there with other random numbers",
    "/fork TEXT [@N]": "the same as /append, beside what it would do left to itself, and compare",
    "/on N": "take attempt N for these",
    "/show [N]": "all of an attempt",
    "/compare": "all attempts at this question, side by side",
    "/budget N|auto": "most tokens of thinking",
    "/effort WORD|default": "how hard the model is told to think, from the next question on",
    "/temperature X": "0: the likeliest token",
    "/seed N": "of random numbers",
    "/settings": "what holds now",
    "/quit": "end; so does Ctrl-D",
}
NAMES = tuple(line.partition(" ")[0] for line in HELP)
SETTINGS = ("budget", "effort", "temperature", "seed")


@dataclass(frozen=True)
class Order:
    """A line that is no question."""

    name: str
    text: str = ""
    at: int | None = None
    """Thinking tokens after which it is meant."""


def order(line: str) -> Order:
    """What a line that begins with a slash asks for. Raises Unsteerable for what nobody knows."""
    word, _, rest = line.strip().removeprefix("/").partition(" ")
    if f"/{word}" not in (*NAMES, "/help"):
        raise Unsteerable(f"/{word} is none of {', '.join(NAMES)}; /help says what they do")
    if word in SETTINGS:
        return Order(word, rest.strip())
    before, mark, number = rest.rpartition("@")
    if mark and number.strip().isdecimal():
        return Order(word, before.removesuffix(" "), int(number))
    return Order(word, rest)


def changed(settings: Settings, name: str, text: str) -> Settings:
    """The settings with one of them as `text` says. Raises Unsteerable."""
    match name:
        case "budget":
            if text == "auto":
                return replace(settings, budget=None)
            return replace(settings, budget=_whole(name, text, 1, "or auto"))
        case "effort":
            return replace(settings, effort=None if text in ("", "default") else text)
        case "temperature":
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if not 0 <= value <= 10:
                raise Unsteerable(f"temperature: {text or 'nothing'} is not a number from 0 to 10")
            return replace(settings, sampling=replace(settings.sampling, temperature=value))
        case _:
            return replace(settings, seed=_whole(name, text, 0, "below 2**31"))


def described(settings: Settings) -> str:
    """``budget auto, effort default, temperature 0, seed 0``."""
    budget = "auto" if settings.budget is None else f"{settings.budget:,}"
    temperature = f"{settings.sampling.temperature:g}"
    return f"budget {budget}, effort {settings.effort or 'default'}, temperature {temperature}, seed {settings.seed}"


def _whole(name: str, text: str, least: int, more: str) -> int:
    if not text.isdecimal() or not least <= int(text) < 2**31:
        raise Unsteerable(f"{name}: {text or 'nothing'} is not a whole number from {least} on, {more}")
    return int(text)
