# SPDX-License-Identifier: Apache-2.0
"""What happens to a run while it runs: signals, two runs at once, native code that fails."""

import signal
from typing import Callable, List

from reliability.case import MODEL, Case, Outcome, Stage
from reliability.during import act_during

SECONDS = 2.0
DELAY = 0.3  # seconds into the phase
ATTEMPTS = 3  # on a machine that is busy with something else
ENDLESS = ["--num-repeats", "1000000", "--output-predictions", "--output-dir", "{folder}/out"]
SCRIPT_RUNS = {
    "throughput": [*MODEL, "--benchmark-repeats", "2", *ENDLESS, "--results-json", "{folder}/old.json"],
    "embedded": ["--exec-file", "{executable}", *ENDLESS, "--results-json", "{folder}/old.json"],
    "compiling embedded": [*MODEL, "--model-precision", "float", "--exec-output-dir", "{folder}/kept"],
}
WRITING_EMBEDDED = ["--num-repeats", "400"]
OLD = '{"old": true}'


def _interrupted(script: str, phase: str, number: int) -> Callable[[Stage], Outcome]:
    kind = "compiling embedded" if script == "embedded" and phase in ("importing", "building", "compiling") else script
    if phase == "writing":  # few counted calls, and many pictures
        repeats = ["--num-repeats", "2", "--benchmark-repeats", "400"] if script == "throughput" else WRITING_EMBEDDED
    else:
        repeats = []

    def run(stage: Stage) -> Outcome:
        arguments = stage.filled([*SCRIPT_RUNS[kind], *repeats])
        (stage.folder / "old.json").write_text(OLD)
        for _ in range(ATTEMPTS):
            delay = 0.05 if phase == "writing" else DELAY
            ended = act_during(phase, script, arguments, lambda process: process.send_signal(number), delay)
            if ended.seconds <= SECONDS:
                break
        assert ended.seconds <= SECONDS, ended
        return ended.outcome

    return run


def _nothing_half_done(stage: Stage) -> None:
    """The old record is there, and no file that is not complete."""
    assert (stage.folder / "old.json").read_text() == OLD
    for name in ("out", "kept"):
        folder = stage.folder / name
        left = [path.name for path in folder.iterdir()] if folder.exists() else []
        assert not [path for path in left if path.startswith(".") or path.endswith(".part")], left
        assert "detections.json" not in left and not [path for path in left if path.endswith(".effdet")]


def _signals() -> List[Case]:
    cases = []
    for script, phases in (("throughput", ("importing", "building", "compiling", "measuring", "writing")),
                           ("embedded", ("importing", "building", "compiling", "measuring", "writing"))):  # fmt: skip
        for phase in phases:
            for number in (signal.SIGINT, signal.SIGTERM):
                partial = phase in ("measuring", "writing")
                words = ["Benchmark interrupted: partial results", "throughput"] if partial else []
                cases.append(
                    Case(
                        f"{number.name} while the {script} script is {phase}",
                        status=128 + number,
                        words=words,
                        run=_interrupted(script, phase, number),
                        check=_nothing_half_done,
                        needs=["executable" if script == "embedded" else "tensorflow", "linux"],
                        slow=not (script == "embedded" and phase == "measuring"),
                    )
                )
    return cases


CASES = [*_signals()]
