# SPDX-License-Identifier: Apache-2.0
"""Where the results of a run go: the report for people, and records for programs."""

import contextlib
import dataclasses
import errno
import os
import sys
from pathlib import Path
from typing import IO, Any, Callable, Iterator, List, Mapping, Optional, Sequence

from ipu_utils.base.console import show_notes
from ipu_utils.base.errors import ConfigError, UserError
from ipu_utils.base.files import cannot_write, check_writable, lock, write_atomically
from ipu_utils.base.paths import leads_to_stream, target_of
from ipu_utils.base.signals import telling
from ipu_utils.config.facets import Role
from ipu_utils.config.options import flag_of
from ipu_utils.config.run_config import OutputConfig, RunConfig
from ipu_utils.config.sections import names_where
from ipu_utils.data.sources import ImageSource
from ipu_utils.executable.model_info import ModelInfo
from ipu_utils.measure.throughput import Samples, format_distribution, format_report
from ipu_utils.outputs.claims import STANDARD_OUTPUT, check_run
from ipu_utils.report import record as records
from ipu_utils.report.html import check_packages, write_page
from ipu_utils.report.instances import Instances, combine
from ipu_utils.report.result import Outcome, latency_label
from ipu_utils.report.sweep_table import SweepRow, table_row
from ipu_utils.report.text import describe_instances, describe_random_weights, describe_stages


class Publisher:
    """Takes a run's outcome to the report and to the files of the options.

    Attributes:
      instances: that run, this process one of them.
    """

    def __init__(self, config: RunConfig, stdout: IO[str], instances: Instances):
        self._config, self._stdout, self.instances = config, stdout, instances
        self._expected, self._so_far, self._info = (0, 1, 1, True), [], None

    def note(self, *notes: str) -> None:
        """Tell the user something on standard error, unless they want it quiet; the first instance alone does."""
        if not self.instances.index and not self._config.output.quiet:
            show_notes(notes)

    def start_together(self) -> None:
        """Wait until every instance is about to measure."""
        self.instances.gather([0.0])

    def expect(
        self, calls: int, batches_per_call: int, batch_size: int, alone: bool = True, info: Optional[ModelInfo] = None
    ) -> List[float]:
        """Return the list for the seconds of counted calls, which are told as partial when a signal ends the run.

        `alone` when one follows the other, so that their seconds add up to those of the run; `info`: of what runs.
        """
        self._expected, self._so_far, self._info = (calls, batches_per_call, batch_size, alone), [], info
        return self._so_far

    def partial(self) -> Optional[str]:
        """What was measured and not published; None when nothing was."""
        calls, batches_per_call, batch_size, alone = self._expected
        seconds = tuple(self._so_far)
        if not seconds:
            return None
        headline = (
            f"Benchmark interrupted: partial results of {len(seconds)} of {max(calls, len(seconds))} counted calls."
        )
        samples = Samples(seconds, batches_per_call, batch_size)
        parts = [
            format_report(samples, headline) if alone else headline,
            format_distribution(samples, self._config.benchmark.percentiles, latency_label(self._config)),
            None if self._info is None else describe_random_weights(self._info),
        ]
        return "\n".join(part for part in parts if part is not None)

    def publish(
        self,
        outcome: Outcome,
        images: Optional[ImageSource] = None,
        accuracy: Optional[Callable[[], Optional[Mapping[str, Any]]]] = None,
    ) -> None:
        """Print the report; write the records that were asked for. Every instance has to call it, the first reports.

        Args:
          outcome: what this instance has found out.
          images: what it read. They are only read again, for the record's digest, when there is a record.
          accuracy: compares what was found with annotations, for the record too. What makes that impossible is told
            by whoever reports it.
        """
        outcome, output, embedded = combine(outcome, self.instances), self._config.output, self._config.embedded
        if self.instances.index:
            self._so_far = []
            return
        parts = [
            format_report(outcome.samples),
            format_distribution(outcome.samples, self._config.benchmark.percentiles, outcome.label),
            describe_instances(outcome.samples) if self.instances.count > 1 else None,
            describe_stages(outcome.stages, embedded is None or embedded.requests_in_flight > 1),
        ]
        print("\n".join(part for part in parts if part is not None))
        self._so_far = []  # not before: a signal would find nothing to tell
        if (output.results_json, output.results_csv, output.report) == (None, None, None):
            return
        if images is not None:
            outcome = dataclasses.replace(outcome, images=images.content())
        if accuracy is not None:
            with contextlib.suppress(UserError):
                outcome = dataclasses.replace(outcome, accuracy=accuracy())
        record, files = records.make_record(self._config, outcome), [output.results_json]
        write_records(output, self._config.benchmark.percentiles, [record], self._stdout, files)


