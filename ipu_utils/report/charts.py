# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG text for a page: histogram, time line, bars, points. matplotlib draws them, when one is asked for.

Colours are the page's CSS variables, text stays text. Every chart has a title for those who cannot see it, and each
mark a title that shows where the pointer rests on it. The same values give the same text.
"""

import contextlib
import io
import logging
import math
import re
import warnings
from typing import Any, Iterator, NamedTuple, Optional, Sequence, Tuple
from xml.etree import ElementTree

import numpy as np

from ipu_utils.base.printable import shown

WIDTH, HEIGHT = 640, 260  # pixels; at 72 dots an inch a point of matplotlib's is one
MOST_BINS = 40
MOST_POINTS = 2000  # of a time line; more are thinned out evenly
MOST_LETTERS = 40  # of a label
# What matplotlib draws with, and the variable of the page that takes its place.
INK, SOFT, LINE, CARD, S1, S2 = COLOURS = ("#000001", "#000002", "#000003", "#000004", "#000005", "#000006")
VARIABLES = dict(zip(COLOURS, ("var(--ink)", "var(--soft)", "var(--line)", "var(--card)", "var(--s1)", "var(--s2)")))
SETTINGS = {
    "svg.fonttype": "none", "text.parse_math": False, "font.size": 13, "axes.axisbelow": True,
    "text.color": INK, "axes.labelcolor": SOFT, "axes.titlecolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT,
    "axes.edgecolor": SOFT, "grid.color": LINE, "axes.spines.top": False, "axes.spines.right": False,
    "axes.spines.left": False, "ytick.major.size": 0, "axes.titlesize": 13, "axes.titlelocation": "left",
}  # fmt: skip


class Series(NamedTuple):
    """Values under one name, drawn in the page's series colour `number` (1 or 2)."""

    name: str
    values: Sequence[float]
    number: int = 1


def number(value: float) -> str:
    """A number as a label."""
    return f"{value:.4g}" if abs(value) < 10000 else f"{value:.0f}"


class _Chart:
    """A figure with one plot, and what its marks say under the pointer."""

    def __init__(self, title: str, height: float = HEIGHT):
        from matplotlib.figure import Figure

        self.figure = Figure((WIDTH / 72, height / 72), dpi=72, layout="constrained")
        self.plot, self._title, self._told, self._placed = self.figure.subplots(), title, {}, []

    def tell(self, artist: Any, *titles: str) -> None:
        """Give a mark its title, or each of its points one."""
        artist.set_gid(f"told-{len(self._told)}")
        self._told[artist.get_gid()] = titles

    def axes(self, x_label: str, y_label: str) -> None:
        """Label the axes, with the grid lines of a value on y."""
        self.plot.set_xlabel(_words(x_label))
        self.plot.set_title(_words(y_label))
        self.plot.grid(axis="y")
        for axis in (self.plot.xaxis, self.plot.yaxis):
            axis.set_major_formatter(lambda value, _: number(value))

    def label(self, text: str, at: Tuple[float, float], offsets: Sequence[float], **where: Any) -> None:
        """Write beside a place, at the first of the offsets, in pixels upwards, where no other label is; or nowhere."""
        self.figure.draw_without_rendering()  # makes room for the axes
        for offset in offsets:
            found = self.plot.annotate(
                text, at, xytext=(0, offset), textcoords="offset points", ha="center", va="center",
                annotation_clip=False, bbox={"facecolor": CARD, "edgecolor": "none", "pad": 1}, **where,
            )  # fmt: skip
            found.set_in_layout(False)
            box, sides = found.get_window_extent(), self.figure.bbox
            if not any(box.overlaps(other) for other in self._placed):
                self._placed.append(box)
                inwards = max(0.0, sides.x0 - box.x0) - max(0.0, box.x1 - sides.x1)
                found.xyann = (inwards, offset)
                return
            found.remove()

    def svg(self) -> str:
        """The picture, without what belongs to a file of its own and would hold for the whole page."""
        file = io.StringIO()
        self.figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        root = ElementTree.fromstring(file.getvalue())
        for parent in root.iter():
            parent.tag = parent.tag.rpartition("}")[2]
            parent.attrib = {name.rpartition("}")[2]: _with_variables(value) for name, value in parent.attrib.items()}
            for child in [child for child in parent if child.tag.endswith(("}metadata", "}style"))]:
                parent.remove(child)
        for parent in list(root.iter()):
            titles = self._told.get(parent.get("id"), ())
            if parent.tag == "g":
                parent.attrib.pop("id", None)  # figure_1, axes_1: those of every chart
            marks = [parent] if len(titles) == 1 else parent.iter("use")
            for mark, title in zip(list(marks), titles):
                mark.insert(0, _title(title))
        root.insert(0, _title(self._title))
        root.attrib = {"viewBox": root.get("viewBox"), "role": "img", "aria-label": self._title}
        return ElementTree.tostring(root, encoding="unicode")


def _with_variables(value: str) -> str:
    return re.sub("|".join(COLOURS), lambda found: VARIABLES[found.group()], value)


def _title(text: str) -> ElementTree.Element:
    found = ElementTree.Element("title")
    found.text = text
    return found


