"""Pictures as geometry: where each line, interval and text goes, in pixels. The page's template draws it as SVG.

No plotting library, because a page then weighs kilobytes instead of megabytes, takes its colours from the page's light
or dark scheme, and can be drawn anew for each width: a picture scaled down to a phone has letters that nobody can read.
Colours and markers are those of the sweep's other plots, by number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from jobs.evaluate.figures.plots import COLOURS, LOG_FROM
from jobs.evaluate.report.results import CurvePoint, PlottedCurve, count, percent, points_of_100, range_text, tokens

WIDTHS = (1040, 660, 350)
"""Pixels for which a chart is drawn: a desktop's page, a tablet's, a phone's."""
NARROW = 500
"""Below it, texts are left out that the legend and the table have."""
MARKERS = 5
"""Kinds of markers, by the number of the curve."""

_LETTER = 6.6
"""Mean width of a letter of a label, in pixels."""
_LINE = 15.0
"""Height of a label."""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, `at` a pixel."""

    at: float
    text: str


@dataclass(frozen=True)
class Label:
    """A text in the plot; `anchor` is SVG's."""

    x: float
    y: float
    text: str
    anchor: str
    number: int
    """Of its curve."""


@dataclass(frozen=True)
class Name:
    """A curve's name in the margin, and where the line to it begins."""

    from_x: float
    from_y: float
    x: float
    y: float
    text: str
    number: int


QUESTIONS = {
    "new": ("other items", "what other items of this kind would give, one point by itself"),
    "same": ("these items, sampled again", "what new samples of the same items would give, one point by itself"),
    "band": ("whole curves", "what other items of this kind would give, all points of a curve at once"),
}
"""What intervals can be asked to say: a name for the button, and the words of the caption."""


@dataclass(frozen=True)
class Bars:
    """A point's intervals of accuracy, up, and of tokens, across, in pixels."""

    top: float
    bottom: float
    left: float
    right: float


@dataclass(frozen=True)
class PointMark:
    """A point with its intervals."""

    x: float
    y: float
    tip: str
    """What it says under the pointer."""
    bars: Mapping[str, Bars]
    """By question; those without an answer are left out."""
    range: tuple[float, float] | None
    """The pixels of all errors right and of all wrong; None where there is no error."""


@dataclass(frozen=True)
class Line:
    """A curve."""

    name: str
    number: int
    path: str
    bands: Mapping[str, str]
    """The outlines of its intervals, by question; none where each point shows its own."""
    dashed: bool
    marks: tuple[PointMark, ...]

    @property
    def colour(self) -> int:
        return self.number % len(COLOURS)

    @property
    def marker(self) -> int:
        return self.number % MARKERS


@dataclass(frozen=True)
class Chart:
    """Curves on one set of axes."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    x_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    names: tuple[Name, ...]
    labels: tuple[Label, ...]
    questions: tuple[str, ...]
    """Of :data:`QUESTIONS`, those that some point answers."""


@dataclass(frozen=True)
class Scale:
    """From values to pixels, on one axis."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        value = max(self.low, value) if self.log else value
        low, high, here = (math.log2(each) if self.log else each for each in (self.low, self.high, value))
        return round(self.start + (here - low) / (high - low) * (self.end - self.start), 1)


def chart(curves: Sequence[PlottedCurve], width: int) -> Chart:
    """Accuracy against mean thinking tokens, with intervals, as wide as `width` pixels."""
    narrow = width < NARROW
    height = 350 if narrow else 480 if width > 800 else 420
    left, top, bottom = (44.0, 32.0, height - 50.0) if narrow else (58.0, 34.0, height - 54.0)
    longest = max(len(curve.name) for curve in curves)
    right = width - 12.0 if narrow else width - min(190.0, 24 + 8.8 * longest)
    points = [point for curve in curves for point in curve.points if point["accuracy"] is not None]
    lengths = [float(point["thinking_tokens"]) for point in points] or [0.0, 1.0]
    x = x_scale(lengths, left, right)
    y = Scale(0, 1, bottom, top)
    lines = tuple(_line(curve, number, x, y) for number, curve in enumerate(curves))
    texts = Labels(lines, left, right, top, bottom)
    names: tuple[Name, ...] = () if narrow else tuple(texts.names())
    labels: tuple[Label, ...] = () if narrow else tuple(texts.labels(curves))
    several = any(curve.scored != "accuracy" for curve in curves)
    of_all = "thinking tokens of k samples" if narrow else "mean thinking tokens of all k samples"
    title = (of_all if several else "mean thinking tokens") + (" (log scale)" if x.log else "")
    return Chart(
        *(width, height, left, right, top, bottom, title),
        tuple(Tick(x(value), count(value)) for value in ticks(x, 5 if narrow else 10)),
        tuple(Tick(y(tenth / 10), f"{10 * tenth}%") for tenth in range(0, 11, 2)),
        *(lines, names, labels),
        tuple(each for each in QUESTIONS if any(each in mark.bars for line in lines for mark in line.marks)),
    )


