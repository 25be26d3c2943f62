#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compare the latency of engines at batch 1: one run, interleaved rounds, a process for each engine and round.

    python benchmarks/latency.py --models efficientdet-d0 efficientdet-d1 --rounds 5

Every engine runs the same calibrated random weights on distinct inputs. Span `network`: an image in memory to the ten
output maps in memory; the other engines take it as normalised float32, ours as uint8, so ours normalises inside the
span. Span `device`, ours only: uint8 image to detections. `ratio` is to OpenVINO's plain conversion at the same
precision, `cpu ms` the processor time of all threads, which tells engines apart on a busy machine too. Engines that
are not installed are left out and named.

  ours          the executable of ipu_embedded_inference.py
  openvino      OpenVINO on the network as it is frozen from Keras, converted and compiled as its documentation says
  tensorflow    TensorFlow on the same frozen graph
  onnxruntime   ONNX Runtime, after tf2onnx
  litert        LiteRT (XNNPACK), after TensorFlow's converter
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ipu_utils import process
from ipu_utils.devices.detect import cpu_name, usable_cores
from ipu_utils.latency import percentile

INPUTS = 16  # distinct images
WARMUP = 5


class Engine(NamedTuple):
    """One row of the table."""

    name: str
    precision: str  # "float32" or "bfloat16"
    span: str  # "network" or "device"

    @property
    def label(self) -> str:
        return f"{self.name} {self.span}, {self.precision}"


REFERENCE = "openvino"
PACKAGES = {
    "openvino": ("openvino",),
    "ours": ("openvino",),
    "onnxruntime": ("onnxruntime", "tf2onnx"),
    "litert": ("ai_edge_litert",),
}


def engines(precisions: List[str]) -> List[Engine]:
    """All rows, in the order of the table."""
    found = []
    for precision in precisions:
        found += [Engine("ours", precision, "device"), Engine("ours", precision, "network")]
        found.append(Engine("openvino", precision, "network"))
    others = ("tensorflow", "onnxruntime", "litert") if "float32" in precisions else ()
    return found + [Engine(name, "float32", "network") for name in others]


def missing(engine: str) -> List[str]:
    """Packages that an engine needs and that are not installed."""
    return [package for package in PACKAGES.get(engine, ()) if importlib.util.find_spec(package) is None]


# Making what the engines load: one process a model, with TensorFlow.


def prepare(model_name: str, precisions: List[str], folder: Path) -> None:
    """Write the network in every engine's form, and the inputs."""
    import dataclasses

    import utils
    from ipu_utils.config import NmsConfig, Precision, load_config
    from ipu_utils.devices import get_device
    from ipu_utils.embedded import plan
    from ipu_utils.embedded.build import compile_network
    from ipu_utils.embedded.executable import write_executable
    from ipu_utils.embedded.host import wanted
    from ipu_utils.graph.freeze import freeze
    from ipu_utils.image_sources import NoiseImages
    from ipu_utils.keras2 import tf
    from ipu_utils.model import build_network, prepare
    from ipu_utils.tensorflow_pipeline import TensorFlowPipeline

    arguments = ["--config", "efficientdet-low-latency", "--model-name", model_name, "--random-weights"]
    config = load_config(arguments, "embedded", choose_device=lambda name: "cpu")
    hparams = plan.hparams_of(config)
    height, width = utils.parse_image_size(hparams.image_size)
    device = get_device("cpu")
    model = prepare(config, hparams, device)
    pipeline = TensorFlowPipeline(model.network, hparams, NmsConfig(onchip_nms=False), "float32", device)
    for precision in precisions:
        chosen = dataclasses.replace(config.model, model_precision=Precision(precision))
        header = plan.with_weights(wanted(dataclasses.replace(config, model=chosen)), model.weights, True)
        write_executable(folder / f"{precision}.effdet", header, compile_network(pipeline.heads, header))

    # As published: tf.nn.swish, batch norms where they are, nothing folded.
    network = build_network(hparams, activation=tf.nn.swish)
    network.set_weights(model.network.get_weights())

    def step(images):
        class_outputs, box_outputs = network(images, training=False)
        return (*class_outputs, *box_outputs)

    signature = [tf.TensorSpec((1, height, width, 3), tf.float32, name="images")]
    frozen = freeze(step, signature)
    content = frozen.graph_def.SerializeToString()
    (folder / "frozen.pb").write_bytes(content)
    (folder / "frozen.json").write_text(json.dumps({"inputs": frozen.inputs, "outputs": frozen.outputs}))
    if not missing("openvino"):
        from ipu_utils.embedded.runtime import import_openvino

        openvino = import_openvino()
        openvino.save_model(openvino.convert_model(folder / "frozen.pb"), folder / "plain.xml", compress_to_fp16=False)
    if not missing("litert"):
        concrete = tf.function(step, input_signature=signature).get_concrete_function()
        (folder / "network.tflite").write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert())
    if not missing("onnxruntime"):
        import tf2onnx

        onnx, _ = tf2onnx.convert.from_graph_def(
            frozen.graph_def, input_names=list(frozen.inputs), output_names=list(frozen.outputs), opset=17
        )
        (folder / "network.onnx").write_bytes(onnx.SerializeToString())
    noise = NoiseImages(INPUTS, (height, width), seed=0)
    images = np.stack([noise.original(number) for number in range(INPUTS)])
    mean, stddev = np.array(hparams.mean_rgb, np.float32), np.array(hparams.stddev_rgb, np.float32)
    np.save(folder / "uint8.npy", images)
    np.save(folder / "float32.npy", (images - mean) / stddev)


