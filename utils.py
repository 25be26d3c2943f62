# SPDX-License-Identifier: Apache-2.0
"""Small functions shared by the network, its pre- and its post-processing: image sizes and activations.

TensorFlow is imported by the first activation, not by this module, so that code which only asks for sizes stays light.
"""

import difflib
from typing import Any, Callable, Union

from ipu_utils.base.errors import ConfigError
from ipu_utils.base.image_size import ImageSize, get_feat_sizes, parse_image_size

__all__ = ["ACTIVATIONS", "Activation", "ImageSize", "activation_fn", "get_feat_sizes", "parse_image_size"]

Activation = Union[str, Callable[[Any], Any]]


def _swish(tf, x):
    # Differs from automl: a product instead of tf.nn.swish, whose custom gradient only serves training and puts an
    # IdentityN behind every activation, across which convolution and swish are not fused.
    return x * tf.math.sigmoid(x)


def _smooth_relu(tf, x):
    """Return x - log(1 + b x) / b for positive x, else 0. Differs from automl: b = 20^4 is a constant, no variable."""
    beta = 20.0**4  # Beyond float16, hence the casts.
    positive = tf.cast(tf.nn.relu(x), tf.float32)  # log1p needs no guard then, and gives the 0 of the other branch.
    return tf.cast(positive - tf.math.log1p(positive * beta) / beta, x.dtype)


# "ipu_swish" is what the original application calls swish; its hparams files hold it.
ACTIVATIONS = {
    "swish": _swish,
    "silu": _swish,
    "swish_native": _swish,
    "ipu_swish": _swish,
    "hswish": lambda tf, x: x * tf.nn.relu6(x + 3) / 6,
    "relu": lambda tf, x: tf.nn.relu(x),
    "relu6": lambda tf, x: tf.nn.relu6(x),
    "mish": lambda tf, x: x * tf.math.tanh(tf.math.softplus(x)),
    "srelu": _smooth_relu,
}


def activation_fn(features, act_type: Activation):
    """Apply an activation to a tensor of any shape; the result has the same shape and dtype.

    Args:
      features: a float tensor.
      act_type: a name of `ACTIVATIONS`, or a function of one tensor, such as a device's fused implementation.

    Raises:
      ConfigError: the name is unknown.
    """
    if callable(act_type):
        return act_type(features)
    if act_type not in ACTIVATIONS:
        close = difflib.get_close_matches(str(act_type), ACTIVATIONS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(f"act_type {act_type!r} is unknown; it may be one of {', '.join(sorted(ACTIVATIONS))}.{hint}")
    from ipu_utils.base.keras2 import tf

    return ACTIVATIONS[act_type](tf, features)
