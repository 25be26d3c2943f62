# SPDX-License-Identifier: Apache-2.0
"""Signals at the edges of a program, sent by stand-in modules: during its first import, in an engine's, at its end."""

import signal
import textwrap
from pathlib import Path
from typing import Any, Callable, Dict, List

from reliability.case import MODEL, Case

SENT = {  # what is interrupted: module and what it does
    "the first module is imported": ("argparse", "{send}"),
    "OpenVINO is imported": (
        "openvino",
        """
        try:  # as extension modules do
            {send}
        except BaseException as error:
            raise ImportError(str(error)) from error
        """,
    ),
    "Python ends, behind --help": (
        "sitecustomize",
        """
        import atexit
        def end():
            {send}
        atexit.register(end)
        """,
    ),
}


def _module(name: str, code: str, number: int) -> Callable[[Path], Any]:
    send = f"import os, time; os.kill(os.getpid(), {int(number)}); time.sleep(30)"
    return lambda folder: (folder / f"{name}.py").write_text(textwrap.dedent(code).replace("{send}", send))


def _cases() -> List[Case]:
    environ: Dict[str, Any] = {"PYTHONPATH": "{folder}"}
    return [
        Case.own(
            f"{number.name} while {what}",
            "throughput",
            ["--help"] if name == "sitecustomize" else MODEL,
            128 + number,
            [f"interrupted by {number.name}"],
            prepare=_module(name, code, number),
            environ=environ,
            needs=["linux"],
        )
        for what, (name, code) in SENT.items()
        for number in (signal.SIGINT, signal.SIGTERM)
    ]


CASES = _cases()