def x_scale(tokens: Sequence[float], left: float, right: float) -> Scale:
    low, high = min(tokens), max(tokens)
    if low > 0 and high / low >= LOG_FROM:
        edge = (high / low) ** 0.03
        return Scale(low / edge, high * edge, left, right, log=True)
    return Scale(0, max(high, 1) * 1.04, left, right)


def ticks(x: Scale, most: int) -> list[float]:
    """Round values within a scale: powers of two on a logarithmic one."""
    if x.log:
        powers = range(math.ceil(math.log2(x.low)), math.floor(math.log2(x.high)) + 1)
        step = max(1, math.ceil(len(powers) / most))
        return [2.0**power for power in powers[::step]]
    rough = x.high / most
    step = next(size * 10**power for power in range(-1, 12) for size in (1, 2, 5) if size * 10**power >= rough)
    return [step * number for number in range(int(x.high / step) + 1)]


def _line(curve: PlottedCurve, number: int, x: Scale, y: Scale) -> Line:
    marks = []
    for point in curve.points:
        if point["accuracy"] is None:
            continue
        place = x(point["thinking_tokens"]), y(point["accuracy"])
        bars = {question: bar for question in QUESTIONS if (bar := _bars(point, question, x, y))}
        least, most = point.get("accuracy_least"), point.get("accuracy_most")
        span = None if least is None or most is None else (y(most), y(least))
        marks.append(PointMark(*place, _tip(curve, point), bars, span))
    bands = {}
    for question in QUESTIONS if curve.is_budget and len(marks) > 1 else ():
        if all(question in mark.bars for mark in marks):
            ends = [(mark.x, mark.bars[question]) for mark in marks]
            outline = [(at, bars.top) for at, bars in ends] + [(at, bars.bottom) for at, bars in reversed(ends)]
            bands[question] = path_of(outline) + "Z"
    path = "" if curve.is_rule else path_of([(mark.x, mark.y) for mark in marks])
    return Line(curve.name, number, path, bands, curve.scored != "accuracy", tuple(marks))


def _bars(point: CurvePoint, question: str, x: Scale, y: Scale) -> Bars | None:
    up = {"new": "accuracy", "same": "accuracy_same_items", "band": "accuracy_band"}[question]
    across = "thinking_tokens_same_items" if question == "same" else "thinking_tokens"
    low, high = (point.get(f"{up}_{end}") for end in ("low", "high"))
    if low is None or high is None:
        return None
    left, right = (point.get(f"{across}_{end}") or point["thinking_tokens"] for end in ("low", "high"))
    return Bars(y(high), y(low), x(left), min(x(right), x.end))


def path_of(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in places) if places else ""


def _tip(curve: PlottedCurve, point: CurvePoint) -> str:
    """What a point says, line by line."""
    scored = curve.scored.replace("@k", f"@{point.get('k')}")
    lines = [
        str(point["policy"]),
        f"{scored} {percent(point['accuracy'])} ({percent(point['accuracy_low'])} – {percent(point['accuracy_high'])})",
        f"{tokens(point, 'thinking_tokens')} thinking tokens, {count(point['injected_tokens'])} of them injected",
    ]
    if point.get("accuracy_least") is not None:
        lines.insert(2, f"not graded {percent(point['error_share'])}: {range_text(point)} if wrong … right")
    if point["difference"] is not None:
        interval = f"{points_of_100(point['difference_low'])} … {points_of_100(point['difference_high'])}"
        lines.append(f"{points_of_100(point['difference'])} points over the natural end ({interval})")
    return "\n".join(lines)


def _texts(curve: PlottedCurve, line: Line) -> Iterator[tuple[str, PointMark]]:
    """The labels of a curve's points. Budgets on the same spot share one (``32 – auto``), and where an extension's
    curve begins is the natural end's place, which has one."""
    groups: list[tuple[list[str], PointMark]] = []
    points = [point for point in curve.points if point["accuracy"] is not None]
    for point, mark in zip(points, line.marks, strict=True):
        if curve.is_rule:
            groups.append(([str(point["label"])] if len(points) > 1 else [curve.name], mark))
            continue
        if not curve.is_budget and curve.scored == "accuracy" and not point["count"]:
            continue
        if curve.is_budget and groups and _near(groups[-1][1], mark):
            groups[-1][0].append(str(point["label"]))
        else:
            groups.append(([str(point["label"])], mark))
    for labels, mark in groups:
        yield " – ".join(dict.fromkeys((labels[0], labels[-1]))), mark


