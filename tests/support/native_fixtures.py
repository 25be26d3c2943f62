# SPDX-License-Identifier: Apache-2.0
"""Fixture that builds the host libraries for this interpreter; for `pytest_plugins`."""

import shutil
import subprocess
import sys

import pytest

from ipu_utils.nms import libraries


@pytest.fixture(scope="session")
def host_libraries():
    """Run make, which does nothing where nothing changed, and return the folder it builds into."""
    if shutil.which("make") is None or shutil.which("g++") is None:
        pytest.skip("building the host libraries needs make and g++")
    command = ["make", "-C", str(libraries.ROOT / "NMS" / "host"), f"PYTHON={sys.executable}"]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode == 0, result.stdout
    return libraries.HOST_BUILD
