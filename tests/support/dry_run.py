# SPDX-License-Identifier: Apache-2.0
"""--dry-run of both scripts, within this process."""

import contextlib
import io
from typing import List

import ipu_embedded_inference
import ipu_inference

MAINS = {"throughput": ipu_inference.main, "embedded": ipu_embedded_inference.main}


def dry_run(*arguments: str, script: str = "throughput") -> List[str]:
    """Lines of standard output. A mistake on the command line raises SystemExit, another one UserError."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert MAINS[script](["--device", "cpu", "--dry-run", *map(str, arguments)]) == 0
    return said.getvalue().splitlines()


def before_options(lines: List[str]) -> List[str]:
    """What is said before the list of all options."""
    return lines[: lines.index("options:")]