def write_records(
    output: OutputConfig,
    percentiles: Sequence[float],
    found: Sequence[Mapping[str, Any]],
    stdout: IO[str],
    files: Sequence[Optional[Path]],
    rows: Optional[Sequence[SweepRow]] = None,
) -> None:
    """Write records wherever the options want them.

    Args:
      output: the options. percentiles: that all records report. found: the records.
      stdout: what `-` stands for; several records are a line each there.
      files: the file of each record, where they go to files; a device or a pipe takes them all, as `-` does.
      rows: of a sweep, all of its combinations; they are on the page and in the table.

    Raises:
      UserError: a file cannot be written.
    """
    texts = (records.to_json(record, indent=1 if len(found) == 1 else None) + "\n" for record in found)
    if output.results_json == STANDARD_OUTPUT:
        stdout.writelines(texts)
    elif output.results_json is not None and leads_to_stream(output.results_json):
        write_atomically(output.results_json, (text.encode() for text in texts), "--results-json")
    elif output.results_json is not None:
        for record, path in zip(found, files):
            write_atomically(path, ((records.to_json(record) + "\n").encode(),), "--results-json")
    if output.report is not None:
        write_page(output.report, found, rows=rows)
    lines = [records.row(record) for record in found] if rows is None else [table_row(row) for row in rows]
    if output.results_csv == STANDARD_OUTPUT:
        stdout.write(records.csv_lines(records.columns(percentiles), lines, with_header=True))
    elif output.results_csv is not None:
        append_rows(output.results_csv, percentiles, lines)
    stdout.flush()


@contextlib.contextmanager
def publisher(config: RunConfig, instances: Optional[Instances] = None) -> Iterator[Publisher]:
    """Check that results can be written, and keep standard output for a program where one reads it.

    Of several instances the first prints; standard output of the others goes nowhere.

    Raises:
      UserError: a file cannot be written.
    """
    stdout, output = sys.stdout, config.output
    instances = Instances() if instances is None else instances
    with contextlib.ExitStack() as stack:
        if instances.index:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        else:
            check_run(config)
            check_outputs(output, config.benchmark.percentiles)
        if not instances.index and STANDARD_OUTPUT in (output.results_json, output.results_csv):
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        found = Publisher(config, stdout, instances)
        stack.enter_context(telling(found.partial))
        yield found


def check_outputs(output: OutputConfig, percentiles: Sequence[float]) -> None:
    """Find out before anything is measured whether results can be written.

    Raises:
      UserError: they cannot.
    """
    if output.results_json == output.results_csv == STANDARD_OUTPUT:
        raise ConfigError("--results-json - and --results-csv - cannot both have standard output: give one a file.")
    if output.report == STANDARD_OUTPUT:
        raise ConfigError("--report - is no file: name one.")
    if output.report is not None:
        check_packages()
    names = names_where(lambda facets: facets.role is Role.RECORD)
    for path, option in ((getattr(output, name), flag_of(name)) for name in names):
        if path not in (None, STANDARD_OUTPUT):
            check_writable(path, option)
    if output.results_csv not in (None, STANDARD_OUTPUT) and not _is_not_a_file(output.results_csv):
        check_table(output.results_csv, percentiles)


def append_rows(path: Path, percentiles: Sequence[float], rows: List[Mapping[str, Any]]) -> None:
    """Append rows to a table, in one write under a lock, so that runs that end at the same time do not mix.

    All rows or none are there in the end. A device or a pipe gets a table of its own.

    Raises:
      UserError: the file cannot be written, or holds something else.
    """
    names = records.columns(percentiles)
    if _is_not_a_file(path):
        write_atomically(path, (records.csv_lines(names, rows, with_header=True).encode(),), "--results-csv")
        return
    try:
        with open(_table_at(path), "a+b") as file:
            lock(file.fileno())
            is_new = not check_table(path, percentiles)
            lines, end = records.csv_lines(names, rows, is_new).encode(), file.seek(0, os.SEEK_END)
            if end and _byte_before(file, end) != b"\n":  # An editor may have left the last row without its end.
                lines = b"\n" + lines
            if os.write(file.fileno(), lines) < len(lines):  # a disk that is almost full takes a part
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise cannot_write(path, error, "--results-csv") from error


def _byte_before(file: IO[bytes], end: int) -> bytes:
    file.seek(end - 1)
    return file.read(1)


def _table_at(path: Path) -> Path:
    """Where a path leads, as for every other file; what the shell opened keeps its name, by which it can be read."""
    target = target_of(path)
    return target if isinstance(target, Path) else path


def _is_not_a_file(path: Path) -> bool:
    """Is it a device or a pipe, of which nothing can be read first? A file that the shell opened is a file."""
    return leads_to_stream(path) and not path.is_file()


def check_table(path: Path, percentiles: Sequence[float]) -> bool:
    """Say whether a file is there and has a header; its columns must be those of runs with these percentiles.

    Raises:
      UserError: the file holds something else, or cannot be read.
    """
    try:
        with open(_table_at(path), "rb") as file:
            found = file.readline(1 << 16).decode("utf-8", "replace").rstrip("\r\n")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise cannot_write(path, error, "--results-csv") from error
    if found and found != ",".join(records.columns(percentiles)):
        raise UserError(
            f"{path} is no table of such runs: its first line has other columns than these. Name another file with "
            "--results-csv; where only the percentiles differ, --percentiles chooses them."
        )
    return bool(found)
