"""Budget forcing for one policy alone, as its rules are written down: what the tree must give, by brute force."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.prompts import Forcing, Unit
from tests.evaluate.scripted import Script


@dataclass(frozen=True)
class Outcome:
    thinking: tuple[int, ...]
    injected: int
    thinking_end: str
    answer: tuple[int, ...]
    answer_end: str
    used: int
    skipped: int
    decoded: int
    """Tokens that the policy alone decodes."""


def alone(policy: Policy, unit: Unit, script: Script, forcing: Forcing) -> Outcome:
    """Runs `policy` by itself on `unit`, one token at a time."""
    route = policy.route
    capacity = unit.room.thinking
    if route.closing in forcing.closings:  # what it is longer by than the usual one is not there for thinking
        capacity -= max(0, len(forcing.closing(route.closing, -1)) - forcing.reserve)
    if capacity < 1:
        return Outcome((), 0, "context", (), "context", 0, 0, 0)
    # Where only a natural end counts, one token more shows whether thinking ends at the budget.
    most = route.budget if route.budget is None or route.forced else route.budget + 1
    budget = capacity if most is None else min(most, capacity)
    thinking: list[int] = []
    injected = used = skipped = own = 0
    forbid = False
    end = "natural"
    while unit.thinks:  # else there is nothing to think, and all that is written is the answer
        if len(thinking) == budget:
            end = "forced" if most is not None and most <= capacity else "context"
            if not route.forced:
                end = "rejected" if end == "forced" else end
                return Outcome(tuple(thinking), 0, end, (), "none", 0, 0, len(thinking))
            break
        # After an extension, thinking may not end at once, nor may the next token be one that only a close begins with.
        stops = forcing.first_stops if forbid else forcing.thinking_stops
        token = script.next((*unit.prompt, *thinking), stops, forbid, refused(unit, thinking, forcing))
        closes = closes_here(script, unit, thinking, own, forcing, forbid)
        forbid = False
        own += 1
        if token not in forcing.thinking_stops and not closes:
            thinking.append(token)
            if route.mark is not None and route.mark.kind == "stop":
                if completes(route.mark.strings, said(thinking[:-1], forcing), forcing.pieces[token]):
                    end = "forced"
                    break
                continue
            begins = headers(thinking, forcing.step)
            if route.mark is not None and len(begins) > route.mark.number:
                del thinking[begins[route.mark.number] :]
                end = "forced"
                break
            continue
        if used == len(route.strings):
            end = "natural"
            break
        string = forcing.injected[route.strings[used]]
        if len(thinking) + len(string) >= budget:
            end, skipped = "natural", 1
            break
        thinking += string
        injected += len(string)
        used += 1
        own = 0
        forbid = True
    closing = forcing.closing(
        None if end == "natural" else route.closing, thinking[-1] if thinking else unit.prompt[-1]
    )
    closing = closing if unit.thinks else ()
    answer: list[int] = []
    answer_end = "length"
    while len(answer) < unit.room.answer:
        token = script.next((*unit.prompt, *thinking, *closing, *answer), forcing.end_of_turn, False)
        if token in forcing.end_of_turn:
            answer_end = "stop"
            break
        answer.append(token)
    decoded = len(thinking) - injected + len(answer)
    return Outcome(tuple(thinking), injected, end, tuple(answer), answer_end, used, skipped, decoded)


def closes_here(script: Script, unit: Unit, thinking: Sequence[int], own: int, forcing: Forcing, forbid: bool) -> bool:
    """Whether the close delimiter begins in the next token: looks ahead, at the whole text of the `own` last tokens of
    `thinking`, which are the branch's, and of what follows."""
    if forcing.ends is None:
        return False
    ahead = list(thinking)
    while len(ahead) <= len(thinking) + len(forcing.ends.text):
        first = forbid and len(ahead) == len(thinking)
        stops = forcing.first_stops if first else forcing.thinking_stops
        token = script.next((*unit.prompt, *ahead), stops, first, refused(unit, ahead, forcing))
        if token in forcing.thinking_stops:
            break
        ahead.append(token)
    texts = [forcing.ends.pieces.get(token, "\uffff") for token in ahead[len(thinking) - own :]]
    at = "".join(texts).find(forcing.ends.text)
    return at >= 0 and len("".join(texts[:own])) <= at < len("".join(texts[: own + 1]))


def said(tokens: Sequence[int], forcing: Forcing) -> bytes:
    """What they say, where strings are looked for in it."""
    return b"".join(forcing.pieces[token] for token in tokens)


def refused(unit: Unit, thinking: Sequence[int], forcing: Forcing) -> tuple[int, ...]:
    """The tokens that would complete a banned string after `thinking`. A stop is never written."""
    if not unit.banned:
        return ()
    return completing(unit.banned, said(thinking, forcing), forcing.pieces, forcing.thinking_stops)


@lru_cache(maxsize=1 << 16)
def completing(
    strings: tuple[str, ...], text: bytes, pieces: tuple[bytes, ...], but: tuple[int, ...]
) -> tuple[int, ...]:
    """The tokens that would complete one of `strings` after `text`. Remembered: policies have prefixes in common."""
    return tuple(token for token, piece in enumerate(pieces) if token not in but and completes(strings, text, piece))


def completes(strings: Iterable[str], text: bytes, piece: bytes) -> bool:
    """Whether one of `strings` ends in `piece`, which is written after `text`."""
    ends = [string for string in map(str.encode, strings) if string[-1] in piece]
    return any(string in text[max(0, len(text) + 1 - len(string)) :] + piece for string in ends)


def headers(tokens: list[int], header: tuple[int, ...]) -> list[int]:
    """Where `header` is in `tokens`, from the left."""
    found, at = [], 0
    while header and at + len(header) <= len(tokens):
        if tuple(tokens[at : at + len(header)]) == header:
            found.append(at)
            at += len(header)
        else:
            at += 1
    return found
