# SPDX-License-Identifier: Apache-2.0
"""Stand-in for `tensorflow.python.ipu.distributed`."""

from tensorflow.python.ipu.distributed.host_collective_ops import allgather, allreduce, broadcast  # noqa: F401
