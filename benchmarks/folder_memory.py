#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does a run over many images take more memory than one over few? Peak resident size over folders of two sizes.

    python benchmarks/folder_memory.py --counts 200 2000

Each run is a process of its own: the throughput script with random weights, which reads every image once and writes
annotated pictures, detections.json, COCO results and a contact sheet. Exit status 1 when the peak over the largest
folder is more than --limit percent above that over the smallest.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import List, NamedTuple, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    import numpy as np
    from PIL import Image

    from ipu_utils.base.console import run_script
    from ipu_utils.config.command_line import count, model_name

ROOT = Path(__file__).resolve().parent.parent
DIFFERENT = 16  # pictures that are drawn; the files repeat them
SIZE = (640, 480)  # (width, height) of a picture


class Run(NamedTuple):
    """What one process took."""

    status: int
    peak_mib: float
    seconds: float


def make_folder(folder: Path, count: int) -> None:
    """Write so many JPEGs of blurred noise, which compress as photographs do."""
    rng = np.random.RandomState(0)
    folder.mkdir()
    pictures = [Image.fromarray(rng.randint(0, 256, (60, 80, 3), np.uint8)).resize(SIZE, Image.BICUBIC)
                for _ in range(DIFFERENT)]  # fmt: skip
    for number in range(count):
        pictures[number % DIFFERENT].save(str(folder / f"{number:012d}.jpg"), quality=90)


def run(folder: Path, outputs: Path, options: argparse.Namespace) -> Run:
    """Run the throughput script over a folder and return its peak resident size."""
    command = [sys.executable, str(ROOT / "ipu_inference.py"), "--model-name", options.model_name, "--device", "cpu",
               "--random-weights", "--image-size", str(options.image_size), "--num-repeats", "2",
               "--benchmark-repeats", "20", "--micro-batch-size", "1", "--dataset-type", "image-directory",
               "--image-path", str(folder), "--output-predictions", "--output-dir", str(outputs),
               "--coco-results", str(outputs / "coco.json"), "--contact-sheet", str(outputs / "sheet.jpg")]  # fmt: skip
    start = time.perf_counter()
    log = os.open(str(outputs.parent / f"{outputs.name}.log"), os.O_WRONLY | os.O_CREAT, 0o644)
    actions: List[Tuple] = [(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
    process = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(process, 0)
    os.close(log)
    scale = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss: bytes there, KiB elsewhere
    return Run(status, usage.ru_maxrss / scale, time.perf_counter() - start)


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=count, nargs="+", default=[200, 2000], help="images (default: 200 2000)")
    parser.add_argument("--model-name", type=model_name, default="efficientdet-lite0")
    parser.add_argument("--image-size", type=count, default=320)
    parser.add_argument("--rounds", type=count, default=1, help="runs of each; the largest peak counts (default: 1)")
    parser.add_argument("--limit", type=float, default=5, metavar="PERCENT", help="between them, at most (default: 5)")
    options = parser.parse_args()
    peaks = []
    print(f"{options.model_name} at {options.image_size}, {SIZE[0]}x{SIZE[1]} JPEGs")
    print(f"{'images':>8} {'peak MiB':>9} {'s':>7}")
    with tempfile.TemporaryDirectory() as room:
        for images in options.counts:
            folder = Path(room, f"images-{images}")
            make_folder(folder, images)
            rounds = []
            for number in range(options.rounds):
                outputs = Path(room, f"outputs-{images}-{number}")
                rounds.append(run(folder, outputs, options))
                if rounds[-1].status:
                    print(Path(room, f"{outputs.name}.log").read_text(errors="replace"), file=sys.stderr)
                    return 1
            peaks.append(max(one.peak_mib for one in rounds))
            print(f"{images:8} {peaks[-1]:9.1f} {sum(one.seconds for one in rounds) / len(rounds):7.1f}", flush=True)
    more = 100 * (peaks[-1] / peaks[0] - 1)
    print(f"the last is {more:+.1f} percent of the first's peak away")
    return int(more > options.limit)


if __name__ == "__main__":
    sys.exit(run_script(main))
