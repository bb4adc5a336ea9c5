"""A stopping rule at work while a trace is decoded: it looks at the trace's probes as they come.

The rule and the matrices are those of a replay (:mod:`jobs.evaluate.stopping`), and what a sweep says of an online rule
is a replay of it on what was decoded. So this decides one thing only: from where on no more is wanted of a trace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from jobs.evaluate.grading.reader import Read, Text
from jobs.evaluate.stopping.probes import SILENT, Probes
from jobs.evaluate.stopping.trace_rule import TraceRule
from jobs.evaluate.sweep.policy import FINAL_ANSWER, Mark
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.sweep.tree import Key, forced, key_of
from jobs.evaluate.traces.segments import TRUNK, Trace

Reading = Callable[[Sequence[Text]], Sequence[Read | str]]
"""What answers say, or why nobody knows: :meth:`jobs.evaluate.grading.workers.Workers.read`."""


@dataclass(frozen=True)
class OnlineRule:
    """What a replica is told."""

    rule: TraceRule
    mark: Mark
    """Stands for the rule in the tree."""
    cuts: tuple[int, ...]
    """Where it probes, ascending."""
    text: Callable[[str | None, Sequence[int]], str]
    """What the tokens of an answer say after a closing: :meth:`jobs.evaluate.sweep.prompts.Prompter.answer`."""


@dataclass
class RuleWatch:
    """A rule, and what it has read."""

    online: OnlineRule
    read: Reading
    _known: dict[Text, str | None] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Under which the tree knows where the rule stopped a trace."""
        return key_of(self.online.mark)

    async def stop(self, unit: Unit, trace: Trace) -> int | None:
        """The tokens at which the rule stops thinking, by the probes that are known from the first one on."""
        cuts, texts, lengths, sure = [], [], [], []
        reached = trace.extent(TRUNK).length
        for cut in self.online.cuts:
            key = forced((), FINAL_ANSWER, cut)
            length, ended = trace.extent(key)
            if cut > min(reached, unit.room.thinking) or not (ended or length >= unit.room.answer):
                break
            tokens = trace.tokens(key)[: unit.room.answer]
            cuts.append(cut)
            lengths.append(len(tokens))
            sure.append(trace.sureness(key))
            texts.append(Text(*unit.form, self.online.text(FINAL_ANSWER, tokens)))
        if not cuts:
            return None
        if fresh := [text for text in dict.fromkeys(texts) if text not in self._known]:
            for text, said in zip(fresh, await asyncio.to_thread(self.read, fresh), strict=True):
                self._known[text] = None if isinstance(said, str) else said.meaning or said.extracted
        meanings = [self._known[text] for text in texts]
        signals = {"logprob": [each.logprob for each in sure], "entropy": [each.entropy for each in sure]}
        stops = self.online.rule.when(_probes(cuts, lengths, meanings, signals))[0, 0]
        return cuts[int(np.argmax(stops))] if stops.any() else None


def _probes(
    cuts: Sequence[int], lengths: Sequence[int], meanings: Sequence[str | None], signals: dict[str, list[float]]
) -> Probes:
    codes = {meaning: code for code, meaning in enumerate(dict.fromkeys(each for each in meanings if each is not None))}
    answers = [SILENT if meaning is None else codes[meaning] for meaning in meanings]
    shape = (1, 1, len(cuts))
    return Probes(
        thinking=np.reshape(cuts, shape),
        answer_tokens=np.reshape(lengths, shape),
        answer=np.reshape(answers, shape),
        correct=np.zeros(shape, dtype=bool),
        live=np.ones(shape, dtype=bool),
        signals={name: np.reshape(values, shape) for name, values in signals.items()},
    )
