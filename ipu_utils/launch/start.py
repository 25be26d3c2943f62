# SPDX-License-Identifier: Apache-2.0
"""What both scripts do: answer the command line, then run what it asks for, or the sweep of its comma lists.

A sweep measures every combination in a process of its own, because threads are set and memory is laid out once a
process: a cell measures the same inside a sweep as alone, and one that fails, whatever it does to its process, does not
lose the others. No TensorFlow here.
"""

import os
import sys
from typing import Callable, Optional, Sequence

from ipu_utils.base.errors import UserError
from ipu_utils.config.run_config import load_config
from ipu_utils.launch.sweep_cells import cells

LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "POPDIST_NUM_TOTAL_REPLICAS")


def start(
    script: str, argv: Optional[Sequence[str]] = None, choose_device: Optional[Callable[[str], str]] = None
) -> int:
    """Run a script and return its exit status.

    Args:
      script: "throughput" or "embedded".
      argv: arguments without the program's name; None takes the process's own.
      choose_device: resolves --device; None takes `ipu_utils.base.hardware.choose_device`.

    Raises:
      SystemExit: the command line, or that of a combination, is wrong, or asks for help.
      UserError: it cannot be run.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    found = cells(argv, script)
    if len(found) > 1 or found[0].values:
        if any(os.environ.get(name, "1") != "1" for name in LAUNCHERS):
            raise UserError(
                "comma lists start processes of their own: give mpirun or poprun one combination at a time."
            )
        from ipu_utils.launch.sweep_runs import run_all  # NumPy, for which a single run need not wait

        return run_all(found, argv, script)
    config = load_config(argv, script=script, choose_device=choose_device)
    # A command line that is wrong, or asks for help, has been answered by now: before NumPy was imported.
    from ipu_utils.launch.run import run

    return run(config)
