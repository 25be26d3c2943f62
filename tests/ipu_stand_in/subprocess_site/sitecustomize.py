# SPDX-License-Identifier: Apache-2.0
"""Activate the stand-in at the start of a Python process that has this folder on PYTHONPATH."""

import importlib.util
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location("ipu_stand_in", Path(__file__).resolve().parents[1] / "__init__.py")
_module = importlib.util.module_from_spec(_spec)
sys.modules["ipu_stand_in"] = _module
_spec.loader.exec_module(_module)
_module.activate()
