# SPDX-License-Identifier: Apache-2.0
"""The record of a run: one self-describing JSON object, and one row of a table. docs/RESULTS.md describes both.

`record.schema.json` beside this file is the JSON object's schema. Whoever changes what a record holds in a way that a
reader of old records would trip over raises SCHEMA_VERSION there and here.
"""

import csv
import datetime
import io
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ipu_utils.base import machine
from ipu_utils.base.errors import UserError
from ipu_utils.base.printable import shown
from ipu_utils.base.safe_json import quoted, read_json
from ipu_utils.config.run_config import RunConfig, options_dict
from ipu_utils.measure.requests import RequestSamples
from ipu_utils.measure.statistics import Statistics, describe
from ipu_utils.measure.throughput import PooledSamples, Samples
from ipu_utils.report import record_rules
from ipu_utils.report.result import Outcome

SCHEMA = "efficientdet-benchmark-record"
SCHEMA_VERSION = 1
SCHEMA_FILE = record_rules.SCHEMA_FILE


def make_record(config: RunConfig, outcome: Outcome) -> Dict[str, Any]:
    """Build the record, of JSON types only."""
    samples, percentiles = outcome.samples, config.benchmark.percentiles
    started = datetime.datetime.fromtimestamp(outcome.started, datetime.timezone.utc)
    low, high = samples.images_per_second_range
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "started": started.isoformat(timespec="seconds"),
        "command": list(config.command),
        "measured": outcome.measured,
        "configuration": options_dict(config),
        "model": dict(outcome.model),
        "weights": dict(outcome.weights),
        "images": dict(outcome.images),
        "nms": dict(outcome.nms),
        "device": dict(outcome.device),
        "executable": None if outcome.executable is None else dict(outcome.executable),
        "machine": machine.describe_machine(),
        "versions": machine.versions(),
        "git": machine.git_state(),
        "start_up_seconds": {**outcome.start_up, "warm_up": list(outcome.warmup_seconds)},
        "objects": dict(outcome.objects),
        "accuracy": None if outcome.accuracy is None else dict(outcome.accuracy),
        "samples": {
            "what": f"{outcome.label} latency is the time of a call over its batches",
            "batches_per_call": samples.batches_per_call,
            "batch_size": samples.batch_size,
            "instances": [_instance(part) for part in instances_of(samples)],
        },
        "stage_seconds": {name: list(seconds) for name, seconds in outcome.stages.items()},
        "statistics": {
            "images_per_second": {"mean": samples.images_per_second, "min": low, "max": high},
            "latency_ms": _statistics(describe(samples.batch_latency_ms, percentiles)),
            "stages_ms": {
                name: _statistics(describe([1e3 * second for second in seconds], percentiles))
                for name, seconds in outcome.stages.items()
            },
        },
        "unstable": samples.instabilities(),
    }


def instances_of(samples: Samples) -> Sequence[Samples]:
    """Samples of each instance."""
    return samples.instances if isinstance(samples, PooledSamples) else (samples,)


def _instance(samples: Samples) -> Dict[str, Any]:
    finished = list(samples.finished) if isinstance(samples, RequestSamples) else None
    return {"seconds": list(samples.seconds), "finished_seconds": finished}


def _statistics(found: Statistics) -> Dict[str, Any]:
    return {
        "count": found.count,
        "mean": found.mean,
        "std": found.std,
        "min": found.min,
        "max": found.max,
        "median": found.median,
        "median_interval_95": list(found.median_interval),
        "percentiles": {f"{percent:g}": value for percent, value in found.percentiles.items()},
    }


def to_json(record: Mapping[str, Any], indent: Optional[int] = 1) -> str:
    """The record as text; numbers that JSON does not have are an error, not a file that readers refuse."""
    return json.dumps(record, indent=indent, allow_nan=False)


def read_record(path: Path) -> Dict[str, Any]:
    """Read a record and check that it is one of this version.

    Raises:
      UserError: it is not.
    """
    record = read_json(path, shown(str(path)), "what --results-json wrote")
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise UserError(f"{shown(str(path))} is not a record of this benchmark: expected what --results-json wrote.")
    called, version = shown(str(path)), record.get("schema_version")
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{called} has schema version {quoted(version)}, this release reads {SCHEMA_VERSION}: measure again."
        )
    problem = record_rules.first_problem(record)
    if problem is not None:
        raise UserError(f"{called} is not whole: {problem}. Measure again.")
    return record


