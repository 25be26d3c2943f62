# SPDX-License-Identifier: Apache-2.0
"""The cells of a sweep: checked together, run one after the other, and told in one table. See `sweep.py`."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ipu_utils.base.console import show_notes
from ipu_utils.base.errors import UserError
from ipu_utils.base.files import check_writable
from ipu_utils.base.image_folder import list_images
from ipu_utils.base.paths import leads_to_stream
from ipu_utils.base.signals import temporary_folder
from ipu_utils.config.command_line import build_parser
from ipu_utils.config.facets import ONCE, REFUSED, Sweep
from ipu_utils.config.options import flag_of
from ipu_utils.config.run_config import BenchmarkConfig, OutputConfig, Precision, RunConfig, options_dict, resolve
from ipu_utils.config.sections import SCRIPTS, names_where
from ipu_utils.launch.sweep_cells import RECORDS, Cell
from ipu_utils.measure.statistics import percentile
from ipu_utils.measure.throughput import WHAT_TO_DO
from ipu_utils.outputs.claims import STANDARD_OUTPUT, Claim, check_apart, read_by, written_files
from ipu_utils.report import publish, record_rules
from ipu_utils.report.record import latencies_ms, read_record
from ipu_utils.report.text import RANDOM

EXIT_CELL_FAILED = 1
CELL_GRACE_SECONDS = 0.5  # for an interrupted cell, before the sweep reports, which has little more than a second
ROOT = Path(__file__).resolve().parents[2]


class Done(NamedTuple):
    """A cell that has run."""

    cell: Cell
    status: int
    record: Optional[Dict[str, Any]]  # None when it did not get that far


def run_all(found: Sequence[Cell], argv: Sequence[str], script: str) -> int:
    """Check all cells, run them, print the table, and return the exit status.

    Raises:
      SystemExit: a cell's options are wrong; status 2.
      UserError: the sweep cannot be run.
    """
    configs: List[RunConfig] = []
    for cell in found:
        typed = vars(build_parser(script).parse_args(cell.arguments))
        for name, value in _given(typed, REFUSED).items():
            raise UserError(f"every combination would write {flag_of(name)} {value} anew: leave it out here.")
        configs.append(_config_of(typed, script))
    parser = build_parser(script, lists=True)
    typed = vars(parser.parse_args(argv))
    if not typed.get("quiet"):
        show_notes(parser.notes)
    return Runs(script, found, typed, [config for config in configs if config is not None]).run()


def _given(values: Mapping[str, Any], *kinds: Sweep) -> Dict[str, Any]:
    """Options of these kinds that are there and ask for something."""
    names = names_where(lambda facets: facets.sweep in kinds)
    return {name: values[name] for name in names if values.get(name) not in (None, False)}


def _config_of(typed: Mapping[str, Any], script: str) -> Optional[RunConfig]:
    """The configuration of a cell; None where it cannot be made, which the cell itself will tell.

    Raises:
      UserError: its preset has an output that every cell would write anew.
    """
    device = typed.get("device", "auto")
    try:
        config = resolve(typed, script, "cpu" if device == "auto" else device, os.environ)
    except UserError:
        return None
    for name, value in _given(options_dict(config), REFUSED, ONCE).items():
        raise UserError(
            f"every combination would write {flag_of(name)} {value} anew, which --config {config.config_name} asks for."
        )
    return config


class Runs:
    """Runs cells one after the other."""

    def __init__(self, script: str, found: Sequence[Cell], typed: Mapping[str, Any], configs: Sequence[RunConfig] = ()):
        self._script, self._cells, self._typed, self._configs = script, found, typed, configs
        self._interrupted: Optional[subprocess.Popen] = None

    def run(self) -> int:
        """Run every cell, print the table, and return the exit status."""
        output = OutputConfig(**{name: self._typed[name] for name in RECORDS if name in self._typed})
        percentiles = self._typed.get("percentiles", BenchmarkConfig.percentiles)
        self._check_files(output)
        publish.check_outputs(output, percentiles)
        record_rules.validator()  # cells pass their results on as records
        to_stderr = publish.STANDARD_OUTPUT in (output.results_json, output.results_csv)
        report = sys.stderr if to_stderr else sys.stdout
        done: List[Done] = []
        try:
            for number, cell in enumerate(self._cells, 1):
                print(f"== {number} of {len(self._cells)}: {_describe(cell)}", file=report, flush=True)
                done.append(self._run(cell, report))
        finally:  # an interrupted sweep has results, too; and where they cannot be written they can be read
            if done:
                print(format_table(done, len(self._cells)), file=report, flush=True)
            records = [one.record for one in done if one.record is not None]
            if records:
                numbers = [number for number, one in enumerate(done) if one.record is not None]
                publish.write_records(output, percentiles, records, sys.stdout, _numbered(output.results_json, numbers))
            if self._interrupted is not None:
                self._interrupted.wait()
        if any(one.record is None and one.status for one in done):
            return EXIT_CELL_FAILED
        return next((one.status for one in done if one.status), 0)

    def _check_files(self, output: OutputConfig) -> None:
        """Compare what the sweep writes with what its cells read; `publisher` does it for what they write themselves.

        Raises:
          UserError: see `ipu_utils.outputs.claims.check_apart`.
        """
        written, records = written_files(output), output.results_json
        if records not in (None, STANDARD_OUTPUT) and not leads_to_stream(records):
            written = [claim for claim in written if claim.role != flag_of("results_json")]
            numbered = _numbered(records, range(len(self._cells)))
            for path in numbered:
                check_writable(path, flag_of("results_json"))
            written += [Claim(path, flag_of("results_json")) for path in numbered]
        read: List[Claim] = []
        for config in self._configs:
            with contextlib.suppress(UserError):  # a cell says itself what is wrong with its files
                read += read_by(config)
        folders = {config.data.image_path for config in self._configs if config.data.dataset_type == "image-directory"}
        for folder in folders:
            with contextlib.suppress(UserError):
                read += [Claim(path, "the image") for path in list_images(folder)]
        check_apart(written, read)

    def _run(self, cell: Cell, report: Any) -> Done:
        with temporary_folder("efficientdet-sweep-") as folder:
            file = Path(folder) / "record.json"
            command = command_of(self._script, [*cell.arguments, "--results-json", str(file)])
            process = subprocess.Popen(command, stdout=report.fileno() if report is sys.stderr else None)
            try:
                status = process.wait()
            except BaseException:
                process.terminate()
                self._interrupted = process
                with contextlib.suppress(subprocess.TimeoutExpired):  # it tells what it measured, if it can
                    process.wait(CELL_GRACE_SECONDS)
                raise
            return Done(cell, status, read_record(file) if file.exists() else None)


def command_of(script: str, arguments: Sequence[str]) -> List[str]:
    """The command line of a cell."""
    return [sys.executable, str(ROOT / SCRIPTS[script]), *arguments]


def _describe(cell: Cell) -> str:
    return " ".join(f"{flag_of(name)} {value}" for name, value in cell.values.items())


def _numbered(path: Optional[Path], cells: Sequence[int]) -> List[Path]:
    """A file for the record of each cell, counted from 0: run.json -> run-1.json, run-2.json, ..."""
    return [] if path is None else [path.with_name(f"{path.stem}-{number + 1}{path.suffix}") for number in cells]


# Columns of every row, whether they were swept or not. A swept option whose name has such a word is that column.
ALWAYS = {
    "model": lambda record: record["model"]["name"],
    "batch": lambda record: str(record["configuration"]["micro_batch_size"]),
    "precision": lambda record: Precision(record["model"]["precision"]).word,
}
NOTES = {
    "UNSTABLE": f"UNSTABLE: {WHAT_TO_DO}",
    "FAILED": "FAILED: what a combination said is above; the others are complete.",
}


def format_table(done: Sequence[Done], total: Optional[int] = None) -> str:
    """All cells with their most important numbers, in ASCII, and what they mean below them.

    Args:
      done: cells that have run. total: how many there were to be.
    """
    heads = list(dict.fromkeys((*ALWAYS, *map(_head, done[0].cell.values if done else ()))))
    rows = [[_value(one, head) for head in heads] for one in done]
    widths = [max(len(head), *(len(row[column]) for row in rows)) for column, head in enumerate(heads)]
    head = "  ".join(f"{head:{width}}" for head, width in zip(heads, widths))
    lines = [f"{'':>3}  {head}  {'samples/sec':>12} {'mean':>10} {'p50':>10} {'p99':>10}  ms a batch"]
    for number, (one, row) in enumerate(zip(done, rows), 1):
        values = "  ".join(f"{value:{width}}" for value, width in zip(row, widths))
        lines.append(f"{number:>3}  {values}  {_numbers(one)}".rstrip())
    lines += [note for word, note in NOTES.items() if any(f" {word}" in line for line in lines)]
    records = [one.record for one in done if one.record is not None]
    if any(record["weights"]["random"] for record in records):
        lines.append(f"random weights: {RANDOM}")
    if total is not None and len(records) < total:
        lines.append(f"{total - len(records)} of {total} combinations have no numbers")
    return "\n".join(lines)


def _head(axis: str) -> str:
    """The column of a swept option; `model_precision` is the precision."""
    return next((word for word in reversed(axis.split("_")) if word in ALWAYS), axis)


def _value(one: Done, head: str) -> str:
    """What a row says in a column: what ran, else what was typed."""
    if one.record is not None and head in ALWAYS:
        return ALWAYS[head](one.record)
    return next((value for axis, value in one.cell.values.items() if _head(axis) == head), "-")


def _numbers(one: Done) -> str:
    if one.record is None:
        return f"{'FAILED':>12} (status {one.status})" if one.status else f"{'-':>12} (no record)"
    latencies = latencies_ms(one.record)
    rate = one.record["statistics"]["images_per_second"]["mean"]
    mean = sum(latencies) / len(latencies)
    marks = "  UNSTABLE" if one.record["unstable"] else ""
    marks += f"  (status {one.status})" if one.status else ""
    return f"{rate:12.2f} {mean:10.2f} {percentile(latencies, 50):10.2f} {percentile(latencies, 99):10.2f}{marks}"
