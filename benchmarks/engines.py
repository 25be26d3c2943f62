#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compare the host engine with what TensorFlow does when left alone: one run, interleaved rounds, medians and ratios.

    python benchmarks/engines.py --model-name efficientdet-d0 --micro-batch-size 1

Measured span: uint8 images in memory to the network's outputs in host memory, float32, generated data, no NMS.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import hparams_config
import utils
from ipu_utils.config import DataConfig, NmsConfig
from ipu_utils.dataset import open_dataset
from ipu_utils.devices.host import HostDevice
from ipu_utils.graph.freeze import as_function, freeze
from ipu_utils.keras2 import tf
from ipu_utils.model import build_network
from ipu_utils.pipeline import Pipeline


class Plain(HostDevice):
    """The model as a tf.function, which is what AutoML's own code gives."""

    def optimise(self, step, signature):
        return tf.function(step)


class Frozen(HostDevice):
    """Variables made constants, nothing else."""

    def optimise(self, step, signature):
        return as_function(freeze(step, signature))


ENGINES = {"plain tf.function": Plain, "frozen": Frozen, "ours (frozen, folded, in flight)": HostDevice}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-name", default="efficientdet-d0")
    parser.add_argument("--micro-batch-size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7, help="rounds in which every engine runs once (default 7)")
    parser.add_argument("--batches", type=int, default=10, help="batches an engine runs in a round (default 10)")
    options = parser.parse_args()

    hparams = hparams_config.get_inference_config(options.model_name)
    data = DataConfig(micro_batch_size=options.micro_batch_size)
    calls = {}
    for name, engine in ENGINES.items():
        device = engine("cpu")
        # The plain model keeps the published activation; ours is the device's.
        network = build_network(hparams, activation=device.swish if engine is HostDevice else None)
        pipeline = Pipeline(network, hparams, NmsConfig(onchip_nms=False), "float32", device)
        images = open_dataset(data, utils.parse_image_size(hparams.image_size), options.batches)
        calls[name] = device.compile(pipeline.step, images.dataset, options.batches)
    for call in calls.values():
        call()
    seconds = {name: [] for name in calls}
    for _ in range(options.rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)

    images = options.batches * options.micro_batch_size
    print(
        f"{options.model_name}, batch {options.micro_batch_size}, float32, {device.name}, TensorFlow {tf.__version__}"
    )
    print(f"images/s, median (min to max) of {options.rounds} interleaved rounds of {images} images; network only")
    base = statistics.median(images / s for s in seconds["plain tf.function"])
    for name, times in seconds.items():
        rates = sorted(images / s for s in times)
        middle = statistics.median(rates)
        print(f"{name:34} {middle:7.2f} ({rates[0]:.2f} to {rates[-1]:.2f})  {middle / base:.2f} x")


if __name__ == "__main__":
    main()
