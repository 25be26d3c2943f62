#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure the throughput of EfficientDet inference on an IPU, a GPU or a CPU.

python ipu_inference.py --model-name efficientdet-d0
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
    from ipu_utils.base.console import run_script
    from ipu_utils.launch.start import start


def main(argv: Optional[Sequence[str]] = None) -> int:
    return start("throughput", argv)


if __name__ == "__main__":
    program.run(lambda: run_script(main))
