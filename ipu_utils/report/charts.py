# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG text for a page: histogram, time line, bars, points. Colours are the page's CSS variables. No network.

Every chart has a title for those who cannot see it, and each mark a title that shows where the pointer rests on it.
"""

import html
import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

from ipu_utils.base.printable import shown

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 18, 40  # room around the plot for labels
MOST_BINS = 40
MOST_POINTS = 2000  # of a time line; more are thinned out evenly


class Series(NamedTuple):
    """Values under one name, drawn in the page's series colour `number` (1 or 2)."""

    name: str
    values: Sequence[float]
    number: int = 1


class Scale:
    """From values to pixels, linear or logarithmic."""

    def __init__(self, low: float, high: float, start: float, end: float, logarithmic: bool = False):
        self._map = math.log10 if logarithmic else float
        self.low, self.high, self._start, self._end = low, high, start, end
        self._ends = self._map(low), self._map(high)

    def __call__(self, value: float) -> float:
        low, high = self._ends
        share = (self._map(value) - low) / (high - low) if high > low else 0.5
        return self._start + share * (self._end - self._start)


def ticks(low: float, high: float, wanted: int = 5) -> List[float]:
    """Round values within [low, high], about `wanted` of them."""
    if not high > low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def logarithmic_ticks(low: float, high: float) -> List[float]:
    """1, 2, 5, 10, ... within [low, high]."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [round(factor * 10.0**power, 12) for power in powers for factor in (1, 2, 5)]
    return [value for value in values if low <= value <= high] or [low, high]


def escape(text: object) -> str:
    """Text for HTML and for attributes."""
    return html.escape(shown(text), quote=True)


def number(value: float) -> str:
    """A number as a label."""
    return f"{value:.4g}" if abs(value) < 10000 else f"{value:.0f}"


def _frame(title: str, parts: Sequence[str], height: float = HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: object, anchor: str = "middle", kind: str = "label") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _shape(tag: str, kind: str, title: str = "", **attributes: float) -> str:
    """A mark, with the title that shows where the pointer rests on it."""
    texts = {name: value if isinstance(value, int) else f"{value:.1f}" for name, value in attributes.items()}
    start = " ".join([f'<{tag} class="{kind}"', *(f'{name}="{text}"' for name, text in texts.items())])
    return f"{start}><title>{escape(title)}</title></{tag}>" if title else f"{start}/>"


def _x_axis(scale: Scale, values: Sequence[float], label: str) -> List[str]:
    bottom = HEIGHT - BOTTOM
    parts = [_shape("line", "axis", x1=LEFT, x2=WIDTH - RIGHT, y1=bottom, y2=bottom)]
    parts += [_text(scale(value), bottom + 15, number(value)) for value in values]
    return [*parts, _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, label)]


def _y_axis(scale: Scale, values: Sequence[float], label: str) -> List[str]:
    parts = []
    for value in values:
        y = scale(value)
        parts.append(_shape("line", "grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
        parts.append(_text(LEFT - 6, y + 4, number(value), "end"))
    return [*parts, _text(LEFT - 6, TOP - 6, label, "start")]


def histogram(series: Sequence[Series], marks: Sequence[Tuple[str, float]] = (), unit: str = "ms") -> str:
    """How often which latency was measured; several series are drawn over each other in shares of their own samples.

    Args:
      series: latencies in milliseconds.
      marks: (label, latency) of lines across, such as percentiles.
      unit: milliseconds of what.
    """
    values = [value for one in series for value in one.values]
    low, high = min(values), max(values)
    bins = max(1, min(MOST_BINS, math.ceil(2 * max(len(one.values) for one in series) ** 0.5)))
    if high <= low:
        low, high, bins = low * 0.9, low * 1.1, 1
    step = (high - low) / bins
    counts = [[0] * bins for _ in series]
    for one, row in zip(series, counts):
        for value in one.values:
            row[min(bins - 1, int((value - low) / step))] += 1
    shares = [[100 * count / len(one.values) for count in row] for one, row in zip(series, counts)]
    x = Scale(low, high, LEFT, WIDTH - RIGHT)
    y = Scale(0, max(map(max, shares)), HEIGHT - BOTTOM, TOP)
    parts = _y_axis(y, ticks(0, y.high, 4), "% of samples")
    for one, row, share in zip(series, counts, shares):
        for index, count in enumerate(row):
            if count:
                start, end = x(low + index * step), x(low + (index + 1) * step)
                title = f"{one.name}: {count} samples, {number(low + index * step)} to "
                title += f"{number(low + (index + 1) * step)} ms"
                place = {"x": start + 0.5, "y": y(share[index])}
                size = {"width": max(1.0, end - start - 1), "height": HEIGHT - BOTTOM - y(share[index])}
                parts.append(_shape("rect", f"s{one.number}", title, **place, **size))
    parts += _marks(x, marks)
    return _frame("Histogram of latencies", parts + _x_axis(x, ticks(low, high, 7), f"latency, {unit}"))


def _marks(x: Scale, marks: Sequence[Tuple[str, float]]) -> List[str]:
    """Lines across, and their labels where those do not hide each other: at most three rows."""
    parts, ends = [], [-math.inf] * 3
    for label, value in sorted(marks, key=lambda mark: mark[1]):
        place, half = x(value), 4 * len(label)
        title = f"{label}: {number(value)} ms"
        parts.append(_shape("line", "mark", title, x1=place, x2=place, y1=TOP, y2=HEIGHT - BOTTOM))
        row = next((row for row, end in enumerate(ends) if place - half > end), None)
        if row is not None:
            ends[row] = place + half
            parts.append(_text(min(place, WIDTH - half), TOP + 10 + 13 * row, label, kind="label strong halo"))
    return parts


def time_line(series: Sequence[Series], middle: Optional[float] = None, unit: str = "ms") -> str:
    """Latencies in the order of the samples, in milliseconds; `middle` is a line across, the median."""
    longest = max(len(one.values) for one in series)
    values = [value for one in series for value in one.values]
    x = Scale(1, max(2, longest), LEFT + 6, WIDTH - RIGHT - 6)
    y = Scale(0, max(values) * 1.05, HEIGHT - BOTTOM, TOP)
    parts = _y_axis(y, ticks(0, y.high, 4), f"latency, {unit}")
    if middle is not None:
        title = f"median: {number(middle)} ms"
        parts.append(_shape("line", "mark", title, x1=LEFT, x2=WIDTH - RIGHT, y1=y(middle), y2=y(middle)))
        parts.append(_text(WIDTH - RIGHT, y(middle) - 5, "median", "end", "label strong halo"))
    for one in series:
        every = max(1, math.ceil(len(one.values) / MOST_POINTS))
        for index in range(0, len(one.values), every):
            value = one.values[index]
            title = f"{one.name}, sample {index + 1}: {number(value)} ms"
            parts.append(_shape("circle", f"s{one.number}", title, cx=x(index + 1), cy=y(value), r=3))
    whole = sorted({int(value) for value in ticks(1, max(2, longest), 7)} | {1})
    return _frame("Latencies in the order of the samples", parts + _x_axis(x, whole, "sample"))


def bars(rows: Sequence[Tuple[str, float, str]], title: str) -> str:
    """Horizontal bars of (label, value, text behind the bar); negative values are not drawn."""
    label_width = min(260, 12 + 7 * max(len(label) for label, _, _ in rows))
    longest = max(value for _, value, _ in rows) or 1.0
    room = WIDTH - label_width - 8 * max(len(text) for _, _, text in rows) - 16
    parts = []
    for index, (label, value, text) in enumerate(rows):
        top, width = 8 + 28 * index, max(1.0, room * max(0.0, value) / longest)
        parts.append(_text(label_width - 8, top + 15, label, "end"))
        parts.append(_shape("rect", "s1", f"{label}: {text}", x=label_width, y=top, width=width, height=20, rx=2))
        parts.append(_text(label_width + width + 6, top + 15, text, "start", "label strong"))
    return _frame(title, parts, 12 + 28 * len(rows))


def points(rows: Sequence[Tuple[str, float, float]], x_label: str, y_label: str, title: str) -> str:
    """Labelled points (label, x, y); x is logarithmic. A label is left out where there is no room near its point."""
    xs, ys = [x for _, x, _ in rows], [y for _, _, y in rows]
    x = Scale(min(xs) / 1.4, max(xs) * 1.4, LEFT, WIDTH - RIGHT, logarithmic=True)
    spread = max(2.0, 0.25 * (max(ys) - min(ys)))
    y = Scale(min(ys) - spread, max(ys) + spread, HEIGHT - BOTTOM, TOP)
    parts = _y_axis(y, ticks(y.low, y.high, 5), y_label)
    placed: List[Tuple[float, float, float]] = []
    for label, right, up in sorted(rows, key=lambda row: row[1]):
        told = f"{label}: {number(right)} {x_label}, {y_label} {number(up)}"
        parts.append(_shape("circle", "s1", told, cx=x(right), cy=y(up), r=5))
        half = 3.6 * len(label)
        middle = min(max(x(right), LEFT + half), WIDTH - RIGHT - half)
        heights = [y(up) - 10, y(up) + 18, y(up) - 24, y(up) + 32]
        height = next((h for h in heights if all(_apart(middle, h, half, other) for other in placed)), None)
        if height is not None:
            placed.append((middle, height, half))
            parts.append(_text(middle, height, label, kind="label strong halo"))
    return _frame(title, parts + _x_axis(x, logarithmic_ticks(x.low, x.high), x_label))


def _apart(middle: float, height: float, half: float, other: Tuple[float, float, float]) -> bool:
    return abs(middle - other[0]) > half + other[2] or abs(height - other[1]) > 13