def _words(text: object) -> str:
    """A text as a label: one line, not long, of characters that XML has."""
    found = re.sub("[\ufffe\uffff]", "?", shown(text))
    return found if len(found) <= MOST_LETTERS else found[: MOST_LETTERS - 3] + "..."


@contextlib.contextmanager
def _chart(title: str, height: float = HEIGHT) -> Iterator[_Chart]:
    """A chart in this module's settings, whatever the user's own are."""
    import matplotlib

    title = _words(title)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a font that is not there is no news
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nor is a letter that it does not have
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**SETTINGS, "svg.hashsalt": title})
        yield _Chart(title, height)


def histogram(series: Sequence[Series], marks: Sequence[Tuple[str, float]] = ()) -> str:
    """How often which latency was measured; several series are drawn over each other in shares of their own samples.

    Args:
      series: latencies in milliseconds.
      marks: (label, latency) of lines across, such as percentiles.
    """
    low = min(min(one.values) for one in series)
    high = max(max(one.values) for one in series)
    bins = max(1, min(MOST_BINS, math.ceil(2 * max(len(one.values) for one in series) ** 0.5)))
    if high - low <= 1e-9 * high:
        low, high, bins = low * 0.9, low * 1.1, 1
    with _chart("Histogram of latencies") as chart:
        chart.axes("latency, ms", "% of samples")
        for one in series:
            counts, edges = np.histogram(one.values, bins, (low, high))
            drawn = chart.plot.bar(
                edges[:-1], 100 * counts / len(one.values), 0.95 * np.diff(edges), align="edge",
                color=COLOURS[3 + one.number], alpha=None if len(series) == 1 else 0.65,
            )  # fmt: skip
            for bar, count, start, end in zip(drawn, counts, edges, edges[1:]):
                chart.tell(bar, f"{_words(one.name)}: {count} samples, {number(start)} to {number(end)} ms")
        for label, value in sorted(marks, key=lambda mark: mark[1]):
            line = chart.plot.axvline(value, color=INK, linestyle="--")
            chart.tell(line, f"{_words(label)}: {number(value)} ms")
            chart.label(_words(label), (value, 1), (-8, -24, -40), xycoords=("data", "axes fraction"))
        return chart.svg()


def time_line(series: Sequence[Series], middle: Optional[float] = None) -> str:
    """Latencies in the order of the samples, in milliseconds; `middle` is a line across, the median."""
    with _chart("Latencies in the order of the samples") as chart:
        chart.axes("sample", "latency, ms")
        chart.plot.set_xlim(0, 1 + max(2, *(len(one.values) for one in series)))
        chart.plot.set_ylim(0, 1.05 * max(max(one.values) for one in series))
        chart.plot.xaxis.get_major_locator().set_params(integer=True)
        for one in series:
            every = max(1, math.ceil(len(one.values) / MOST_POINTS))
            places = range(1, 1 + len(one.values), every)
            (dots,) = chart.plot.plot(
                places, one.values[::every], "o", color=COLOURS[3 + one.number],
                markersize=6, markeredgewidth=0, alpha=0.65,
            )  # fmt: skip
            titles = [f"{_words(one.name)}, sample {place}: {number(one.values[place - 1])} ms" for place in places]
            chart.tell(dots, *titles)
        if middle is not None:
            line = chart.plot.axhline(middle, color=INK, linestyle="--")
            chart.tell(line, f"median: {number(middle)} ms")
            chart.label("median", (0.95, middle), (10,), xycoords=("axes fraction", "data"))
        return chart.svg()


def bars(rows: Sequence[Tuple[str, float, str]], title: str) -> str:
    """Horizontal bars of (label, value, text behind the bar); negative values are not drawn."""
    with _chart(title, 12 + 28 * len(rows)) as chart:
        labels, values, texts = zip(*((_words(label), max(0.0, value), _words(text)) for label, value, text in rows))
        drawn = chart.plot.barh(range(len(rows)), values, color=S1)
        chart.plot.set_yticks(range(len(rows)), labels)
        chart.plot.set_xlim(0, max(values) or 1.0)
        chart.plot.set_ylim(len(rows) - 0.5, -0.5)
        chart.plot.xaxis.set_visible(False)
        chart.plot.spines["bottom"].set_visible(False)
        for bar, label, text in zip(drawn, labels, texts):
            chart.tell(bar, f"{label}: {text}")
        chart.plot.bar_label(drawn, texts, padding=6)
        return chart.svg()


def points(rows: Sequence[Tuple[str, float, float]], x_label: str, y_label: str, title: str) -> str:
    """Labelled points (label, x, y); x is logarithmic. A label is left out where there is no room near its point."""
    from matplotlib import ticker

    with _chart(title) as chart:
        chart.plot.set_xscale("log")
        chart.axes(x_label, y_label)
        chart.plot.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        chart.plot.xaxis.set_minor_locator(ticker.NullLocator())
        chart.plot.margins(0.1, 0.25)
        rows = [(_words(label), x, y) for label, x, y in sorted(rows, key=lambda row: row[1])]
        for label, x, y in rows:
            (dot,) = chart.plot.plot(x, y, "o", color=S1, markersize=10, markeredgewidth=0)
            chart.tell(dot, f"{label}: {number(x)} {_words(x_label)}, {_words(y_label)} {number(y)}")
        for label, x, y in rows:
            chart.label(label, (x, y), (14, -14, 29, -29))
        return chart.svg()
