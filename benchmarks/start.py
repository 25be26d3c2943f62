#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a start costs: the throughput script without and with a cached model file, in turn.

    python benchmarks/start.py --rounds 3

For each start: seconds from the start of the process to the first line of its report and to the last, and the largest
resident size of all its processes together, in which pages that they share count twice. A call of the default options
takes about a second. Linux only: asks /proc, every 20 ms.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Dict, List, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    from publish import ROOT, markdown

    from ipu_utils.base.console import run_script
    from ipu_utils.base.hardware import cpu_name
    from ipu_utils.config.command_line import count, model_name

INTERVAL = 0.02  # seconds between two looks at memory
HEAD = ("start", "first line s", "last line s", "peak MiB")


class Start(NamedTuple):
    """One run of the script."""

    first_line: float  # seconds since it was started
    last_line: float
    peak_mib: float


def _children() -> Dict[int, List[int]]:
    found: Dict[int, List[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # It has ended since it was listed.
        found.setdefault(parent, []).append(int(entry.parent.name))
    return found


def resident_of_tree(process_id: int) -> float:
    """Resident size in MiB of a process and all that it has started."""
    children, waiting, pages = _children(), [process_id], 0
    while waiting:
        number = waiting.pop()
        waiting += children.get(number, [])
        try:
            pages += int(Path(f"/proc/{number}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def start(arguments: List[str]) -> Start:
    """Run the throughput script and watch it."""
    began = time.perf_counter()
    command = [sys.executable, "ipu_inference.py", *arguments]
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - for as long as the process runs
    run = subprocess.Popen(command, cwd=str(ROOT), stdout=subprocess.PIPE, stderr=log, text=True)
    sizes = [0.0]

    def watch() -> None:
        while run.poll() is None:
            sizes.append(resident_of_tree(run.pid))
            time.sleep(INTERVAL)

    watching = threading.Thread(target=watch)
    watching.start()
    times = [time.perf_counter() - began for _ in run.stdout]
    watching.join()
    if run.returncode:
        log.seek(0)
        sys.stderr.write(log.read())
        sys.exit(run.returncode)
    log.close()
    return Start(times[0], times[-1], max(sizes))


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model-name", type=model_name, default="efficientdet-d0")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--repeats", type=count, default=2, help="--num-repeats of the script")
    options = parser.parse_args()
    found: Dict[str, List[Start]] = {"compiled for the run": [], "from a cached model file": []}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["--device", "cpu", "--model-name", options.model_name, "--random-weights"]
            arguments += ["--num-repeats", str(options.repeats), "--executable-cache-dir", folder]
            for starts in found.values():
                starts.append(start(arguments))
    print(
        f"{cpu_name()}, {options.model_name}, {options.repeats} calls; medians of {options.rounds} starts, and range\n"
    )
    rows = []
    for name, starts in found.items():
        cells = [f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})" for values in zip(*starts)]
        rows.append([name, *cells])
    print(markdown(HEAD, rows))


if __name__ == "__main__":
    sys.exit(run_script(main))