def latencies_ms(record: Mapping[str, Any]) -> List[float]:
    """Per-batch or request latencies of all instances, from the raw samples."""
    return [latency for instance in instances_of_record(record) for latency in instance]


def latency_unit(*records: Mapping[str, Any]) -> str:
    """What a latency of these records is of: "ms a batch", or "ms a request"; "ms" where they differ."""
    of = {"request" if record["configuration"]["script"] == "embedded" else "batch" for record in records}
    return f"ms a {of.pop()}" if len(of) == 1 else "ms"


def instances_of_record(record: Mapping[str, Any]) -> List[List[float]]:
    """Latencies in milliseconds by instance, each in the order of its samples."""
    samples = record["samples"]
    return [
        [1e3 * second / samples["batches_per_call"] for second in instance["seconds"]]
        for instance in samples["instances"]
    ]


def share_found_again(record: Mapping[str, Any]) -> Optional[float]:
    """How much of what the reference found a combination of a sweep has found again; None where nothing tells."""
    agreement = record.get("agreement")
    if agreement is None or agreement["is_reference"] or not agreement["detections"]:
        return None
    return agreement["found_again"] / agreement["detections"]


def _executable(key: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda record: (record.get("executable") or {}).get(key)


def _latency(key: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda record: record["statistics"]["latency_ms"][key]


def _image_size(record: Mapping[str, Any]) -> str:
    height, width = record["model"]["image_size"]
    return f"{width}x{height}"


# Column of a table -> its value in a record; those of the percentiles come between the two.
_COLUMNS: Dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "started": lambda record: record["started"],
    "script": lambda record: record["configuration"]["script"],
    "model": lambda record: record["model"]["name"],
    "image_size": _image_size,
    "precision": lambda record: record["model"]["precision"],
    "batch_size": lambda record: record["samples"]["batch_size"],
    "batches_per_call": lambda record: record["samples"]["batches_per_call"],
    "instances": lambda record: len(record["samples"]["instances"]),
    "nms_mode": lambda record: record["nms"]["mode"],
    "iou_threshold": lambda record: record["nms"]["iou_threshold"],
    "score_threshold": lambda record: record["nms"]["score_threshold"],
    "device": lambda record: record["device"]["name"],
    "engine": lambda record: record["device"]["engine"],
    "status": lambda record: "UNSTABLE" if record["unstable"] else "ok",
    "images_per_second": lambda record: record["statistics"]["images_per_second"]["mean"],
    "samples": _latency("count"),
    "latency_mean_ms": _latency("mean"),
    "latency_std_ms": _latency("std"),
    "latency_min_ms": _latency("min"),
    "latency_max_ms": _latency("max"),
    "latency_median_ms": _latency("median"),
    "latency_median_low_ms": lambda record: _latency("median_interval_95")(record)[0],
    "latency_median_high_ms": lambda record: _latency("median_interval_95")(record)[1],
}
_LAST_COLUMNS: Dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "executable_origin": _executable("origin"),
    "compile_seconds": _executable("compile_seconds"),
    "executable_bytes": _executable("bytes"),
    "own_peak_memory_mib": lambda record: record["machine"].get("own_peak_memory_mib"),
    "agreement": share_found_again,
    "ap": lambda record: (record.get("accuracy") or {}).get("AP"),
    "unstable": lambda record: "; ".join(record["unstable"]),
    "random_weights": lambda record: record["weights"]["random"],
    "weights_sha256": lambda record: record["weights"]["sha256"],
    "git_commit": lambda record: (record["git"] or {}).get("commit"),
    "measured": lambda record: record["measured"],
}


def columns(percentiles: Sequence[float]) -> List[str]:
    """Columns of a table of runs that report these percentiles."""
    return [*_COLUMNS, *(f"latency_p{percent:g}_ms" for percent in percentiles), *_LAST_COLUMNS]


def row(record: Mapping[str, Any]) -> Dict[str, Any]:
    """A record in one line: column -> value, in the order of the columns."""
    found = {name: value(record) for name, value in _COLUMNS.items()}
    percentiles = record["statistics"]["latency_ms"]["percentiles"]
    found.update((f"latency_p{percent}_ms", value) for percent, value in percentiles.items())
    return {**found, **{name: value(record) for name, value in _LAST_COLUMNS.items()}}


def csv_lines(names: Sequence[str], rows: Sequence[Mapping[str, Any]], with_header: bool) -> str:
    """Rows as a table; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    if with_header:
        writer.writeheader()
    writer.writerows({name: shown(value) if isinstance(value, str) else value for name, value in row.items()}
                     for row in rows)  # fmt: skip
    return text.getvalue()
