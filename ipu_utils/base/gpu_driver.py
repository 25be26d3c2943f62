# SPDX-License-Identifier: Apache-2.0
"""Whether a GPU may be there, asked before TensorFlow is imported."""

import os


def has_gpu_driver() -> bool:
    """May there be a GPU? Where the system does not tell, there may."""
    return os.name != "posix" or any(os.path.exists(node) for node in ("/dev/nvidia0", "/dev/kfd", "/dev/dxg"))
