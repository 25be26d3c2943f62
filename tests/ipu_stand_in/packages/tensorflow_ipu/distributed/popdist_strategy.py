# SPDX-License-Identifier: Apache-2.0
"""PopDistStrategy: every replica over all instances; here this instance's one."""

import popdist
from tensorflow.python.ipu import ipu_strategy


class PopDistStrategy(ipu_strategy.IPUStrategyV1):
    """Joins the other instances when made."""

    _synchronises = False

    def __init__(
        self,
        ipu_device="/device:IPU:0",
        add_ipu_cross_replica_reductions=True,
        enable_dataset_iterators=True,
        enable_keras_extensions=True,
    ):
        popdist.init()
        super().__init__(
            ipu_device,
            enable_dataset_iterators=enable_dataset_iterators,
            enable_keras_extensions=enable_keras_extensions,
        )

    def update_ipu_config(self, config):
        """Enter this instance's place among the others into `config`."""
        config.experimental.multi_replica_distribution.process_count = popdist.getNumInstances()
        config.experimental.multi_replica_distribution.process_index = popdist.getInstanceIndex()
