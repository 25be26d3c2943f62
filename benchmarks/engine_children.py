# SPDX-License-Identifier: Apache-2.0
"""Engines that compute EfficientDet, each in a process of its own: what they load, how they run, how they are timed.

Every engine runs the same calibrated random weights on distinct inputs. Spans:

  network     an image in memory to the ten output maps in memory; ours takes uint8 and normalises inside the span, as
              `keras` does, the others take normalised float32
  detections  uint8 image to detections in memory
  throughput  as detections, batches side by side; the time is that of the run over its images

Engines:

  ours-ENGINE   the executable of ipu_embedded_inference.py --engine ENGINE, or with span `throughput` what
                ipu_inference.py does with it
  openvino      OpenVINO on the network as it is frozen from Keras, converted as its documentation says
  keras         the Keras network in a plain tf.function, as AutoML's code runs it; detections: with AutoML's global NMS
  tensorflow    TensorFlow on the frozen graph
  onnxruntime   ONNX Runtime, after tf2onnx
  litert        LiteRT (XNNPACK), after TensorFlow's converter; int8: full integer, by its guide, float32 at both ends
  effdet        PyTorch's EfficientDet (package effdet), with weights of its own
"""

import contextlib
import importlib.util
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    import numpy as np

    from ipu_utils.base import process
    from ipu_utils.base.errors import UserError
    from ipu_utils.base.openvino_api import check_precision
    from ipu_utils.measure.requests import percentile

INPUTS = 16  # distinct images
WARMUP = 5
SIDE_BY_SIDE = 20  # images of a call of the throughput loop, which begins and ends with idle streams


class Engine(NamedTuple):
    """One row of the table."""

    name: str
    precision: str  # "float32", "bfloat16" or "int8"
    span: str  # "network", "detections" or "throughput"

    @property
    def label(self) -> str:
        return f"{self.name} {self.span}, {self.precision}"


REFERENCE = "openvino"
PACKAGES = {
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "tf2onnx"),
    "litert": ("ai_edge_litert",),
    "effdet": ("effdet", "torch"),
}
OURS = {"float32": ("openvino", "litert", "onnxruntime", "tensorflow"), "bfloat16": ("openvino",), "int8": ("litert",)}
PLAIN = {
    "float32": ("openvino", "keras", "tensorflow", "onnxruntime", "litert", "effdet"),
    "bfloat16": ("openvino",),
    "int8": ("litert",),
}
CALIBRATION_IMAGES = 64


def engines(precisions: Sequence[str]) -> List[Engine]:
    """All rows, in the order of the table."""
    found = []
    for precision in precisions:
        for word in OURS[precision]:
            found += [Engine(f"ours-{word}", precision, span) for span in ("throughput", "detections", "network")]
        found += [Engine(name, precision, "network") for name in PLAIN[precision]]
    return found + ([Engine("keras", "float32", "detections")] if "float32" in precisions else [])


def missing(engine: str) -> List[str]:
    """Packages that an engine needs and that are not installed."""
    packages = PACKAGES.get(engine.replace("ours-", ""), ())
    return [package for package in packages if importlib.util.find_spec(package) is None]


def why_not(engine: Engine) -> str:
    """Why an engine that is installed cannot compute in a precision on this CPU; empty where it can."""
    if engine.name.replace("ours-", "") != "openvino" or missing(engine.name):
        return ""
    try:
        check_precision(engine.precision)
    except UserError as error:
        return str(error).partition(":")[0]
    return ""


# Making what the engines load: one process a model, with TensorFlow.


