from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from jobs.evaluate.sweep.token_text import Finder, token_bytes
from tests.evaluate import tiny

TEXT = "Wait, naïve 思考 🤔\n"


def test_the_bytes_of_tokens_of_bytes_are_those_of_their_text() -> None:
    tokenizer = tiny.tokenizer()
    pieces = token_bytes(tokenizer)
    assert b"".join(pieces[token] for token in tokenizer.encode(TEXT)) == TEXT.encode()
    assert pieces[tokenizer.convert_tokens_to_ids("<think>")] == b"<think>"


def test_the_bytes_of_sentence_pieces_are_those_of_their_text() -> None:
    words = ["▁Wait", "ing", "<0xF0>", "<0x9F>", "<0xA4>", "<0x94>", "\n"]
    backend = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[]))
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    pieces = token_bytes(PreTrainedTokenizerFast(tokenizer_object=backend))
    assert b"".join(pieces) == " Waiting🤔\n".encode()


@pytest.mark.parametrize(
    ("strings", "text", "at"),
    [
        (["it"], ["W", "ai", "t", "it"], 2),
        (["ait"], ["Wa", "it"], 1),
        (["a", "Wa"], ["W", "a"], 1),
        (["aa"], ["a", "ba", "ab"], 2),
        (["Wait"], ["Waiter"], 0),
        (["never"], ["neve", "", "r"], 2),
        (["x"], ["a", "b"], None),
    ],
)
def test_a_string_is_found_in_the_token_that_completes_it(strings: list[str], text: list[str], at: int | None) -> None:
    finder = Finder(strings, [piece.encode() for piece in text])
    found = [token for token in range(len(text)) if finder.add(token)]
    assert (found[0] if found else None) == at
    assert finder.searched == len(text)
