# SPDX-License-Identifier: Apache-2.0
"""Helpers of the release's `ipu.utils`."""

import enum

from tensorflow.python.ipu import _state
from tensorflow.python.ipu.config import (  # noqa: F401 - re-exported as in the release
    DeviceConnectionType,
    ExecutionProfileType,
    IPUConfig,
    MergeRemoteBuffersBehaviour,
    SchedulingAlgorithm,
    SelectionOrder,
    configure_ipu_system,
    get_ipu_config,
    running_on_ipu_model,
)

SyntheticDataCategory = enum.Enum(
    "SyntheticDataCategory", ["Seed", "Infeed", "Outfeed", "HostEmbedding", "Parameters", "Unknown"], start=0
)


def use_synthetic_data_for(synthetic_data_category):
    """Whether the flags make this category synthetic."""
    return _state.current.flags.synthetic(synthetic_data_category.name.lower())


def move_variable_initialization_to_cpu(graph=None):
    """Nothing to move here."""