def prepare(model_name: str, precisions: Sequence[str], folder: Path, image_size: Optional[str] = None) -> None:
    """Write the network in every engine's form, and the inputs."""
    import ipu_embedded_inference
    import utils
    from ipu_utils.base import hardware
    from ipu_utils.base.keras2 import tf
    from ipu_utils.config.normalisation import normalisation_of
    from ipu_utils.config.run_config import load_config
    from ipu_utils.data.sources import NoiseImages
    from ipu_utils.data.synthetic import SyntheticImages
    from ipu_utils.executable import cache
    from ipu_utils.graph.freeze import freeze
    from ipu_utils.model.host import Host
    from ipu_utils.model.network import build_network, prepare

    arguments = ["--config", "efficientdet-low-latency", "--model-name", model_name, "--random-weights"]
    arguments += ["--image-size", image_size] if image_size else []
    config = load_config(arguments, "embedded", choose_device=lambda name: "cpu")
    hparams = cache.hparams_of(config)
    height, width = utils.parse_image_size(hparams.image_size)
    (folder / "model.json").write_text(json.dumps([model_name, "", [height, width]]))
    ours = {(row.name, row.precision) for row in engines(precisions) if _is_ours(row.name) and not why_not(row)}
    for engine in sorted(ours):
        if not missing(engine[0]):
            place = folder / "-".join(engine)
            chosen = ["--engine", engine[0].replace("ours-", ""), "--model-precision", engine[1]]
            kept = ["--device", "cpu", "--compile-only", "--exec-output-dir", str(place), "--quiet"]
            with contextlib.redirect_stdout(sys.stderr):
                ipu_embedded_inference.main([*arguments, *chosen, *kept])
    model = prepare(config, hparams, Host("cpu", hardware.usable_cores()))

    # As published: tf.nn.swish, batch norms where they are, nothing folded.
    network = build_network(hparams, activation=tf.nn.swish)
    network.set_weights(model.network.get_weights())
    np.savez(str(folder / "weights.npz"), *network.get_weights())

    def step(images):
        class_outputs, box_outputs = network(images, training=False)
        return (*class_outputs, *box_outputs)

    signature = [tf.TensorSpec((1, height, width, 3), tf.float32, name="images")]
    frozen = freeze(step, signature)
    content = frozen.graph_def.SerializeToString()
    (folder / "frozen.pb").write_bytes(content)
    (folder / "frozen.json").write_text(json.dumps({"inputs": frozen.inputs, "outputs": frozen.outputs}))
    if not missing("openvino"):
        from ipu_utils.base.openvino_api import import_openvino

        openvino = import_openvino()
        openvino.save_model(openvino.convert_model(folder / "frozen.pb"), folder / "plain.xml", compress_to_fp16=False)
    if not missing("litert"):
        concrete = tf.function(step, input_signature=signature).get_concrete_function()
        calibration, (mean, stddev) = SyntheticImages(CALIBRATION_IMAGES, (height, width)), normalisation_of(hparams)
        for precision in {"float32", "int8"} & {*precisions}:
            converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
            if precision == "int8":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.representative_dataset = lambda: (
                    [np.float32((calibration.original(number)[None] - np.array(mean)) / np.array(stddev))]
                    for number in range(CALIBRATION_IMAGES)
                )
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            (folder / f"{precision}.tflite").write_bytes(converter.convert())
    if not missing("onnxruntime"):
        import tf2onnx

        onnx, _ = tf2onnx.convert.from_graph_def(
            frozen.graph_def, input_names=list(frozen.inputs), output_names=list(frozen.outputs), opset=17
        )
        (folder / "network.onnx").write_bytes(onnx.SerializeToString())
    noise = NoiseImages(INPUTS, (height, width), seed=0)
    images = np.stack([noise.original(number) for number in range(INPUTS)])
    mean, stddev = np.array(normalisation_of(hparams), np.float32)
    np.save(folder / "uint8.npy", images)
    np.save(folder / "float32.npy", (images - mean) / stddev)


# Running one engine: a process of its own, which takes turns with the others.


def _is_ours(name: str) -> bool:
    return name.startswith("ours-")


def _file_of(folder: Path, engine: Engine) -> Path:
    (path,) = (folder / f"{engine.name}-{engine.precision}").glob("*.effdet")
    return path


def _ours(folder: Path, engine: Engine, threads: int) -> Callable[[np.ndarray], Any]:
    from ipu_utils.executable.runtime import EmbeddedModel

    worker = EmbeddedModel.load(_file_of(folder, engine), threads).session()
    detects = engine.span == "detections"

    def call(image: np.ndarray) -> Any:
        worker.load(image, 1.0)
        worker.run()
        return worker.detections() if detects else worker.class_outputs

    return call


def _openvino(folder: Path, engine: Engine, threads: int) -> Callable[[np.ndarray], Any]:
    from ipu_utils.base.openvino_api import import_openvino, properties

    openvino = import_openvino()
    model = openvino.Core().read_model(folder / "plain.xml")
    request = openvino.Core().compile_model(model, "CPU", properties(engine.precision, threads)).create_infer_request()

    def call(image: np.ndarray) -> Any:
        # Shared on both sides: no copy that a careful user would not make.
        request.set_input_tensor(openvino.Tensor(image, shared_memory=True))
        request.infer()
        return request.get_output_tensor(0).data

    return call


def _keras(folder: Path, engine: Engine, threads: int) -> Callable[[np.ndarray], Any]:
    from hparams_config import get_inference_config
    from ipu_automl_io import postprocess_predictions, preprocess_normalize_image
    from ipu_utils.base.keras2 import tf
    from ipu_utils.config.normalisation import normalisation_of
    from ipu_utils.model.network import build_network

    hparams = get_inference_config(*json.loads((folder / "model.json").read_text()))
    network = build_network(hparams, activation=tf.nn.swish)
    weights = np.load(str(folder / "weights.npz"))
    network.set_weights([weights[name] for name in weights.files])

    @tf.function
    def function(images):
        normalised = preprocess_normalize_image(images, tf.float32, *normalisation_of(hparams))
        class_outputs, box_outputs = network(normalised, training=False)
        if engine.span == "network":
            return (*class_outputs, *box_outputs)
        return postprocess_predictions(hparams, class_outputs, box_outputs, None, "global")

    return lambda image: [np.asarray(output) for output in function(tf.constant(image))]


