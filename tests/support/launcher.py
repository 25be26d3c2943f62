# SPDX-License-Identifier: Apache-2.0
"""mpirun, where it is, and how tests start instances with it."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import List

MPIRUN = next(filter(os.path.exists, [str(Path(sys.executable).with_name("mpirun"))]), None) or shutil.which("mpirun")
# More instances than cores, and root in a container, are fine here.
ENVIRON = {
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


def available() -> bool:
    """Can tests start instances here?"""
    return sys.platform != "win32" and MPIRUN is not None and importlib.util.find_spec("mpi4py") is not None


def mpirun(instances: int) -> List[str]:
    """What stands before the command of every instance."""
    return [str(MPIRUN), "--oversubscribe", "--bind-to", "none", "-np", str(instances)]
