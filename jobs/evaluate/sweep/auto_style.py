"""``template: auto``: the style that a model's tokenizer and chat template show, or what they show instead.

The tokenizer says which delimiters are tokens of the vocabulary. What stands around them only the chat template
knows, so it is asked: for the newline that it writes after the opening, and, by having it write a turn that thinks, for
what comes between the role and the opening where the model writes that itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace

from jobs.template import TEMPLATES, ThinkingTemplate

THOUGHT = "This is the thought."
"""What a turn thinks that is written to see what comes before it."""

_TELLING = ("gpt-oss", "gemma4")
"""Styles whose tokens no other model has. s1's cannot be told from an ordinary chat model's."""

_COMMON = ("<think>", "[THINK]")

_MARK = re.compile(r"think|thought|reason|analysis|channel", re.IGNORECASE)


def find_style(added: Collection[str], chat_template: str, turn: str) -> ThinkingTemplate | None:
    """The style of a vocabulary with the `added` tokens, and a chat template; None where they do not show one.

    `turn` is what the template writes of an assistant's turn that thinks :data:`THOUGHT`, from where a prompt ends;
    empty where that cannot be told.
    """
    for name in _TELLING:
        if all(token in added for token in TEMPLATES[name].tokens):
            return TEMPLATES[name]
    pairs = dict(_pairs(added))
    opening = next((mark for mark in _COMMON if mark in pairs), None)
    if opening is None and len(pairs) == 1:
        (opening,) = pairs
    if opening is not None:
        newline = "\n" if _followed_by_newline(opening, chat_template) else ""
        before = turn.partition(opening)[0] if THOUGHT in turn.partition(opening)[2] else ""
        return ThinkingTemplate(
            "auto",
            (before if before.isspace() else "") + opening + newline,
            pairs[opening],
            after_open="" if newline else "\n",
        )
    if "<think>" not in chat_template and "</think>" not in chat_template:
        return None
    if "<answer>" in chat_template:
        return TEMPLATES["hunyuan"]
    plain = TEMPLATES["plain-think"]
    if _followed_by_newline(plain.open, chat_template):
        return replace(plain, open=plain.open + "\n", after_open="")
    return plain


def seen(added: Collection[str], chat_template: str) -> str:
    """What there is of marks that a style could be made of, in a few words."""
    marks = sorted(token for token in added if _MARK.search(token))
    tokens = f"tokens {', '.join(marks[:12])}" if marks else "no token that looks like one"
    tags = sorted(set(re.findall(r"<[^<>\s{}]*think[^<>\s{}]*>", chat_template)) - set(marks))
    return f"its vocabulary has {tokens}" + (f", and its chat template has {', '.join(tags[:6])}" if tags else "")


def _pairs(added: Collection[str]) -> Iterator[tuple[str, str]]:
    """Tokens that open thinking, each with its counterpart."""
    for opening in sorted(added):
        closing = f"{opening[:1]}/{opening[1:]}"
        if "think" in opening.lower() and closing in added:
            yield opening, closing


def _followed_by_newline(opening: str, chat_template: str) -> bool:
    return any(opening + end in chat_template for end in ("\n", "\\n"))
