# SPDX-License-Identifier: Apache-2.0
"""Fuzz one surface or all, print findings, and keep counts.

PYTHONPATH=.:tests python -m fuzz --count 100000 --record docs/fuzz.json
"""

import argparse
import json
import sys
import time
from pathlib import Path

from fuzz.driver import Outcome, fuzz
from fuzz.surfaces import SURFACES
from ipu_utils.base.process import peak_memory_mib


def _record(path: Path, outcome: Outcome) -> None:
    """Put the counts of a run without findings beside those of the other surfaces."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[outcome.surface] = {"seed": outcome.seed, "inputs": outcome.inputs, **outcome.words}
    path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")


def main() -> int:
    """Return 1 when there was a finding."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--surface", nargs="*", choices=sorted(SURFACES), default=sorted(SURFACES))
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first input: with --count 1, a finding alone"
    )
    parser.add_argument("--record", type=Path, help="JSON file that keeps counts")
    given = parser.parse_args()
    found = 0
    for name in given.surface:
        surface, start = SURFACES[name](), time.process_time()
        try:
            outcome = fuzz(surface, given.count, given.seed, given.first)
        finally:
            surface.close()
        found += len(outcome.findings)
        words = ", ".join(f"{count} {word}" for word, count in sorted(outcome.words.items()))
        seconds = time.process_time() - start
        cost = f"{seconds:.0f} s of processor time, {peak_memory_mib() or 0:.0f} MiB"
        print(f"{name}: seed {given.seed}, {outcome.inputs} inputs ({words}) in {cost}", flush=True)
        for finding in outcome.findings:
            print(f"  input {finding.number}: {finding.what}\n    {finding.given!r:.600}", flush=True)
        if given.record is not None and not outcome.findings:
            _record(given.record, outcome)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
