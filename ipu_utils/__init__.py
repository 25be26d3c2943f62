# SPDX-License-Identifier: Apache-2.0
"""EfficientDet inference on IPUs, GPUs and CPUs, measured."""

__version__ = "1.0"
