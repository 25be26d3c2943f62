#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each graph pass is worth in OpenVINO: latency after each of them, of passes that were tried and not kept, and of
four ways to normalise images.

    python benchmarks/passes.py --model-name efficientdet-d0

Variants take turns, a few requests at a time, in one process; uint8 image in place to outputs in memory. `cpu ms` is
the processor time of all threads: it still tells variants apart on a machine that is busy with other things.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    import numpy as np

    import hparams_config
    import utils
    from ipu_utils.base.console import run_script
    from ipu_utils.base.hardware import cpu_name, usable_cores
    from ipu_utils.base.keras2 import tf
    from ipu_utils.base.openvino_api import check_precision, import_openvino, properties
    from ipu_utils.config.command_line import count, model_name
    from ipu_utils.config.normalisation import normalisation_of
    from ipu_utils.executable.freeze import to_openvino
    from ipu_utils.executable.freeze_graph import PASSES, optimise
    from ipu_utils.graph.freeze import FrozenStep, freeze
    from ipu_utils.measure.requests import percentile
    from ipu_utils.model.host import Host
    from ipu_utils.model.network import build_network, heads_of

STEM_FILTERS = 32


def frozen_network(model_name: str) -> FrozenStep:
    """The network with its normalisation, as TensorFlow freezes it, with random weights."""
    hparams = hparams_config.get_inference_config(model_name)
    network = build_network(hparams, activation=Host("cpu", usable_cores()).swish)
    height, width = utils.parse_image_size(hparams.image_size)
    signature = [tf.TensorSpec((1, height, width, 3), tf.uint8)]
    return freeze(
        lambda images: [output for level in heads_of(network, hparams, "float32", images) for output in level],
        signature,
    )


def pass_variants(frozen: FrozenStep) -> Dict[str, FrozenStep]:
    """The network as it is frozen, then with one pass more each."""
    variants = {"frozen": frozen}
    for rewrite in PASSES:
        frozen = rewrite(frozen)
        variants[f"+ {rewrite.__name__}"] = frozen
    return variants


def stem_variants(model_name: str) -> Dict[str, FrozenStep]:
    """Normalisation, the first convolution, and a 1x1 convolution behind it, for the layouts of the network."""
    hparams = hparams_config.get_inference_config(model_name)
    height, width = utils.parse_image_size(hparams.image_size)
    mean, stddev = np.array(normalisation_of(hparams))
    random = np.random.RandomState(0)
    kernel = random.normal(0, 0.3, (3, 3, 3, STEM_FILTERS)).astype(np.float32)
    project = random.normal(0, 0.1, (1, 1, STEM_FILTERS, 16)).astype(np.float32)
    folded = (kernel / stddev.reshape(1, 1, 3, 1)).astype(np.float32)
    bias = -np.sum(folded * mean.reshape(1, 1, 3, 1), (0, 1, 2)).astype(np.float32)

    def stem(images, kernel, bias, padding="SAME"):
        features = tf.nn.bias_add(tf.nn.conv2d(images, kernel, 2, padding), bias)
        return (tf.nn.conv2d(features * tf.sigmoid(features), project, 1, "SAME"),)

    def rows(images):
        return tf.cast(tf.reshape(images, [1, height, width * 3]), tf.float32)

    def image(values, height=height, width=width):
        return tf.reshape(values, [1, height, width, 3])

    def padded(images):
        right = tf.constant(np.tile(mean, height).reshape(1, height, 3), tf.float32)
        below = tf.constant(np.tile(mean, width + 1).reshape(1, 1, -1), tf.float32)
        return image(tf.concat([tf.concat([rows(images), right], 2), below], 1), height + 1, width + 1)

    scale, shift = (np.tile(values, width).astype(np.float32) for values in (1 / stddev, -mean / stddev))
    nothing = np.zeros_like(bias)
    steps: Dict[str, Callable] = {
        "by pixel": lambda images: stem((tf.cast(images, tf.float32) - mean) / stddev, kernel, nothing),
        "by row (normalise_rows)": lambda images: stem(image(rows(images) * scale + shift), kernel, nothing),
        "folded, border wrong": lambda images: stem(image(rows(images)), folded, bias),
        "folded, padded by the mean": lambda images: stem(padded(images), folded, bias, "VALID"),
    }
    signature = [tf.TensorSpec((1, height, width, 3), tf.uint8)]
    return {name: freeze(step, signature) for name, step in steps.items()}


def openvino_models(variants: Dict[str, FrozenStep], precision: str) -> Dict[str, Any]:
    """Convert as an executable is: outputs in the precision of the network, as libdetect reads them."""
    models = {}
    for name, frozen in variants.items():
        names = [f"output_{index}" for index in range(len(frozen.outputs))]
        models[name] = to_openvino(frozen, names, precision)
    return models


