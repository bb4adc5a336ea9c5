"""A look at the data before training: how much there is, how long, what is cut, and one sample with what is learned.

``python -m orchestrator look FILE`` shows it before anything is trained; a training run writes it to its log and keeps
it among its artifacts. Most mistakes in fine-tuning are mistakes in the data, and are seen here in a minute.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from jobs.finetune.config import FinetuneConfig
from jobs.finetune.data import TokenizedData
from jobs.template import ThinkingTemplate
from jobs.transformers_classes import PreTrainedTokenizerBase

_BARS = 12
_WIDTH = 40
"""Characters of the longest bar."""
_HEAD, _TAIL = 300, 100
"""Tokens of the example that are shown of what is read, and of what is learned, from either end."""


@dataclass(frozen=True)
class Span:
    """Text of the example, of one kind."""

    text: str
    learned: bool
    marker: bool
    """Whether it is a token that the vocabulary was given, such as a delimiter."""


@dataclass(frozen=True)
class Look:
    """What is worth knowing of the data before training on it. Lengths are in tokens."""

    samples: int
    rows: int
    steps: int
    block_size: int
    tokens: int
    learned: int
    mean: float
    longest: int
    """Before it was cut."""
    cut_samples: int
    cut_tokens: int
    fingerprint: str
    histogram: tuple[tuple[int, int], ...]
    """Lengths before cutting: the upper end of each bin, which is in it, and the samples there."""
    example: tuple[Span, ...]
    """The first sample."""
    warnings: tuple[str, ...]

    @property
    def cut_share(self) -> float:
        return self.cut_samples / self.samples

    def params(self) -> dict[str, int | float | str]:
        """What identifies the data in a tracking server."""
        return {
            "data_fingerprint": self.fingerprint,
            "data_samples": self.samples,
            "data_rows": self.rows,
            "data_tokens": self.tokens,
            "data_learned_tokens": self.learned,
            "data_longest": self.longest,
            "data_cut_samples": self.cut_samples,
            "data_cut_share": round(self.cut_share, 6),
        }

    def facts(self) -> Iterator[tuple[str, str]]:
        """Names and values, for people."""
        yield "samples", f"{self.samples:,}"
        if self.rows != self.samples:
            filled = self.tokens / (self.rows * self.block_size)
            yield "packed", f"into {self.rows:,} rows of at most {self.block_size:,} tokens, {filled:.1%} filled"
        yield "optimizer steps", f"{self.steps:,}"
        yield "tokens", f"{self.tokens:,}, of which learned {self.learned:,} ({self.learned / self.tokens:.1%})"
        yield "mean length", f"{self.mean:,.1f} tokens"
        yield "longest", f"{self.longest:,} tokens, block {self.block_size:,}"
        yield "cut", f"{self.cut_samples:,} samples ({self.cut_share:.1%}), which lose {self.cut_tokens:,} tokens"
        yield "fingerprint", self.fingerprint


def look_at(
    data: TokenizedData, config: FinetuneConfig, tokenizer: PreTrainedTokenizerBase, template: ThinkingTemplate
) -> Look:
    """A look at `data`, as `config` trains on it."""
    lengths = np.diff(data.starts)
    whole = lengths + data.cut
    tokens = int(lengths.sum())
    cut = int((data.cut > 0).sum())
    return Look(
        samples=data.samples,
        rows=len(data),
        steps=math.ceil(len(data) / config.batch_size) * config.epochs,
        block_size=config.block_size,
        tokens=tokens,
        learned=tokens - int(data.prompts.sum()),
        mean=tokens / data.samples,
        longest=int(whole.max()),
        cut_samples=cut,
        cut_tokens=int(data.cut.sum()),
        fingerprint=data.fingerprint,
        histogram=tuple(_histogram(whole)),
        example=tuple(_spans(data, tokenizer)),
        warnings=tuple(_warnings(cut / data.samples, tokenizer, template)),
    )


def as_text(look: Look) -> str:
    """For a terminal or a log."""
    lines = [f"{name:<16} {value}" for name, value in look.facts()]
    lines += [f"{'warning':<16} {warning}" for warning in look.warnings]
    lines += ["", "tokens           samples"]
    most = max(count for _, count in look.histogram)
    for upper, count in look.histogram:
        bar = "█" * math.ceil(_WIDTH * count / most)
        lines.append(f"≤ {upper:<14,} {bar}{' ' * bool(bar)}{count:,}")
    lines += ["", "the first sample: · is read, + is learned"]
    for learned, spans in groupby(look.example, key=lambda span: span.learned):
        text = "".join(span.text for span in spans)
        lines += [f"{'+' if learned else '·'} {line}" for line in text.removesuffix("\n").split("\n")]
    return "\n".join(lines)


def as_html(look: Look) -> str:
    """A page that needs nothing else."""
    most = max(count for _, count in look.histogram)
    facts = "".join(f"<tr><th>{escape(name)}<td>{escape(value)}" for name, value in look.facts())
    warnings = "".join(f"<p class=warning>{escape(warning)}</p>" for warning in look.warnings)
    bars = "".join(
        f"<tr{' class=cut' if upper > look.block_size else ''}><th>≤ {upper:,}"
        f"<td><i style='width:{100 * count / most:.1f}%'></i><td>{count:,}"
        for upper, count in look.histogram
    )
    example = "".join(
        f"<span class='{'learned' if span.learned else 'read'}{' marker' * span.marker}'>{escape(span.text)}</span>"
        for span in look.example
    )
    return _PAGE.format(facts=facts, warnings=warnings, bars=bars, example=example)


_PAGE = """<!doctype html><meta charset=utf-8><title>Training data</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1f2430 }}
h2 {{ font-size: 1.1rem; margin: 2rem 0 .5rem }}
table {{ border-collapse: collapse }} th {{ text-align: left; font-weight: 500; padding-right: 1.5rem; color: #5b6472 }}
.bars {{ width: 100% }} .bars th {{ width: 8rem; white-space: nowrap }} .bars td:last-child {{ width: 6rem }}
i {{ display: block; height: 1rem; background: #4c78a8; min-width: 1px }} .cut i {{ background: #e45756 }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; padding: 1rem; border: 1px solid #d5d9e0 }}
.read {{ color: #737c8c }} .learned {{ background: #dff2e1 }} .marker {{ font-weight: 700; color: #9c3d10 }}
.warning {{ border-left: 4px solid #e4a11b; padding-left: .8rem }}
</style>
<h1>Training data</h1><table>{facts}</table>{warnings}
<h2>Samples by length in tokens, before cutting (red: beyond the block)</h2><table class=bars>{bars}</table>
<h2>The first sample: <span class=read>read</span>, <span class=learned>learned</span>,
<span class=marker>tokens of the vocabulary's own</span></h2>
<pre>{example}</pre>
"""


def _histogram(lengths: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """At most `_BARS` equal bins from 0, whose ends are round numbers."""
    rough = int(lengths.max()) / _BARS
    unit = 10 ** math.floor(math.log10(max(rough, 1)))
    width = next(unit * step for step in (1, 2, 5, 10) if unit * step >= rough)
    counts = np.bincount((lengths - 1) // width)
    first = int(np.argmax(counts > 0))
    for index in range(first, len(counts)):
        yield (index + 1) * width, int(counts[index])


def _spans(data: TokenizedData, tokenizer: PreTrainedTokenizerBase) -> Iterator[Span]:
    """The first sample's text, in parts that are of one kind, with the middle left out where it is long."""
    ids, prompt = data.sample(0)
    markers = tokenizer.added_tokens_decoder
    for learned, part in ((False, ids[:prompt]), (True, ids[prompt:])):
        tokens = [int(token) for token in part]
        left_out = len(tokens) - _HEAD - _TAIL
        pieces = [tokens] if left_out <= 0 else [tokens[:_HEAD], tokens[-_TAIL:]]
        for index, piece in enumerate(pieces):
            if index:
                yield Span(f"\n[… {left_out:,} tokens …]\n", learned, marker=False)
            for marker, run in groupby(piece, key=lambda token: token in markers):
                yield Span(tokenizer.decode(list(run)), learned, marker)


def _warnings(cut_share: float, tokenizer: PreTrainedTokenizerBase, template: ThinkingTemplate) -> Iterator[str]:
    if cut_share > 0.5:
        yield f"{cut_share:.0%} of the samples are cut, so that their answers are never seen: raise block_size"
    if lacking := template.lacking(tokenizer):
        yield f"template {lacking}: evaluation cannot force it, so take a template that the model can write"
