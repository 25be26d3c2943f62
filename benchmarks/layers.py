#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where OpenVINO's time goes, by kind of layer, for the network as TensorFlow freezes it and after our passes.

    python benchmarks/layers.py --model-name efficientdet-d0 --precision float32

From OpenVINO's own counters: each layer's shortest time over all requests, summed by kind. Counting costs some time
itself, and the shortest times of all layers never fall into one request, so compare shares, not sums with latencies.
"""

import argparse
import collections
import sys
from pathlib import Path
from typing import Any, Dict, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    from passes import frozen_network, openvino_models, place_noise

    from ipu_utils.base.console import run_script
    from ipu_utils.base.hardware import cpu_name, usable_cores
    from ipu_utils.base.openvino_api import check_precision, import_openvino, properties
    from ipu_utils.config.command_line import count, model_name
    from ipu_utils.executable.freeze_graph import optimise

KINDS = {
    "GroupConvolution": "depthwise convolutions",
    "ReduceMean": "means of squeeze and excitation",
    "Subgraph": "element-wise, fused",
    "MaxPool": "pooling",
    "Interpolate": "enlarging",
    "Reorder": "layouts and types",
    "Transpose": "layouts and types",
    "Convert": "layouts and types",
}


class Layer(NamedTuple):
    """A layer as OpenVINO runs it."""

    kind: str
    kernel: str  # OpenVINO's name of the implementation and its type
    output: str  # shape
    milliseconds: float


def profile(model: Any, precision: str, threads: int, requests: int) -> Dict[str, Layer]:
    """Name -> layer, with the shortest of its times."""
    settings = {**properties(precision, threads), "PERF_COUNT": True}
    compiled = import_openvino().Core().compile_model(model, "CPU", settings)
    shapes = {node.get_friendly_name(): shape_of(node) for node in compiled.get_runtime_model().get_ops()}
    request = compiled.create_infer_request()
    place_noise(request)
    layers: Dict[str, Layer] = {}
    for _ in range(requests):
        request.infer()
        for found in request.profiling_info:
            time = 1e3 * found.real_time.total_seconds()
            if time and (found.node_name not in layers or time < layers[found.node_name].milliseconds):
                kind = kind_of(found.node_type, found.exec_type)
                layers[found.node_name] = Layer(kind, found.exec_type, shapes.get(found.node_name, ""), time)
    return layers


def shape_of(node: Any) -> str:
    """Shape of the first output, rows and columns last as OpenVINO counts them."""
    return "x".join(map(str, node.output(0).get_partial_shape().to_shape())) if node.get_output_size() else ""


def kind_of(node_type: str, kernel: str) -> str:
    """What a layer is called in the table."""
    if node_type == "Convolution":
        return "1x1 convolutions" if "1x1" in kernel else "the first convolution"
    return KINDS.get(node_type, node_type)


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model-name", type=model_name, default="efficientdet-d0")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=count, default=usable_cores(), help="default: the cores of this process")
    parser.add_argument("--requests", type=count, default=40, help="requests a network (default 40)")
    parser.add_argument("--slowest", type=count, default=8, help="slowest layers to name (default 8)")
    options = parser.parse_args()
    check_precision(options.precision)
    frozen = frozen_network(options.model_name)
    before = openvino_models({"plain": frozen}, "float32")["plain"]
    after = openvino_models({"ours": optimise(frozen)}, options.precision)["ours"]
    profiles = [profile(model, options.precision, options.threads, options.requests) for model in (before, after)]

    print(f"{options.model_name}, {options.precision}, {cpu_name()}, {options.threads} threads\n")
    print("| layers | plain: number | ms | ours: number | ms |\n| --- | --- | --- | --- | --- |")
    sums = []
    for layers in profiles:
        kinds: Dict[str, list] = collections.defaultdict(list)
        for layer in layers.values():
            kinds[layer.kind].append(layer.milliseconds)
        sums.append(kinds)
    for kind in sorted(set(sums[0]) | set(sums[1]), key=lambda kind: -sum(sums[1].get(kind, sums[0].get(kind, [0])))):
        cells = [f"{len(kinds.get(kind, []))} | {sum(kinds.get(kind, [])):.2f}" for kinds in sums]
        print(f"| {kind} | {' | '.join(cells)} |")
    cells = [f"{len(layers)} | {sum(layer.milliseconds for layer in layers.values()):.2f}" for layers in profiles]
    print(f"| all | {' | '.join(cells)} |\n")
    print("The slowest of ours:\n\n| ms | layer | kernel | output |\n| --- | --- | --- | --- |")
    slowest = sorted(profiles[1].items(), key=lambda item: -item[1].milliseconds)[: options.slowest]
    for name, layer in slowest:
        print(f"| {layer.milliseconds:.2f} | {name} | {layer.kernel} | {layer.output} |")


if __name__ == "__main__":
    sys.exit(run_script(main))
