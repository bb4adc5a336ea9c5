"""How a model marks its thinking: the delimiters that training writes and evaluation forces.

A delimiter is a sequence: of tokens that the vocabulary has for it (``</think>``), of such tokens and words between
them (gpt-oss), or of ordinary text (OLMo 3). Styles differ in who writes what around the delimiters, too. Where a chat
template already ends its prompt with `open`, nothing is added to it (:meth:`ThinkingTemplate.opened`), so one style
serves models whose template opens thinking (QwQ, DeepSeek-R1) and models that open it themselves (Qwen3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    tokens: tuple[str, ...] = ()
    """Tokens in the delimiters that the vocabulary must have; where none is named, each delimiter begins with one."""
    plain: bool = False
    """Whether the delimiters are ordinary text, for which the vocabulary needs no token."""
    first_token_ends: bool = False
    """Whether thinking ends at the first token of `close`, whatever follows it, and not where all of `close` stands."""
    after_answer: str = ""
    """What closes the answer, in models trained to close it before they end their turn. It is no part of it."""
    whole_turn: bool = False
    """Whether what a chat template writes after the end of a turn is learned too. No engine ever decodes it."""

    def opened(self, prompt: str) -> str:
        """`prompt` with thinking open: as it is where its chat template opened it, else with `open` after it.

        White space after the delimiter is the chat template's where it has any: it knows what the model was trained on.
        """
        said = prompt.rstrip()
        if not said.endswith(self.open.strip()):
            return prompt + self.open
        return prompt if prompt != said else prompt + self.open[len(self.open.rstrip()) :]

    def after_opening(self, prompt: str) -> str:
        """What training writes between the open delimiter and the trace, where the chat prompt has not yet done so."""
        return "" if prompt.rstrip().endswith(self.open.strip()) and prompt[-1].isspace() else self.after_open

    def contradiction(self) -> str | None:
        """Why no text can be read by these delimiters, in a few words; None where it can."""
        opening, closing = self.open.strip(), self.close.strip()
        if opening and opening in closing:
            return f"close {self.close!r} contains open {self.open!r}: every end of thinking would begin it again"
        if closing and closing in opening:
            return f"open {self.open!r} contains close {self.close!r}: thinking would end where it begins"
        return None

    def lacking(self, tokenizer: Any) -> str | None:
        """Why `tokenizer` cannot write the delimiters, in a few words; None where it can."""
        added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
        for token in self.tokens:
            if token not in added:
                return f"{self.name!r} needs {token!r}, for which the model's vocabulary has no token"
        delimiters = {"open": self.open, "close": self.close, "step": self.step or ""}
        for name, text in delimiters.items():
            ids = tokenizer.encode(text.strip(), add_special_tokens=False)
            if "".join(tokenizer.decode(ids).split()) != "".join(text.split()):
                return f"{self.name!r} has the {name} delimiter {text!r}, which the model's tokenizer cannot write"
            if text and not self.plain and ids[0] not in tokenizer.added_tokens_decoder:
                return f"{self.name!r} has the {name} delimiter {text!r}, for which the model's vocabulary has no token"
        return None


TEMPLATES: ExtensionPoint[ThinkingTemplate] = ExtensionPoint(
    "scaling_orchestrator.templates",
    ThinkingTemplate,
    {
        template.name: template
        for template in (
            # The s1 paper: only <|im_start|> is a special token, "think" and "answer" are ordinary tokens after it. Its
            # text is what the chat template makes of the turn, to the newline after its end.
            ThinkingTemplate(
                "s1", open="<|im_start|>think", close="<|im_start|>answer", first_token_ends=True, whole_turn=True
            ),
            ThinkingTemplate("think", open="<think>", close="</think>"),
            # Qwen3's chat template leaves opening to the model, QwQ's and DeepSeek's do it themselves.
            ThinkingTemplate("qwen3", open="<think>\n", close="</think>", after_open="", after_close="\n\n"),
            ThinkingTemplate("deepseek-r1", open="<think>\n", close="</think>", after_open="", after_close="\n\n"),
            # The channels of OpenAI's harmony format. Several messages may follow one another in the analysis channel.
            ThinkingTemplate(
                "gpt-oss",
                open="<|channel|>analysis<|message|>",
                close="<|end|><|start|>assistant<|channel|>final<|message|>",
                after_open="",
                before_close="",
                after_close="",
                tokens=("<|start|>", "<|channel|>", "<|message|>", "<|end|>"),
            ),
            ThinkingTemplate(
                "gemma4",
                open="<|channel>thought\n",
                close="<channel|>",
                after_open="",
                before_close="",
                after_close="",
                tokens=("<|channel>", "<channel|>"),
            ),
            # GLM-4.5's chat template ends right after the role, and the model begins a line; GLM-4.7's opens thinking.
            ThinkingTemplate("glm", open="\n<think>", close="</think>", after_open="", before_close=""),
            ThinkingTemplate(
                "magistral",
                open="[THINK]",
                close="[/THINK]",
                after_open="",
                before_close="",
                after_close="",
                tokens=("[THINK]", "[/THINK]"),
            ),
            ThinkingTemplate(
                "hunyuan",
                open="<think>\n",
                close="</think>\n<answer>\n",
                after_open="",
                after_close="",
                after_answer="\n</answer>",
                plain=True,
            ),
            ThinkingTemplate("plain-think", open="<think>", close="</think>", plain=True),
        )
    },
)
"""By the names that experiment files have for them."""

UNMARKED = ThinkingTemplate("none", open="", close="", after_open="", before_close="", after_close="")
"""Of models that do not set their thinking apart by tokens: all that they write is their answer."""


def marked_answer(answer: str) -> str:
    """What training writes of an answer: with "Answer:" before it where it has none, and no space around it, as in the
    s1 paper's script."""
    return (answer if "Answer:" in answer else f"Answer: {answer}").strip()
