"""How a model marks its thinking: the delimiters that training writes and evaluation forces."""

from __future__ import annotations

from dataclasses import dataclass


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


TEMPLATES = {
    template.name: template
    for template in (
        # The s1 paper: only <|im_start|> is a special token, "think" and "answer" are ordinary tokens after it.
        ThinkingTemplate("s1", open="<|im_start|>think", close="<|im_start|>answer"),
        ThinkingTemplate("think", open="<think>", close="</think>"),
    )
}
