"""How a model marks its thinking: the delimiters that training writes and evaluation forces.

Styles differ in who writes what around the delimiters, not in the delimiters alone. Where a chat template already ends
its prompt with `open`, nothing is added to it (:meth:`ThinkingTemplate.opened`), so one style serves models whose
template opens thinking (QwQ, DeepSeek-R1) and models that open it themselves (Qwen3).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.job.extensions import ExtensionPoint


@dataclass(frozen=True)
class ThinkingTemplate:
    """A named pair of delimiters around the thinking of an assistant's turn.

    Training renders ``<chat prompt> open + after_open + trace + before_close + close + after_close + answer <end of
    turn>``. Evaluation ends its prompt with `open` and appends `close` where thinking ends; everything between is the
    model's own, so it must have been trained with the same template.
    """

    name: str
    open: str
    close: str
    after_open: str = "\n"
    before_close: str = "\n"
    after_close: str = "\n"
    step: str | None = None
    """The header of each step of thinking, in models trained to write one."""
    whole_turn: bool = False
    """Whether what a chat template writes after the end of a turn is learned too. No engine ever decodes it."""

    def opened(self, prompt: str) -> str:
        """`prompt` with thinking open: as it is where its chat template opened it, else with `open` after it.

        White space after the delimiter is the chat template's where it has any: it knows what the model was trained on.
        """
        said, delimiter = prompt.rstrip(), self.open.rstrip()
        if not said.endswith(delimiter):
            return prompt + self.open
        return prompt if prompt != said else prompt + self.open[len(delimiter) :]

    def after_opening(self, prompt: str) -> str:
        """What training writes between the open delimiter and the trace, where the chat prompt has not yet done so."""
        return "" if prompt.rstrip().endswith(self.open.rstrip()) and prompt[-1].isspace() else self.after_open


TEMPLATES: ExtensionPoint[ThinkingTemplate] = ExtensionPoint(
    "scaling_orchestrator.templates",
    ThinkingTemplate,
    {
        template.name: template
        for template in (
            # The s1 paper: only <|im_start|> is a special token, "think" and "answer" are ordinary tokens after it. Its
            # text is what the chat template makes of the turn, to the newline after its end.
            ThinkingTemplate("s1", open="<|im_start|>think", close="<|im_start|>answer", whole_turn=True),
            ThinkingTemplate("think", open="<think>", close="</think>"),
            # Qwen3's chat template leaves opening to the model, QwQ's and DeepSeek's do it themselves.
            ThinkingTemplate("qwen3", open="<think>\n", close="</think>", after_open="", after_close="\n\n"),
            ThinkingTemplate("deepseek-r1", open="<think>\n", close="</think>", after_open="", after_close="\n\n"),
        )
    },
)
"""By the names that experiment files have for them."""

UNMARKED = ThinkingTemplate("none", open="", close="", after_open="", before_close="", after_close="")
"""Of models that do not set their thinking apart by tokens: all that they write is their answer."""

_PAIRS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))
"""Delimiters that tokenizers have as tokens of their own. s1's cannot be told from an ordinary chat model's."""


def read_template(vocabulary: Iterable[str], chat_template: str) -> ThinkingTemplate | None:
    """The delimiters among a tokenizer's added tokens, or None when there are none that open and close thinking.

    A newline belongs to `open` where the chat template writes one after it.
    """
    added = set(vocabulary)
    for opening, closing in _PAIRS:
        if opening in added and closing in added:
            newline = "\n" if any(opening + end in chat_template for end in ("\n", "\\n")) else ""
            return ThinkingTemplate("auto", opening + newline, closing, after_open="" if newline else "\n")
    return None
