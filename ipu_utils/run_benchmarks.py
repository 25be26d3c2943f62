# SPDX-License-Identifier: Apache-2.0
"""Run the benchmarks of a benchmarks.yml and read their numbers, as Graphcore's examples-utils does.

python -m ipu_utils.run_benchmarks                                         # lists them
python -m ipu_utils.run_benchmarks --benchmark efficientdet_host_smoke
python -m ipu_utils.run_benchmarks --spec benchmarks.yml                   # runs all

A benchmark for an IPU or a GPU (--device ipu, --device gpu, poprun) is skipped where there is none.

Exit status: 0, 1 when a benchmark failed or a number was not found, 2 when the file or an option cannot be used, or
what a benchmark is for that was asked for by name is not there.
"""

from ipu_utils.base import program

if __name__ == "__main__":
    program.begin()

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    from ipu_utils.base.console import EXIT_INTERRUPTED, run_script, show_notes
    from ipu_utils.base.errors import UserError
    from ipu_utils.base.files import check_writable, write_atomically
    from ipu_utils.base.printable import file_stem, shown, shown_lines
    from ipu_utils.base.signals import telling
    from ipu_utils.config.closeness import did_you_mean
    from ipu_utils.config.command_line import Parser
    from ipu_utils.launch import benchmark_spec as specs
    from ipu_utils.launch.benchmark_checks import check_timeout
    from ipu_utils.launch.benchmark_failure import SAID_NOTHING, ended, reason_of
    from ipu_utils.launch.benchmark_hardware import describe_absent, find_absent
    from ipu_utils.outputs.claims import Claim, check_apart

EXIT_FAILED = 1
TIMED_OUT = 124  # the status that `timeout` gives
RESULTS_FILE, LOGS = "benchmark_results.json", ("stdout.log", "stderr.log")  # below --log-dir; the logs a variant
Pair = Tuple["specs.Benchmark", "specs.Variant"]


class Finished(NamedTuple):
    """A command that has ended."""

    status: int
    stdout: str
    stderr: str
    seconds: float


def run_command(command: Sequence[str], folder: Path, env: Mapping[str, str], timeout: Optional[float]) -> Finished:
    """Run a command to its end, or until its time is up: then it and all it has started is killed.

    Its output goes into files, so that nothing it leaves running holds up the end.
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            environ = {**os.environ, **env}
            process = subprocess.Popen(
                command, cwd=str(folder), env=environ, stdout=out, stderr=err, start_new_session=True
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            return Finished(127, "", f"{getattr(error, 'filename', None) or command[0]}: {reason}", 0.0)
        note = ""
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            status, note = TIMED_OUT, f"\nTimeout ({timeout:g})\n"
        except BaseException:
            _kill(process)
            raise
        seconds = time.perf_counter() - start
        return Finished(status, _text_of(out), _text_of(err) + note, seconds)


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _text_of(file: IO[bytes]) -> str:
    """All of it, with line ends as Python's text files have them; bytes that are no UTF-8 are spelled."""
    file.seek(0)
    return file.read().decode("utf-8", "backslashreplace").replace("\r\n", "\n").replace("\r", "\n")


def run_variant(
    benchmark: specs.Benchmark, variant: specs.Variant, timeout: Optional[float], folder: Path
) -> Dict[str, Any]:
    """Run one variant, keep its output in a folder, and return its result as JSON types, whatever fails."""
    text = specs.command_of(benchmark, variant)
    # The interpreter that runs this, whatever is first on the path: its packages were installed for the benchmark.
    command = [sys.executable if word in specs.INTERPRETERS else word for word in specs.words_of(benchmark, text)]
    result = empty_result(benchmark, variant)
    done = run_command(command, benchmark.folder, benchmark.env, timeout or benchmark.timeout)
    result.update(test_duration=done.seconds, exitcode=done.status)
    problems = _keep(done, folder)
    where = [] if problems else _where(done, folder)
    if done.status:
        problems.append(f"{ended(done.status)}: {reason_of(done.stderr, done.stdout) or SAID_NOTHING}")
    else:
        try:
            found = specs.extract(benchmark, done.stdout + done.stderr, specs.instances_counted_by_the_reader(text))
            result["results"] = specs.derive(benchmark, variant, found)
            problems += _missing(found, result["results"])
        except TimeoutError as error:
            problems.append(str(error))
    if problems:
        result.update(exitcode=done.status or EXIT_FAILED, error="\n".join([*problems, *where]))
    return result


