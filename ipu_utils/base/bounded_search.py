# SPDX-License-Identifier: Apache-2.0
"""Regular expressions of others, searched for a limited time: some take longer than anybody lives."""

import json
import re
import subprocess
import sys
import warnings
from typing import List, Pattern

SEARCH_SECONDS = 10.0
# Python's engine cannot be told to stop, a process can.
_SEARCH = (
    "import json, re, sys, warnings; warnings.simplefilter('ignore'); given = json.load(sys.stdin);"
    "json.dump(re.findall(*given), sys.stdout)"
)


def compiled(expression: str) -> Pattern[str]:
    """Compile it; ValueError, which says why, where that cannot be done."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what will mean something else in a later Python
            return re.compile(expression)
    except (re.error, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError("it is nested too deeply" if isinstance(error, RecursionError) else str(error)) from error


def find_all(expression: str, text: str) -> List[str]:
    """As `re.findall` for an expression with one group; TimeoutError when it took more than SEARCH_SECONDS."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _SEARCH],
            input=json.dumps([expression, text]).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for its parent, which ends it
            timeout=SEARCH_SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"the regexp found no end within {SEARCH_SECONDS:g} s") from error
    return json.loads(done.stdout)