def tried_models(frozen: FrozenStep, num_classes: int, precision: str) -> Dict[str, Any]:
    """Changes of the converted network that were tried: none of them is in use, `kept` is."""
    steps = {
        "kept": lambda model: model,
        "class maxima beside logits": lambda model: class_maxima(model, num_classes, keep_logits=True),
        "class maxima, no logits": lambda model: class_maxima(model, num_classes, keep_logits=False),
        "ReLU for swish (wrong)": relu_for_swish,
    }
    frozen = optimise(frozen)
    names = [f"output_{index}" for index in range(len(frozen.outputs))]
    return {name: step(to_openvino(frozen, names, precision)) for name, step in steps.items()}


def class_maxima(model: Any, num_classes: int, keep_logits: bool) -> Any:
    """Take the greatest logit of each anchor in the graph: what libdetect would then read in place of all of them."""
    openvino = import_openvino()
    from openvino import opset13

    outputs = []
    for result in model.get_results():
        source = result.input_value(0)
        batch, height, width, channels = source.get_partial_shape().to_shape()
        if channels % num_classes:
            outputs.append(source)
            continue
        shape = np.array([batch, height * width * (channels // num_classes), num_classes], np.int64)
        maxima = opset13.reduce_max(opset13.reshape(source, shape, False), np.array([2], np.int64), False)
        outputs += [maxima.output(0)] + ([source] if keep_logits else [])
    return openvino.Model(outputs, model.get_parameters(), "maxima")


def relu_for_swish(model: Any) -> Any:
    """Put the cheapest activation in place of x * sigmoid(x): the difference in time is what swish costs."""
    import_openvino()
    from openvino import opset13

    for node in model.get_ops():
        if node.get_type_name() != "Multiply":
            continue
        for gate, features in (node.input_values(), node.input_values()[::-1]):
            if gate.get_node().get_type_name() == "Sigmoid" and gate.get_node().input_value(0) == features:
                for reader in node.output(0).get_target_inputs():
                    reader.replace_source_output(opset13.relu(features).output(0))
                break
    return model


def requests_of(models: Dict[str, Any], precision: str, threads: int) -> Dict[str, Any]:
    """One request a model, with its input in place."""
    core, requests = import_openvino().Core(), {}
    for name, model in models.items():
        requests[name] = core.compile_model(model, "CPU", properties(precision, threads)).create_infer_request()
        place_noise(requests[name])
    return requests


def place_noise(request: Any) -> None:
    """Fill a request's images with noise."""
    place = request.get_input_tensor().data
    place[:] = np.random.RandomState(0).randint(0, 256, place.shape)


def compare(title: str, requests: Dict[str, Any], rounds: int, each: int) -> None:
    """Let the variants take turns and print a table."""
    wall: Dict[str, List[float]] = {name: [] for name in requests}
    processor: Dict[str, List[float]] = {name: [] for name in requests}
    for _ in range(rounds):
        for name, request in requests.items():
            request.infer()
            for _ in range(each):
                start, start_cpu = time.perf_counter(), time.process_time()
                request.infer()
                wall[name].append(1e3 * (time.perf_counter() - start))
                processor[name].append(1e3 * (time.process_time() - start_cpu))
    print(f"\n{title}\n{'variant':28} {'p50 ms':>8} {'p10 ms':>8} {'cpu ms p10':>11}")
    for name, values in wall.items():
        cpu = percentile(processor[name], 10)
        print(f"{name:28} {percentile(values, 50):8.2f} {percentile(values, 10):8.2f} {cpu:11.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model-name", type=model_name, default="efficientdet-d0")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=count, default=usable_cores(), help="default: the cores of this process")
    parser.add_argument("--rounds", type=count, default=20, help="default 20")
    parser.add_argument("--requests", type=count, default=5, help="requests a variant and round (default 5)")
    options = parser.parse_args()
    check_precision(options.precision)
    print(f"{cpu_name()}, {options.threads} threads, {options.precision}")
    frozen = frozen_network(options.model_name)
    num_classes = hparams_config.get_inference_config(options.model_name).num_classes
    groups = {
        "passes": lambda: openvino_models(pass_variants(frozen), options.precision),
        "tried": lambda: tried_models(frozen, num_classes, options.precision),
        "stem": lambda: openvino_models(stem_variants(options.model_name), options.precision),
    }
    for title, make in groups.items():
        requests = requests_of(make(), options.precision, options.threads)
        compare(f"{options.model_name}, {title}", requests, options.rounds, options.requests)


if __name__ == "__main__":
    sys.exit(run_script(main))
