# SPDX-License-Identifier: Apache-2.0
"""A folder that all processes of a test run share: what one of them has compiled, the others need not compile again."""

import os
from pathlib import Path


def shared_folder(tmp_path_factory, name: str) -> Path:
    """A folder of this test run; pytest-xdist gives each of its processes one below the run's."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"
    folder.mkdir(exist_ok=True)
    return folder
