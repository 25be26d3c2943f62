# SPDX-License-Identifier: Apache-2.0
"""Run a script, and say on standard error when it enters a phase, so that a test can interrupt it there.

python tests/reliability/phases.py throughput|embedded PHASE ARGUMENT...    (PHASE: see STARTS, or measuring)
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Any, Callable

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from ipu_utils.base.console import run_script  # noqa: E402
from ipu_utils.launch import sweep_cells, sweep_runs  # noqa: E402 - found through the path above
from ipu_utils.report import publish  # noqa: E402

MARK = "entering "  # as in `reliability.during`
SCRIPTS = {"throughput": "ipu_inference", "embedded": "ipu_embedded_inference"}
# Where a phase begins: module and name of a function, by script.
STARTS = {
    "importing": dict.fromkeys(SCRIPTS, ("ipu_utils.launch.start", "load_config")),
    "building": dict.fromkeys(SCRIPTS, ("ipu_utils.model.network", "build_network")),
    "waiting for TensorFlow": dict.fromkeys(SCRIPTS, ("ipu_utils.executable.build_process", "build_in_process")),
    "compiling": {"throughput": ("ipu_utils.executable.freeze_graph", "optimise")},
    "exporting": dict.fromkeys(SCRIPTS, ("ipu_utils.executable.build_process", "compile_frozen")),
    "writing": {
        "throughput": ("ipu_utils.launch.throughput", "write_predictions"),
        "embedded": ("ipu_utils.launch.latency", "write_predictions"),
    },
}
MEASURED = 2  # counted calls after which measuring is said to be entered


def announce(phase: str) -> None:
    """Write the phase where the test reads it."""
    os.write(2, f"{MARK}{phase}\n".encode())


class CountedCalls(list):
    """Seconds of counted calls."""

    def append(self, seconds: float) -> None:
        super().append(seconds)
        if len(self) == MEASURED:
            announce("measuring")


def _announced(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        announce(phase)
        return function(*arguments, **options)

    return call


def _watch_cells(phase: str) -> None:
    """Let the processes of a sweep say it."""
    sweep_runs.command_of = lambda script, arguments: [sys.executable, __file__, script, phase, *arguments]


def _watch(script: str, phase: str) -> None:
    if phase == "measuring":
        expect = publish.Publisher.expect

        def expect_counted(self, *arguments):
            self._so_far = CountedCalls(expect(self, *arguments))
            return self._so_far

        publish.Publisher.expect = expect_counted
        return
    module_name, name = STARTS[phase][script]
    if phase == "importing" or module_name in sys.modules:
        module = sys.modules[module_name]
    else:  # what needs TensorFlow is imported here instead, which the phases behind it do not mind
        module = importlib.import_module(module_name)
    setattr(module, name, _announced(phase, getattr(module, name)))


if __name__ == "__main__":
    script, phase, *arguments = sys.argv[1:]
    main = importlib.import_module(SCRIPTS[script]).main
    if len(sweep_cells.cells(arguments, script)) > 1:
        _watch_cells(phase)
    else:
        _watch(script, phase)
    sys.exit(run_script(lambda: main(arguments)))
