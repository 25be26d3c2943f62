# SPDX-License-Identifier: Apache-2.0
"""Root may read and write everything: this makes a new process obey permissions whoever runs it."""

import ctypes
import os
import sys

_DROP_FROM_BOUNDING_SET = 24  # PR_CAPBSET_DROP
_POWERS = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


def give_up_root_powers() -> None:
    """Call it in a new process before it starts its program; the program then obeys permission bits, root or not."""
    if sys.platform == "linux" and os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for power in _POWERS:
            if libc.prctl(_DROP_FROM_BOUNDING_SET, power, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")
