"""Attempts as text with styles. What a model wrote is text in it, and nothing else: it is never parsed for markup, and
no sequence of a terminal's is left in it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from jobs.evaluate.attempts.attempt import Attempt, Stretch
from orchestrator.display import duration
from orchestrator.terminal import one_line, plain

STYLES = {"thinking": "dim", "stop": "yellow", "appended": "bold magenta", "cut": "bold red", "answer": "bold"}

_ENDS = {"natural": "by itself", "forced": "cut", "context": "cut by the context", "rejected": "cut"}
_SHOWN = 60
"""Characters of an answer in a comparison."""


def part_text(part: Stretch) -> Text:
    """A stretch, styled by what it is."""
    return Text(_words(part), style=STYLES[part.kind])


def _words(part: Stretch) -> str:
    match part.kind:
        case "stop":
            return f" ⟨stops at {part.at:,}⟩ "
        case "cut":
            return f" ⟨cut at {part.at:,}⟩ {plain(part.text)}"
        case "appended":
            return f"{plain(part.text) or '⟨goes on⟩'}"
        case _:
            return plain(part.text)


def heading(attempt: Attempt) -> Text:
    """What it is: ``[3] 1x"Wait" from [1] at 64``."""
    text = Text(f"[{attempt.number}] ", style="bold cyan")
    text.append(plain(attempt.name), style="cyan")
    if attempt.parent is not None:
        text.append(f"  from [{attempt.parent}] at {attempt.shared:,}", style="dim")
    return text


def counts(attempt: Attempt) -> str:
    """``312 tokens of thinking, 24 of answer, 4.1 s, 82 tokens/s``."""
    answer = 0 if attempt.leaf is None else attempt.leaf.answer_tokens
    rate = f", {attempt.trace.decoded / attempt.seconds:,.0f} tokens/s" if attempt.seconds else ""
    said = f", {answer:,} of answer" if answer else ""
    return f"{attempt.thinking:,} tokens of thinking{said}, {attempt.seconds:.1f} s{rate}"


def attempt_text(attempt: Attempt) -> Text:
    """All of an attempt."""
    text = heading(attempt)
    text.append("\n")
    for before, part in zip([None, *attempt.parts], attempt.parts, strict=False):
        if part.kind == "answer" and before is not None and before.kind == "stop":
            text.append("\n")
        if part.kind == "cut":
            text.append("\n")
        text.append_text(part_text(part))
    text.append(f"\n{counts(attempt)}", style="dim")
    return text


def comparison(attempts: Sequence[Attempt]) -> Table:
    """Attempts side by side. Answers that say the same as the first are marked."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name, right in (("", True), ("policy", False), ("from", False), ("thinking", True), ("ended", False)):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    table.add_column("time", justify="right")
    table.add_column("answer", overflow="fold")
    first = attempts[0].answer.strip() if attempts else ""
    for attempt in attempts:
        end = "unfinished" if attempt.leaf is None else _ENDS.get(attempt.leaf.thinking_end, "")
        same = attempt is not attempts[0] and attempt.answer.strip() == first
        said = one_line(attempt.answer.strip(), _SHOWN)
        table.add_row(
            str(attempt.number),
            plain(attempt.name),
            "" if attempt.parent is None else f"{attempt.parent} at {attempt.shared:,}",
            f"{attempt.thinking:,}",
            end,
            f"{attempt.seconds:.1f} s" if attempt.seconds < 60 else duration(attempt.seconds),
            Text(said, style="dim") if same else Text(said),
        )
    return table


def point(attempt: Attempt, at: int | None, width: int) -> Text:
    """A place in thinking: what comes before it and after it, on one line."""
    whole, before = attempt.text_before(None), attempt.text_before(at)
    room = max(20, width - 20)
    where = attempt.thinking if at is None else at
    text = Text(f"at {where:,} of {attempt.thinking:,} ", style="yellow", no_wrap=True, overflow="crop")
    text.append(one_line(before[-room:], room), style="none")
    text.append("▏", style="bold yellow")
    text.append(one_line(whole[len(before) :][: room // 3], room // 3 + 1), style="dim")
    return text


def tail(parts: Sequence[Stretch], most: int) -> list[Stretch]:
    """The last of what there is to read, some characters of it."""
    kept: list[Stretch] = []
    for part in reversed(parts):
        if len(part.text) > most:
            kept.append(part._replace(text="…" + part.text[len(part.text) - most :]))
            break
        kept.append(part)
        most -= len(part.text)
    return kept[::-1]
