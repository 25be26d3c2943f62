# SPDX-License-Identifier: Apache-2.0
"""Device scopes."""

import contextlib

import tensorflow as tf


@contextlib.contextmanager
def ipu_scope(device):
    """Place operations on an IPU."""
    if "IPU" not in device:
        raise ValueError(f"not an IPU device: {device!r}")
    with tf.device("/CPU:0"):
        yield


@contextlib.contextmanager
def partials_type(override_type):
    """Override the type of partial sums."""
    yield
