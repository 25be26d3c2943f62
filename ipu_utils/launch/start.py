# SPDX-License-Identifier: Apache-2.0
"""What both scripts do: answer the command line, then run what it asks for."""

from typing import Callable, Optional, Sequence

from ipu_utils.config.run_config import load_config
from ipu_utils.launch.sweep import run_if_asked


def start(
    script: str, argv: Optional[Sequence[str]] = None, choose_device: Optional[Callable[[str], str]] = None
) -> int:
    """Run a script and return its exit status.

    Args:
      script: "throughput" or "embedded".
      argv: arguments without the program's name; None takes the process's own.
      choose_device: resolves --device; None takes `ipu_utils.base.hardware.choose_device`.

    Raises:
      SystemExit: the command line is wrong, or asks for help.
      UserError: it cannot be run.
    """
    swept = run_if_asked(argv, script)
    if swept is not None:
        return swept
    config = load_config(argv, script=script, choose_device=choose_device)
    # A command line that is wrong, or asks for help, has been answered by now: before NumPy was imported.
    from ipu_utils.launch.run import run

    return run(config)