# Running one engine: a process of its own.


def _ours(folder: Path, engine: Engine, threads: int) -> Callable[[np.ndarray], Any]:
    from ipu_utils.embedded.runtime import EmbeddedModel

    worker = EmbeddedModel.load(folder / f"{engine.precision}.effdet", threads).worker()
    detects = engine.span == "device"

    def call(image: np.ndarray) -> Any:
        worker.load(image, 1.0)
        worker.run()
        return worker.detections() if detects else worker.class_outputs

    return call


def _openvino(folder: Path, engine: Engine, threads: int) -> Callable[[np.ndarray], Any]:
    from ipu_utils.embedded.runtime import import_openvino, properties

    openvino = import_openvino()
    model = openvino.Core().read_model(folder / "plain.xml")
    request = openvino.Core().compile_model(model, "CPU", properties(engine.precision, threads)).create_infer_request()

    def call(image: np.ndarray) -> Any:
        # Shared on both sides: no copy that a careful user would not make.
        request.set_input_tensor(openvino.Tensor(image, shared_memory=True))
        request.infer()
        return request.get_output_tensor(0).data

    return call


def _tensorflow(folder: Path, engine: Engine, threads: int) -> Callable[[np.ndarray], Any]:
    from ipu_utils.graph.freeze import FrozenStep, as_function
    from ipu_utils.keras2 import tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(max(2, threads))
    graph_def = tf.compat.v1.GraphDef.FromString((folder / "frozen.pb").read_bytes())
    names = json.loads((folder / "frozen.json").read_text())
    function = as_function(FrozenStep(graph_def, tuple(names["inputs"]), tuple(names["outputs"])))
    return lambda image: [output.numpy() for output in function(tf.constant(image))]


def _onnxruntime(folder: Path, engine: Engine, threads: int) -> Callable[[np.ndarray], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(folder / "network.onnx"), sess_options=options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})


def _litert(folder: Path, engine: Engine, threads: int) -> Callable[[np.ndarray], Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(folder / "network.tflite"), num_threads=threads)
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def call(image: np.ndarray) -> Any:
        interpreter.set_tensor(place, image)
        interpreter.invoke()
        return [interpreter.tensor(index)() for index in outputs]  # views, not copies

    return call


OPEN = {
    "ours": _ours,
    "openvino": _openvino,
    "tensorflow": _tensorflow,
    "onnxruntime": _onnxruntime,
    "litert": _litert,
}


