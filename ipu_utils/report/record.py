# SPDX-License-Identifier: Apache-2.0
"""The record of a run: one self-describing JSON object, and one row of a table. docs/RESULTS.md describes both.

`record.schema.json` beside this file is the JSON object's schema. Whoever changes what a record holds in a way that a
reader of old records would trip over raises SCHEMA_VERSION there and here.
"""

import contextlib
import csv
import datetime
import io
import json
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

from ipu_utils.base import machine
from ipu_utils.base.errors import UserError
from ipu_utils.base.printable import shown
from ipu_utils.base.safe_json import quoted, read_json
from ipu_utils.config.run_config import RunConfig, options_dict
from ipu_utils.measure.requests import RequestSamples
from ipu_utils.measure.statistics import describe
from ipu_utils.measure.throughput import PooledSamples, what_to_do
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
        **{part: dict(getattr(outcome, part)) for part in ("model", "weights", "images", "nms", "device")},
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
            "instances": [
                {
                    "seconds": list(part.seconds),
                    "finished_seconds": list(part.finished) if isinstance(part, RequestSamples) else None,
                }
                for part in (samples.instances if isinstance(samples, PooledSamples) else (samples,))
            ],
        },
        "stage_seconds": {name: list(seconds) for name, seconds in outcome.stages.items()},
        "statistics": {
            "images_per_second": {"mean": samples.images_per_second, "min": low, "max": high},
            "latency_ms": _statistics(samples.batch_latency_ms, percentiles),
            "stages_ms": {
                name: _statistics([1e3 * second for second in seconds], percentiles)
                for name, seconds in outcome.stages.items()
            },
        },
        "unstable": samples.instabilities(),
    }


def _statistics(values: Sequence[float], percentiles: Sequence[float]) -> Dict[str, Any]:
    found = describe(values, percentiles)
    return {
        **{name: getattr(found, name) for name in ("count", "mean", "std", "min", "max", "median")},
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
    called = shown(str(path))
    if path.name and not path.exists():
        _refuse_sweep(path, called)
    record = read_json(path, called, "what --results-json wrote")
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise UserError(f"{called} is not a record of this benchmark: expected what --results-json wrote.")
    version = record.get("schema_version")
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{called} has schema version {quoted(version)}, this release reads {SCHEMA_VERSION}: measure again."
        )
    problem = record_rules.first_problem(record)
    if problem is not None:
        raise UserError(f"{called} is not whole: {problem}. Measure again.")
    return record


def _refuse_sweep(path: Path, called: str) -> None:
    """Say so where a name was given to a sweep, which writes a file for each combination."""
    numbered = re.compile(re.escape(path.stem) + r"-(\d+)" + re.escape(path.suffix))
    with contextlib.suppress(OSError):
        found = {
            int(match[1]): one for one in path.parent.iterdir() for match in [numbered.fullmatch(one.name)] if match
        }
        if found:
            first = shown(str(found[min(found)]))
            raise UserError(
                f"{called} is not there; a sweep numbers its records, one for each combination: {first} is the first."
            )


def lookup(record: Mapping[str, Any], path: str) -> Any:
    """Value at a path such as "device.name"; None where there is none."""
    for key in path.split("."):
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def latencies_ms(record: Mapping[str, Any]) -> List[float]:
    """Per-batch or request latencies of all instances, from the raw samples."""
    return [latency for instance in instances_of_record(record) for latency in instance]


def unstable_explained(records: Sequence[Mapping[str, Any]]) -> List[str]:
    """If one of these runs is UNSTABLE, the line that says what this means and what to do."""
    measured = [
        max(part["finished_seconds"] or [sum(part["seconds"])])
        for record in records
        if record["unstable"]
        for part in record["samples"]["instances"]
    ]
    return [f"UNSTABLE: {what_to_do(max(measured))}"] if measured else []


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


def _image_size(record: Mapping[str, Any]) -> str:
    height, width = record["model"]["image_size"]
    return f"{width}x{height}"


# Column of a table -> its place in a record, or what makes it of one; those of the percentiles come between the two.
_COLUMNS: Dict[str, Union[str, Callable[[Mapping[str, Any]], Any]]] = {
    "started": "started",
    "script": "configuration.script",
    "model": "model.name",
    "image_size": _image_size,
    "precision": "model.precision",
    "batch_size": "samples.batch_size",
    "batches_per_call": "samples.batches_per_call",
    "instances": lambda record: len(record["samples"]["instances"]),
    "nms_mode": "nms.mode",
    "iou_threshold": "nms.iou_threshold",
    "score_threshold": "nms.score_threshold",
    "device": "device.name",
    "engine": "device.engine",
    "status": lambda record: "UNSTABLE" if record["unstable"] else "ok",
    "images_per_second": "statistics.images_per_second.mean",
    "samples": "statistics.latency_ms.count",
    "latency_mean_ms": "statistics.latency_ms.mean",
    "latency_std_ms": "statistics.latency_ms.std",
    "latency_min_ms": "statistics.latency_ms.min",
    "latency_max_ms": "statistics.latency_ms.max",
    "latency_median_ms": "statistics.latency_ms.median",
    "latency_median_low_ms": lambda record: record["statistics"]["latency_ms"]["median_interval_95"][0],
    "latency_median_high_ms": lambda record: record["statistics"]["latency_ms"]["median_interval_95"][1],
}
_LAST_COLUMNS: Dict[str, Union[str, Callable[[Mapping[str, Any]], Any]]] = {
    "executable_origin": "executable.origin",
    "compile_seconds": "executable.compile_seconds",
    "executable_bytes": "executable.bytes",
    "own_peak_memory_mib": "machine.own_peak_memory_mib",
    "agreement": share_found_again,
    "ap": "accuracy.AP",
    "unstable": lambda record: "; ".join(record["unstable"]),
    "random_weights": "weights.random",
    "weights_sha256": "weights.sha256",
    "git_commit": "git.commit",
    "measured": "measured",
}


def columns(percentiles: Sequence[float]) -> List[str]:
    """Columns of a table of runs that report these percentiles."""
    return [*_COLUMNS, *(f"latency_p{percent:g}_ms" for percent in percentiles), *_LAST_COLUMNS]


def row(record: Mapping[str, Any]) -> Dict[str, Any]:
    """A record in one line: column -> value, in the order of the columns."""
    first, last = (
        {name: lookup(record, of) if isinstance(of, str) else of(record) for name, of in table.items()}
        for table in (_COLUMNS, _LAST_COLUMNS)
    )
    percentiles = record["statistics"]["latency_ms"]["percentiles"]
    return {**first, **{f"latency_p{percent}_ms": value for percent, value in percentiles.items()}, **last}


def csv_lines(names: Sequence[str], rows: Sequence[Mapping[str, Any]], with_header: bool) -> str:
    """Rows as a table; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    if with_header:
        writer.writeheader()
    writer.writerows({name: shown(value) if isinstance(value, str) else value for name, value in row.items()}
                     for row in rows)  # fmt: skip
    return text.getvalue()
