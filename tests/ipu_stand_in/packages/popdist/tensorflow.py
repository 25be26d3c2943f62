# SPDX-License-Identifier: Apache-2.0
"""PopDist's settings for an IPUConfig."""

from tensorflow.python.ipu import config as ipu_config

import popdist


def set_ipu_config(config, ipus_per_replica=None, configure_device=True):
    """Enter this instance's place among the others, and its device, into `config`; return it."""
    if not isinstance(config, ipu_config.IPUConfig):
        raise TypeError(f"config must be an IPUConfig, got {type(config).__name__}")
    if ipus_per_replica is not None and not popdist.checkNumIpusPerReplica(ipus_per_replica):
        raise ValueError(f"poprun was told {popdist.getNumIpusPerReplica()} IPUs a replica, not {ipus_per_replica}")
    config.experimental.multi_replica_distribution.process_count = popdist.getNumInstances()
    config.experimental.multi_replica_distribution.process_index = popdist.getInstanceIndex()
    if configure_device:
        config.select_ipus = [popdist.getDeviceId()]
    return config
