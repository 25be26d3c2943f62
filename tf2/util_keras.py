# SPDX-License-Identifier: Apache-2.0
"""Layers as every part of the network makes them."""

from ipu_utils.base.keras2 import tf


def build_batch_norm(name: str = "tpu_batch_normalization") -> tf.keras.layers.BatchNormalization:
    """Return a batch normalisation over the last axis with the constants of the published models."""
    return tf.keras.layers.BatchNormalization(axis=-1, momentum=0.99, epsilon=1e-3, name=name)