def _near(one: PointMark, other: PointMark) -> bool:
    return abs(one.x - other.x) < 26 and abs(one.y - other.y) < 14


Box = tuple[float, float, float, float]
"""Left, right, top, bottom."""


class Labels:
    """Texts beside points, each where it covers least of what is there."""

    _BESIDE = (
        (0, -11, "middle"),
        (0, 19, "middle"),
        (10, -7, "start"),
        (-10, -7, "end"),
        (10, 15, "start"),
        (-10, 15, "end"),
    )

    def __init__(self, lines: Sequence[Line], left: float, right: float, top: float, bottom: float):
        self.lines = lines
        self.box = left, right, top, bottom
        self.taken: list[Box] = []
        self.written: list[Box] = []
        """Of them, those of texts."""
        for line in lines:
            self.taken += [(mark.x - 5, mark.x + 5, mark.y - 5, mark.y + 5) for mark in line.marks]
            for first, second in pairwise(line.marks if line.path else ()):
                for part in range(1, 20):
                    along = part / 20
                    middle = first.x + (second.x - first.x) * along, first.y + (second.y - first.y) * along
                    self.taken.append((middle[0] - 2, middle[0] + 2, middle[1] - 2, middle[1] + 2))

    def names(self) -> list[Name]:
        """The names of curves that end near the margin, in it, at the heights of their ends."""
        left, right, top, bottom = self.box
        far = [line for line in self.lines if line.path and line.marks[-1].x > left + 0.7 * (right - left)]
        ends = sorted(far, key=lambda line: line.marks[-1].y)
        heights: list[float] = []
        for line in ends:
            heights.append(max(line.marks[-1].y, heights[-1] + _LINE + 2 if heights else top))
        for place in range(len(heights) - 1, -1, -1):  # back up where the last ones left the plot
            limit = bottom if place == len(heights) - 1 else heights[place + 1] - _LINE - 2
            heights[place] = min(heights[place], limit)
        return [
            Name(line.marks[-1].x + 8, line.marks[-1].y, right + 12, height + 4, line.name, line.number)
            for line, height in zip(ends, heights, strict=True)
        ]

    def labels(self, curves: Sequence[PlottedCurve]) -> list[Label]:
        """What sets the points of each curve apart; neighbours on the same spot share a text."""
        texts = []
        written: list[tuple[str, PointMark]] = []
        for curve, line in zip(curves, self.lines, strict=True):
            for text, mark in _texts(curve, line):
                if any(text == other and _near(mark, place) for other, place in written):
                    continue
                # Rules crowd where they come to the same: what nobody could read is left to the tip and the table.
                if not (curve.is_rule and self._is_crowded(mark, text)):
                    written.append((text, mark))
                    texts.append(self.beside(mark, text, line.number))
        return texts

    def beside(self, mark: PointMark, text: str, number: int) -> Label:
        """The text, where it covers least."""
        (dx, dy, anchor), box = self._best(mark, text)
        self.taken.append(box)
        self.written.append(box)
        return Label(mark.x + dx, mark.y + dy, text, anchor, number)

    def _is_crowded(self, mark: PointMark, text: str) -> bool:
        """Whether it could only be written over another text."""
        return _covered(self._best(mark, text)[1], self.written) > 0

    def _best(self, mark: PointMark, text: str) -> tuple[tuple[int, int, str], Box]:
        def box(choice: tuple[int, int, str]) -> Box:
            dx, dy, anchor = choice
            width = _LETTER * len(text) + 2
            left = mark.x + dx - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
            return left, left + width, mark.y + dy - 11, mark.y + dy + 3

        best = min(self._BESIDE, key=lambda choice: self._cost(box(choice)))
        return best, box(best)

    def _cost(self, box: Box) -> float:
        """Square pixels that a text there would cover, and what it would stick out."""
        left, right, top, bottom = box
        out = (
            max(0.0, self.box[0] - left)
            + max(0.0, right - self.box[1])
            + max(0.0, self.box[2] - top - 6)
            + max(0.0, bottom - self.box[3])
        )
        return _covered(box, self.taken) + 50 * out


def _covered(box: Box, taken: Sequence[Box]) -> float:
    """Square pixels of `taken` that a text would cover."""
    left, right, top, bottom = box
    return sum(max(0.0, min(right, b) - max(left, a)) * max(0.0, min(bottom, d) - max(top, c)) for a, b, c, d in taken)
