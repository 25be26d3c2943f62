# SPDX-License-Identifier: Apache-2.0
"""Comma lists on the command line: every combination is measured in a process of its own, and a table ends the sweep.

A process each, because threads are set and memory is laid out once a process: a cell measures the same inside a sweep
as alone, and one that fails, whatever it does to its process, does not lose the others. No TensorFlow here.
"""

import os
import sys
from typing import Optional, Sequence

from ipu_utils.base.errors import UserError
from ipu_utils.launch.sweep_cells import cells

LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "POPDIST_NUM_TOTAL_REPLICAS")


def run_if_asked(argv: Optional[Sequence[str]], script: str) -> Optional[int]:
    """Run the sweep of a command line and return its exit status; None when there is no comma list on it.

    Args:
      argv: arguments without the program's name; None takes the process's own.
      script: "throughput" or "embedded".

    Raises:
      SystemExit: a cell's options are wrong; status 2.
      UserError: the sweep cannot be run.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    found = cells(argv, script)
    if len(found) == 1 and not found[0].values:
        return None
    if any(os.environ.get(name, "1") != "1" for name in LAUNCHERS):
        raise UserError("comma lists start processes of their own: give mpirun or poprun one combination at a time.")
    from ipu_utils.launch.sweep_runs import run_all  # NumPy, for which a single run need not wait

    return run_all(found, argv, script)
