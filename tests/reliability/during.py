# SPDX-License-Identifier: Apache-2.0
"""Do something to a script when it enters a phase."""

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

from reliability.case import Outcome
from reliability.runner import ROOT, environment_of

PHASES = str(ROOT / "tests" / "reliability" / "phases.py")
MARK = "entering "
# A signal is to end the process within two seconds. Beside other tests, of which two run at a time, it may take twice
# that; `make reliability`, which writes the document, has the machine for itself.
SIGNAL_SECONDS = 2.0 if os.environ.get("RELIABILITY_TABLE") else 4.0
TIME_LIMIT = 100  # seconds, on a busy machine


class Ended(NamedTuple):
    """What came out, and how long after the deed the process was gone."""

    outcome: Outcome
    seconds: float


def act_during(
    phase: str,
    script: str,
    arguments: Sequence[str],
    act: Callable[[Any], Any],
    delay: float,
    after: str = "",
    launcher: Sequence[str] = (),
    environ: Dict[str, str] = {},  # noqa: B006 - it is only read
) -> Ended:
    """Start a script on a CPU, call `act` with its process `delay` seconds after it enters a phase, and wait for it.

    Args:
      phase: as in phases.py.
      script: "throughput" or "embedded".
      arguments: of the script.
      act: what to do; the process leads a group of its own, as one started from a terminal does.
      delay: seconds.
      after: what a line on standard error starts with before which the phase does not count.
      launcher: what starts the script.
      environ: variables.
    """
    run = subprocess.Popen(
        [*launcher, sys.executable, PHASES, script, phase, "--device", "cpu", *arguments],
        env=environment_of(environ),
        cwd=str(ROOT),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    stuck = threading.Timer(TIME_LIMIT, run.kill)
    stuck.start()
    out: List[str] = []
    reader = threading.Thread(target=lambda: out.append(run.stdout.read()))
    reader.start()
    err: List[str] = []
    for line in run.stderr:
        if line == f"{MARK}{phase}\n" and not after:
            break
        err.append(line)
        after = "" if after and line.startswith(after) else after
    time.sleep(delay)
    start = time.monotonic()
    try:
        act(run)
    except BaseException:
        os.killpg(run.pid, signal.SIGKILL)
        raise
    err.append(run.stderr.read())
    status = run.wait()
    seconds = time.monotonic() - start
    stuck.cancel()
    reader.join()
    return Ended(Outcome(status, out[0], "".join(err)), seconds)
