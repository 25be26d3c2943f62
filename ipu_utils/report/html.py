# SPDX-License-Identifier: Apache-2.0
"""A self-contained HTML page about one run, a comparison of two, or a sweep. No script, no network, light and dark."""

from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from ipu_utils.base.files import write_atomically
from ipu_utils.measure.statistics import percentile
from ipu_utils.report import charts, work
from ipu_utils.report.charts import Series, escape, number
from ipu_utils.report.comparison import compare
from ipu_utils.report.record import instances_of_record, latencies_ms, row

# AP on COCO val2017 of the published checkpoints, as google/automl's README gives it.
PUBLISHED_AP = {
    "efficientdet-d0": 34.3, "efficientdet-d1": 40.2, "efficientdet-d2": 42.5, "efficientdet-d3": 47.2,
    "efficientdet-d4": 49.3, "efficientdet-d5": 51.2, "efficientdet-d6": 52.1, "efficientdet-d7": 53.4,
    "efficientdet-d7x": 54.4,
}  # fmt: skip
STYLE = """
:root { color-scheme: light dark; --paper: #fcfcfb; --card: #ffffff; --ink: #1c1f23; --soft: #5c636b; --line: #dfe2e5;
  --s1: #2f6fb5; --s2: #d9762b; --warn: #8a5a00; --warn-paper: #fff4d6; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --card: #1d2125; --ink: #e8eaec; --soft: #a3abb3;
  --line: #363c42; --s1: #6aa9ea; --s2: #f0a15f; --warn: #ffd27a; --warn-paper: #3a2f14; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 24px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 16px; margin: 0 0 8px; }
p { margin: 0 0 10px; } .soft { color: var(--soft); }
.tiles, .cards { display: grid; gap: 12px; margin: 14px 0; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.cards { grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr)); }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px;
  min-width: 0; }
.tile b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.wide { grid-column: 1 / -1; }
.warn { background: var(--warn-paper); color: var(--warn); border-radius: 8px; padding: 8px 14px; margin: 8px 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 3px 12px 3px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td + td { overflow-wrap: anywhere; }
th { font-weight: 600; } td.n, th.n { text-align: right; white-space: nowrap; }
svg { width: 100%; height: auto; display: block; }
.label { font-size: 13px; fill: var(--soft); } .strong { fill: var(--ink); }
.halo { paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
.axis { stroke: var(--soft); } .grid { stroke: var(--line); }
.mark { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 4 3; }
.s1 { fill: var(--s1); } .s2 { fill: var(--s2); } .over .s1, .over .s2 { fill-opacity: 0.65; }
.key { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin: 0 6px 0 0; vertical-align: -1px; }
.key.s1 { background: var(--s1); } .key.s2 { background: var(--s2); }
summary { cursor: pointer; }
"""
# Nothing may be loaded from anywhere, whatever a record holds.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
Record = Mapping[str, Any]


def write_page(path: Path, records: Sequence[Record], comparison: Optional[Tuple[Record, Record]] = None) -> None:
    """Write the page of a run, of a sweep's runs, or of a comparison.

    Raises:
      ConfigError: it cannot be written.
    """
    if comparison is not None:
        title, body = "Comparison of two runs", _comparison(*comparison)
    elif len(records) == 1:
        title, body = f"{records[0]['model']['name']} on {records[0]['device']['kind']}", _run(records[0])
    else:
        title, body = f"Sweep of {len(records)} runs", _sweep(records)
    text = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>EfficientDet benchmark: {escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{''.join(body)}</body></html>\n"
    )
    write_atomically(path, (text.encode(),), "--report")


def card(title: str, *content: str, wide: bool = False, over: bool = False) -> str:
    """A box with a heading."""
    kind = "card" + (" wide" if wide else "") + (" over" if over else "")
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{"".join(content)}</section>'


def tile(label: str, value: str, remark: str = "") -> str:
    """One important number."""
    return f'<div class="tile"><span class="soft">{escape(label)}</span><b>{escape(value)}</b>{escape(remark)}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[object]], texts: int = 1) -> str:
    """A table whose first `texts` columns are words, the others numbers."""

    def line(cells: Sequence[object], tag: str) -> str:
        kinds = ["" if index < texts else ' class="n"' for index in range(len(cells))]
        return "<tr>" + "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells)) + "</tr>"

    body = "".join(line(cells, "td") for cells in rows)
    return f'<div class="scroll"><table>{line(head, "th") if head else ""}{body}</table></div>'


