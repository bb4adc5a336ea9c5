"""How a prompt comes to end inside open thinking, whoever opens it: the chat template or the sweep.

Many templates think only when told so. A prompt of such a one ends after thinking that is closed already, or says
nowhere that there should be any; to force thinking open there makes a prompt that the model has never seen, and numbers
that look like a model's. So it is an error, which names the switch: it is found by rendering the usual ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jobs.template import UNMARKED, ThinkingTemplate
from orchestrator.job.errors import StepError

Write = Callable[[str, Mapping[str, Any]], str]
"""The prompt of a question, with more switches than the experiment's own. Raises StepError for some of them."""

ASKED = "What is the question?"
"""Stands for any question. What a template writes after it is its own."""

ON: Mapping[str, tuple[Any, ...]] = {
    "enable_thinking": (True,),
    "thinking": (True, "enabled"),
    "thinking_mode": ("enabled", "thinking"),
    "reasoning_effort": ("high", "medium", "low", "max"),
}
"""The usual switches, and what turns thinking on."""
OFF: Mapping[str, tuple[Any, ...]] = {
    "enable_thinking": (False,),
    "thinking": (False, "disabled"),
    "thinking_mode": ("disabled", "chat"),
    "reasoning_effort": ("none", "no_think"),
}


@dataclass(frozen=True)
class Opening:
    """Makes the prompts of one model, with one set of switches."""

    write: Write
    known: Collection[str]
    """The switches of its chat template."""
    style: ThinkingTemplate

    def prompt(self, question: str) -> str:
        """The prompt of `question`, ending inside thinking that is open exactly once.

        Raises StepError where the template has thinking closed, or switched off.
        """
        prompt, style = self.write(question, {}), self.style
        if style == UNMARKED:
            return prompt
        tail = self._tail if prompt.endswith(self._tail) else prompt.rpartition(question.strip())[2]
        opens, closes = tail.rfind(style.open.strip()), tail.rfind(style.close.strip())
        if opens > closes:
            return style.opened(prompt) if tail[opens:].strip() == style.open.strip() else prompt
        if closes >= 0:
            end = tail.strip()[-80:]
            raise StepError(
                f"template: the prompt ends after closed thinking ({end!r}), so there is none to force: "
                f"{_remedy(self._opening(), self.known)}"
            )
        if self._off:
            raise StepError(
                f"template: thinking is off unless the chat template is told otherwise: "
                f"{_remedy(iter(self._off), self.known)}"
            )
        return prompt + style.open

    @cached_property
    def _tail(self) -> str:
        """What the template writes after a question: not the question's own last words, which may say anything."""
        return self.write(ASKED, {}).rpartition(ASKED)[2]

    @cached_property
    def _off(self) -> list[tuple[str, Any]]:
        """The switches that are off as the prompt stands, with what turns them on."""
        now = self.write(ASKED, {})
        off = {name for name, _, text in self._written(OFF) if text == now}
        return [(name, value) for name, value, text in self._written(ON) if name in off and text != now]

    def _opening(self) -> Iterator[tuple[str, Any]]:
        """The switches with which the prompt does not end after closed thinking."""
        for name, value, text in self._written(ON):
            tail = text.rpartition(ASKED)[2]
            if tail.rfind(self.style.open.strip()) >= tail.rfind(self.style.close.strip()):
                yield name, value

    def _written(self, values: Mapping[str, tuple[Any, ...]]) -> Iterator[tuple[str, Any, str]]:
        for name in values:
            for value in values[name] if name in self.known else ():
                try:
                    yield name, value, self.write(ASKED, {name: value})
                except StepError:  # the template knows the switch, and not this value of it
                    continue


def _remedy(switches: Iterator[tuple[str, Any]], known: Collection[str]) -> str:
    name, value = next(switches, (None, None))
    if name is None:
        knows = ", ".join(sorted(known)) or "none"
        return f"none of the usual switches opens it (it knows {knows}): take template: none, or a model that thinks"
    return f"set chat_template_kwargs: {{{name}: {str(value).lower() if isinstance(value, bool) else value}}}"
