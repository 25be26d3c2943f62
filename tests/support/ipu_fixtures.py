# SPDX-License-Identifier: Apache-2.0
"""Fixtures that open the IPU device on the stand-in; for `pytest_plugins`."""

import importlib

import ipu_stand_in
import pytest

from ipu_utils.config.run_config import load_config


@pytest.fixture
def sdk():
    """The stand-in's `tensorflow.python.ipu`, as in a new process."""
    with ipu_stand_in.fresh_process() as ipu:
        yield ipu


@pytest.fixture
def open_ipu(sdk):
    """Open the IPU for a command line."""

    def run(*arguments, script="throughput"):
        config = load_config(["--device", "ipu", *arguments], script, choose_device=lambda requested: requested)
        return importlib.import_module("ipu_utils.backends.ipu").create(config)

    return run
