# SPDX-License-Identifier: Apache-2.0
"""TensorFlow with the legacy Keras 2 API behind `tf.keras`, whatever the TensorFlow release.

This is the one place that imports TensorFlow: `from ipu_utils.keras2 import tf`. From 2.16 on, `tf.keras` is Keras 3
unless `TF_USE_LEGACY_KERAS` is set before `tf.keras` is first touched, and Keras 3 neither names variables as the
published checkpoints do nor calls layers as this network does. Releases before 2.16, the IPU wheel's 2.6 among them,
ignore it.
"""

import os
import sys

from ipu_utils.errors import MissingPackageError

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# Start-up notices are not the benchmark's output; errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

try:
    import tensorflow as tf
except ImportError as error:
    raise MissingPackageError(
        f"TensorFlow cannot be imported ({error}). Install it with `pip install -r requirements.txt`; "
        "on an IPU machine install the wheel of the Poplar SDK."
    ) from error


def _legacy_keras():
    """Return `tf.keras` when it is Keras 2, else raise ImportError saying how to get there."""
    try:
        package = tf.keras.layers.Layer.__module__.split(".")[0]  # "tf_keras", "keras" or, up to 2.5, "tensorflow"
    except ImportError as error:
        raise MissingPackageError(
            f"TensorFlow {tf.__version__} needs the package tf-keras for the Keras 2 API: "
            "`pip install -r requirements.txt` installs it."
        ) from error
    version = sys.modules[package].__version__
    if not version.startswith("2."):
        raise MissingPackageError(
            f"tf.keras is Keras {version} here, but the network needs Keras 2. Set TF_USE_LEGACY_KERAS=1 before "
            "anything imports TensorFlow or Keras, or import this project before them."
        )
    return tf.keras


keras = _legacy_keras()
