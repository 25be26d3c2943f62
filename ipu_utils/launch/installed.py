# SPDX-License-Identifier: Apache-2.0
"""Which engines can be used here, asked in a process of its own: a sweep must not hold TensorFlow while it measures."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Dict, Optional, Sequence

from ipu_utils.backends.open import missing
from ipu_utils.base import missing_packages
from ipu_utils.base.printable import one_line

ROOT = Path(__file__).resolve().parents[2]
# Not `-m`: that would look for this package in the current folder first.
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from ipu_utils.launch import installed; installed.tell()"


def missing_engines(words: Sequence[str]) -> Dict[str, str]:
    """Say of the engines that cannot be used what they lack, and what to install.

    Args:
      words: of --engine.
    """
    if not words:
        return {}
    command = [sys.executable, "-c", PROGRAM, str(ROOT), *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):  # importing one has ended the process: each run says it of its own
        return {}


def tell() -> None:
    """Print in JSON what `missing_engines` returns, about the engines on this process's command line."""
    found: Dict[str, Optional[str]] = {}
    for word in sys.argv[2:]:
        try:
            found[word] = missing(word)
        except Exception as error:  # whatever a broken installation raises
            found[word] = missing_packages.describe(error) or f"{type(error).__name__}: {one_line(error)}"
    print(json.dumps({word: reason for word, reason in found.items() if reason is not None}))