def _keep(done: Finished, folder: Path) -> List[str]:
    """Write what a command wrote into a folder; returns the problem with that, if there is one."""
    try:
        for name, content in zip(LOGS, (done.stdout, done.stderr)):
            write_atomically(folder / name, (content.encode("utf-8", "backslashreplace"),), "--log-dir")
    except UserError as error:
        return [str(error)]
    return []


def _where(done: Finished, folder: Path) -> List[str]:
    """What to say below a problem of the command: where its output is, or that there is none."""
    if done.stdout.strip() or done.stderr.strip():
        return [f"What it wrote is in {folder}."]
    return [] if done.status else [f"{SAID_NOTHING}."]  # a status is told with it


def empty_result(benchmark: specs.Benchmark, variant: specs.Variant) -> Dict[str, Any]:
    """The result of a variant before it has run, as JSON types."""
    return {
        "benchmark_name": benchmark.name,
        "variant_name": variant.name,
        "params": dict(variant.parameters),
        "command": specs.command_of(benchmark, variant),
        "results": dict.fromkeys(benchmark.entry.get("data") or {}),
        "test_duration": 0.0,
        "exitcode": 0,
        "error": None,
        "skipped": None,  # else why it was not run
    }


def _missing(found: Mapping[str, Optional[float]], results: Mapping[str, Optional[float]]) -> List[str]:
    """What to say of numbers that are not there."""
    unread = [name for name, value in found.items() if value is None]
    uncomputed = [name for name, value in results.items() if value is None and name not in unread]
    return [
        *([f"not found in the output: {', '.join(unread)} (finite numbers are read)"] if unread else []),
        *([f"without a finite value: {', '.join(uncomputed)}"] if uncomputed else []),
    ]


def format_results(results: Sequence[Mapping[str, Any]]) -> str:
    """A table of all variants, in ASCII."""
    names = list(dict.fromkeys(name for result in results for name in result["results"]))
    width = max([len("variant"), *(len(result["variant_name"]) for result in results)])
    lines = [f"{'variant':{width}} " + " ".join(f"{name:>20}" for name in names)]
    for result in results:
        values = [result["results"].get(name) for name in names]
        cells = " ".join(f"{'-' if value is None else _cell(value):>20}" for value in values)
        remark = "" if result["exitcode"] == 0 else f"  FAILED ({ended(result['exitcode'])})"
        remark = remark if result["skipped"] is None else "  skipped"
        lines.append(f"{result['variant_name']:{width}} {cells}{remark}")
    return "\n".join(map(shown, lines))


