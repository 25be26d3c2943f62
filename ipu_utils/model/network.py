# SPDX-License-Identifier: Apache-2.0
"""The network with its weights, in the precision and on the device of a run."""

import hashlib
from typing import Any, Callable, ContextManager, NamedTuple, Optional, Protocol, Sequence, Tuple

import numpy as np

import utils
from hparams_config import Config
from ipu_automl_io import preprocess_normalize_image
from ipu_utils.base.keras2 import tf
from ipu_utils.config.normalisation import normalisation_of
from ipu_utils.config.run_config import RunConfig
from ipu_utils.config.run_hparams import check_wishes, path_remark, takes_averages
from ipu_utils.model import checkpoint, random_weights, weights_text
from tf2.efficientdet_keras import EfficientDetNet

SMALL_SIDE = 64  # pixels


class Placement(Protocol):
    """What building a network needs to know of the device: every device of `ipu_utils.backends` provides it."""

    kind: str  # "ipu", "gpu" or "cpu"

    def default_precision(self) -> str:
        """Type name ("float32", "float16", "bfloat16") that suits the device."""

    def check_precision(self, precision: str) -> None:
        """Raise UserError when the device cannot compute in that precision."""

    def dtype_policy(self, precision: str) -> str:
        """Name of the Keras policy under which the network computes in `precision` here."""

    def swish(self, features: Any) -> Any:
        """The same function everywhere, fused where it can be."""

    def scope(self) -> ContextManager:
        """Build variables inside it."""


def hash_arrays(arrays: Sequence[np.ndarray]) -> str:
    """SHA-256 of the arrays' types, shapes and values, in their order."""
    found = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        found.update(f"{array.dtype} {array.shape}\n".encode())
        found.update(array.tobytes())
    return found.hexdigest()


class Prepared(NamedTuple):
    """A network that is ready to run."""

    network: tf.keras.Model
    precision: str  # type name: "float32", "float16" or "bfloat16"
    weights: str  # what the weights are, for the report
    random: bool

    def identity(self) -> Tuple[str, str]:
        """SHA-256 of the weights, and of what it is."""
        return hash_arrays(self.network.get_weights()), "the network's variables"


def build_network(hparams: Config, policy: str = "float32", activation: Optional[Callable] = None) -> tf.keras.Model:
    """Build EfficientDet for one image size under a Keras dtype policy.

    Args:
      hparams: model configuration; its `image_size` fixes the height and width of the input.
      policy: a Keras policy name, such as "float32", "float16" or "mixed_bfloat16".
      activation: replaces swish by the device's own version of it; other activations stay.
    """
    height, width = utils.parse_image_size(hparams.image_size)
    config = Config(hparams.as_dict())
    if activation is not None and hparams.act_type in ("swish", "silu", "swish_native"):
        config.act_type = activation
    policy_before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        network = EfficientDetNet(config=config)
        if tf.distribute.has_strategy():
            network.build((None, height, width, 3))
        else:
            # Run once on a small image, which makes the same variables in half the time that tracing takes.
            network(tf.zeros((1, SMALL_SIDE, SMALL_SIDE, 3)))
    finally:
        tf.keras.mixed_precision.set_global_policy(policy_before)
    return network


def heads_of(
    network: tf.keras.Model, hparams: Config, precision: str, images: tf.Tensor
) -> Tuple[Sequence[tf.Tensor], Sequence[tf.Tensor]]:
    """Normalise on the device and run the network: images [N, H, W, 3] of any type -> class and box outputs."""
    # uint8 travels to the device: a quarter of float32 on the wire. Normalising is the device's first step.
    normalised = preprocess_normalize_image(images, tf.as_dtype(precision), *normalisation_of(hparams))
    return network(normalised, training=False)


def precision_of(config: RunConfig, device: Placement) -> str:
    """The type name that a run computes in; raises UserError where the device lacks it."""
    precision = config.model.model_precision.value if config.model.model_precision else device.default_precision()
    device.check_precision(precision)
    return precision


def preview_weights(config: RunConfig, hparams: Config, device: Placement) -> str:
    """Say what `prepare` would say of the weights, with its errors where something is missing; draw no random ones."""
    if config.model.random_weights or checkpoint.find_checkpoint(config.model.weights_path) is None:
        precision_of(config, device)
        return weights_text.planned(config)
    return prepare(config, hparams, device).weights


def prepare(config: RunConfig, hparams: Config, device: Placement) -> Prepared:
    """Build the network, load its checkpoint or draw random weights, and bring both to the device's precision.

    Raises:
      UserError: the checkpoint is missing while something in the run needs it, or does not fit the model.
    """
    precision = precision_of(config, device)
    path = config.model.weights_path
    random = config.model.random_weights
    if not random and checkpoint.find_checkpoint(path) is None:
        check_wishes(config)
        random = True
    network = build_network(hparams, activation=device.swish)
    if random:
        found = random_weights.randomise(
            network, hparams, hparams.image_size, config.data.seed, config.model.random_candidates
        )
        absent = None if config.model.random_weights else path
        text = weights_text.of_random(config.data.seed, found, absent)
    else:
        report = checkpoint.load_weights(network, path, use_ema=takes_averages(config.model, hparams))
        text = f"{report}{path_remark(config.model, hparams)}"
    policy = device.dtype_policy(precision)
    if policy != "float32" or device.kind == "ipu":
        # Checkpoints and calibration are float32; the values are rounded to the network's own type once, here.
        values = network.get_weights()
        with device.scope():
            network = build_network(hparams, policy, device.swish)
            network.set_weights(values)
    return Prepared(network, precision, text, random)
