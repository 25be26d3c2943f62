#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compare engines on a CPU in one run: each in a process of its own, serving requests in turn; medians and ratios.

    python benchmarks/peers.py --models efficientdet-d0 efficientdet-d1 --write

Engines and spans are told in benchmarks/engine_children.py; those that are not installed are left out and named.
`ratio` is to OpenVINO's plain conversion of the network alone at the same precision, `cpu ms` the processor time of all
threads, which tells engines apart on a busy machine too, `first s` the time from the start of a process to its first
result. --write puts each model's table and chart into docs/PERFORMANCE.md, in the place of its last one.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    from engine_children import Engine, engines, missing, why_not
    from publish import DOCUMENT, child, markdown, replace_section, tell, write_chart

    from ipu_utils.base.console import run_script
    from ipu_utils.base.hardware import cpu_name, usable_cores
    from ipu_utils.config.command_line import count, model_name
    from ipu_utils.report import charts

PRECISIONS = ("float32", "bfloat16", "int8")
CHILD = Path(__file__).resolve().with_name("engine_children.py")
REFERENCE = "openvino"
HEAD = ("engine", "p50 ms", "rounds", "p90 ms", "ratio", "cpu ms", "first s", "MiB")

Rounds = Dict[Engine, List[Dict[str, float]]]


def medians_of(rounds: Rounds) -> Dict[Engine, float]:
    """Median over the rounds of each engine's median time, ms."""
    return {engine: statistics.median(result["p50"] for result in found) for engine, found in rounds.items()}


def table(rounds: Rounds) -> List[List[str]]:
    """Medians over rounds, and ratios to the plain conversion at the same precision."""
    medians, rows = medians_of(rounds), []
    base = {engine.precision: ms for engine, ms in medians.items() if engine.name == REFERENCE}
    for engine, found in rounds.items():
        each = [result["p50"] for result in found]
        ratio = f"{medians[engine] / base[engine.precision]:.2f}" if engine.precision in base else ""
        p90, cpu, first, peak = (
            statistics.median(result[key] for result in found) for key in ("p90", "cpu", "first_result_s", "peak_mib")
        )
        spread = f"{min(each):.2f} to {max(each):.2f}"
        numbers = [f"{medians[engine]:.2f}", spread, f"{p90:.2f}", ratio, f"{cpu:.2f}", f"{first:.2f}", f"{peak:.0f}"]
        rows.append([engine.label, *numbers])
    return rows


def measure(model: str, size: str, rows: Sequence[Engine], options: argparse.Namespace) -> Rounds:
    """Prepare a model, load every engine, and let each serve its requests in turn, once a round."""
    served: List[Served] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        tell(f"{model}: preparing a file for every engine")
        child(CHILD, ["prepare", folder, model, size, *options.precisions])
        for engine in rows:
            try:
                served.append(running.enter_context(Served(engine, folder, options.threads)))
            except RuntimeError as error:  # Its own converter may have made what it refuses.
                print(f"{engine.label} is left out: {error}")
        found: Rounds = {turn.engine: [] for turn in served}
        for number in range(options.rounds):
            tell(f"{model}: round {number + 1} of {options.rounds}")
            # Turned by one each round, so that no engine always runs behind the same other one.
            first = number % len(served)
            for turn in [*served[first:], *served[:first]]:
                found[turn.engine].append(turn.serve(options.requests))
    return found


class Served:
    """An engine in a process of its own, which waits between its turns."""

    def __init__(self, engine: Engine, folder: str, threads: int):
        self.engine = engine
        command = [sys.executable, str(CHILD), "serve", folder, str(threads), *engine]
        self._errors, pipe = tempfile.TemporaryFile("w+"), subprocess.PIPE  # noqa: SIM115 (until the end of this)
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True)
        self._answer()

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def serve(self, requests: int) -> Dict[str, float]:
        """Let it serve so many requests; see `engine_children.serve_turns` for what it answers."""
        self._process.stdin.write(f"{requests}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Dict[str, float]:
        for line in self._process.stdout:
            if line.startswith("{"):  # Engines print, too.
                return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        raise RuntimeError(f"it ended: {(self._errors.read().strip().splitlines() or [''])[-1]}")


def section(model: str, rounds: Rounds, title: str) -> str:
    """The text for the document."""
    count = len(next(iter(rounds.values())))
    head = f"**{model}**, batch 1, medians of {count} rounds. {title}"
    return "\n\n".join([head, markdown(HEAD, table(rounds)), f"![Engines on {model}](pictures/peers-{model}.svg)"])


def write(model: str, rounds: Rounds, title: str, document: Path) -> None:
    """Put a model's table and chart into the document; those of other models stay."""
    replace_section(document, f"peers-{model}", section(model, rounds, title))
    bars = [(engine.label, ms, f"{ms:.1f} ms") for engine, ms in medians_of(rounds).items()]
    chart = charts.bars(bars, f"Milliseconds an image, {model}")
    write_chart(document.parent / "pictures" / f"peers-{model}.svg", chart)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", type=model_name, default=[f"efficientdet-d{size}" for size in range(5)])
    parser.add_argument("--image-size", default="", help="as of the scripts (default: the model's own)")
    parser.add_argument("--precisions", nargs="+", default=["float32"], choices=PRECISIONS)
    names = sorted({engine.name for engine in engines(PRECISIONS)})
    parser.add_argument(
        "--engines",
        nargs="+",
        choices=names,
        metavar="ENGINE",
        help=f"of {', '.join(names)} (default: all that are installed)",
    )
    parser.add_argument("--rounds", type=count, default=20, help="rounds in which every engine has a turn (default 20)")
    parser.add_argument("--requests", type=count, default=5, help="requests an engine serves in a turn (default 5)")
    parser.add_argument("--threads", type=count, default=usable_cores(), help="default: the cores of this process")
    parser.add_argument("--json", type=Path, help="write all rounds there as well")
    parser.add_argument("--write", action="store_true", help="write tables and chart into the document")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="default: docs/PERFORMANCE.md")
    return parser.parse_args()


def main() -> None:
    options = parse()
    rows = [engine for engine in engines(options.precisions) if not options.engines or engine.name in options.engines]
    for name in sorted({engine.name for engine in rows if missing(engine.name)}):
        print(f"{name} is left out: {', '.join(missing(name))} not installed")
    rows = [engine for engine in rows if not missing(engine.name)]
    for name, why in dict.fromkeys((f"{engine.name} in {engine.precision}", why_not(engine)) for engine in rows):
        if why:
            print(f"{name} is left out: {why}")
    rows = [engine for engine in rows if not why_not(engine)]
    title = f"{cpu_name()}, {options.threads} threads, {options.requests} requests an engine and turn."
    print(title)
    record: Dict[str, Rounds] = {}
    for model in options.models:
        record[model] = measure(model, options.image_size, rows, options)
        print(f"\n{model}\n" + markdown(HEAD, table(record[model])), flush=True)
        if options.write:
            write(model, record[model], title, options.document)
    if options.json:
        models = {model: {engine.label: found for engine, found in rounds.items()} for model, rounds in record.items()}
        options.json.write_text(json.dumps({"cpu": cpu_name(), "threads": options.threads, "models": models}, indent=1))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(run_script(main))
