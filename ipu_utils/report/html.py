# SPDX-License-Identifier: Apache-2.0
"""A self-contained HTML page about one run, a comparison of two, or a sweep. No script, no network, light and dark.

`page.html.jinja` says how it looks; jinja2 is imported when a page is asked for.
"""

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ipu_utils.base import missing_packages
from ipu_utils.base.files import write_atomically
from ipu_utils.base.printable import shown
from ipu_utils.measure.statistics import percentile
from ipu_utils.report import charts, work
from ipu_utils.report.charts import Series, number
from ipu_utils.report.comparison import compare
from ipu_utils.report.record import instances_of_record, latencies_ms, row

TEMPLATE = Path(__file__).with_name("page.html.jinja")
# AP on COCO val2017 of the published checkpoints, as google/automl's README gives it.
PUBLISHED_AP = {
    "efficientdet-d0": 34.3, "efficientdet-d1": 40.2, "efficientdet-d2": 42.5, "efficientdet-d3": 47.2,
    "efficientdet-d4": 49.3, "efficientdet-d5": 51.2, "efficientdet-d6": 52.1, "efficientdet-d7": 53.4,
    "efficientdet-d7x": 54.4,
}  # fmt: skip
Record = Mapping[str, Any]
Rows = List[Tuple[object, ...]]


def check_packages() -> None:
    """Find out before anything is measured whether a page can be made.

    Raises:
      MissingPackageError: it cannot; says what to install.
    """
    with missing_packages.told(__name__):
        import jinja2  # noqa: F401


def write_page(path: Path, records: Sequence[Record], comparison: Optional[Tuple[Record, Record]] = None) -> None:
    """Write the page of a run, of a sweep's runs, or of a comparison.

    Raises:
      ConfigError: it cannot be written.
      MissingPackageError: jinja2 is not there.
    """
    check_packages()
    import jinja2
    import markupsafe

    if comparison is not None:
        kind, records, title, view = "comparison", comparison, "Comparison of two runs", _comparison(*comparison)
    elif len(records) == 1:
        kind, title = "run", f"{records[0]['model']['name']} on {records[0]['device']['kind']}"
        view = _run(records[0])
    else:
        kind, title, view = "sweep", f"Sweep of {len(records)} runs", _sweep(records)
    view["charts"] = {name: markupsafe.Markup(chart) for name, chart in view["charts"].items()}
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: value if hasattr(value, "__html__") else shown(value),
    )  # fmt: skip
    environment.globals.update(facts=facts, options=_options, statistics=_statistics, stage_rows=_stages, number=number)
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8"), view)
    page = text.render(kind=kind, title=title, records=records).strip() + "\n"
    write_atomically(path, (page.encode(),), "--report")


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


def _options(record: Record) -> Rows:
    return [(name, "none" if value is None else value) for name, value in record["configuration"].items()]


def _series(record: Record) -> List[Series]:
    """Latencies by instance: each in the order in which it measured them."""
    found = instances_of_record(record)
    names = ["latency"] if len(found) == 1 else [f"instance {index}" for index in range(len(found))]
    return [Series(name, values, 1 + index % 2) for index, (name, values) in enumerate(zip(names, found))]


def _run(record: Record) -> Dict[str, Any]:
    latency, stages = record["statistics"]["latency_ms"], record["statistics"]["stages_ms"]
    marks = [(f"p{percent}", value) for percent, value in latency["percentiles"].items()]
    found = {
        "histogram": charts.histogram([Series("latency", latencies_ms(record))], marks),
        "time_line": charts.time_line(_series(record), latency["median"]),
    }
    if stages:
        bars = [(name, one["mean"], f"{one['mean']:.2f} ms") for name, one in stages.items()]
        found["stages"] = charts.bars(bars, "Mean time of each stage")
    return {"charts": found}


def _statistics(record: Record) -> Rows:
    latency = record["statistics"]["latency_ms"]
    names = [("min", latency["min"]), *((f"p{p}", value) for p, value in latency["percentiles"].items())]
    names += [("max", latency["max"]), ("mean", latency["mean"]), ("standard deviation", latency["std"])]
    return [(name, "-" if value is None else f"{value:.3f}") for name, value in names]


def _stages(stages: Mapping[str, Any]) -> Rows:
    return [(n, s["count"], *(f"{s[key]:.3f}" for key in ("mean", "median", "max"))) for n, s in stages.items()]


def _label(record: Record, records: Sequence[Record]) -> str:
    """What tells a run from the others of a sweep."""
    names = ("model", "batch_size", "precision", "nms_mode")
    own, all_rows = row(record), [row(other) for other in records]
    parts = [str(own[name]) for name in names if len({other[name] for other in all_rows}) > 1]
    return " ".join(parts).replace("efficientdet-", "") or own["model"]


def _sweep(records: Sequence[Record]) -> Dict[str, Any]:
    rates = [record["statistics"]["images_per_second"]["mean"] for record in records]
    labels = [_label(record, records) for record in records]
    bars = [(label, rate, f"{rate:.2f}") for label, rate in zip(labels, rates)]
    found = {"throughput": charts.bars(bars, "Throughput by run"), "accuracy": ""}
    known = [
        (label, rate, PUBLISHED_AP[record["model"]["name"]])
        for label, rate, record in zip(labels, rates, records)
        if record["model"]["name"] in PUBLISHED_AP
    ]
    if known:
        found["accuracy"] = charts.points(known, "images/s", "published AP", "Throughput and published accuracy")
    rows: Rows = []
    for index, (label, rate, record) in enumerate(zip(labels, rates, records), 1):
        latencies = latencies_ms(record)
        mean = sum(latencies) / len(latencies)
        numbers = (rate, mean, percentile(latencies, 50), percentile(latencies, 99))
        rows.append((index, label, "; ".join(record["unstable"]), *(f"{value:.2f}" for value in numbers)))
    return {"charts": found, "rows": rows, "runs": list(zip(labels, records))}


def _comparison(first: Record, second: Record) -> Dict[str, Any]:
    series = [Series("A", latencies_ms(first), 1), Series("B", latencies_ms(second), 2)]
    rows: Rows = []
    for line in compare(first, second):
        interval = "" if line.interval is None else f"{line.interval[0]:.3f} to {line.interval[1]:.3f}"
        rows.append((line.name, line.unit, *(f"{value:.3f}" for value in line.values), f"{line.ratio:.3f}", interval))
    told = [*work.work_differences(first, second), *work.differences(first, second, work.TOLD)]
    found = {"histogram": charts.histogram(series), "time_line": charts.time_line(series)}
    return {"charts": found, "rows": rows, "differences": [text.split(": ", 1) for text in told]}
