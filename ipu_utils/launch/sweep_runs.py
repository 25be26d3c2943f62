# SPDX-License-Identifier: Apache-2.0
"""The cells of a sweep: checked together, run one after the other, and told in one table. See `sweep.py`."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ipu_utils.base import hardware
from ipu_utils.base.console import REASON_VARIABLE, show_notes
from ipu_utils.base.errors import UserError
from ipu_utils.base.files import check_writable
from ipu_utils.base.image_folder import list_images
from ipu_utils.base.paths import leads_to_stream
from ipu_utils.base.signals import temporary_folder
from ipu_utils.config.command_line import build_parser
from ipu_utils.config.facets import ONCE, REFUSED, Sweep
from ipu_utils.config.options import flag_of
from ipu_utils.config.run_config import BenchmarkConfig, OutputConfig, RunConfig, options_dict, resolve
from ipu_utils.config.sections import SCRIPTS, names_where
from ipu_utils.launch.sweep_cells import RECORDS, Cell
from ipu_utils.measure.statistics import percentile
from ipu_utils.measure.throughput import WHAT_TO_DO
from ipu_utils.outputs.claims import STANDARD_OUTPUT, Claim, check_apart, read_by, written_files
from ipu_utils.report import publish, record_rules
from ipu_utils.report.html import write_page
from ipu_utils.report.record import latencies_ms, read_record
from ipu_utils.report.sweep_rows import SweepRow, cell_text, heads
from ipu_utils.report.text import RANDOM

EXIT_CELL_FAILED = 1
NOT_RUN = "not run to its end: the sweep was interrupted"
CELL_GRACE_SECONDS = 0.5  # for an interrupted cell, before the sweep reports, which has little more than a second
ROOT = Path(__file__).resolve().parents[2]


class Done(NamedTuple):
    """A cell that has run."""

    cell: Cell
    status: int
    record: Optional[Dict[str, Any]]  # None when it did not get that far
    reason: str = ""  # the error that has ended it
    expected: Mapping[str, str] = {}  # see `SweepRow`


def run_all(found: Sequence[Cell], argv: Sequence[str], script: str) -> int:
    """Check all cells, run them, print the table, and return the exit status.

    Raises:
      SystemExit: a cell's options are wrong; status 2.
      UserError: the sweep cannot be run.
    """
    configs: List[Optional[RunConfig]] = []
    for cell in found:
        typed = vars(build_parser(script).parse_args(cell.arguments))
        for name, value in _given(typed, REFUSED).items():
            raise UserError(f"every combination would write {flag_of(name)} {value} anew: leave it out here.")
        configs.append(_config_of(typed, script))
    parser = build_parser(script, lists=True)
    typed = vars(parser.parse_args(argv))
    if not typed.get("quiet"):
        show_notes(parser.notes)
    return Runs(script, found, typed, configs).run()


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
    if device == "auto":  # a GPU has the settings of a CPU
        device = "ipu" if hardware.PROBES["ipu"]().available else "cpu"
    try:
        config = resolve(typed, script, device, os.environ)
    except UserError:
        return None
    for name, value in _given(options_dict(config), REFUSED, ONCE).items():
        raise UserError(
            f"every combination would write {flag_of(name)} {value} anew, which --config {config.config_name} asks for."
        )
    return config


class Runs:
    """Runs cells one after the other."""

    def __init__(
        self, script: str, found: Sequence[Cell], typed: Mapping[str, Any], configs: Sequence[Optional[RunConfig]]
    ):
        """Take the cells.

        Args:
          script: that runs them. found: the cells. typed: the options of the sweep.
          configs: of the cells; None where one cannot be made.
        """
        self._script, self._cells, self._typed = script, found, typed
        self._configs = [config for config in configs if config is not None]
        self._expected = [_expected(config) for config in configs]
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
                done.append(self._run(cell, report)._replace(expected=self._expected[number - 1]))
        finally:  # an interrupted sweep has results, too; and where they cannot be written they can be read
            if done:
                print(format_table(done, len(self._cells)), file=report, flush=True)
            records = [one.record for one in done if one.record is not None]
            if records:
                numbers = [number for number, one in enumerate(done) if one.record is not None]
                files = _numbered(output.results_json, numbers)
                publish.write_records(output, percentiles, records, sys.stdout, files, self._rows(done))
            elif done and output.report is not None:
                write_page(output.report, [], rows=self._rows(done))
            if self._interrupted is not None:
                self._interrupted.wait()
        if any(one.record is None and one.status for one in done):
            return EXIT_CELL_FAILED
        return next((one.status for one in done if one.status), 0)

    def _rows(self, done: Sequence[Done]) -> List[SweepRow]:
        """Every combination for the page, those that did not run or not to their end too."""
        missing = zip(self._cells[len(done) :], self._expected[len(done) :])
        return [*map(row_of, done), *(SweepRow(cell.values, None, NOT_RUN, told) for cell, told in missing)]

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
            reason = file.with_name("reason")
            command = command_of(self._script, [*cell.arguments, "--results-json", str(file)])
            environ = {**os.environ, REASON_VARIABLE: str(reason)}
            stdout = report.fileno() if report is sys.stderr else None
            process = subprocess.Popen(command, stdout=stdout, env=environ)
            try:
                status = process.wait()
            except BaseException:
                process.terminate()
                self._interrupted = process
                with contextlib.suppress(subprocess.TimeoutExpired):  # it tells what it measured, if it can
                    process.wait(CELL_GRACE_SECONDS)
                raise
            told = reason.read_text(encoding="utf-8", errors="replace") if reason.exists() else ""
            return Done(cell, status, read_record(file) if file.exists() else None, told)


def _expected(config: Optional[RunConfig]) -> Dict[str, str]:
    """What a cell would run, by column."""
    if config is None:
        return {}
    precision = config.model.model_precision
    found = {"model": config.model.model_name, "batch": str(config.data.micro_batch_size)}
    return found if precision is None else {**found, "precision": precision.word}


def row_of(done: Done) -> SweepRow:
    """The row of a cell that has run."""
    remark = ""
    if done.record is None:
        remark = f"FAILED ({_ended(done.status)})" if done.status else "no record"
        remark += f": {done.reason}" if done.reason else ""
    elif done.status:
        remark = _ended(done.status)
    return SweepRow(done.cell.values, done.record, remark, done.expected)


def _ended(status: int) -> str:
    with contextlib.suppress(ValueError):
        return f"ended by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    return f"status {status}"


def command_of(script: str, arguments: Sequence[str]) -> List[str]:
    """The command line of a cell."""
    return [sys.executable, str(ROOT / SCRIPTS[script]), *arguments]


def _describe(cell: Cell) -> str:
    return " ".join(f"{flag_of(name)} {value}" for name, value in cell.values.items())


def _numbered(path: Optional[Path], cells: Sequence[int]) -> List[Path]:
    """A file for the record of each cell, counted from 0: run.json -> run-1.json, run-2.json, ..."""
    return [] if path is None else [path.with_name(f"{path.stem}-{number + 1}{path.suffix}") for number in cells]


NOTES = {
    "UNSTABLE": f"UNSTABLE: {WHAT_TO_DO}",
    "FAILED": "FAILED: what a combination said is above; the others are complete.",
}


def format_table(done: Sequence[Done], total: Optional[int] = None) -> str:
    """All cells with their most important numbers, in ASCII, and what they mean below them.

    Args:
      done: cells that have run. total: how many there were to be.
    """
    found = [row_of(one) for one in done]
    columns = heads(found)
    rows = [[cell_text(row, column) for column in columns] for row in found]
    widths = [max(len(head), *(len(row[column]) for row in rows)) for column, head in enumerate(columns)]
    head = "  ".join(f"{head:{width}}" for head, width in zip(columns, widths))
    lines = [f"{'':>3}  {head}  {'samples/sec':>12} {'mean':>10} {'p50':>10} {'p99':>10}  ms a batch"]
    for number, (one, row) in enumerate(zip(done, rows), 1):
        values = "  ".join(f"{text:{width}}" for text, width in zip(row, widths))
        lines.append(f"{number:>3}  {values}  {_numbers(one)}".rstrip())
    lines += [note for word, note in NOTES.items() if any(f" {word}" in line for line in lines)]
    records = [one.record for one in done if one.record is not None]
    if any(record["weights"]["random"] for record in records):
        lines.append(f"random weights: {RANDOM}")
    if total is not None and len(records) < total:
        lines.append(f"{total - len(records)} of {total} combinations have no numbers")
    return "\n".join(lines)


def _numbers(one: Done) -> str:
    if one.record is None:
        return f"{'FAILED':>12} (status {one.status})" if one.status else f"{'-':>12} (no record)"
    latencies = latencies_ms(one.record)
    rate = one.record["statistics"]["images_per_second"]["mean"]
    mean = sum(latencies) / len(latencies)
    marks = "  UNSTABLE" if one.record["unstable"] else ""
    marks += f"  (status {one.status})" if one.status else ""
    return f"{rate:12.2f} {mean:10.2f} {percentile(latencies, 50):10.2f} {percentile(latencies, 99):10.2f}{marks}"