def _effdet(folder: Path, engine: Engine, threads: int) -> Callable[[np.ndarray], Any]:
    import torch
    from effdet import create_model

    torch.set_num_threads(threads)
    name, _, (height, width) = json.loads((folder / "model.json").read_text())
    name = name.replace("efficientdet-", "tf_efficientdet_")
    model = create_model(name, pretrained=False, pretrained_backbone=False, image_size=(height, width)).eval()

    def call(image: np.ndarray) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(image.transpose(0, 3, 1, 2)))

    return call


def _tensorflow(folder: Path, engine: Engine, threads: int) -> Callable[[np.ndarray], Any]:
    from ipu_utils.base.keras2 import tf
    from ipu_utils.graph.freeze import FrozenStep, as_function

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

    interpreter = Interpreter(model_path=str(folder / f"{engine.precision}.tflite"), num_threads=threads)
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def call(image: np.ndarray) -> Any:
        interpreter.set_tensor(place, image)
        interpreter.invoke()
        return [interpreter.tensor(index)() for index in outputs]  # views, not copies

    return call


OPEN = {
    "openvino": _openvino,
    "tensorflow": _tensorflow,
    "onnxruntime": _onnxruntime,
    "litert": _litert,
    "keras": _keras,
    "effdet": _effdet,
}


def _one_by_one(call: Callable[[np.ndarray], Any], images: List[np.ndarray]) -> Callable[[int], List[float]]:
    """What serves so many requests one after the other and says how long each took, ms."""
    numbers = itertools.cycle(range(len(images)))

    def serve(requests: int) -> List[float]:
        milliseconds = []
        for _ in range(requests):
            image = images[next(numbers)]
            start = time.perf_counter()
            call(image)
            milliseconds.append(1e3 * (time.perf_counter() - start))
        return milliseconds

    return serve


def _side_by_side(folder: Path, engine: Engine, threads: int, images: List[np.ndarray]) -> Callable[[int], List[float]]:
    """What runs SIDE_BY_SIDE images in the throughput script's loop for each request; ms an image, once a request."""
    from ipu_utils.backends.contract import Compiled
    from ipu_utils.backends.host_runtime import HostRuntime
    from ipu_utils.backends.in_flight import Loop
    from ipu_utils.config.run_config import load_config
    from ipu_utils.executable.file import read_executable

    executable = read_executable(_file_of(folder, engine))
    arguments = ["--engine", engine.name.replace("ours-", ""), "--num-threads", str(threads)]
    config = load_config(arguments, choose_device=lambda name: "cpu")
    runtime = HostRuntime(Compiled(executable.path, executable.header, "given", executable), config, None, "libdetect")
    numbers = itertools.cycle(range(len(images)))
    feed = ((images[number], np.ones(1, np.float32), np.array([number], np.int32)) for number in numbers)
    call = Loop(runtime, feed, SIDE_BY_SIDE, True).call

    def serve(requests: int) -> List[float]:
        milliseconds = []
        for _ in range(requests):
            start = time.perf_counter()
            call()
            milliseconds.append(1e3 * (time.perf_counter() - start) / SIDE_BY_SIDE)
        return milliseconds

    return serve


def serve_turns(engine: Engine, folder: Path, threads: int) -> None:
    """Load an engine, print when its first result was there, and serve a turn for each number of requests it reads."""
    takes_pixels = _is_ours(engine.name) or engine.name == "keras"
    images = np.load(folder / ("uint8.npy" if takes_pixels else "float32.npy"), mmap_mode="r")
    images = [np.array(image)[None] for image in images]
    per_request = SIDE_BY_SIDE if engine.span == "throughput" else 1
    if engine.span == "throughput":
        serve = _side_by_side(folder, engine, threads, images)
    else:
        call = (_ours if _is_ours(engine.name) else OPEN[engine.name])(folder, engine, threads)
        serve = _one_by_one(call, images)
    serve(1)
    first = process.seconds_since_start()
    serve(max(1, WARMUP // per_request))
    print(json.dumps({"first_result_s": first}), flush=True)
    for line in sys.stdin:
        requests = max(1, int(line) // per_request)
        serve(1)  # Other engines had the caches until now.
        start = time.process_time()
        milliseconds = serve(requests)
        found = {
            "p50": percentile(milliseconds, 50),
            "p90": percentile(milliseconds, 90),
            "cpu": 1e3 * (time.process_time() - start) / (requests * per_request),
            "first_result_s": first,
            "peak_mib": process.peak_memory_mib() or 0.0,
        }
        print(json.dumps(found), flush=True)


# The run of a child.


def main(arguments: Sequence[str]) -> None:
    """Do what `peers.py` asks of a process.

    Args:
      arguments: prepare FOLDER MODEL IMAGE_SIZE PRECISION..., or serve FOLDER THREADS ENGINE PRECISION SPAN.
    """
    if len(arguments) < 2:
        sys.stderr.write("error: peers.py starts this program: run python benchmarks/peers.py\n")
        sys.exit(2)
    task, folder, *rest = arguments
    if task == "prepare":
        prepare(rest[0], rest[2:], Path(folder), rest[1] or None)
    else:
        serve_turns(Engine(*rest[1:]), Path(folder), int(rest[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
