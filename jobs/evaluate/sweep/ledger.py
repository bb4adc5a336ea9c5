"""The account of one answer: how it came about, token by token, and what it was worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ThinkingEnd = Literal["natural", "forced", "context", "rejected", "ignored"]
AnswerEnd = Literal["stop", "length", "context", "none"]
Verdict = Literal["correct", "wrong", "no_answer", "error", "ungraded"]


@dataclass(frozen=True)
class Ledger:
    """One (item, sample, policy). Token counts are of the sequence that the policy alone would have produced."""

    item: str
    sample: int
    policy: str
    """:attr:`Policy.name`."""
    thinking_tokens: int
    """Tokens of thinking, injected ones included, delimiters not."""
    injected_tokens: int
    answer_tokens: int
    """Tokens decoded after the close delimiter (and after ``Final Answer:``), the stop token not included."""
    thinking_end: ThinkingEnd
    """``natural``: the model ended it. ``forced``: the budget did. ``context``: the context length did, before the
    budget; a prompt that leaves no room at all is also ``context``, with no thinking and no answer. ``rejected``: it
    was longer than the limit of rejection sampling, as was that of all other tries; the counts are of the last.
    ``ignored``: a server went on beyond the budget that it was given, and the answer does not count."""
    answer_end: AnswerEnd
    """``stop``: the model ended it. ``length``: max_answer_tokens did. ``context``: there was no room for an answer.
    ``none``: thinking did not end by itself, and the policy forces no answer; or a server withheld it."""
    extensions_used: int
    extensions_skipped: int
    """Extensions that a natural end asked for and the budget had no room for."""
    continued: bool
    """Whether the model opened thinking again inside its answer."""
    asked: int | None
    """:attr:`Policy.asked`: tokens or steps that thinking should keep to."""
    tries: int
    """Samples that were looked at until one was taken: 1, but for rejection sampling."""
    answer: str
    """Text after the last close delimiter, ``Final Answer:`` included when that was forced, special tokens not; empty
    where the model opened thinking again and did not close it. Of a search, the elected."""
    score: float | None = None
    """Of a search: that of the trace whose answer it is. Its tokens are those of all traces, what they share once."""
    scorer_tokens: int = 0
    """Of a search: what the scorer read, and what was decoded for it alone."""


@dataclass(frozen=True)
class Graded:
    """A ledger with its verdict. Written as one row of ``samples.parquet``: the ledger's fields, then these."""

    ledger: Ledger
    task: str
    gold: str
    extracted: str | None
    """What the extraction rule found in the answer; None when nothing did."""
    rule: str
    """Which extraction rule fired: see :mod:`jobs.evaluate.grading.extraction`."""
    meaning: str | None
    """What `extracted` comes to, written one way: what samples vote for."""
    verdict: Verdict