def _cell(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1e15 else f"{value:.6g}"


def log_folders(variants: Sequence[specs.Variant]) -> List[str]:
    """A name for the folder of each one's logs, below --log-dir: its own name where that can be one; all differ."""
    taken, folders = {RESULTS_FILE}, []
    for variant in variants:
        stem = file_stem(variant.name)
        numbered = (f"{stem}-{number}" for number in itertools.count(2))
        folders.append(next(name for name in itertools.chain([stem], numbered) if name not in taken))
        taken.add(folders[-1])
    return folders


def chosen(spec: Mapping[str, specs.Benchmark], names: Sequence[str]) -> List[Pair]:
    """What was asked for, in that order: an entry has all of its variants; none: all but convergence's (`_conv`).

    Raises:
      UserError: there is no benchmark of that name, nor a variant.
    """
    found = []
    for name in names or (name for name in spec if "_conv" not in name):
        if name in spec:
            found += variants(spec[name])
            continue
        alone = {pair[1].name: pair for entry in spec.values() for pair in variants(entry)}
        if name not in alone:
            meant = did_you_mean(name, [*spec, *alone])
            raise UserError(f"--benchmark {name}: there is no such benchmark.{meant} See --list.")
        found.append(alone[name])
    return found


def variants(entry: "specs.Benchmark") -> List[Pair]:
    """An entry with each of its variants."""
    return [(entry, variant) for variant in specs.variants(entry)]


def check_data_sets(benchmarks: Sequence[specs.Benchmark], environ: Mapping[str, str]) -> None:
    """Refuse, before anything runs, what Graphcore's reader refuses: real data without a folder to find them in.

    Raises:
      UserError: a benchmark needs a data set, and the environment names no folder.
    """
    wanting = [one.name for one in benchmarks if one.needs_data_set]
    if wanting and specs.DATA_SETS not in environ:
        raise UserError(
            f"{', '.join(wanting)}: a data set is needed, and {specs.DATA_SETS} does not say where it is. Set it; or "
            'write "generated: true" or "synthetic: true" into the entry, or "gen" or "synth" into its name, if it '
            "needs none."
        )


def build_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m ipu_utils.run_benchmarks", description=__doc__, stray=" Name a benchmark by --benchmark."
    )
    parser.add_argument("--spec", metavar="FILE", type=Path, default=Path("benchmarks.yml"),
                        help="the file of benchmarks (default: benchmarks.yml)")  # fmt: skip
    parser.add_argument(
        "--benchmark", metavar="NAME", nargs="+", default=[], help="run these entries or variants (default: all)"
    )
    parser.add_argument("--timeout", metavar="SECONDS", type=float,
                        help="end a benchmark that takes longer (default: its own timeout, or none)")  # fmt: skip
    parser.add_argument("--log-dir", metavar="FOLDER", type=Path, default=Path("benchmark_logs"),
                        help="keep output and benchmark_results.json there (default: benchmark_logs)")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="print the commands and run nothing (default: false)")
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    options = build_parser().parse_args(arguments)
    if options.timeout is not None:
        check_timeout("--timeout", options.timeout)
    pairs = chosen(specs.read_spec(options.spec), options.benchmark)
    if options.list or not arguments:
        for benchmark, variant in pairs:
            print(shown(f"{variant.name}: {specs.command_of(benchmark, variant)}"))
        if not arguments:
            show_notes([f"nothing was run: --benchmark NAME runs one of them, --spec {options.spec} all."])
        return 0
    for benchmark, variant in pairs:  # variables of the environment may hold quotes
        specs.words_of(benchmark, specs.command_of(benchmark, variant))
    absent = find_absent(pairs, asked_for=bool(options.benchmark))
    check_data_sets(list({benchmark.name: benchmark for benchmark, _ in pairs}.values()), os.environ)
    folders = [options.log_dir / name for name in log_folders([variant for _, variant in pairs])]
    written = [options.log_dir / RESULTS_FILE, *(folder / log for folder in folders for log in LOGS)]
    check_apart([Claim(path, "--log-dir") for path in written], [Claim(options.spec, "--spec")])
    check_writable(options.log_dir / RESULTS_FILE, "--log-dir")
    show_notes(describe_absent(pairs, absent))
    results: List[Dict[str, Any]] = []
    with telling(lambda: format_results(results) if results else None):
        for (benchmark, variant), folder in zip(pairs, folders):
            if variant.name in absent:
                results.append({**empty_result(benchmark, variant), "skipped": absent[variant.name]})
                continue
            _announce(benchmark, variant)
            try:
                result = run_variant(benchmark, variant, options.timeout, folder)
            except KeyboardInterrupt as error:
                told = {"exitcode": getattr(error, "status", EXIT_INTERRUPTED)}
                told["error"] = f"interrupted by {getattr(error, 'name', 'SIGINT')}"
                results.append({**empty_result(benchmark, variant), **told})
                _write(results, options.log_dir)
                raise
            results.append(result)
            _write(results, options.log_dir)  # whatever becomes of the next one
            if result["error"] is not None:
                print(f"{shown(variant.name)} FAILED: {shown_lines(result['error'])}", file=sys.stderr, flush=True)
    _write(results, options.log_dir)  # with those that were skipped behind the last one that ran
    print(format_results(results))
    return EXIT_FAILED if any(result["exitcode"] for result in results) else 0


def _announce(benchmark: specs.Benchmark, variant: specs.Variant) -> None:
    print(shown(f"{variant.name}: {specs.command_of(benchmark, variant)}"), file=sys.stderr, flush=True)
    if benchmark.entry.get("requirements_file"):
        show_notes([f"{benchmark.name} needs {benchmark.entry['requirements_file']} installed"])
    if benchmark.missing_location:
        show_notes([f"{benchmark.name}: there is no folder {benchmark.missing_location}; runs in {benchmark.folder}"])


def _write(results: Sequence[Mapping[str, Any]], log_dir: Path) -> None:
    content = json.dumps(results, indent=1, allow_nan=False) + "\n"
    write_atomically(log_dir / RESULTS_FILE, (content.encode(),), "--log-dir")


if __name__ == "__main__":
    program.run(lambda: run_script(main))
