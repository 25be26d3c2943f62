# SPDX-License-Identifier: Apache-2.0
"""Play a case: in this process where that is the same to it, else in one of its own."""

import contextlib
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ipu_utils.base.console import run_script
from reliability.case import Outcome, Stage

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = {"throughput": "ipu_inference", "embedded": "ipu_embedded_inference"}
TIME_LIMIT = 300  # seconds for a process on a very busy machine; a hang is a failure


def play(stage: Stage) -> Outcome:
    """Do what the case says and return what came out."""
    case = stage.case
    case.prepare(stage.folder)
    if case.run is not None:
        return case.run(stage)
    arguments = stage.filled(case.arguments)
    environ = {name: None if value is None else stage.filled([value])[0] for name, value in case.environ.items()}
    if case.own_process or case.script not in SCRIPTS:
        return in_process_of_its_own(command_of(case.script, arguments), environ)
    return here(case.script, arguments, environ)


def command_of(script: str, arguments: Sequence[str]) -> List[str]:
    """The command line of a script of the project, for a CPU."""
    device = ["--device", "cpu"] if script in SCRIPTS and "--device" not in arguments else []
    return [sys.executable, str(ROOT / (f"{SCRIPTS[script]}.py" if script in SCRIPTS else script)), *device, *arguments]


def after(before: Callable[[], Any]) -> Callable[[Stage], Outcome]:
    """Play a case in a process in which `before` was called."""

    def run(stage: Stage) -> Outcome:
        command = command_of(stage.case.script, stage.filled(stage.case.arguments))
        return in_process_of_its_own(command, dict(stage.case.environ), before=before)

    return run


def here(script: str, arguments: Sequence[str], environ: Mapping[str, Optional[str]]) -> Outcome:
    """Run a script's main function in this process."""
    main = importlib.import_module(SCRIPTS[script]).main
    device = [] if "--device" in arguments else ["--device", "cpu"]
    out, err = io.StringIO(), io.StringIO()
    with _environment(environ), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = run_script(lambda: main([*device, *arguments]))
        except SystemExit as stop:  # argparse's errors
            status = stop.code
    return Outcome(status, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _environment(changes: Mapping[str, Optional[str]]):
    before = {name: os.environ.get(name) for name in changes}
    _apply(changes)
    try:
        yield
    finally:
        _apply(before)


def _apply(changes: Mapping[str, Optional[str]]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def environment_of(changes: Mapping[str, Optional[str]]) -> Dict[str, str]:
    """This process's environment, changed."""
    environ = {**os.environ, **changes}
    return {name: value for name, value in environ.items() if value is not None}


def in_process_of_its_own(
    command: Sequence[str],
    environ: Mapping[str, Optional[str]],
    before: Optional[Callable[[], Any]] = None,
    cwd: Optional[Path] = None,
) -> Outcome:
    """Run a command. `before` is called in the new process: limits, another user."""
    run = subprocess.run(
        list(command),
        env=environment_of(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        preexec_fn=before,
        cwd=str(cwd or ROOT),
        timeout=TIME_LIMIT,
    )
    return Outcome(run.returncode, run.stdout.decode("utf-8", "replace"), run.stderr.decode("utf-8", "replace"))
