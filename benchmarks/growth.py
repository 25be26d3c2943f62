#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What work costs as it grows: models, batch sizes, image sizes, candidates and threads, with the executable on a CPU.

    python benchmarks/growth.py --axes models batch size candidates threads --rounds 3 --write

Each case runs in processes of its own, in interleaved rounds; times are medians. `floor` is what physics allows: the
multiply-adds of the convolutions at the speed of one large matrix product in OpenVINO, of the same precision and number
of threads, measured in the same run; for post-processing, reading the outputs of the heads once at the speed at which
one thread sums memory.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    import numpy as np
    from publish import DOCUMENT, ROOT, child, markdown, parse_numbers, replace_section, tell, write_chart

    from ipu_utils.base import process
    from ipu_utils.base.console import run_script
    from ipu_utils.base.hardware import cpu_name, usable_cores
    from ipu_utils.base.openvino_api import check_precision
    from ipu_utils.config.command_line import count, model_name
    from ipu_utils.config.model_options import MODEL_NAMES
    from ipu_utils.report import charts

AXES = ("models", "batch", "size", "candidates", "threads")
HEAD = ("case", "ms an image", "network", "floor", "post-processing", "floor", "G multiply-adds", "ms a G", "MiB")
PRODUCT = 2048  # rows and columns of the matrices that measure the peak
WARMUP = 3


class Case(NamedTuple):
    """One row of a table."""

    axis: str
    label: str
    model: str
    size: str  # as of --image-size, "" for the model's own
    batch: int
    candidates: int
    threads: int

    def options(self) -> List[str]:
        """Options of the embedded script; threads are chosen when it is loaded."""
        size = ["--image-size", self.size] if self.size else []
        batch = ["--micro-batch-size", str(self.batch), "--random-candidates", str(self.candidates)]
        return ["--device", "cpu", "--model-name", self.model, "--random-weights", *size, *batch]


def cases(options: argparse.Namespace) -> List[Case]:
    """All rows, in the order of the tables."""
    first, size = options.models[0], options.image_size
    axes: Dict[str, List[Case]] = {
        "models": [Case("models", name, name, size, 1, 300, options.threads) for name in options.models],
        "batch": [Case("batch", f"batch {n}", first, size, n, 300, options.threads) for n in options.batches],
        "size": [Case("size", f"{n}x{n}", first, str(n), 1, 300, options.threads) for n in options.sizes],
        "candidates": [
            Case("candidates", f"{n} candidates", first, size, 1, n, options.threads) for n in options.candidates
        ],
        "threads": [
            Case("threads", f"{n} threads", first, size, 1, 300, n) for n in range(1, options.threads + 1)
        ],
    }  # fmt: skip
    return [case for axis in options.axes for case in axes[axis]]


# What children do.


def count_multiply_adds(case: Case) -> float:
    """Multiply-adds of all convolutions for one image, in thousands of millions, from the shapes of the graph."""
    from ipu_utils.base.keras2 import tf
    from ipu_utils.config.run_config import load_config
    from ipu_utils.config.run_hparams import hparams_of
    from ipu_utils.model.network import build_network

    config = load_config(case.options(), "embedded", choose_device=lambda name: "cpu")
    hparams = hparams_of(config.model, config.data.image_size, config.nms.score_preset)
    network = build_network(hparams)
    image = tf.TensorSpec((1, *hparams.image_size, 3), tf.float32)
    graph = tf.function(lambda images: network(images, training=False)).get_concrete_function(image).graph
    total = 0
    for operation in graph.get_operations():
        if operation.type in ("Conv2D", "DepthwiseConv2dNative"):
            kernel = operation.inputs[1].shape.as_list()
            # Each output channel of a depthwise convolution reads one input channel.
            read = kernel[0] * kernel[1] * (kernel[2] if operation.type == "Conv2D" else 1)
            total += int(np.prod(operation.outputs[0].shape.as_list())) * read
    return total / 1e9


def median_ms(call: Callable[[], Any], count: int) -> float:
    """Median time of a call in milliseconds, after a warm-up."""
    seconds = []
    for number in range(WARMUP + count):
        start = time.perf_counter()
        call()
        if number >= WARMUP:
            seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)


