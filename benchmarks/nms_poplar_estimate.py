#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Estimate what NMS takes on a Mk2 IPU: a model of Poplar runs the operator's graph and counts. Nothing is measured.

    python benchmarks/nms_poplar_estimate.py [--models d0 d1] [--batches 1 2] [--write docs/NMS_POPLAR.md]

The operator of NMS/nms.cpp is built and run in tests/poplar_model with all 1472 tiles. Every superstep costs its
slowest worker, the exchange of the tile that sends or receives most, and a synchronisation. Steps, bytes and loop
counts come from the run; what one step costs is an assumption, listed in the output. Whether a tile receives once what
its six workers all read, or once for each, only Poplar knows: there is a number for either.
"""

import argparse
import ctypes
import json
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    import numpy as np

    import hparams_config
    import nms_np
    from ipu_utils.base.console import run_script
    from ipu_utils.config.command_line import count
    from object_detection.box_list import iou
    from tf2.anchor_boxes import Anchors

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks" / "nms_poplar"
MODEL = ROOT / "tests" / "poplar_model"
TILES, CLOCK_HZ, ROWS = 1472, 1.325e9, 100
CANDIDATES, OBJECTS = 300, 120
IOU_THRESHOLD = 0.5

# (name, value, meaning); the order is that of EstimateSettings in estimate.cpp.
ASSUMPTIONS = [
    ("vertex", 30, "instructions to start a vertex and read its fields"),
    ("compare", 6, "instructions a number to find the greatest of some, as popc compiles the loop (PopLibs' figure)"),
    ("move", 2, "instructions to copy one number"),
    ("scan", 6, "instructions for a score that turns out not to be a candidate"),
    ("visit", 20, "instructions for an entry that is left: position, class, score, keeping the lists short"),
    ("overlap", 65, "instructions for a box: reading, area, IoU with the winner (a division among them), the decision"),
    ("sync_cycles", 200, "cycles to synchronise the tiles and start an exchange and the vertices, once a superstep"),
    ("loop_cycles", 100, "cycles to tell all tiles whether the loop goes on, once an iteration"),
]


class Settings(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int32) for name in ("is_half", "tiles", "batch", "anchors", "rows")],
        *[(name, ctypes.c_float) for name in ("iou_threshold", "score_threshold")],
        *[(name, ctypes.c_double) for name, _, _ in ASSUMPTIONS],
    ]


class Scene(NamedTuple):
    scores: np.ndarray  # float16 [B, N]
    boxes: np.ndarray  # float16 [B, N, 4]
    classes: np.ndarray  # int32 [B, N]
    score_threshold: float


class Estimate(NamedTuple):
    """Cycles of one call."""

    # name, executions, bytes (of one); compute, exchange, sync: cycles of all executions together; apart: the exchange
    # again, where each worker receives what it reads.
    stages: List[Dict]
    tile_bytes: int  # of the operator on the fullest tile, inputs left out
    tile_bytes_apart: int
    indices: np.ndarray

    def cycles(self, *kinds: str, loop: bool = False) -> float:
        stages = [s for s in self.stages if s["executions"] > 1 and s["name"] != "copy"] if loop else self.stages
        return sum(stage[kind] for stage in stages for kind in kinds or ("compute", "exchange", "sync"))

    @property
    def iterations(self) -> int:
        return next(stage["executions"] for stage in self.stages if stage["name"] == "loop test") - 1

    @property
    def milliseconds(self) -> float:
        return 1e3 * self.cycles() / CLOCK_HZ

    @property
    def milliseconds_apart(self) -> float:
        """The same where each worker receives for itself what the workers of its tile read together."""
        return 1e3 * self.cycles("compute", "apart", "sync") / CLOCK_HZ

    @property
    def supersteps(self) -> int:
        """Compute sets in an iteration."""
        return sum(s["executions"] > 1 and s["name"] not in ("copy", "loop test") for s in self.stages)


def anchor_boxes(model_name: str) -> np.ndarray:
    config = hparams_config.get_inference_config(model_name)
    names = ("min_level", "max_level", "num_scales", "aspect_ratios", "anchor_scale", "image_size")
    return Anchors(*(config[name] for name in names)).boxes


def few_candidates(anchors: np.ndarray, batch: int, seed: int = 0) -> Scene:
    """300 candidates an image in groups that lie where anchors see one object; they fill all 100 rows of the answer."""
    rng = np.random.RandomState(seed)
    scores = rng.uniform(0, 0.39, (batch, len(anchors)))
    boxes = np.repeat(anchors[None], batch, 0)
    classes = rng.randint(0, 90, (batch, len(anchors))).astype(np.int32)
    for image in range(batch):
        for seen in np.array_split(np.arange(CANDIDATES), OBJECTS):
            box = anchors[rng.randint(len(anchors))]
            nearest = np.argsort(-iou(box, anchors), kind="stable")[: len(seen)]
            scores[image, nearest] = rng.uniform(0.41, 0.99, len(seen))
            classes[image, nearest] = rng.randint(90)
    return Scene(scores.astype(np.float16), boxes.astype(np.float16), classes, 0.4)


def all_candidates(anchors: np.ndarray, batch: int, seed: int = 0) -> Scene:
    """Every anchor is a candidate, as with a score threshold of 0 when mean average precision is measured."""
    scene = few_candidates(anchors, batch, seed)
    return scene._replace(score_threshold=0.0)


def expected(scene: Scene, rows: int = ROWS) -> np.ndarray:
    """The anchors [B, rows] that the operator must find, by the reference in NumPy."""
    arrays = scene.scores, scene.boxes, scene.classes
    return nms_np.batched_nms(*arrays, "best-class", IOU_THRESHOLD, scene.score_threshold, rows).indices


def load_library():
    subprocess.run(["make", "--no-print-directory", "-C", str(HERE)], check=True, stdout=subprocess.DEVNULL)
    library = ctypes.CDLL(str(HERE / "build" / "estimate.so"))
    pointers = [ctypes.c_char_p, *[ctypes.c_void_p] * 4, ctypes.c_char_p]
    library.nms_poplar_estimate.argtypes = [ctypes.POINTER(Settings), *pointers, ctypes.c_size_t]
    return library


def estimate(library, scene: Scene, rows: int = ROWS, tiles: int = TILES, **assumptions) -> Estimate:
    """Build, run and count the operator on a scene; `assumptions` replace those listed."""
    batch, anchors = scene.scores.shape
    costs = [assumptions.get(name, value) for name, value, _ in ASSUMPTIONS]
    settings = Settings(True, tiles, batch, anchors, rows, IOU_THRESHOLD, scene.score_threshold, *costs)
    codelets = MODEL / "build" / "tf" / "codelet.gp"
    indices = np.empty((batch, rows), np.int32)
    text = ctypes.create_string_buffer(1 << 16)
    arrays = [array.ctypes.data for array in (scene.scores, scene.boxes, scene.classes, indices)]
    if library.nms_poplar_estimate(ctypes.byref(settings), str(codelets).encode(), *arrays, text, len(text)):
        raise RuntimeError(text.value.decode())
    found = json.loads(text.value.decode())
    tile_bytes = (found[name] - found["input_bytes"] for name in ("tile_bytes", "tile_bytes_apart"))
    return Estimate(found["stages"], *tile_bytes, indices)


def table(head: List[str], rows: List[List[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] + ["---:"] * (len(head) - 1), *rows]]
    return "\n".join(lines)


KINDS = ("compute", "exchange", "apart", "sync")


def per_iteration_table(name: str, found: Estimate) -> str:
    rows = []
    for stage in found.stages:
        if stage["executions"] > 1 and stage["name"] != "copy":
            cells = [f"{stage[kind] / stage['executions']:.0f}" for kind in KINDS]
            sent = "" if stage["name"] == "loop test" else f"{stage['bytes'] / 1024:.1f}"
            rows.append([stage["name"], *cells, sent])
    cells = [f"{found.cycles(kind, loop=True) / found.iterations:.0f}" for kind in KINDS]
    rows.append(["**an iteration**", *cells, ""])
    head = [
        f"{name}, cycles",
        "slowest worker",
        "exchange",
        "exchange, a read a worker",
        "synchronisation",
        "KiB exchanged",
    ]
    return table(head, rows)


OTHER_ASSUMPTIONS = {
    "as listed": {},
    "synchronisation half as dear": {"sync_cycles": 100, "loop_cycles": 50},
    "synchronisation twice as dear": {"sync_cycles": 400, "loop_cycles": 200},
    "starting a vertex twice as dear": {"vertex": 60},
    "boxes twice as dear": {"visit": 40, "overlap": 130},
    "comparing as fast as PopLibs' hand-written arg-max": {"compare": 3},
}


def sensitivity_table(library, name: str, scene: Scene) -> str:
    """Estimate one scene under other assumptions: which of them does the time hang on?"""
    rows = []
    for label, changes in OTHER_ASSUMPTIONS.items():
        found = estimate(library, scene, **changes)
        rows.append([label, f"{found.milliseconds:.2f}"])
        if not changes:
            rows.append(["each worker receives what it reads", f"{found.milliseconds_apart:.2f}"])
    return table([name, "ms"], rows)


def report(models: List[str], batches: List[int], progress=lambda text: None) -> str:
    """Return the tables as Markdown."""
    library, rows, first = load_library(), [], None
    for model in models:
        anchors = anchor_boxes(f"efficientdet-{model}")
        for batch in batches:
            progress(f"{model}, batch {batch}")
            few = few_candidates(anchors, batch)
            found = estimate(library, few)
            if not np.array_equal(found.indices, expected(few)):
                raise RuntimeError(f"{model}, batch {batch}: the operator does not find what nms_np.py finds")
            first = first or (f"{model.upper()}, batch {batch}", few, found)
            rows.append(
                [
                    f"{model.upper()}, {batch}",
                    str(len(anchors)),
                    str(found.supersteps),
                    f"{found.tile_bytes / 1024:.1f} / {found.tile_bytes_apart / 1024:.1f}",
                    f"{found.milliseconds:.2f}",
                    f"{found.milliseconds_apart:.2f}",
                    f"{estimate(library, all_candidates(anchors, batch)).milliseconds:.2f}",
                ]
            )
    head = [
        "estimate: model, batch", "anchors", "supersteps an iteration", "KiB on the fullest tile", "ms",
        "a read a worker, ms", "every anchor a candidate, ms",
    ]  # fmt: skip
    assumptions = table(["assumption", "value", "what it is"], [[n, str(v), text] for n, v, text in ASSUMPTIONS])
    name, few, found = first
    others = sensitivity_table(library, name, few)
    return "\n\n".join([table(head, rows), per_iteration_table(name, found), assumptions, others])


BEGIN, END = "<!-- estimate: begin -->", "<!-- estimate: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="+", default=["d0", "d1", "d2", "d3", "d4"], help="d0 to d7 (default d0 to d4)"
    )
    parser.add_argument("--batches", nargs="+", type=count, default=[1, 2, 3, 4], help="batch sizes (default 1 to 4)")
    parser.add_argument("--write", type=Path, metavar="FILE", help=f"replace what stands between {BEGIN} and {END}")
    options = parser.parse_args()
    text = report(options.models, options.batches, lambda done: print(done, file=sys.stderr))
    if options.write:
        before, rest = options.write.read_text().split(BEGIN)
        options.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")
    else:
        print(text)


if __name__ == "__main__":
    sys.exit(run_script(main))
