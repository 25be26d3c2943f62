# SPDX-License-Identifier: Apache-2.0
"""The outputs of a network's heads, computed by one engine or another from the same weights: to compare them."""

import dataclasses
import functools
import tempfile
from pathlib import Path
from typing import Any, Callable, List, NamedTuple

import numpy as np

from ipu_automl_io import postprocess_predictions
from ipu_utils.backends.openvino import wanted
from ipu_utils.base import hardware
from ipu_utils.base.detections import ImageDetections
from ipu_utils.base.keras2 import tf
from ipu_utils.config.model_options import Precision
from ipu_utils.config.run_config import RunConfig
from ipu_utils.config.run_hparams import hparams_of
from ipu_utils.executable.file import write_executable
from ipu_utils.executable.freeze import compile_network
from ipu_utils.executable.freeze_graph import frozen_and_folded
from ipu_utils.executable.runtime import EmbeddedModel
from ipu_utils.graph.freeze import as_function
from ipu_utils.measure.objects import as_float32
from ipu_utils.model.host import Host
from ipu_utils.model.network import build_network, heads_of, prepare

Heads = Callable[[np.ndarray], List[np.ndarray]]  # uint8 [1, h, w, 3] -> float32 outputs: class levels, box levels


class Model(NamedTuple):
    """The network in float and what goes with it."""

    network: Any
    hparams: Any
    host: Host
    weights: str


def build(config: RunConfig) -> Model:
    """Load the model in float, as the throughput script does."""

    hparams = hparams_of(config.model, config.data.image_size, config.nms.preset)
    host = Host("cpu", config.device.num_threads or hardware.usable_cores())
    float_model = dataclasses.replace(config.model, model_precision=Precision.FLOAT)
    prepared = prepare(dataclasses.replace(config, model=float_model), hparams, host)
    return Model(prepared.network, hparams, host, prepared.weights)


def in_tensorflow(model: Model, precision: str) -> Heads:
    """The network in a precision, as the throughput script's graph computes it.

    Raises:
      UserError: this TensorFlow cannot compute in that precision.
    """
    model.host.check_precision(precision)
    network = build_network(model.hparams, model.host.dtype_policy(precision), model.host.swish)
    network.set_weights(model.network.get_weights())
    heads = functools.partial(heads_of, network, model.hparams, precision)
    signature = [tf.TensorSpec((1, *model.hparams.image_size, 3), tf.uint8)]
    frozen = frozen_and_folded(lambda images: tuple(out for level in heads(images) for out in level), signature)
    function = as_function(frozen)
    return lambda image: [np.asarray(output).astype(np.float32) for output in function(tf.constant(image))]


def in_openvino(model: Model, config: RunConfig) -> Heads:
    """The network as the executable that a run of the embedded script makes.

    Raises:
      UserError: OpenVINO is missing, or does not compute in the run's precision on this CPU.
    """
    header = wanted(config)
    heads = functools.partial(heads_of, model.network, model.hparams, "float32")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.effdet")
        write_executable(path, header, compile_network(heads, header))
        session = EmbeddedModel.load(path).session()

    def run(image: np.ndarray) -> List[np.ndarray]:
        session.load(image, np.ones(1, np.float32))
        session.run()
        return [as_float32(output) for output in session.class_outputs + session.box_outputs]

    return run


def detector_of(model: Model, mode: str) -> Callable[[List[np.ndarray], float], ImageDetections]:
    """Post-processing in float32, the same for every precision."""

    levels = model.hparams.max_level - model.hparams.min_level + 1
    function = tf.function(
        lambda heads, scale: postprocess_predictions(model.hparams, heads[:levels], heads[levels:], scale, mode)
    )

    def detect(heads: List[np.ndarray], scale: float) -> ImageDetections:
        found = function([tf.constant(output) for output in heads], tf.constant([scale], tf.float32))
        boxes, scores, classes, lengths = (np.asarray(part)[0] for part in found)
        return ImageDetections(boxes[:lengths], scores[:lengths], classes[:lengths])

    return detect
