#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run for long, and see whether memory grows or latency drifts: single requests, or throughput.

python benchmarks/soak.py --seconds 3600 --mode latency --model-name efficientdet-d0
python benchmarks/soak.py --seconds 3600 --mode throughput --model-name efficientdet-d0

latency: EmbeddedModel.detect in this process on images of changing size, one request after the other. throughput: the
calls of ipu_inference.py, with its default engine. Prints the slope of the resident size over time with its 95 percent
interval, and the median latency of the first tenth of the run against that of the last.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, List, NamedTuple, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    import numpy as np

    import ipu_embedded_inference
    from ipu_utils.base.console import run_script
    from ipu_utils.base.errors import UserError
    from ipu_utils.config.command_line import count, model_name
    from ipu_utils.config.run_config import load_config

SETTLING_SHARE = 0.1  # of the run: caches and allocators fill up first; not part of the slope
SAMPLES = 600  # of the resident size over a run
SIZES = ((480, 640), (640, 480), (720, 1280), (333, 500))  # of images, in turn


class Trace(NamedTuple):
    """What a run left behind."""

    latencies: np.ndarray  # seconds, one a call
    times: np.ndarray  # seconds since the start at which `resident` was read
    resident: np.ndarray  # MiB


class Slope(NamedTuple):
    """Change of the resident size in MiB an hour, and the half width of its 95 percent interval."""

    per_hour: float
    half_width: float


def resident_mib() -> float:
    """Resident size of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def soak(
    call: Callable[[int], object],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    resident: Callable[[], float] = resident_mib,
) -> Trace:
    """Call until `seconds` are over, and read the resident size every `seconds / SAMPLES` or less often."""
    latencies: List[float] = []
    times: List[float] = []
    sizes: List[float] = []
    start = clock()
    now = start
    while now - start < seconds:
        call(len(latencies))
        end = clock()
        latencies.append(end - now)
        if not times or end - start >= times[-1] + seconds / SAMPLES:
            times.append(end - start)
            sizes.append(resident())
        now = clock()
    return Trace(np.array(latencies), np.array(times), np.array(sizes))


def slope_of(trace: Trace) -> Slope:
    """Fit a line through the resident sizes behind the settling time.

    The interval takes neighbouring samples for dependent: it is that of a tenth of them.
    """
    used = trace.times >= SETTLING_SHARE * trace.times[-1]
    times, sizes = trace.times[used] / 3600, trace.resident[used]
    if len(times) < 20:
        raise UserError(f"{len(times)} samples of memory are too few for a slope: take more --seconds.")
    centred = times - times.mean()
    spread = float(centred @ centred)
    slope = float(centred @ sizes) / spread
    residual = sizes - sizes.mean() - slope * centred
    independent = max(3, len(times) // 10)
    error = np.sqrt(float(residual @ residual) / (len(times) - 2) * (len(times) / independent) / spread)
    return Slope(slope, 1.96 * float(error))


def drift_of(latencies: np.ndarray) -> Tuple[float, float]:
    """Median latency in ms of the first and of the last tenth."""
    tenth = max(1, len(latencies) // 10)
    return 1e3 * float(np.median(latencies[:tenth])), 1e3 * float(np.median(latencies[-tenth:]))


def latency_call(model_name: str, folder: Path) -> Callable[[int], object]:
    """Compile an executable and return a request to it."""
    from ipu_utils.executable.runtime import EmbeddedModel

    arguments = ["--model-name", model_name, "--random-weights", "--exec-output-dir", str(folder), "--compile-only"]
    ipu_embedded_inference.main(["--device", "cpu", *arguments])
    model = EmbeddedModel.load(next(folder.glob("*.effdet")))
    generator = np.random.RandomState(0)
    images = [generator.randint(0, 256, (*size, 3), np.uint8) for size in SIZES]
    return lambda number: model.detect(images[number % len(images)])


def throughput_call(model_name: str, batches: int) -> Callable[[int], object]:
    """Prepare what ipu_inference.py runs and return one call of `batches` batches."""
    from ipu_utils.backends.open import choose_engine, open_backend

    arguments = ["--device", "cpu", "--model-name", model_name, "--random-weights", "--benchmark-repeats", str(batches)]
    config = choose_engine(load_config(arguments))
    with tempfile.TemporaryDirectory() as folder:  # what is loaded stays mapped
        backend = open_backend(config, Path(folder))
        backend.open_batches()
        backend.prepare()
        loop = backend.loop()

    def run(number: int) -> None:
        loop.call()
        loop.stages.clear()  # a run of the script ends before its samples of stages count

    return run


def report(trace: Trace, unit: str) -> str:
    """Say what was found."""
    slope, (first, last) = slope_of(trace), drift_of(trace.latencies)
    return "\n".join(
        [
            f"{len(trace.latencies)} {unit} in {trace.times[-1]:.0f} s",
            f"resident: {trace.resident[0]:.1f} MiB at first, {trace.resident[-1]:.1f} MiB in the end, slope "
            f"{slope.per_hour:+.2f} MiB an hour (95% interval {slope.per_hour - slope.half_width:+.2f} to "
            f"{slope.per_hour + slope.half_width:+.2f}), first {SETTLING_SHARE:.0%} of the run left out",
            f"latency: median {first:.3f} ms in the first tenth, {last:.3f} ms in the last ({last / first - 1:+.1%})",
        ]
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--mode", choices=("latency", "throughput"), default="latency")
    parser.add_argument("--model-name", type=model_name, default="efficientdet-d0")
    parser.add_argument("--batches", type=count, default=4, help="throughput: batches in a call")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="efficientdet-") as folder:
        if given.mode == "latency":
            call, unit = latency_call(given.model_name, Path(folder)), "requests, one at a time"
        else:
            call, unit = throughput_call(given.model_name, given.batches), f"calls of {given.batches} batches"
        call(0)
        print(f"{given.mode}: {given.model_name}, random weights")
        print(report(soak(call, given.seconds), unit))


if __name__ == "__main__":
    sys.exit(run_script(main))
