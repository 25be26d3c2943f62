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

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    import hparams_config
    import utils
    from ipu_utils.backends.in_flight import side_by_side
    from ipu_utils.backends.streams import streams_of
    from ipu_utils.base import hardware
    from ipu_utils.base.console import run_script
    from ipu_utils.base.keras2 import tf
    from ipu_utils.config.command_line import count, model_name
    from ipu_utils.config.run_config import DataConfig
    from ipu_utils.data.numpy_batches import open_feed
    from ipu_utils.executable.freeze_graph import optimise
    from ipu_utils.graph.freeze import as_function, freeze
    from ipu_utils.measure.stages import Stages
    from ipu_utils.model import random_weights
    from ipu_utils.model.host import Host
    from ipu_utils.model.network import build_network, heads_of

PLAIN, FROZEN, OURS = "plain tf.function", "frozen", "ours: frozen, folded, batches side by side"
ENGINES = (PLAIN, FROZEN, OURS)


def compiled(engine: str, model_name: str, batch_size: int, batches: int):
    """Return a call that runs `batches` batches."""
    hparams = hparams_config.get_inference_config(model_name)
    size, streams = utils.parse_image_size(hparams.image_size), streams_of("tensorflow")
    # Everything but our engine gets TensorFlow's own choice of threads and the activation that AutoML's code calls.
    host = Host("cpu", streams.threads, streams.streams) if engine == OURS else None
    network = build_network(hparams, activation=host.swish if host else tf.nn.swish)
    # Not as initialised: TensorFlow drops biases of zero, and with them work that trained weights cause.
    random_weights.randomise(network, hparams, hparams.image_size)
    feed = iter(open_feed(DataConfig(micro_batch_size=batch_size), size, batches))

    def step(images):
        return [output for level in heads_of(network, hparams, "float32", images) for output in level]

    if engine == PLAIN:
        function = tf.function(step)
    else:
        signature = [tf.TensorSpec((batch_size, *size, 3), tf.uint8)]
        function = as_function(optimise(freeze(step, signature)) if host else freeze(step, signature))

    def run(images, scales, ids):
        return [output.numpy() for output in function(tf.constant(images))]

    if host:
        return side_by_side(run, feed, batches, streams.in_flight, Stages())
    return lambda: [run(*next(feed)) for _ in range(batches)]


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
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model-name", type=model_name, default="efficientdet-d0")
    parser.add_argument("--micro-batch-size", type=count, default=1)
    parser.add_argument("--rounds", type=count, default=7, help="rounds in which every engine runs once (default 7)")
    parser.add_argument("--batches", type=count, default=12, help="batches an engine runs in a round (default 12)")
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
    sys.exit(run_script(main))
