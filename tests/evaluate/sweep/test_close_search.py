"""Where thinking ends is found in a stream as in the whole of it, whatever the tokens and the chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from jobs.evaluate.decode.closes import thinking_stream
from jobs.evaluate.engines.protocol import Chunk, Request
from jobs.evaluate.sweep.close_search import Pattern, Search, pattern
from jobs.evaluate.sweep.policies.ban import Without
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.extensions import grid
from jobs.evaluate.sweep.policy import FINAL_ANSWER
from jobs.evaluate.sweep.prompts import Forcing, Prompter
from jobs.template import TEMPLATES
from orchestrator.job.errors import StepError
from tests.evaluate import tiny

PIECES = {1: "a", 2: "b", 3: "c", 4: "ab", 5: "ba", 6: "abc", 7: "xa", 8: "bx", 9: "xabcx", 10: "bc"}
"""Tokens of a vocabulary in which one text has many spellings. 0 and 11 are no part of anything."""
TOKENS = st.lists(st.integers(0, 11), max_size=40)
CLOSES = st.sampled_from(["ab", "abc", "aab", "abab", "aba", "abcab", "ba"])


def spelled(text: str) -> Pattern:
    return Pattern(text, PIECES)


def end(tokens: Sequence[int], text: str) -> int | None:
    """The oracle: the token in which the first occurrence in the whole text begins."""
    texts = [PIECES.get(token, "\uffff") for token in tokens]
    at = "".join(texts).find(text)
    if at < 0:
        return None
    return next(number for number in range(len(tokens)) if len("".join(texts[: number + 1])) > at)


def chunks(tokens: list[int], data: st.DataObject) -> list[list[int]]:
    cuts = sorted({0, len(tokens), *data.draw(st.sets(st.integers(0, len(tokens))))})
    return [tokens[begin:stop] for begin, stop in pairwise(cuts)]


@settings(max_examples=500)
@given(TOKENS, CLOSES, st.data())
def test_the_first_match_is_that_of_the_whole_text_however_it_comes(
    tokens: list[int], text: str, data: st.DataObject
) -> None:
    search = Search(spelled(text))
    for chunk in chunks(tokens, data):
        search.feed(chunk)
        if search.found is not None:
            break
        assert search.settled <= (len(tokens) if end(tokens, text) is None else end(tokens, text) or 0)
    assert search.found == end(tokens, text)


@dataclass
class Teller:
    """An engine that says what it was given, from a request's position on, in chunks."""

    said: list[int]
    sizes: list[int]
    cache_tokens: int | None = None
    open: int = 0
    asked: list[Request] = field(default_factory=list)

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.asked.append(request)
        self.open += 1
        try:
            rest = self.said[request.position :][: request.max_tokens]
            sizes = iter(self.sizes)
            while len(rest) > (size := next(sizes, 1)):
                yield Chunk(rest[:size])
                rest = rest[size:]
            whole = request.position + request.max_tokens > len(self.said)
            yield Chunk(rest, "stop" if whole else "length")
        finally:
            self.open -= 1

    async def close(self) -> None:
        """Holds nothing."""


FORCING = Forcing((7,), (12,), (13,), frozenset(), (14,), {}, ends=spelled("abcab"))


def read(teller: Teller, forcing: Forcing, limit: int, known: int = 0, first: bool = False) -> tuple[list[int], str]:
    async def collect() -> tuple[list[int], str]:
        request = Request((1,), limit, forcing.thinking_stops, forbid_stop_first=first, position=known)
        got: list[int] = []
        async for chunk in thinking_stream(teller, request, forcing, teller.said[:known]):
            got += chunk.tokens
            if chunk.end is not None:
                return got, chunk.end
        raise AssertionError("a stream has an end")

    answer = asyncio.run(collect())
    assert teller.open == 0
    return answer


@settings(max_examples=500)
@given(TOKENS, CLOSES, st.integers(1, 40), st.lists(st.integers(1, 5), max_size=20), st.booleans())
def test_a_stream_is_thinking_alone_and_a_budget_never_sees_into_the_delimiter(
    said: list[int], text: str, limit: int, sizes: list[int], first: bool
) -> None:
    """Thinking is the tokens before the first match, cut at the budget: a match that begins within it ends it."""
    forcing = replace(FORCING, ends=spelled(text))
    length = end(said, text)
    length = len(said) if length is None else length
    if first and not said:
        return
    expected = (said[:limit], "length") if length >= limit else (said[:length], "stop")
    assert read(Teller(said, sizes), forcing, limit, first=first) == expected


@given(TOKENS, CLOSES, st.integers(1, 12), st.data())
def test_what_is_continued_ends_where_it_would_have_ended(
    said: list[int], text: str, more: int, data: st.DataObject
) -> None:
    forcing = replace(FORCING, ends=spelled(text))
    length = end(said, text)
    length = len(said) if length is None else length
    known = data.draw(st.integers(0, length))
    got, how = read(Teller(said, []), forcing, more, known)
    assert said[:known] + got == said[: min(length, known + more)]
    assert how == ("length" if length >= known + more else "stop")


def test_what_was_kept_before_is_searched_with_what_follows() -> None:
    """A server that draws anew may complete what was no delimiter when it was kept."""
    teller = Teller([11, 1, 2, 3, 1, 2, 11, 11, 11, 11, 11], [])
    assert read(teller, FORCING, 5, known=4) == ([], "stop")


