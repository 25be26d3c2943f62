# SPDX-License-Identifier: Apache-2.0
"""Compare the records of two runs, and fail where the second is worse than it may be.

python -m ipu_utils.compare A.json B.json --fail-if "p50>+5%"

Exit status: 0, 1 when a condition of --fail-if holds and for nothing else, 2 when the runs cannot be compared.
"""

from ipu_utils.base import program

if __name__ == "__main__":
    program.begin()

import re
import sys
import traceback
from pathlib import Path
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    from ipu_utils.base.console import EXIT_USER_ERROR, drop_output, run_script
    from ipu_utils.base.errors import UserError
    from ipu_utils.base.files import check_writable
    from ipu_utils.base.printable import shown
    from ipu_utils.config.command_line import Parser
    from ipu_utils.outputs.claims import Claim, check_apart
    from ipu_utils.report import record as records
    from ipu_utils.report.comparison import compare, line, statistic_named, why_no_interval
    from ipu_utils.report.html import check_packages, write_page
    from ipu_utils.report.work import TOLD, differences, work_differences

EXIT_FAILED = 1
CONDITION = re.compile(r"([a-z]+|p\d+(?:\.\d+)?)\s*([<>])\s*([+-]\d+(?:\.\d+)?)\s*%")


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
            raise UserError(
                f'--fail-if {part.strip()!r}: expected for example "p50>+5%" or "throughput<-5%", in quotation marks, '
                "because a shell takes > and < for itself."
            )
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
    lines += records.unstable_explained([first, second])
    lines += [f"differs: {text}" for text in differences(first, second, TOLD)]
    lines.append(f"{'':16} {'A':>12} {'B':>12} {'B/A':>8}  95% interval of B/A")
    numbers = compare(first, second)
    for found in numbers:
        one, two = found.values
        interval = ""
        if found.interval is not None:
            low, high = found.interval
            interval = f"{low:.3f} to {high:.3f}" + ("" if low <= 1 <= high else " (differ)")
        lines.append(f"{found.name:16} {one:12.3f} {two:12.3f} {found.ratio:8.3f}  {interval}".rstrip())
    lines += why_no_interval(first, second, numbers)
    unit = records.latency_unit(first, second)
    lines.append(
        f"throughput in samples/sec, latencies in {unit}; the intervals answer for these samples, not for another day"
    )
    return "\n".join(map(shown, lines))  # a record is somebody else's file


def build_parser() -> Parser:
    """The command line."""
    parser = Parser(prog="python -m ipu_utils.compare", description=__doc__)
    parser.add_argument("first", metavar="A.json", type=Path, help="record of a run, as --results-json wrote it")
    parser.add_argument("second", metavar="B.json", type=Path, help="record of the run to compare with it")
    parser.add_argument(
        "--fail-if",
        metavar="CONDITION,...",
        help="end with status 1 when B differs from A like this: throughput, mean, median, min, max or a percentile "
        "(p50, p99.9), then > or <, then a signed percentage, such as p50>+5%% (default: none)",
    )
    parser.add_argument("--report", metavar="FILE", type=Path, help="write an HTML page about both too (default: none)")
    parser.add_argument("--force", action="store_true", help="compare runs of different work too (default: false)")
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    options = build_parser().parse_args(argv)
    conditions = [] if options.fail_if is None else parse_conditions(options.fail_if)
    first, second = records.read_record(options.first), records.read_record(options.second)
    if options.report is not None:
        check_apart(
            [Claim(options.report, "--report")], [Claim(path, "the record") for path in (options.first, options.second)]
        )
        check_writable(options.report, "--report")
        check_packages()
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
