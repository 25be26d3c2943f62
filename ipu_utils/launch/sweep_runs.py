# SPDX-License-Identifier: Apache-2.0
"""The cells of a sweep: checked together, run one after the other, and told in one table. See `start.py`."""

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ipu_utils.base import hardware
from ipu_utils.base.console import NOT_SUPPORTED, REASON_VARIABLE, show_notes
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
from ipu_utils.launch.agreement_pass import DETECTIONS_VARIABLE, compare, read_kept
from ipu_utils.launch.installed import missing_engines
from ipu_utils.launch.sweep_cells import RECORDS, Cell
from ipu_utils.launch.sweep_plan import row_of_plan
from ipu_utils.outputs.claims import STANDARD_OUTPUT, Claim, check_apart, read_by, written_files
from ipu_utils.report import publish, record_rules
from ipu_utils.report.record import read_record
from ipu_utils.report.sweep_table import SweepRow, format_table

EXIT_CELL_FAILED = 1
CELL_GRACE_SECONDS = 0.5  # for an interrupted cell, before the sweep reports, which has little more than a second
ROOT = Path(__file__).resolve().parents[2]


class Done(NamedTuple):
    """A cell that has run."""

    cell: Cell
    status: int
    record: Optional[Dict[str, Any]]  # None when it did not get that far
    reason: str = ""  # the error that has ended it
    kept: Mapping[int, Any] = {}  # what it found in the first images, see `agreement_pass.Kept`
    plan: SweepRow = SweepRow({})  # what it was to run


def run_all(found: Sequence[Cell], argv: Sequence[str], script: str) -> int:
    """Check all cells, run them, print the table, and return the exit status.

    Raises:
      SystemExit: a cell's options are wrong; status 2.
      UserError: the sweep cannot be run.
    """
    configs: List[Optional[RunConfig]] = []
    plans: List[SweepRow] = []
    for cell in found:
        typed = vars(build_parser(script).parse_args(cell.arguments))
        for name, value in _given(typed, REFUSED).items():
            raise UserError(f"every combination would write {_typed(name, value)} anew: leave it out here.")
        device = _device_of(typed)
        configs.append(_config_of(typed, script, device, cell.by_all))
        plans.append(row_of_plan(cell.values, configs[-1], typed, script, device))
    absent = missing_engines(list(dict.fromkeys(cell.values["engine"] for cell in found if cell.by_all)))
    left_out = [f"--engine all leaves out {word}: {why.rstrip('.')}." for word, why in absent.items()]
    cells = zip(found, configs, plans)
    chosen = [one for one in cells if not one[0].by_all or one[0].values["engine"] not in absent]
    if not chosen:
        raise UserError("--engine all: no engine can be used here.", *left_out)
    parser = build_parser(script, lists=True)
    typed = vars(parser.parse_args(argv))
    if not typed.get("quiet"):
        show_notes([*parser.notes, *left_out])
    return Runs(script, *zip(*chosen), typed, left_out).run()


def _given(values: Mapping[str, Any], *kinds: Sweep) -> Dict[str, Any]:
    """Options of these kinds that are there and ask for something."""
    names = names_where(lambda facets: facets.sweep in kinds)
    return {name: values[name] for name in names if values.get(name) not in (None, False)}


def _typed(name: str, value: Any) -> str:
    return flag_of(name) if value is True else f"{flag_of(name)} {value}"


def _device_of(typed: Mapping[str, Any]) -> str:
    device = typed.get("device", "auto")
    if device == "auto":  # a GPU has the settings of a CPU
        device = "ipu" if hardware.PROBES["ipu"]().available else "cpu"
    return device


def _config_of(typed: Mapping[str, Any], script: str, device: str, by_all: bool) -> Optional[RunConfig]:
    """The configuration of a cell; None where it cannot be made, which the cell itself will tell.

    Raises:
      UserError: its preset has an output that every cell would write anew, or `all` its engine and a device that has
        one alone.
    """
    if by_all and device == "ipu":
        raise UserError("--engine all compares engines of a CPU or GPU: add --device cpu, or leave --engine out.")
    try:
        config = resolve(typed, script, device, os.environ)
    except UserError:
        return None
    for name, value in _given(options_dict(config), REFUSED, ONCE).items():
        raise UserError(
            f"every combination would write {_typed(name, value)} anew, which --config {config.config_name} asks for."
        )
    return config


