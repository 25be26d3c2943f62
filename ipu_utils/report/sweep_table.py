# SPDX-License-Identifier: Apache-2.0
"""The combinations of a sweep as rows, those without numbers too: for its page, for CSV, and the table that ends it.

That table has a line of at most 120 letters for each, and below them what its columns mean.
"""

import itertools
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ipu_utils.base.printable import one_line, report_line
from ipu_utils.config.model_options import PRECISION_WORDS, Precision
from ipu_utils.measure.statistics import percentile
from ipu_utils.report import record as records
from ipu_utils.report.record import lookup
from ipu_utils.report.text import RANDOM

Record = Mapping[str, Any]
MIB, MB = 2**20, 1e6  # bytes
WIDTH = 120
ONLY_ON_THE_PAGE = ("mean", "p99")  # for which there is no room


class SweepRow(NamedTuple):
    """One combination."""

    swept: Mapping[str, str]  # option -> value as typed, of the options with a list
    record: Optional[Record] = None  # None where it has no numbers
    remark: str = ""  # why it has none, or what is to be said of its end
    expected: Mapping[str, str] = {}  # column -> what a combination without numbers would have run, as far as asked for
    own_precision: str = ""  # the word of that which it takes by itself, where none is asked for


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
    asked = _asked(row, head)
    return row.own_precision if head == "precision" and asked == "-" and row.own_precision else asked


def _asked(row: SweepRow, head: str) -> str:
    typed = next((text for option, text in row.swept.items() if head_of(option) == head), "-")
    return row.expected.get(head, typed)


def label(row: SweepRow, columns: Sequence[str]) -> str:
    """A row in one line, such as "d0 batch 4 float openvino"; of one without numbers what was asked for."""
    text_of = _asked if row.record is None else cell_text
    parts = [f"batch {text_of(row, head)}" if head == "batch" else text_of(row, head) for head in columns]
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


def _number(path: str, form: str, scale: float = 1) -> Callable[[Record], str]:
    """The text of the number at a path of a record; what it is divided by comes as `scale`."""

    def text(record: Record) -> str:
        value = lookup(record, path)
        return "-" if value is None else format(value / scale, form)

    return text


def _compile(record: Record) -> str:
    seconds, origin = (lookup(record, f"executable.{key}") for key in ("compile_seconds", "origin"))
    return f"{seconds:.1f}" if seconds is not None else "-" if origin in (None, "compiled") else origin


def _agreement(record: Record) -> str:
    share = records.share_found_again(record)
    if share is not None:
        return f"{share:.3f}"
    return "ref" if lookup(record, "agreement.is_reference") else "-"


# Numbers of a combination by name: (unit, text).
NUMBERS: Dict[str, Tuple[str, Callable[[Record], str]]] = {
    "images/s": ("", _number("statistics.images_per_second.mean", ".2f")),
    "mean": ("ms", _latency(lambda values: sum(values) / len(values))),
    "p50": ("ms", _latency(lambda values: percentile(values, 50))),
    "p99": ("ms", _latency(lambda values: percentile(values, 99))),
    "compile": ("s", _compile),
    "file": ("MB", _number("executable.bytes", ".1f", MB)),
    "memory": ("MB", _number("machine.own_peak_memory_mib", ".0f", MB / MIB)),
    "agreement": ("", _agreement),
    "AP": ("", _number("accuracy.AP", ".4f")),
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
        ("file", "the compiled model; memory: the largest resident size of the process, also while it compiled"),
        ("agreement", agreement),
    ]


def random_rows(rows: Sequence[SweepRow]) -> Optional[str]:
    """What to put before a remark on random weights: nothing where all numbers are of them, else the rows, "row 2: ".

    None where there are none.
    """
    numbers = [at for at, row in enumerate(rows, 1) if row.record and row.record["weights"]["random"]]
    if not numbers:
        return None
    if len(numbers) == sum(row.record is not None for row in rows):
        return ""
    runs = [[*group] for _, group in itertools.groupby(numbers, lambda at: at - numbers.index(at))]
    spans = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return f"row{'' if len(numbers) == 1 else 's'} {', '.join(spans)}: "


def _of_the_others(rows: Sequence[SweepRow], total: Optional[int]) -> str:
    """What is true of combinations beside those that failed; `total` as in `format_table`."""
    complete = sum(row.record is not None or row.remark.startswith("ok") for row in rows)
    failed = sum(status(row).startswith("FAILED") for row in rows)
    expected = max(len(rows), total or 0)
    if complete == expected - failed and (complete or expected == 1):
        return "the others are complete"
    return f"{complete or 'none'} of {expected} combinations {'is' if complete < 2 else 'are'} complete"


def format_table(rows: Sequence[SweepRow], total: Optional[int] = None) -> str:
    """All combinations with their most important numbers, in ASCII, and what they mean below them.

    Args:
      rows: of the combinations. total: how many of them were to be measured; None: none was.
    """
    columns, names = heads(rows), [name for name in number_names(rows) if name not in ONLY_ON_THE_PAGE]
    words = [[cell_text(row, head).replace("efficientdet-", "") for head in columns] for row in rows]
    states = [status(row) for row in rows]
    numbers = {at: [NUMBERS[name][1](row.record) for name in names] for at, row in enumerate(rows) if row.record}
    units = [NUMBERS[name][0] for name in names]
    left = [max(map(len, texts)) for texts in zip(columns, *words)]
    left.append(max(map(len, ["status", *(states[at] for at in numbers)])))
    right = [max(map(len, texts)) for texts in zip(names, units, *numbers.values())]

    def line(number: str, texts: Sequence[str], values: Sequence[str]) -> str:
        parts = [f"{number:>3}", *(f"{text:{width}}" for text, width in zip(texts, left))]
        return "  ".join([*parts, *(f"{value:>{width}}" for value, width in zip(values, right))]).rstrip()

    lines = [line("", [*columns, "status"], names), line("", [""] * len(left), units)]
    reasons = []
    for at, (texts, state) in enumerate(zip(words, states)):
        text = line(str(at + 1), [*texts, state], numbers.get(at, ()))  # a reason takes the place of the numbers
        if len(text) > WIDTH:
            text = text[: WIDTH - 3] + "..."
            reasons.append(f"{at + 1:>3}: {state}")
        lines.append(text)
    lines += [*reasons, *(report_line(*told) for told in explained(rows))]
    lines += records.unstable_explained([row.record for row, state in zip(rows, states) if state == "UNSTABLE"])
    if any(state.startswith("FAILED") for state in states):
        lines.append(f"FAILED: what a combination said is above; {_of_the_others(rows, total)}.")
    random = random_rows(rows)
    if random is not None:
        lines.append(f"{random}random weights: {RANDOM}")
    if total is not None and len(numbers) < total:
        lines.append(f"{total - len(numbers)} of {total} combinations have no numbers")
    return "\n".join(lines)