def warnings(record: Record, name: str = "") -> str:
    """What makes the numbers doubtful."""
    found = [f"UNSTABLE: {reason}" for reason in record["unstable"]]
    if record["weights"]["random"]:
        found.append("random weights: the speed is real, the detections mean nothing")
    return "".join(f'<div class="warn">{escape(name)}{escape(text)}</div>' for text in found)


def facts(record: Record) -> List[Tuple[str, object]]:
    """What was measured, for a table."""
    model, nms, machine, device = record["model"], record["nms"], record["machine"], record["device"]
    height, width = model["image_size"]
    threshold = "any" if nms["score_threshold"] is None else nms["score_threshold"]
    rule = f"sigma {nms['sigma']}" if nms["method"] == "gaussian" else f"IoU > {nms['iou_threshold']} suppresses"
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    git = record["git"]
    objects = record["objects"]
    return [
        ("measured", record["measured"]),
        ("model", f"{model['name']}, {width}x{height} pixels, {model['num_classes']} classes"),
        ("precision", f"{model['precision']}, images travel as {model['input_type']}"),
        ("batch", f"{record['samples']['batch_size']} images, {record['samples']['batches_per_call']} batches a call"),
        ("instances", len(record["samples"]["instances"])),
        ("weights", f"{record['weights']['description']} (SHA-256 {record['weights']['sha256'][:12] or 'unknown'})"),
        ("nms", f"{nms['mode']}, {nms['method']}, {rule}, score > {threshold}, "
                f"at most {nms['max_detections']} an image; {nms['implementation']}"),
        ("objects", f"{'unknown' if objects['candidates'] is None else number(objects['candidates'])} candidates and "
                    f"{number(objects['detections'])} detections an image"),
        ("device", device["name"] if device["engine"] in device["name"] else f"{device['name']}, {device['engine']}"),
        ("machine", f"{machine['cpu']}, {machine['usable_cores']} of {machine['cores']} cores, "
                    f"{machine['memory_mib']} MiB, {machine['system']}"),
        ("versions", versions),
        ("commit", "unknown" if git is None else git["commit"][:12] + (", modified" if git["modified"] else "")),
        ("started", record["started"]),
        ("command", " ".join(record["command"])),
    ]  # fmt: skip


def _options(record: Record) -> str:
    rows = [(name, "none" if value is None else value) for name, value in record["configuration"].items()]
    return f"<details><summary>All {len(rows)} options</summary>{table([], rows, texts=2)}</details>"


def _series(record: Record) -> List[Series]:
    """Latencies by instance: each in the order in which it measured them."""
    found = instances_of_record(record)
    names = ["latency"] if len(found) == 1 else [f"instance {index}" for index in range(len(found))]
    return [Series(name, values, 1 + index % 2) for index, (name, values) in enumerate(zip(names, found))]


def _run(record: Record) -> List[str]:
    latency, rates = record["statistics"]["latency_ms"], record["statistics"]["images_per_second"]
    low, high = latency["median_interval_95"]
    spread = f"95% interval {number(low)} to {number(high)} ms"
    last = list(latency["percentiles"].items())[-1]
    tiles = [
        tile("throughput", f"{rates['mean']:.2f} /s", f"images; calls from {rates['min']:.1f} to {rates['max']:.1f}"),
        tile("latency, median", f"{latency['median']:.2f} ms", spread),
        tile(f"latency, p{last[0]}", f"{last[1]:.2f} ms", f"{latency['count']} samples"),
        tile("first call", f"{record['start_up_seconds']['first_call']:.2f} s", "not in the statistics"),
    ]
    marks = [(f"p{percent}", value) for percent, value in latency["percentiles"].items()]
    cards = [
        card("Latency: how often", charts.histogram([Series("latency", latencies_ms(record))], marks)),
        card("Latency: in the order of the samples", charts.time_line(_series(record), latency["median"]), over=True),
        card("Percentiles", _statistics(record)),
    ]
    if record["statistics"]["stages_ms"]:
        cards.append(card("Stages of a batch", *_stages(record)))
    cards.append(card("Configuration", table([], facts(record), texts=2), _options(record), wide=True))
    return [
        f'<p class="soft">{escape(record["measured"])}</p>',
        warnings(record),
        f'<div class="tiles">{"".join(tiles)}</div><div class="cards">{"".join(cards)}</div>',
    ]


def _statistics(record: Record) -> str:
    latency = record["statistics"]["latency_ms"]
    names = [("min", latency["min"]), *((f"p{p}", value) for p, value in latency["percentiles"].items())]
    names += [("max", latency["max"]), ("mean", latency["mean"]), ("standard deviation", latency["std"])]
    return table(["", "ms"], [(name, "-" if value is None else f"{value:.3f}") for name, value in names])


