# SPDX-License-Identifier: Apache-2.0
"""The combinations of a sweep as rows of a table, those without numbers too: for its text, its page and CSV."""

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ipu_utils.base.printable import one_line
from ipu_utils.config.model_options import PRECISION_WORDS, Precision
from ipu_utils.measure.statistics import percentile
from ipu_utils.report import record as records

Record = Mapping[str, Any]
MIB, MB = 2**20, 1e6  # bytes


class SweepRow(NamedTuple):
    """One combination."""

    swept: Mapping[str, str]  # option -> value as typed, of the options with a list
    record: Optional[Record] = None  # None where it has no numbers
    remark: str = ""  # why it has none, or what is to be said of its end
    expected: Mapping[str, str] = {}  # column -> what a combination without numbers would have run


# Columns of every row, whether they were swept or not. A swept option whose name has such a word is that column.
ALWAYS = {
    "model": lambda record: record["model"]["name"],
    "batch": lambda record: str(record["samples"]["batch_size"]),
    "precision": lambda record: Precision(record["model"]["precision"]).word,
    "engine": lambda record: "-" if record["device"]["kind"] == "ipu" else record["configuration"]["engine"],
}
OTHERS = {"nms_mode": lambda record: record["nms"]["mode"]}  # which records tell too
TABLE_COLUMNS = {"model": "model", "batch": "batch_size", "engine": "engine", "nms_mode": "nms_mode"}  # --results-csv's


def row_of(record: Record, others: Sequence[Record]) -> SweepRow:
    """The row of a record of which nothing else is known, among others of its sweep."""
    swept = {name: of(record) for name, of in OTHERS.items() if len({of(other) for other in others}) > 1}
    return SweepRow(swept, record)


def heads(rows: Sequence[SweepRow]) -> List[str]:
    """Columns that name a combination."""
    return list(dict.fromkeys((*ALWAYS, *(head_of(name) for row in rows for name in row.swept))))


def head_of(option: str) -> str:
    """The column of a swept option; `model_precision` is the precision."""
    return next((word for word in reversed(option.split("_")) if word in ALWAYS), option)


def cell_text(row: SweepRow, head: str) -> str:
    """What a row says in a column: what ran, else what would have run."""
    if row.record is not None and head in ALWAYS:
        return ALWAYS[head](row.record)
    typed = next((text for option, text in row.swept.items() if head_of(option) == head), "-")
    return row.expected.get(head, typed)


def label(row: SweepRow, columns: Sequence[str]) -> str:
    """A row in one line, such as "d0 batch 4 float openvino"."""
    parts = [f"batch {cell_text(row, head)}" if head == "batch" else cell_text(row, head) for head in columns]
    return " ".join(parts).replace("efficientdet-", "")


def status(row: SweepRow) -> str:
    """How a row has ended, in a word; of one without numbers also why, on one line."""
    if row.record is None:
        return one_line(row.remark)
    return row.remark or ("UNSTABLE" if row.record["unstable"] else "ok")


def table_row(row: SweepRow) -> Dict[str, Any]:
    """A row for --results-csv; of one without numbers what would have run, and why it has none."""
    if row.record is not None:
        return {**records.row(row.record), "status": status(row)}
    found = {name: cell_text(row, head) for head, name in TABLE_COLUMNS.items()}
    word = cell_text(row, "precision")
    found["precision"] = PRECISION_WORDS[word].value if word in PRECISION_WORDS else word
    return {**{name: None if text == "-" else text for name, text in found.items()}, "status": status(row)}


def _latency(of: Callable[[List[float]], float]) -> Callable[[Record], str]:
    return lambda record: f"{of(records.latencies_ms(record)):.2f}"


def _compile(record: Record) -> str:
    executable = record.get("executable") or {}
    seconds, origin = executable.get("compile_seconds"), executable.get("origin", "-")
    return f"{seconds:.1f}" if seconds is not None else "-" if origin == "compiled" else origin


def _file(record: Record) -> str:
    size = (record.get("executable") or {}).get("bytes")
    return "-" if size is None else f"{size / MB:.1f}"


def _memory(record: Record) -> str:
    peak = record["machine"].get("own_peak_memory_mib")
    return "-" if peak is None else f"{peak * MIB / MB:.0f}"


def _agreement(record: Record) -> str:
    share = records.share_found_again(record)
    if share is not None:
        return f"{share:.3f}"
    return "ref" if (record.get("agreement") or {}).get("is_reference") else "-"


def _ap(record: Record) -> str:
    value = (record.get("accuracy") or {}).get("AP")
    return "-" if value is None else f"{value:.4f}"


# Numbers of a combination by name: (unit, text).
NUMBERS: Dict[str, Tuple[str, Callable[[Record], str]]] = {
    "images/s": ("", lambda record: f"{record['statistics']['images_per_second']['mean']:.2f}"),
    "mean": ("ms", _latency(lambda values: sum(values) / len(values))),
    "p50": ("ms", _latency(lambda values: percentile(values, 50))),
    "p99": ("ms", _latency(lambda values: percentile(values, 99))),
    "compile": ("s", _compile),
    "file": ("MB", _file),
    "memory": ("MB", _memory),
    "agreement": ("", _agreement),
    "AP": ("", _ap),
}


def number_names(rows: Sequence[SweepRow]) -> List[str]:
    """Those of NUMBERS that there is something to say of: AP where a combination was compared with annotations."""
    measured = any(row.record is not None and row.record.get("accuracy") for row in rows)
    return [name for name in NUMBERS if name != "AP" or measured]


def explained(rows: Sequence[SweepRow]) -> List[Tuple[str, str]]:
    """What the numbers are of: lines (name, text) for below the table; none without numbers."""
    found = [row.record for row in rows if row.record is not None]
    if not found:
        return []
    inside = "NMS included" if "to detections" in found[0]["measured"] else "without NMS"
    compared = next((record["agreement"] for record in found if record.get("agreement")), None)
    agreement = "no combination in float is there to compare with"
    if compared is not None:
        agreement = (
            f"share of ref's detections, the first float row of its model, found again: same class, "
            f"IoU > {compared['iou_above']}, {compared['images']} images"
        )
    return [
        ("measured", f"{found[0]['measured']}: {inside}; {records.latency_unit(*found)}"),
        ("compile", "building the network with its weights and compiling it; kept: an earlier run did"),
        (
            "file",
            "the compiled model; memory: the largest resident size of the process, also while it compiled",
        ),
        ("agreement", agreement),
    ]
