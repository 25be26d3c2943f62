#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compile EfficientDet into a file and measure the latency of single requests against that file, on an IPU or a CPU.

python ipu_embedded_inference.py --config efficientdet-low-latency
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # PYTHONSAFEPATH leaves it out

from ipu_utils.base import program

if __name__ == "__main__":
    program.begin()

from typing import Optional, Sequence

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    from ipu_utils.base import hardware
    from ipu_utils.base.console import run_script
    from ipu_utils.base.errors import UserError
    from ipu_utils.launch.start import start


def choose_device(requested: str) -> str:
    """Resolve --device: executables are an IPU's or a CPU's, and `auto` takes an attached IPU before the CPU."""
    if requested == "gpu":
        raise UserError("--device gpu: executables are compiled for an IPU or a CPU. A GPU runs ipu_inference.py.")
    if requested == "auto":
        return "ipu" if hardware.PROBES["ipu"]().available else "cpu"
    return hardware.choose_device(requested)


def main(argv: Optional[Sequence[str]] = None) -> int:
    return start("embedded", argv, choose_device)


if __name__ == "__main__":
    program.run(lambda: run_script(main))
