# SPDX-License-Identifier: Apache-2.0
"""Fixtures that open the IPU device on the stand-in; for `pytest_plugins`."""

import ipu_stand_in
import pytest

from ipu_utils.backends.devices import get_device
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
        return get_device("ipu", config)

    return run
