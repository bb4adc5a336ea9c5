"""Texts beside points of a picture, each where it covers least of markers, lines and other texts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox

Offset = tuple[float, float]
"""Points (1/72 inch) from a marker, right and up."""

AROUND: tuple[Offset, ...] = (
    *((6, 8), (-6, 8), (6, -9), (-6, -9), (9, 0), (-9, 0)),
    *((0, 12), (0, -12), (6, 18), (6, -18)),
)
"""Where a text may stand, the preferred place first."""

_SEGMENT_SQUARES = 40
"""What a line between two points counts as, for texts to keep away from."""
_LINE = 3
"""How wide it counts as, in points."""


class Captions:
    """The texts of one set of axes, whose limits are settled. Places are those of the data."""

    def __init__(self, figure: Figure, axes: Axes):
        self._axes = axes
        self._taken: list[tuple[float, float, float, float]] = []
        self._written: list[tuple[str, float, float]] = []
        figure.draw_without_rendering()
        self._dot = figure.get_dpi() / 72

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the data is drawn."""
        across, up = self._axes.transData.transform((x, y))
        return float(across), float(up)

    def keep_off(self, x: float, y: float, size: float = 8) -> None:
        """Texts keep away from the marker there, of `size` points."""
        self._taken.append(self._square(*self.pixel(x, y), size))

    def keep_off_line(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Texts keep away from the straight line between two points."""
        (x, y), (next_x, next_y) = self.pixel(*start), self.pixel(*end)
        along = [number / _SEGMENT_SQUARES for number in range(1, _SEGMENT_SQUARES)]
        self._taken += [self._square(x + (next_x - x) * t, y + (next_y - y) * t, _LINE) for t in along]

    def write(
        self, x: float, y: float, text: str, shade: str, offsets: Sequence[Offset] = AROUND, size: float = 8.5
    ) -> None:
        """Writes `text` beside a point, unless the same stands close by already."""
        across, up = self.pixel(x, y)
        if any(text == other and math.hypot(across - a, up - b) < 14 * self._dot for other, a, b in self._written):
            return
        self._written.append((text, across, up))
        tried = [self._annotate(x, y, text, shade, offset, size) for offset in offsets]
        label, box = min(tried, key=lambda candidate: self._cost(candidate[1]))
        self._taken.append(box.extents)
        for other, _ in tried:
            if other is not label:
                other.remove()

    def _square(self, x: float, y: float, size: float) -> tuple[float, float, float, float]:
        """Left, bottom, right and top of a square around a pixel; `size` in points (1/72 inch)."""
        half = size * self._dot / 2
        return x - half, y - half, x + half, y + half

    def _cost(self, box: Bbox) -> float:
        """Pixels that a text there would cover, and what it would stick out."""
        left, bottom, right, top = np.array(self._taken).T
        width = np.minimum(box.x1, right) - np.maximum(box.x0, left)
        height = np.minimum(box.y1, top) - np.maximum(box.y0, bottom)
        covered = np.maximum(width, 0) * np.maximum(height, 0)
        return float(covered.sum()) + 50 * self._outside(box)

    def _annotate(self, x: float, y: float, text: str, shade: str, offset: Offset, size: float) -> tuple[Text, Bbox]:
        label = self._axes.annotate(
            text,
            (x, y),
            xytext=offset,
            textcoords="offset points",
            ha="left" if offset[0] > 0 else "right" if offset[0] < 0 else "center",
            va="center",
            color=shade,
            fontsize=size,
            fontweight="bold" if size > 10 else "normal",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            annotation_clip=False,
            zorder=6,
        )
        return label, label.get_window_extent()

    def _outside(self, box: Bbox) -> float:
        """Pixels by which a text leaves its panel below, above or to the left; on the right there is room for it."""
        panel = self._axes.get_window_extent()
        return float(max(0.0, panel.y0 - box.y0) + max(0.0, box.y1 - panel.y1) + max(0.0, panel.x0 - box.x0))
