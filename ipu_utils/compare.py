# SPDX-License-Identifier: Apache-2.0
"""Compare the records of two runs, and fail where the second is worse than it may be.

python -m ipu_utils.compare A.json B.json --fail-if "p50>+5%"

Exit status: 0, 1 when a condition of --fail-if holds and for nothing else, 2 when the runs cannot be compared.
"""

from ipu_utils.base import program

if __name__ == "__main__":
    program.begin()

import argparse
import re
import sys
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    import numpy as np

    from ipu_utils.base.console import EXIT_USER_ERROR, drop_output, run_script
    from ipu_utils.base.errors import UserError
    from ipu_utils.base.files import check_writable
    from ipu_utils.base.printable import shown
    from ipu_utils.config.command_line import Parser
    from ipu_utils.measure.statistics import CHUNK, CONFIDENCE, RESAMPLES, SEED, rank_of
    from ipu_utils.outputs.claims import Claim, check_apart
    from ipu_utils.report import record as records
    from ipu_utils.report.work import TOLD, differences, work_differences

EXIT_FAILED = 1
CONDITION = re.compile(r"([a-z]+|p\d+(?:\.\d+)?)\s*([<>])\s*([+-]\d+(?:\.\d+)?)\s*%")

Statistic = Callable[[np.ndarray], np.ndarray]  # of each row


def percentile_of(percent: float) -> Statistic:
    """`ipu_utils.measure.statistics.percentile` of each row."""
    return lambda rows: np.sort(rows, axis=1)[:, rank_of(percent, rows.shape[1])]


STATISTICS: Dict[str, Statistic] = {
    "mean": lambda rows: rows.mean(axis=1),
    "median": lambda rows: np.median(rows, axis=1),
    "min": lambda rows: rows.min(axis=1),
    "max": lambda rows: rows.max(axis=1),
}


class Line(NamedTuple):
    """One number of both runs."""

    name: str
    unit: str
    values: Tuple[float, float]
    interval: Optional[Tuple[float, float]]  # of the ratio, where one can be given

    @property
    def ratio(self) -> float:
        return self.values[1] / self.values[0]


def ratio_interval(first: Sequence[float], second: Sequence[float], statistic: Statistic) -> Tuple[float, float]:
    """Bootstrap interval of statistic(second) / statistic(first), percentile method; the runs are resampled apart."""
    random = np.random.RandomState(SEED)
    drawn = [_resampled(np.asarray(values, np.float64), statistic, random) for values in (first, second)]
    tail = 100 * (1 - CONFIDENCE) / 2
    ratios = np.sort(drawn[1] / drawn[0])[None]
    return float(percentile_of(tail)(ratios)[0]), float(percentile_of(100 - tail)(ratios)[0])


