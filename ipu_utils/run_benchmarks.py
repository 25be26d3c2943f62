# SPDX-License-Identifier: Apache-2.0
"""Run the benchmarks of a benchmarks.yml and read their numbers, as Graphcore's examples-utils does.

python -m ipu_utils.run_benchmarks --spec benchmarks.yml --benchmark efficientdet_host_smoke

Exit status: 0, 1 when a benchmark failed or a number was not found, 2 when the file or an option cannot be used.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ipu_utils import benchmark_spec as specs
from ipu_utils.arguments import Parser
from ipu_utils.claims import Claim, check_apart
from ipu_utils.console import run_script, show_notes
from ipu_utils.errors import UserError
from ipu_utils.files import check_writable, write_atomically
from ipu_utils.names import shown, shown_lines
from ipu_utils.options import did_you_mean

EXIT_FAILED = 1
TIMED_OUT = 124  # the status that `timeout` gives
RESULTS_FILE, LOGS = "benchmark_results.json", ("stdout.log", "stderr.log")  # below --log-dir; the logs a variant
LAST_LINES = 10  # of a failed command's standard error


class Finished(NamedTuple):
    """A command that has ended."""

    status: int
    stdout: str
    stderr: str
    seconds: float


def run_command(command: Sequence[str], folder: Path, env: Mapping[str, str], timeout: Optional[float]) -> Finished:
    """Run a command to its end, or until its time is up: then it and all it has started is killed."""
    start = time.perf_counter()
    try:
        process = subprocess.Popen(
            command,
            cwd=str(folder),
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return Finished(127, "", f"{command[0]}: {error.strerror}", 0.0)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        status, stderr = TIMED_OUT, f"{stderr}\nTimeout ({timeout:g})\n"
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return Finished(status, stdout, stderr, time.perf_counter() - start)


def run_variant(
    benchmark: specs.Benchmark, variant: specs.Variant, timeout: Optional[float], log_dir: Path
) -> Dict[str, Any]:
    """Run one variant, keep its output in log_dir/<name>, and return its result as JSON types."""
    text = specs.command_of(benchmark, variant)
    words = shlex.split(os.path.expandvars(text))
    # The interpreter that runs this, whatever is first on the path: its packages were installed for the benchmark.
    command = [sys.executable if word in ("python", "python3") else word for word in words]
    done = run_command(command, benchmark.folder, benchmark.env, timeout or benchmark.timeout)
    results: Dict[str, Optional[float]] = dict.fromkeys([*(benchmark.entry.get("data") or {})])
    if done.status == 0:
        found = specs.extract(benchmark, done.stdout + done.stderr, specs.instances_counted_by_the_reader(text))
        results = specs.derive(benchmark, variant, found)
    folder = log_dir / variant.name
    for name, text in zip(LOGS, (done.stdout, done.stderr)):
        write_atomically(folder / name, (text.encode("utf-8", "backslashreplace"),), "--log-dir")
    missing = done.status == 0 and None in results.values()
    return {
        "benchmark_name": benchmark.name,
        "variant_name": variant.name,
        "params": dict(variant.parameters),
        "command": text,
        "results": results,
        "test_duration": done.seconds,
        "exitcode": EXIT_FAILED if missing else done.status,
        "error": _reason(done, results),
    }


def _reason(done: Finished, results: Mapping[str, Optional[float]]) -> Optional[str]:
    if done.status:
        last = "\n".join(done.stderr.strip().splitlines()[-LAST_LINES:])
        return f"status {done.status}: {last}"
    missing = [name for name, value in results.items() if value is None]
    return f"not found in the output: {', '.join(missing)}" if missing else None


def format_results(results: Sequence[Mapping[str, Any]]) -> str:
    """A table of all variants, in ASCII."""
    names = list(dict.fromkeys(name for result in results for name in result["results"]))
    width = max([len("variant"), *(len(result["variant_name"]) for result in results)])
    lines = [f"{'variant':{width}} " + " ".join(f"{name:>20}" for name in names)]
    for result in results:
        values = [result["results"].get(name) for name in names]
        cells = " ".join(f"{'-':>20}" if value is None else f"{value:20.3f}" for value in values)
        failed = "" if result["exitcode"] == 0 else f"  FAILED (status {result['exitcode']})"
        lines.append(f"{result['variant_name']:{width}} {cells}{failed}")
    return "\n".join(map(shown, lines))


def chosen(spec: Mapping[str, specs.Benchmark], names: Sequence[str]) -> List[specs.Benchmark]:
    """The benchmarks that were asked for, in that order; when none was, all but those of convergence (`_conv`).

    Raises:
      UserError: there is no such benchmark.
    """
    for name in names:
        if name not in spec:
            raise UserError(f"--benchmark {name}: there is no such benchmark.{did_you_mean(name, spec)} See --list.")
    return [spec[name] for name in names or (name for name in spec if "_conv" not in name)]


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
        prog="-m ipu_utils.run_benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spec", metavar="FILE", type=Path, default=Path("benchmarks.yml"),
                        help="the file of benchmarks (default: benchmarks.yml)")  # fmt: skip
    parser.add_argument("--benchmark", metavar="NAME", nargs="+", default=[], help="run these (default: all)")
    parser.add_argument("--timeout", metavar="SECONDS", type=float,
                        help="end a benchmark that takes longer (default: its own timeout, or none)")  # fmt: skip
    parser.add_argument("--log-dir", metavar="FOLDER", type=Path, default=Path("benchmark_logs"),
                        help="keep output and benchmark_results.json there (default: benchmark_logs)")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="print the commands and run nothing (default: false)")
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    options = build_parser().parse_args(argv)
    if options.timeout is not None and not options.timeout > 0:
        raise UserError(f"--timeout must be seconds above 0; got {options.timeout:g}.")
    benchmarks = chosen(specs.read_spec(options.spec), options.benchmark)
    pairs = [(benchmark, variant) for benchmark in benchmarks for variant in specs.variants(benchmark)]
    if options.list:
        for benchmark, variant in pairs:
            print(shown(f"{variant.name}: {specs.command_of(benchmark, variant)}"))
        return 0
    check_data_sets(benchmarks, os.environ)
    written = [options.log_dir / RESULTS_FILE, *(options.log_dir / one.name / log for _, one in pairs for log in LOGS)]
    check_apart([Claim(path, "--log-dir") for path in dict.fromkeys(written)], [Claim(options.spec, "--spec")])
    check_writable(options.log_dir / RESULTS_FILE, "--log-dir")
    results = []
    for benchmark, variant in pairs:
        print(shown(f"{variant.name}: {specs.command_of(benchmark, variant)}"), file=sys.stderr, flush=True)
        if benchmark.entry.get("requirements_file"):
            show_notes([f"{benchmark.name} needs {benchmark.entry['requirements_file']} installed"])
        result = run_variant(benchmark, variant, options.timeout, options.log_dir)
        results.append(result)
        if result["error"] is not None:
            print(f"{shown(variant.name)} FAILED: {shown_lines(result['error'])}", file=sys.stderr, flush=True)
    content = json.dumps(results, indent=1) + "\n"
    write_atomically(options.log_dir / RESULTS_FILE, (content.encode(),), "--log-dir")
    print(format_results(results))
    return EXIT_FAILED if any(result["exitcode"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(run_script(main))
