"""What a model's chat template makes of a question: the text, and the switches that it knows.

A chat template is a program. What it writes depends on its switches (``enable_thinking``, ``reasoning_effort``), and
some write today's date. A prompt identifies its traces, so the day is never the clock's: it is a field of the
experiment file, with a default of its own. Recorded at a sweep's first run instead, it would differ between two stores,
and one file would mean two experiments.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from difflib import get_close_matches
from typing import Any

from orchestrator.job.errors import StepError

DATE = date(2026, 1, 1)
"""The day that templates write, where the experiment file names none."""

OURS = frozenset(
    {
        *("messages", "conversation", "chat_template", "add_generation_prompt", "continue_final_message", "tools"),
        *("documents", "tokenize", "tokenizer_kwargs", "padding", "truncation", "max_length", "return_tensors"),
        *("return_dict", "return_assistant_tokens_mask", "strftime_now", "raise_exception"),
        *(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")),
        "additional_special_tokens",
    }
)
"""Names that a template is given, or its caller takes, and that are no switches."""

_GENERATION = re.compile(r"{%-?\s*(end)?generation\s*-?%}")
"""Marks what an assistant said, in transformers' dialect alone."""


@dataclass(frozen=True)
class Instructions:
    """What a chat template is told beside the question, the same for every question of a sweep."""

    system: str | None = None
    switches: Mapping[str, Any] = field(default_factory=dict)
    """The experiment file's ``chat_template_kwargs``."""
    day: date = DATE

    def messages(self, question: str) -> list[dict[str, str]]:
        """The conversation that asks `question`."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, {"role": "user", "content": question}]


def render(
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    switches: Mapping[str, Any],
    day: date,
    generation: bool = True,
) -> str:
    """What the tokenizer's chat template writes for `messages` on `day`, with `generation` to where the model goes on.

    Raises StepError where the template refuses them.
    """
    from jinja2 import TemplateError

    noon = datetime(day.year, day.month, day.day, 12)
    try:
        text = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=generation, tokenize=False, strftime_now=noon.strftime, **switches
        )
    except (TemplateError, TypeError) as error:
        given = ", ".join(f"{name}: {value!r}" for name, value in switches.items()) or "no switches"
        reason = " ".join(str(error).split())
        raise StepError(f"chat_template_kwargs: the model's chat template refuses {given}: {reason}") from error
    return str(text)


def known_switches(chat_template: str) -> frozenset[str]:
    """The names that a chat template reads and nobody else sets. Raises jinja2's TemplateError where it is none."""
    from jinja2 import Environment, meta

    environment = Environment(extensions=["jinja2.ext.loopcontrols"])
    template = environment.parse(_GENERATION.sub("", chat_template))
    return frozenset(meta.find_undeclared_variables(template)) - {*OURS, *environment.globals}


def unknown_switches(chat_template: str, switches: Collection[str]) -> Iterator[tuple[str, str]]:
    """Which of `switches` a chat template does not know, each with what is to be said of it."""
    from jinja2 import TemplateError

    try:
        known = known_switches(chat_template) if chat_template else frozenset(switches)
    except TemplateError:  # whoever renders it says what is wrong with it
        return
    for name in switches:
        if name not in known:
            close = get_close_matches(name, known, 1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            knows = ", ".join(sorted(known)) or "none"
            yield name, f"the model's chat template has no such switch, and knows {knows}{meant}"


def check(tokenizer: Any, said: Instructions) -> None:
    """Raises StepError for switches that the chat template does not know, and a system prompt that it leaves out."""
    for name, message in unknown_switches(tokenizer.get_chat_template(), said.switches):
        raise StepError(f"chat_template_kwargs.{name}: {message}")
    if said.system is not None:
        asked = said.messages("?")
        if render(tokenizer, asked, said.switches, said.day) == render(tokenizer, asked[1:], said.switches, said.day):
            raise StepError(
                "system: the model's chat template leaves it out: put it into the question, or leave it out"
            )
