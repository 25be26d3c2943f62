# SPDX-License-Identifier: Apache-2.0
"""A self-contained HTML page about one run, a comparison of two, or a sweep. No script, no network, light and dark.

`page.html.jinja` says how it looks; jinja2 is imported when a page is asked for.
"""

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ipu_utils.base import missing_packages
from ipu_utils.base.files import write_atomically
from ipu_utils.base.printable import shown
from ipu_utils.measure.statistics import FEWEST_FOR_INTERVAL
from ipu_utils.report import charts, sweep_table, work
from ipu_utils.report.charts import Series, number
from ipu_utils.report.comparison import compare, why_no_interval
from ipu_utils.report.record import instances_of_record, latencies_ms, latency_unit, unstable_explained
from ipu_utils.report.sweep_table import NUMBERS, SweepRow, cell_text, label
from ipu_utils.report.text import RANDOM

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


def write_page(
    path: Path,
    records: Sequence[Record],
    comparison: Optional[Tuple[Record, Record]] = None,
    rows: Optional[Sequence[SweepRow]] = None,
) -> None:
    """Write the page of a run, of a sweep's runs, or of a comparison.

    Args:
      path: of the page. records: of the runs. comparison: two of them.
      rows: of a sweep, all of its combinations; None: those of the records, where they are several.

    Raises:
      ConfigError: it cannot be written.
      MissingPackageError: jinja2 is not there.
    """
    check_packages()
    import jinja2
    import markupsafe

    if comparison is not None:
        kind, records, title, view = "comparison", comparison, "Comparison of two runs", _comparison(*comparison)
    elif len(records) == 1 and rows is None:
        kind, title = "run", f"{records[0]['model']['name']} on {records[0]['device']['kind']}"
        view = _run(records[0])
    else:
        rows = [sweep_table.row_of(record, records) for record in records] if rows is None else rows
        kind, title, view = "sweep", f"Sweep of {len(rows)} combinations", _sweep(rows)
    view["charts"] = {name: markupsafe.Markup(chart) for name, chart in view["charts"].items()}
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: value if hasattr(value, "__html__") else shown(value),
    )  # fmt: skip
    environment.globals.update(
        facts=facts, options=_options, statistics=_statistics, stage_rows=_stages, number=number, unit=latency_unit,
        random=RANDOM, fewest=FEWEST_FOR_INTERVAL, unstable_explained=unstable_explained,
    )  # fmt: skip
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
        *([("calibrated", f"on {model['calibration']['images']}; its accuracy is to be checked")]
          if model.get("calibration") else []),
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
    unit = latency_unit(record)
    marks = [(f"p{percent}", value) for percent, value in latency["percentiles"].items()]
    found = {
        "histogram": charts.histogram([Series("latency", latencies_ms(record))], marks, unit),
        "time_line": charts.time_line(_series(record), latency["median"], unit),
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


def _short(row: SweepRow, rows: Sequence[SweepRow], columns: Sequence[str]) -> str:
    """What tells a combination from the others of a sweep."""
    varying = [head for head in columns if len({cell_text(other, head) for other in rows}) > 1]
    return label(row, varying) or label(row, columns[:1])


def _sweep(rows: Sequence[SweepRow]) -> Dict[str, Any]:
    columns, measured = sweep_table.heads(rows), [row for row in rows if row.record is not None]
    rates = [row.record["statistics"]["images_per_second"]["mean"] for row in measured]
    labels = [label(row, columns) for row in measured]
    bars = [(text, rate, f"{rate:.2f}") for text, rate in zip(labels, rates)]
    found = {"throughput": charts.bars(bars, "Throughput by combination") if bars else "", "accuracy": ""}
    known = [
        (_short(row, rows, columns), rate, PUBLISHED_AP[row.record["model"]["name"]])
        for row, rate in zip(measured, rates)
        if row.record["model"]["name"] in PUBLISHED_AP
    ]
    if known:
        found["accuracy"] = charts.points(known, "images/s", "published AP", "Throughput and published accuracy")
    chosen = sweep_table.number_names(rows)
    table = [
        (number, *(cell_text(row, head) for head in columns), _remarks(row), *_numbers(row, chosen))
        for number, row in enumerate(rows, 1)
    ]
    records = [row.record for row in measured]
    names = [head.replace("_", " ") for head in columns]
    unit = latency_unit(*records) if records else "ms"
    units = [unit if NUMBERS[name][0] == "ms" else NUMBERS[name][0] for name in chosen]
    heading = ("", *names, "status", *(f"{name}, {one}" if one else name for name, one in zip(chosen, units)))
    missing = [f"{label(row, columns)}: {row.remark}" for row in rows if row.record is None]
    return {
        "charts": found, "rows": table, "heading": heading, "numbers": len(chosen), "missing": missing,
        "explained": sweep_table.explained(rows), "runs": list(zip(labels, records)),
        "random_rows": sweep_table.random_rows(rows),
    }  # fmt: skip


def _remarks(row: SweepRow) -> str:
    unstable = [] if row.record is None else [f"UNSTABLE: {reason}" for reason in row.record["unstable"]]
    return "; ".join([*filter(None, [row.remark]), *unstable]) or sweep_table.status(row)


def _numbers(row: SweepRow, names: Sequence[str]) -> Tuple[str, ...]:
    return tuple("-" if row.record is None else NUMBERS[name][1](row.record) for name in names)


def _comparison(first: Record, second: Record) -> Dict[str, Any]:
    series = [Series("A", latencies_ms(first), 1), Series("B", latencies_ms(second), 2)]
    rows: Rows = []
    lines = compare(first, second)
    for line in lines:
        interval = "" if line.interval is None else f"{line.interval[0]:.3f} to {line.interval[1]:.3f}"
        rows.append((line.name, line.unit, *(f"{value:.3f}" for value in line.values), f"{line.ratio:.3f}", interval))
    told = [*work.work_differences(first, second), *work.differences(first, second, work.TOLD)]
    unit = latency_unit(first, second)
    found = {"histogram": charts.histogram(series, unit=unit), "time_line": charts.time_line(series, unit=unit)}
    remarks = why_no_interval(first, second, lines)
    differing = [text.split(": ", 1) for text in told]
    return {"charts": found, "rows": rows, "remarks": remarks, "differences": differing}
