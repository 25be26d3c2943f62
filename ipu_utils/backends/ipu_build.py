# SPDX-License-Identifier: Apache-2.0
"""From a run to its program for an IPU, compiled into a file. Needs Graphcore's TensorFlow.

What this module imports is what such a program is known by: see `ipu_utils.executable.sources`.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Tuple

from hparams_config import Config
from ipu_utils.backends.ipu_step import Step
from ipu_utils.base.keras2 import tf
from ipu_utils.executable.file import Header, with_weights
from ipu_utils.model.network import prepare

if TYPE_CHECKING:
    from ipu_utils.backends.ipu import IpuDevice
    from ipu_utils.config.run_config import RunConfig


def on_chip(config: "RunConfig") -> bool:
    """Does the program end with detections? The span `network` ends where the network does."""
    return config.nms.onchip_nms and config.embedded.measure != "network"


def step_of(config: "RunConfig", hparams: Config, network: Any, precision: str) -> Step:
    """The step of the program, and the reading of its outputs, for which there need be no network."""
    return Step(network, hparams, dataclasses.replace(config.nms, onchip_nms=on_chip(config)), precision)


def signature_of(header: Header) -> Tuple[tf.TensorSpec, ...]:
    """What travels with a request: images, scales and, as everywhere, ids."""
    batch = header.batch_size
    images = tf.TensorSpec((batch, *header.image_size, 3), tf.as_dtype(header.input_type))
    return images, tf.TensorSpec((batch,), tf.float32), tf.TensorSpec((batch,), tf.int32)


def build_program(config: "RunConfig", hparams: Config, device: "IpuDevice", header: Header, path: Path) -> Header:
    """Build the network of a run, with its weights, and compile the program into a file.

    Returns:
      The header with what is known of the weights.

    Raises:
      UserError: see `ipu_utils.model.network.prepare`.
    """
    model = prepare(config, hparams, device)
    step = step_of(config, hparams, model.network, model.precision)
    with device.scope():
        iterations = config.benchmark.benchmark_repeats
        device.compile_executable(step, signature_of(header), path, iterations)
    return with_weights(header, model.weights, model.random)