def _resampled(values: np.ndarray, statistic: Statistic, random: np.random.RandomState) -> np.ndarray:
    found: List[float] = []
    while len(found) < RESAMPLES:
        rows = max(1, min(RESAMPLES - len(found), CHUNK // len(values)))
        found.extend(statistic(values[random.randint(0, len(values), (rows, len(values)))]))
    return np.array(found)


def statistic_named(name: str) -> Statistic:
    """`mean`, `median`, `min`, `max` or a percentile such as `p99.9`.

    Raises:
      UserError: there is no such statistic.
    """
    if name in STATISTICS:
        return STATISTICS[name]
    percent = float(name[1:]) if re.fullmatch(r"p\d+(\.\d+)?", name) else 0.0
    if not 0 < percent <= 100:
        raise UserError(f"{name!r} is no number of a comparison: expected throughput, {', '.join(STATISTICS)} or p50.")
    return percentile_of(percent)


def line(first: Mapping[str, Any], second: Mapping[str, Any], name: str) -> Line:
    """Compute one number of both runs from their raw samples."""
    if name == "throughput":
        rates = tuple(record["statistics"]["images_per_second"]["mean"] for record in (first, second))
        return Line(name, "samples/sec", rates, None)
    statistic = statistic_named(name)
    samples = [records.latencies_ms(record) for record in (first, second)]
    values = tuple(float(statistic(np.asarray(values)[None])[0]) for values in samples)
    # Resampling cannot go beyond what was seen: of extremes it gives no interval.
    interval = None if name in ("min", "max") else ratio_interval(*samples, statistic)
    return Line(f"latency {name}", "ms", values, interval)


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> List[Line]:
    """Every number that both runs report."""
    percentiles = [record["statistics"]["latency_ms"]["percentiles"] for record in (first, second)]
    shared = [f"p{percent}" for percent in percentiles[0] if percent in percentiles[1]]
    return [line(first, second, name) for name in ("throughput", "mean", "median", *shared, "min", "max")]


class Condition(NamedTuple):
    """E.g. `p50>+5%`: the second run's p50 is more than 5 % above the first's."""

    text: str
    name: str
    above: bool
    percent: float

    def holds(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> Optional[str]:
        """Say how, or None when it does not hold."""
        change = 100 * (line(first, second, self.name).ratio - 1)
        if not (change > self.percent if self.above else change < self.percent):
            return None
        return f"{self.text}: {self.name} changed by {change:+.1f} %"


def parse_conditions(text: str) -> List[Condition]:
    """Read comma-separated conditions.

    Raises:
      UserError: one of them is none.
    """
    found = []
    for part in text.split(","):
        match = CONDITION.fullmatch(part.strip())
        if match is None:
            raise UserError(f'--fail-if {part.strip()!r}: expected for example "p50>+5%" or "throughput<-5%".')
        name, sign, percent = match.groups()
        if name != "throughput":
            statistic_named(name)
        found.append(Condition(part.strip(), name, sign == ">", float(percent)))
    return found


def format_comparison(first: Mapping[str, Any], second: Mapping[str, Any], names: Sequence[str]) -> str:
    """Both runs side by side, in ASCII."""
    lines = []
    for letter, name, record in zip("AB", names, (first, second)):
        marks = "".join(f", UNSTABLE: {shown(reason)}" for reason in record["unstable"])
        model, device, started = map(shown, (record["model"]["name"], record["device"]["name"], record["started"]))
        lines.append(f"{letter}: {shown(name)}: {model}, {device}, {started}{marks}")
    lines += [f"differs: {text}" for text in differences(first, second, TOLD)]
    lines.append(f"{'':16} {'A':>12} {'B':>12} {'B/A':>8}  95% interval of B/A")
    for found in compare(first, second):
        one, two = found.values
        interval = ""
        if found.interval is not None:
            low, high = found.interval
            interval = f"{low:.3f} to {high:.3f}" + ("" if low <= 1 <= high else " (differ)")
        lines.append(f"{found.name:16} {one:12.3f} {two:12.3f} {found.ratio:8.3f}  {interval}".rstrip())
    lines.append(
        "throughput in samples/sec, latencies in ms; the intervals answer for these samples, not for another day"
    )
    return "\n".join(map(shown, lines))  # a record is somebody else's file


def build_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="-m ipu_utils.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", metavar="A.json", type=Path, help="record of a run, as --results-json wrote it")
    parser.add_argument("second", metavar="B.json", type=Path, help="record of the run to compare with it")
    parser.add_argument(
        "--fail-if",
        metavar="CONDITION,...",
        default="",
        help="end with status 1 when B differs from A like this: throughput, mean, median, min, max or a percentile "
        "(p50, p99.9), then > or <, then a signed percentage, such as p50>+5%% (default: none)",
    )
    parser.add_argument("--report", metavar="FILE", type=Path, help="write an HTML page about both too (default: none)")
    parser.add_argument("--force", action="store_true", help="compare runs of different work too (default: false)")
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    options = build_parser().parse_args(argv)
    conditions = parse_conditions(options.fail_if) if options.fail_if else []
    first, second = records.read_record(options.first), records.read_record(options.second)
    if options.report is not None:
        check_apart(
            [Claim(options.report, "--report")], [Claim(path, "the record") for path in (options.first, options.second)]
        )
        check_writable(options.report, "--report")
    found = work_differences(first, second)
    if found and not options.force:
        raise UserError(
            "the runs did not do the same work (A / B):",
            *(f"  {text}" for text in found),
            "Compare them all the same: --force.",
        )
    failed = [text for text in (condition.holds(first, second) for condition in conditions) if text is not None]
    told = [f"not the same work: {text}" for text in found]
    told.append(format_comparison(first, second, [str(options.first), str(options.second)]))
    _say(told)
    if options.report is not None:
        from ipu_utils.report.html import write_page  # which needs this module

        write_page(options.report, [], (first, second))
    _say([f"FAILED {text}" for text in failed])
    return EXIT_FAILED if failed else 0


def _say(lines: Sequence[str]) -> None:
    """Print; whoever stops reading (`| head`) still gets the right status."""
    try:
        for text in lines:
            print(text)
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()


def run(argv: Optional[Sequence[str]] = None) -> int:
    """Run `main` as a program: a defect ends it with its traceback too, but not with the status of a condition."""
    try:
        return run_script(lambda: main(argv))
    except Exception:
        traceback.print_exc()
        return EXIT_USER_ERROR


if __name__ == "__main__":
    program.run(run)
