# SPDX-License-Identifier: Apache-2.0
"""PopLibs activations."""

import tensorflow as tf


def swish(x, name=None):
    """x * sigmoid(x), one PopLibs operation on the IPU."""
    return x * tf.sigmoid(x)
