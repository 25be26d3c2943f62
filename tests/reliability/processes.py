# SPDX-License-Identifier: Apache-2.0
"""Signals to runs that are several processes: sweeps, and instances under mpirun."""

import json
import os
import signal
from typing import Any, Callable, List

import launcher
import psutil

from reliability.case import TENSORFLOW, Case, Outcome, Stage
from reliability.during import SIGNAL_SECONDS, Ended, act_during

ATTEMPTS = 3  # on a machine that is busy with something else
MPIRUN_SECONDS = 3.0  # that mpirun takes for itself
TWO_CELLS = ["--micro-batch-size", "1,01"]  # one batch, written in two ways
CELL = ["--exec-file", "{executable}", "--num-repeats", "300", *TWO_CELLS]
SECOND = "== 2 of 2"
ENDLESS = ["--exec-file", "{executable}", "--num-repeats", "1000000"]
PARTIAL = "Benchmark interrupted: partial results"


def _soon(attempt: Callable[[], Ended], limit: float) -> Outcome:
    """The outcome of an attempt that ended soon enough."""
    for _ in range(ATTEMPTS):
        ended = attempt()
        if ended.seconds <= limit:
            break
    assert ended.seconds <= limit, ended
    return ended.outcome


def _to_all(number: int) -> Callable[[Any], None]:
    """As a terminal does on Ctrl-C."""
    return lambda run: os.killpg(run.pid, number)


def _to_one(number: int) -> Callable[[Any], None]:
    """As `kill` does."""
    return lambda run: run.send_signal(number)


def _twice(number: int) -> Callable[[Any], None]:
    """As an impatient user does."""

    def act(run: Any) -> None:
        for _ in range(2):
            os.killpg(run.pid, number)

    return act


def _sweep(phase: str, act: Callable[[Any], None]) -> Callable[[Stage], Outcome]:
    def run(stage: Stage) -> Outcome:
        arguments = [*stage.filled(stage.case.arguments), "--results-json", "-"]
        return _soon(lambda: act_during(phase, stage.case.script, arguments, act, 0.1, after=SECOND), SIGNAL_SECONDS)

    return lambda stage: _first_cell_kept(run(stage))


def _first_cell_kept(outcome: Outcome) -> Outcome:
    """The record of the cell that was complete is there, and its line of the table."""
    assert json.loads(outcome.out)["model"], outcome
    rows = [line.split() for line in outcome.err.splitlines() if line.startswith("  1  ")]
    assert len(rows) == 1 and rows[0][5] in ("ok", "UNSTABLE") and float(rows[0][6]) > 0, outcome
    return outcome


def _to_first_instance(number: int) -> Callable[[Any], None]:
    def act(run: Any) -> None:
        for process in psutil.Process(run.pid).children(recursive=True):
            if process.environ().get("OMPI_COMM_WORLD_RANK") == "0" or process.environ().get("PMI_RANK") == "0":
                process.send_signal(number)

    return act


def _instances(act: Callable[[Any], None]) -> Callable[[Stage], Outcome]:
    def run(stage: Stage) -> Outcome:
        record = stage.folder / "old.json"
        record.write_text("{}")
        arguments = [*stage.filled(stage.case.arguments), "--results-json", str(record)]
        more = {"launcher": launcher.mpirun(2), "environ": launcher.ENVIRON}
        outcome = _soon(
            lambda: act_during("measuring", "embedded", arguments, act, 0.5, **more), SIGNAL_SECONDS + MPIRUN_SECONDS
        )
        assert record.read_text() == "{}" and list(stage.folder.iterdir()) == [record]
        assert outcome.status not in (0, 2), outcome  # which one is mpirun's choice, and differs between releases
        return Outcome(stage.case.status, outcome.out, outcome.err)

    return run


def _sweeps() -> List[Case]:
    deeds = [
        ("Ctrl-C", signal.SIGINT, _to_all(signal.SIGINT)),
        ("Ctrl-C twice", signal.SIGINT, _twice(signal.SIGINT)),
        ("SIGTERM", signal.SIGTERM, _to_one(signal.SIGTERM)),
    ]
    return [
        Case(
            f"{given} while a sweep measures its second combination",
            CELL,
            128 + number,
            [PARTIAL, "images/s"],
            "embedded",
            run=_sweep("measuring", act),
            needs=["executable", "linux"],
            slow=given != "Ctrl-C twice",
        )
        for given, number, act in deeds
    ]


CASES = [
    *_sweeps(),
    Case(
        "SIGTERM while a sweep builds the network of its second combination",
        [*TENSORFLOW, *TWO_CELLS],
        128 + signal.SIGTERM,
        ["images/s"],
        run=_sweep("building", _to_one(signal.SIGTERM)),
        needs=["tensorflow", "linux"],
        slow=True,
    ),
    *(
        Case(
            f"{number.name} to the first of two instances under mpirun",
            ENDLESS,
            128 + number,
            [PARTIAL, f"instance 0 of 2: interrupted by {number.name}"],
            "embedded",
            run=_instances(_to_first_instance(number)),
            needs=["executable", "mpirun", "linux"],
            slow=True,
        )
        for number in (signal.SIGINT, signal.SIGTERM)
    ),
    *(
        Case(  # Open MPI 5 passes nothing on any more that instances print then, Open MPI 4 does
            f"{number.name} to mpirun itself while two instances measure",
            ENDLESS,
            1,
            [],
            "embedded",
            run=_instances(_to_one(number)),
            needs=["executable", "mpirun", "linux"],
            slow=True,
        )
        for number in (signal.SIGINT, signal.SIGTERM)
    ),
]