def _stages(record: Record) -> List[str]:
    stages = record["statistics"]["stages_ms"]
    rows = [(name, found["mean"], f"{found['mean']:.2f} ms") for name, found in stages.items()]
    return [
        charts.bars(rows, "Mean time of each stage"),
        '<p class="soft">Means. Stages of batches that are under way at the same time overlap.</p>',
        table(
            ["stage", "batches", "mean ms", "median ms", "max ms"],
            [(n, s["count"], *(f"{s[key]:.3f}" for key in ("mean", "median", "max"))) for n, s in stages.items()],
        ),
    ]


def _label(record: Record, records: Sequence[Record]) -> str:
    """What tells a run from the others of a sweep."""
    names = ("model", "batch_size", "precision", "nms_mode")
    own, all_rows = row(record), [row(other) for other in records]
    parts = [str(own[name]) for name in names if len({other[name] for other in all_rows}) > 1]
    return " ".join(parts).replace("efficientdet-", "") or own["model"]


def _sweep(records: Sequence[Record]) -> List[str]:
    rates = [record["statistics"]["images_per_second"]["mean"] for record in records]
    labels = [_label(record, records) for record in records]
    cards = [
        card(
            "Throughput, images a second",
            charts.bars([(label, rate, f"{rate:.2f}") for label, rate in zip(labels, rates)], "Throughput by run"),
        )
    ]
    known = [
        (label, rate, PUBLISHED_AP[record["model"]["name"]])
        for label, rate, record in zip(labels, rates, records)
        if record["model"]["name"] in PUBLISHED_AP
    ]
    if known:
        remark = "AP on COCO val2017 of the published checkpoints at their own image sizes; not measured here."
        chart = charts.points(known, "images/s", "published AP", "Throughput and published accuracy")
        cards.append(card("Throughput and published accuracy", chart, f'<p class="soft">{remark}</p>'))
    lines = []
    for index, (label, rate, record) in enumerate(zip(labels, rates, records), 1):
        latencies = latencies_ms(record)
        mean = sum(latencies) / len(latencies)
        numbers = (rate, mean, percentile(latencies, 50), percentile(latencies, 99))
        lines.append((index, label, "; ".join(record["unstable"]), *(f"{value:.2f}" for value in numbers)))
    head = ["", "run", "unstable", "images/s", "mean ms", "p50 ms", "p99 ms"]
    cards.append(card("All runs", table(head, lines, texts=3), wide=True))
    for label, record in zip(labels, records):
        cards.append(
            f'<details class="card wide"><summary>Configuration: {escape(label)}</summary>'
            f"{warnings(record)}{table([], facts(record), texts=2)}{_options(record)}</details>"
        )
    return [
        f'<p class="soft">{escape(records[0]["device"]["name"])}; {escape(records[0]["measured"])}</p>',
        f'<div class="cards">{"".join(cards)}</div>',
    ]


def _comparison(first: Record, second: Record) -> List[str]:
    series = [Series("A", latencies_ms(first), 1), Series("B", latencies_ms(second), 2)]
    rows = []
    for line in compare(first, second):
        interval = "" if line.interval is None else f"{line.interval[0]:.3f} to {line.interval[1]:.3f}"
        rows.append((line.name, line.unit, *(f"{value:.3f}" for value in line.values), f"{line.ratio:.3f}", interval))
    told = [text.split(": ", 1) for text in work.work_differences(first, second)]
    told += [text.split(": ", 1) for text in work.differences(first, second, work.TOLD)]
    names = [f"{letter}: {one['model']['name']}, {one['started']}" for letter, one in (("A", first), ("B", second))]
    key = "".join(f'<p><span class="key s{index}"></span>{escape(name)}</p>' for index, name in enumerate(names, 1))
    cards = [
        card("Numbers side by side",
             table(["", "unit", "A", "B", "B/A", "95% interval of B/A"], rows, texts=2), wide=True),
        card("Latency: how often", charts.histogram(series), over=True),
        card("Latency: in the order of the samples", charts.time_line(series), over=True),
        card("What differs", table(["key", "A / B"], told, texts=2) if told else "<p>Nothing that is recorded.</p>",
             wide=True),
        card("Configuration of A", table([], facts(first), texts=2), _options(first)),
        card("Configuration of B", table([], facts(second), texts=2), _options(second)),
    ]  # fmt: skip
    return [key, warnings(first, "A: "), warnings(second, "B: "), f'<div class="cards">{"".join(cards)}</div>']