def run_one(engine: Engine, folder: Path, requests: int, threads: int) -> Dict[str, float]:
    """Load an engine, warm it up and time requests."""
    images = np.load(folder / ("uint8.npy" if engine.name == "ours" else "float32.npy"), mmap_mode="r")
    images = [np.array(image)[None] for image in images]
    call = OPEN[engine.name](folder, engine, threads)
    call(images[0])
    first = process.seconds_since_start()
    for number in range(WARMUP):
        call(images[number % INPUTS])
    milliseconds, processor = [], []
    for number in range(requests):
        image = images[number % INPUTS]
        start, start_cpu = time.perf_counter(), time.process_time()
        call(image)
        milliseconds.append(1e3 * (time.perf_counter() - start))
        processor.append(1e3 * (time.process_time() - start_cpu))
    peak = process.peak_memory_mib()
    return {
        "p50": percentile(milliseconds, 50),
        "p90": percentile(milliseconds, 90),
        "cpu": percentile(processor, 50),
        "first_result_s": first,
        "peak_mib": 0.0 if peak is None else peak,
    }


# The run: preparing, rounds, table.


def child(arguments: List[str]) -> str:
    """Run this file in a process of its own and return the last line of its output."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def table(model_name: str, rounds: Dict[Engine, List[Dict[str, float]]]) -> str:
    """Medians over rounds, and ratios to the plain conversion at the same precision."""
    medians = {engine: statistics.median(result["p50"] for result in found) for engine, found in rounds.items()}
    base = {engine.precision: ms for engine, ms in medians.items() if engine.name == REFERENCE}
    lines = [
        f"{model_name}, batch 1, median of {len(next(iter(rounds.values())))} rounds",
        f"{'engine':32} {'p50 ms':>8} {'rounds':>17} {'p90 ms':>8} {'ratio':>6} {'cpu ms':>8} {'first s':>8} "
        f"{'MiB':>6}",
    ]
    for engine, found in rounds.items():
        each = [result["p50"] for result in found]
        ratio = medians[engine] / base[engine.precision] if engine.precision in base else float("nan")
        p90, cpu, first, peak = (
            statistics.median(result[key] for result in found) for key in ("p90", "cpu", "first_result_s", "peak_mib")
        )
        spread = f"{min(each):.2f}..{max(each):.2f}"
        lines.append(
            f"{engine.label:32} {medians[engine]:8.2f} {spread:>17} {p90:8.2f} {ratio:6.2f} {cpu:8.2f} {first:8.2f} "
            f"{peak:6.0f}"
        )
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[f"efficientdet-d{size}" for size in range(4)])
    parser.add_argument("--precisions", nargs="+", default=["float32"], choices=("float32", "bfloat16"))
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which every engine runs once (default 5)")
    parser.add_argument("--requests", type=int, default=40, help="requests an engine serves in a round (default 40)")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="default: the cores of this process")
    parser.add_argument("--json", type=Path, help="write all rounds there as well")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.child:
        task, folder, *rest = options.child
        if task == "prepare":
            prepare(rest[0], options.precisions, Path(folder))
        else:
            print(json.dumps(run_one(Engine(*rest), Path(folder), options.requests, options.threads)))
        return
    rows = engines(options.precisions)
    for name in sorted({engine.name for engine in rows if missing(engine.name)}):
        print(f"{name} is left out: {', '.join(missing(name))} not installed")
    rows = [engine for engine in rows if not missing(engine.name)]
    print(f"{cpu_name()}, {options.threads} threads, {options.requests} requests an engine and round")
    record = {}
    for model_name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            common = ["--precisions", *options.precisions, "--requests", str(options.requests)]
            common += ["--threads", str(options.threads), "--child"]
            child([*common, "prepare", folder, model_name])
            found: Dict[Engine, List[Dict[str, float]]] = {engine: [] for engine in rows}
            for number in range(options.rounds):
                # Turned by one each round, so that no engine always runs behind the same other one.
                for engine in rows[number % len(rows) :] + rows[: number % len(rows)]:
                    found[engine].append(json.loads(child([*common, "run", folder, *engine])))
        print("\n" + table(model_name, found), flush=True)
        record[model_name] = {engine.label: results for engine, results in found.items()}
    if options.json:
        options.json.write_text(json.dumps({"cpu": cpu_name(), "threads": options.threads, "models": record}, indent=1))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
