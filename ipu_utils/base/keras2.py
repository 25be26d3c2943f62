# SPDX-License-Identifier: Apache-2.0
"""TensorFlow with the legacy Keras 2 API behind `tf.keras`, whatever the TensorFlow release.

Nothing else imports TensorFlow: `from ipu_utils.base.keras2 import tf`. From 2.16 on, `tf.keras` is Keras 3
unless `TF_USE_LEGACY_KERAS` is set before `tf.keras` is first touched, and Keras 3 neither names variables as the
published checkpoints do nor calls layers as this network does. Releases before 2.16, the IPU wheel's 2.6 among them,
ignore it.
"""

import contextlib
import logging
import os
import re
import sys

from ipu_utils.base.errors import MissingPackageError
from ipu_utils.base.gpu_driver import has_gpu_driver
from ipu_utils.base.missing_packages import how_to_install
from ipu_utils.base.signals import raise_again
from ipu_utils.base.start_notices import ERRORS, FATAL, LEVEL, asked_for, held_back

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# Start-up notices are not the benchmark's output. Current releases call it an error that there is no GPU driver, when
# the first operation runs; errors of operations come as exceptions all the same.
_current = sys.version_info >= (3, 9)
os.environ.setdefault(LEVEL, FATAL if _current and not has_gpu_driver() else ERRORS)


def _import_tensorflow():
    """Import TensorFlow, else raise MissingPackageError."""
    try:
        import tensorflow
    except Exception as error:  # not only ImportError: a NumPy or protobuf that does not fit raises whatever it likes
        raise_again()
        raise MissingPackageError(
            f"TensorFlow cannot be imported ({str(error) or type(error).__name__}). Install it with "
            f"{how_to_install('tensorflow')}; on an IPU machine install the wheel of the Poplar SDK."
        ) from error
    return tensorflow


TESTED = "2.6, 2.20 and 2.21"
OLDEST = (2, 6)


def _check_version() -> None:
    """Raise ImportError when this is a TensorFlow that cannot work; one later than the tested ones may."""
    version = getattr(tf, "__version__", None)
    found = re.match(r"(\d+)\.(\d+)", str(version))
    if version is None or not found:  # such as a folder of that name beside the script
        where = getattr(tf, "__file__", None) or ", ".join(getattr(tf, "__path__", ["?"]))
        raise MissingPackageError(
            f"what `import tensorflow` finds in {where} is not TensorFlow, or is damaged: it has no version. Move it "
            f"away, or install TensorFlow again with {how_to_install('tensorflow')}."
        )
    number = int(found[1]), int(found[2])
    if number < OLDEST or number[0] != OLDEST[0]:
        raise MissingPackageError(
            f"TensorFlow {version} is too {'old' if number < OLDEST else 'new'}: the benchmark needs TensorFlow 2, "
            f"from 2.6 on, and is tested with {TESTED}. {how_to_install('tensorflow')} installs one that fits."
        )


def _silence_warnings() -> None:
    """Leave out what Python code of TensorFlow warns of, which is how it is called: the user cannot change that.

    Not that of Graphcore's wheel, which also tells of the IPU, and not where the user asked for more.
    """
    graphcore = any(os.path.isdir(os.path.join(folder, "python", "ipu")) for folder in getattr(tf, "__path__", ()))
    if not graphcore and not asked_for() and logging.getLogger().level >= logging.WARNING:
        logging.getLogger("tensorflow").setLevel(logging.ERROR)


def _legacy_keras():
    """Return `tf.keras` when it is Keras 2, else raise ImportError saying how to get there."""
    try:
        package = tf.keras.layers.Layer.__module__.split(".")[0]  # "tf_keras", "keras" or, up to 2.5, "tensorflow"
        version = sys.modules[package].__version__
    except (ImportError, AttributeError, KeyError) as error:  # all but the first: it is there, and does not fit
        raise MissingPackageError(
            f"TensorFlow {tf.__version__} needs the package tf-keras of the same version for the Keras 2 API "
            f"({error}): {how_to_install('tf_keras')} installs it."
        ) from error
    if not version.startswith("2."):
        raise MissingPackageError(
            f"tf.keras is Keras {version} here, but the network needs Keras 2. Set TF_USE_LEGACY_KERAS=1 before "
            "anything imports TensorFlow or Keras, or import this project before them."
        )
    return tf.keras


with contextlib.ExitStack() as _importing:
    if _current and not asked_for():  # They log before they have read the level; 2.6 does not.
        _importing.enter_context(held_back())
    tf = _import_tensorflow()
    _check_version()
    _silence_warnings()
    keras = _legacy_keras()
    # It has no public name.
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph  # noqa: F401
