# SPDX-License-Identifier: Apache-2.0
"""EfficientDet inference on IPUs, GPUs and CPUs, measured."""

import sys

__version__ = "1.0"

if sys.version_info < (3, 8):  # noqa: UP036 - its standard library lacks modules, which would be taken for packages
    version = ".".join(map(str, sys.version_info[:3]))
    sys.stderr.write(
        f"error: this is Python {version}, needed is 3.9 or later (for an IPU 3.8): run `make setup PYTHON=python3.9`, "
        "or with another one, then `. .venv/bin/activate`.\n"
    )
    sys.exit(2)
