"""How hard a model thinks, as its chat template is told: ``reasoning_effort``, or what switches thinking off."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from jobs.evaluate.sweep.opening import ASKED, OFF, Opening, Write
from jobs.evaluate.sweep.policies.efforts import EFFORTS
from jobs.template import ThinkingTemplate
from orchestrator.job.errors import StepError

SWITCH = "reasoning_effort"


def at_effort(effort: str, write: Write, known: Collection[str], style: ThinkingTemplate) -> Callable[[str], str]:
    """Makes prompts at `effort`, which end inside open thinking, or, at none, where the answer begins.

    Raises StepError where the chat template has no such switch, refuses the effort, or makes nothing of it.
    """
    if effort == "none":
        return _off(write, known, style)
    if SWITCH not in known:
        knows = ", ".join(sorted(known)) or "none"
        raise StepError(
            f"efforts: {effort} is for {SWITCH}, which the model's chat template does not have (it knows {knows}): "
            "leave efforts out"
        )
    try:
        text = write(ASKED, {SWITCH: effort})
    except StepError as error:
        raise StepError(f"efforts: {effort}: {error}") from error
    others = [_try(write, {SWITCH: word}) for word in EFFORTS if word != effort]
    if any(others) and all(other in (None, text) for other in others):
        raise StepError(f"efforts: the model's chat template writes the same at {effort} as at any other: leave it out")
    return Opening(_told(write, {SWITCH: effort}), known, style).prompt


def _off(write: Write, known: Collection[str], style: ThinkingTemplate) -> Callable[[str], str]:
    """Without thinking: the first of the usual switches that changes the prompt; of an effort, which may be any word to
    a template, one that closes thinking."""
    on = write(ASKED, {})
    for name, values in OFF.items():
        for value in values if name in known else ():
            text = _try(write, {name: value})
            closed = text is not None and style.close.strip() in text.rpartition(ASKED)[2]
            if text not in (None, on) and (closed or name != SWITCH):
                switched_off = _told(write, {name: value})
                return lambda question: switched_off(question, {})
    knows = ", ".join(sorted(known)) or "none"
    raise StepError(
        f"efforts: none of the usual switches of the model's chat template turns thinking off (it knows {knows}): "
        "leave none out"
    )


def _told(write: Write, switches: Mapping[str, Any]) -> Write:
    return lambda question, more: write(question, {**switches, **more})


def _try(write: Write, switches: Mapping[str, Any]) -> str | None:
    """The prompt; None where the template refuses it."""
    try:
        return write(ASKED, switches)
    except StepError:
        return None