def run(case: Case, path: str, requests: int) -> Dict[str, float]:
    """Time an executable; milliseconds an image."""
    from ipu_utils.executable.runtime import EmbeddedModel

    model = EmbeddedModel.load(path, case.threads)
    worker = model.worker()
    images = np.random.RandomState(0).randint(0, 256, (case.batch, *model.header.image_size, 3)).astype(np.uint8)
    worker.load(images, 1.0)
    network, post = [], []
    for number in range(WARMUP + requests):
        start = time.perf_counter()
        worker.run()
        middle = time.perf_counter()
        worker.detections()
        if number >= WARMUP:
            network.append(middle - start)
            post.append(time.perf_counter() - middle)
    size = sum(output.nbytes for output in worker.class_outputs + worker.box_outputs)
    memory = np.ones(size // 8)
    return {
        "network": 1e3 * statistics.median(network) / case.batch,
        "post": 1e3 * statistics.median(post) / case.batch,
        "reading": median_ms(memory.sum, requests) / case.batch,
        "peak_mib": process.peak_memory_mib() or 0.0,
    }


def product_ms(threads: int, precision: str, requests: int) -> float:
    """Milliseconds that a thousand million multiply-adds take in one large matrix product."""
    from ipu_utils.base.openvino_api import import_openvino, properties

    openvino = import_openvino()
    from openvino import opset13

    left = opset13.parameter([PRODUCT, PRODUCT], np.float32)
    right = opset13.constant(np.random.RandomState(0).rand(PRODUCT, PRODUCT).astype(np.float32))
    model = openvino.Model([opset13.matmul(left, right, False, False)], [left])
    request = openvino.Core().compile_model(model, "CPU", properties(precision, threads)).create_infer_request()
    request.set_input_tensor(openvino.Tensor(np.ones((PRODUCT, PRODUCT), np.float32)))
    return median_ms(request.infer, requests) / (PRODUCT**3 / 1e9)


# The run: compiling, rounds, tables.


def ask(*arguments: Any) -> Any:
    """Run this file in a process of its own."""
    return json.loads(child(Path(__file__).resolve(), ["--child", *map(str, arguments)]))


def compile_case(case: Case, folder: Path, precision: str) -> str:
    """Compile a case; the path of its executable."""
    word = "float" if precision == "float32" else precision
    options = [*case.options(), "--model-precision", word, "--compile-only", "--exec-output-dir", str(folder)]
    child(ROOT / "ipu_embedded_inference.py", options)
    return str(next(folder.glob("*.effdet")))


def table(rows: Dict[Case, List[Dict[str, float]]], facts: Dict[Case, Dict[str, float]]) -> List[List[str]]:
    """Medians over the rounds, and floors."""
    lines = []
    for case, found in rows.items():
        middle = {key: statistics.median(result[key] for result in found) for key in found[0]}
        work, peak = facts[case]["work"], facts[case]["product"]
        total = middle["network"] + middle["post"]
        numbers = (total, middle["network"], work * peak, middle["post"], middle["reading"], work, total / work)
        lines.append([case.label, *(f"{number:.2f}" for number in numbers), f"{middle['peak_mib']:.0f}"])
    return lines


def chart(axis: str, lines: Sequence[Sequence[str]]) -> str:
    """Models by their work, everything else as bars."""
    if axis == "models":
        rows = [(line[0].replace("efficientdet-", ""), float(line[6]), float(line[7])) for line in lines]
        return charts.points(rows, "G multiply-adds", "ms a G", "Time for a thousand million multiply-adds")
    bars = [(line[0], float(line[1]), f"{line[1]} ms, floor {float(line[3]) + float(line[5]):.2f}") for line in lines]
    return charts.bars(bars, f"Milliseconds an image by {axis}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument(
        "--models", nargs="+", type=model_name, default=list(MODEL_NAMES), help="the first is the one of the other axes"
    )
    parser.add_argument("--image-size", default="", help="default: the model's own")
    parser.add_argument("--batches", type=parse_numbers, default=[1, 2, 4, 8, 16], help="comma list")
    parser.add_argument("--sizes", type=parse_numbers, default=[128, 256, 384, 512, 768, 1024], help="comma list")
    parser.add_argument("--candidates", type=parse_numbers, default=[0, 100, 300, 1000, 5000], help="comma list")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--requests", type=count, default=15, help="requests of a case in a round (default 15)")
    parser.add_argument("--threads", type=count, default=usable_cores(), help="default: the cores of this process")
    parser.add_argument("--write", action="store_true", help="write tables and charts into the document")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="default: docs/PERFORMANCE.md")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def answer(task: str, *rest: str) -> Any:
    """What a child was asked for."""
    if task == "product":
        return product_ms(int(rest[0]), rest[1], int(rest[2]))
    case = Case(*json.loads(rest[0]))
    return count_multiply_adds(case) if task == "work" else run(case, rest[1], int(rest[2]))


def main() -> None:
    options = parse()
    if options.child:
        print(json.dumps(answer(*options.child)))
        return
    check_precision(options.precision)
    rows = cases(options)
    print(f"{cpu_name()}, {options.precision}, {options.requests} requests a case and round", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        files, facts = {}, {}
        for number, case in enumerate(rows):
            tell(f"compiling {number + 1} of {len(rows)}: {case.label}")
            files[case] = compile_case(case, Path(temporary, str(number)), options.precision)
            product = ask("product", case.threads, options.precision, options.requests)
            facts[case] = {"work": ask("work", json.dumps(case)), "product": product}
        found: Dict[Case, List[Dict[str, float]]] = {case: [] for case in rows}
        for turn in range(options.rounds):
            for case in rows:
                tell(f"round {turn + 1} of {options.rounds}: {case.label}")
                found[case].append(ask("run", json.dumps(case), files[case], options.requests))
    how = f"{cpu_name()}, {options.precision}, medians of {options.rounds} rounds of {options.requests} requests."
    for axis in options.axes:
        lines = table({case: found[case] for case in rows if case.axis == axis}, facts)
        print(f"\n{axis}\n{markdown(HEAD, lines)}", flush=True)
        if options.write:
            # A section each, so that one axis can be measured again without the others.
            text = f"By {axis}; {how}\n\n{markdown(HEAD, lines)}\n\n![By {axis}](pictures/growth-{axis}.svg)"
            replace_section(options.document, f"growth-{axis}", text)
            write_chart(options.document.parent / "pictures" / f"growth-{axis}.svg", chart(axis, lines))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(run_script(main))
