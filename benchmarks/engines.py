#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compare the host engine with what TensorFlow does when left alone: one run, interleaved rounds, medians and ratios.

    python benchmarks/engines.py --model-name efficientdet-d0 --micro-batch-size 1

Each engine has a process of its own, because threads are set once a process. Measured span: uint8 images in memory to
the network's outputs in host memory, float32, generated data, calibrated random weights, no NMS.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import hparams_config
import utils
from ipu_utils.backends.tensorflow_device import HostDevice
from ipu_utils.backends.tensorflow_pipeline import TensorFlowPipeline
from ipu_utils.base import hardware
from ipu_utils.base.keras2 import tf
from ipu_utils.config.run_config import DataConfig, NmsConfig
from ipu_utils.data.tf_batches import open_dataset
from ipu_utils.graph.freeze import as_function, freeze
from ipu_utils.model import random_weights
from ipu_utils.model.network import build_network

PLAIN, FROZEN, OURS = "plain tf.function", "frozen", "ours: frozen, folded, batches side by side"
ENGINES = (PLAIN, FROZEN, OURS)


def compiled(engine: str, model_name: str, batch_size: int, batches: int):
    """Return (a call that runs `batches` batches, the name of the device)."""
    hparams = hparams_config.get_inference_config(model_name)
    # Everything but our engine gets TensorFlow's own choice of threads and the activation that AutoML's code calls.
    device = HostDevice("cpu") if engine == OURS else None
    network = build_network(hparams, activation=device.swish if device else tf.nn.swish)
    # Not as initialised: TensorFlow drops biases of zero, and with them work that trained weights cause.
    random_weights.randomise(network, hparams, hparams.image_size)
    images = open_dataset(DataConfig(micro_batch_size=batch_size), utils.parse_image_size(hparams.image_size), batches)
    pipeline = TensorFlowPipeline(network, hparams, NmsConfig(onchip_nms=False), "float32", device)
    if device:
        return device.compile(pipeline.step, images.dataset, batches)
    spec = images.dataset.element_spec
    function = tf.function(pipeline.step) if engine == PLAIN else as_function(freeze(pipeline.step, spec))
    feed = iter(images.dataset)
    return lambda: [[output.numpy() for output in function(*next(feed))] for _ in range(batches)]


def serve(engine: str, options: argparse.Namespace) -> None:
    """Run a round for every line on standard input and answer with its seconds."""
    call = compiled(engine, options.model_name, options.micro_batch_size, options.batches)
    call()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        call()
        print(time.perf_counter() - start, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-name", default="efficientdet-d0")
    parser.add_argument("--micro-batch-size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7, help="rounds in which every engine runs once (default 7)")
    parser.add_argument("--batches", type=int, default=12, help="batches an engine runs in a round (default 12)")
    parser.add_argument("--child", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        serve(options.child, options)
        return

    children = {}
    for engine in ENGINES:
        command = [sys.executable, __file__, *sys.argv[1:], "--child", engine]
        children[engine] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        # One after the other, so that none builds while another warms up.
        if children[engine].stdout.readline().strip() != "ready":
            sys.exit(f"{engine} did not start")
    images = options.batches * options.micro_batch_size
    rates = {engine: [] for engine in ENGINES}
    for _ in range(options.rounds):
        for engine, child in children.items():
            child.stdin.write("go\n")
            child.stdin.flush()
            rates[engine].append(images / float(child.stdout.readline()))
    for child in children.values():
        child.stdin.close()
        child.wait()

    where = f"{hardware.cpu_name()}, {hardware.usable_cores()} cores, TensorFlow {tf.__version__}"
    print(f"{options.model_name}, float32, batch {options.micro_batch_size}, {where}")
    print(f"images/s, median (min to max) of {options.rounds} interleaved rounds of {images} images; network only")
    base = statistics.median(rates[PLAIN])
    for engine, values in rates.items():
        middle = statistics.median(values)
        print(f"{engine:44} {middle:7.2f} ({min(values):.2f} to {max(values):.2f})  {middle / base:.2f} x")


if __name__ == "__main__":
    main()