def test_no_more_is_asked_for_than_shows_whether_thinking_ended() -> None:
    teller = Teller([11] * 60, [8] * 8)
    read(teller, FORCING, 16)
    (request,) = teller.asked
    assert request.max_tokens == 16 + len("abcab") - 1
    assert request.stop == FORCING.end_of_turn


def test_a_first_token_that_may_not_stop_may_not_begin_the_delimiter() -> None:
    teller = Teller([11] * 60, [])
    read(teller, FORCING, 16, first=True)
    first, rest = teller.asked
    assert (first.max_tokens, first.stop, first.forbid_stop_first) == (1, (7, 14), True)
    assert (rest.max_tokens, rest.stop, rest.forbid_stop_first, rest.position) == (19, (14,), False, 1)
    assert rest.prompt == (1, 11)


HARMONY = ["<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>"]


def styled(name: str, *tokens: str) -> tuple[Prompter, Forcing]:
    fast = tiny.tokenizer()
    fast.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    prompter = Prompter(fast, TEMPLATES[name], [fast.eos_token_id])
    return prompter, prompter.forcing(grid([None], ["Wait"], [1]))


@pytest.mark.parametrize(
    ("name", "tokens", "text", "thought"),
    [
        ("gpt-oss", HARMONY, "Hm.<|end|><|start|>assistant<|channel|>final<|message|>4", "Hm."),
        (
            "gpt-oss",
            HARMONY,
            "Hm.<|end|><|start|>assistant<|channel|>analysis<|message|>So.<|end|><|start|>assistant<|channel|>final"
            "<|message|>4",
            "Hm.<|end|><|start|>assistant<|channel|>analysis<|message|>So.",
        ),
        ("plain-think", [], "I </thin k> so.\n</think>\n\n4", "I </thin k> so.\n"),
        ("hunyuan", [], "a</think> b\n</think>\n<answer>\n4\n</answer>", "a</think> b\n"),
        ("gemma4", ["<|channel>", "<channel|>"], "Hm.\n<channel|>4", "Hm.\n"),
    ],
)
def test_the_styles_of_models_end_where_all_of_their_close_stands(
    name: str, tokens: list[str], text: str, thought: str
) -> None:
    prompter, forcing = styled(name, *tokens)
    said = list(prompter._ids(text))
    if forcing.ends is None:
        assert said.index(forcing.close[0]) == len(prompter._ids(thought))
        return
    assert prompter.text(read(Teller(said, [3, 1, 4, 1, 5]), forcing, 400)[0]) == thought


def test_letters_that_spell_a_token_close_nothing() -> None:
    prompter, forcing = styled("gpt-oss", *HARMONY)
    bare = tiny.tokenizer()
    spelling = bare.encode("<|end|><|start|>assistant<|channel|>final<|message|>")
    assert read(Teller(spelling, []), forcing, 400) == (spelling, "stop")
    assert prompter.text(spelling) == "<|end|><|start|>assistant<|channel|>final<|message|>"


def test_a_forced_close_appends_all_of_it_and_leaves_room_to_see_a_natural_one() -> None:
    prompter, forcing = styled("gpt-oss", *HARMONY)
    close = "<|end|><|start|>assistant<|channel|>final<|message|>"
    assert prompter.text(forcing.closing(None, 65)) == close
    assert prompter.text(forcing.closing(FINAL_ANSWER, 65)) == f"\n{close}\nFinal Answer:"
    assert forcing.ends is not None
    assert forcing.reserve >= forcing.overrun == len(forcing.ends.text) - 1


def test_a_token_that_goes_on_after_the_delimiter_or_began_before_it_is_found() -> None:
    class Merged:
        """A vocabulary with tokens across the delimiter's ends, and a word that begins with a space."""

        names = ("a", ".</", "</", "think", ">\n\n", ">", "▁/think", "<")
        texts = ("a", ".</", "</", "think", ">\n\n", ">", "/think", "<")
        added_tokens_decoder: ClassVar[dict[int, str]] = {}

        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            return [2, 3, 5]

        def decode(self, ids: list[int]) -> str:
            return "".join(self.texts[token] for token in ids)

        def convert_ids_to_tokens(self, token: int) -> str:
            return self.names[token]

        def __len__(self) -> int:
            return len(self.texts)

    found = pattern(Merged(), "</think>\n")
    assert found.text == "</think>"
    for tokens, at in (([0, 1, 3, 4, 0], 1), ([0, 2, 3, 5], 1), ([0, 7, 6, 5], None)):
        search = Search(found)
        search.feed(tokens)
        assert search.found == at


def test_what_the_close_is_written_with_cannot_be_banned_unless_it_is_a_token_of_its_own() -> None:
    """Thinking could never end by itself, and would look as if it were too long."""
    prompter, _ = styled("hunyuan")
    for banned in ("answer", "so<", "</think>"):
        with pytest.raises(StepError, match=r"ban: .* is part of what closes thinking"):
            prompter.forcing([Without(Budget(8), ("Wait", banned))])
    assert prompter.forcing([Without(Budget(8), ("Wait", "sow"))]).ends is not None
    assert styled("think")[0].forcing([Without(Budget(8), ("think",))]).ends is None