@dataclass
class Runs:
    """Runs cells one after the other."""

    script: str
    cells: Sequence[Cell]
    configs: Sequence[Optional[RunConfig]]  # of the cells; None where one cannot be made
    plans: Sequence[SweepRow]  # of the cells
    typed: Mapping[str, Any]  # the options of the sweep
    notes: Sequence[str]  # for below the table
    interrupted: Optional[subprocess.Popen] = None

    def run(self) -> int:
        """Run every cell, print the table, and return the exit status."""
        output = OutputConfig(**{name: self.typed[name] for name in RECORDS if name in self.typed})
        percentiles = self.typed.get("percentiles", BenchmarkConfig.percentiles)
        self._check_files(output)
        publish.check_outputs(output, percentiles)
        record_rules.validator()  # cells pass their results on as records
        to_stderr = publish.STANDARD_OUTPUT in (output.results_json, output.results_csv)
        report = sys.stderr if to_stderr else sys.stdout
        done: List[Done] = []
        try:
            for number, (cell, plan) in enumerate(zip(self.cells, self.plans), 1):
                values = " ".join(f"{flag_of(name)} {value}" for name, value in cell.values.items())
                print(f"== {number} of {len(self.cells)}: {values}", file=report, flush=True)
                done.append(self._run(cell, report)._replace(plan=plan))
        finally:  # an interrupted sweep has results, too; and where they cannot be written they can be read
            if done:
                compare([(one.record, one.kept) for one in done if one.record is not None])
                self._tell(done, output, percentiles, report)
            if self.interrupted is not None:
                self.interrupted.wait()
        failed = [one for one in done if one.record is None and one.status]
        if any(not _not_supported(one) for one in failed) or len(failed) == len(done):
            return EXIT_CELL_FAILED
        return next((one.status for one in done if one.status and one.record is not None), 0)

    @property
    def _measures(self) -> bool:
        return not (self.typed.get("dry_run") or self.typed.get("print_config"))

    def _tell(self, done: Sequence[Done], output: OutputConfig, percentiles: Sequence[float], report: Any) -> None:
        """Print the table, and write what the options ask for."""
        table = format_table(list(map(row_of, done)), len(self.cells) if self._measures else None)
        print("\n".join([table, *(f"note: {note}" for note in self.notes)]), file=report, flush=True)
        numbers = [number for number, one in enumerate(done) if one.record is not None]
        if self._measures:
            records, files = [done[number].record for number in numbers], _numbered(output.results_json, numbers)
            publish.write_records(output, percentiles, records, sys.stdout, files, self._rows(done))

    def _rows(self, done: Sequence[Done]) -> List[SweepRow]:
        """Every combination for the page, those that did not run or not to their end too."""
        return [*map(row_of, done), *self.plans[len(done) :]]

    def _check_files(self, output: OutputConfig) -> None:
        """Compare what the sweep writes with what its cells read; `publisher` does it for what they write themselves.

        Raises:
          UserError: see `ipu_utils.outputs.claims.check_apart`.
        """
        written, records = written_files(output), output.results_json
        if records not in (None, STANDARD_OUTPUT) and not leads_to_stream(records):
            written = [claim for claim in written if claim.role != flag_of("results_json")]
            numbered = _numbered(records, range(len(self.cells)))
            for path in numbered:
                check_writable(path, flag_of("results_json"))
            written += [Claim(path, flag_of("results_json")) for path in numbered]
        read: List[Claim] = []
        configs = [config for config in self.configs if config is not None]
        for config in configs:
            with contextlib.suppress(UserError):  # a cell says itself what is wrong with its files
                read += read_by(config)
        folders = {config.data.image_path for config in configs if config.data.dataset_type == "image-directory"}
        for folder in folders:
            with contextlib.suppress(UserError):
                read += [Claim(path, "the image") for path in list_images(folder)]
        check_apart(written, read)

    def _run(self, cell: Cell, report: Any) -> Done:
        with temporary_folder("efficientdet-sweep-") as folder:
            file = Path(folder) / "record.json"
            reason = file.with_name("reason")
            wanted = ["--results-json", str(file)] if self._measures else []  # else it would be told as an option
            command = command_of(self.script, [*cell.arguments, *wanted])
            kept = file.with_name("detections.npz")
            environ = {**os.environ, REASON_VARIABLE: str(reason), DETECTIONS_VARIABLE: str(kept)}
            stdout = report.fileno() if report is sys.stderr else None
            process = subprocess.Popen(command, stdout=stdout, env=environ)
            try:
                status = process.wait()
            except BaseException:
                process.terminate()
                self.interrupted = process
                with contextlib.suppress(subprocess.TimeoutExpired):  # it tells what it measured, if it can
                    process.wait(CELL_GRACE_SECONDS)
                raise
            told = reason.read_text(encoding="utf-8", errors="replace") if reason.exists() else ""
            return Done(cell, status, read_record(file) if file.exists() else None, told, read_kept(kept))


def row_of(done: Done) -> SweepRow:
    """The row of a cell that has run."""
    remark = _ended(done.status) if done.status else ""
    if _not_supported(done):
        remark = done.reason
    elif done.record is None:
        remark = f"FAILED ({remark})" if done.status else "ok, nothing was measured"
        remark += f": {done.reason}" if done.reason else ""
    return done.plan._replace(swept=done.cell.values, record=done.record, remark=remark)


def _not_supported(done: Done) -> bool:
    return done.record is None and done.reason.startswith(NOT_SUPPORTED)


def _ended(status: int) -> str:
    with contextlib.suppress(ValueError):
        return f"ended by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    return f"status {status}"


def command_of(script: str, arguments: Sequence[str]) -> List[str]:
    """The command line of a cell."""
    return [sys.executable, str(ROOT / SCRIPTS[script]), *arguments]


def _numbered(path: Optional[Path], cells: Sequence[int]) -> List[Path]:
    """A file for the record of each cell, counted from 0: run.json -> run-1.json, run-2.json, ..."""
    return [] if path is None else [path.with_name(f"{path.stem}-{number + 1}{path.suffix}") for number in cells]
