# SPDX-License-Identifier: Apache-2.0
"""Variables, streams and terminals that are not as usual."""

import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import Callable

from reliability.case import TINY, Case, Outcome, Stage
from reliability.runner import ROOT, after, command_of, in_process_of_its_own

RUN = ["--exec-file", "{executable}", "--num-repeats", "3"]
QUOTAS = Path("/sys/fs/cgroup/cpu")
ENGINE = "POPLAR_ENGINE_OPTIONS"


def _through_head(stage: Stage) -> Outcome:
    """Close the reader of the output after its first line."""
    import shlex

    command = " ".join(shlex.quote(part) for part in command_of("embedded", stage.filled(stage.case.arguments)))
    return in_process_of_its_own(["bash", "-c", f"{{ {command}; echo status $? >&2; }} | head -n 1"], {})


def _closed(redirection: str) -> Callable[[Stage], Outcome]:
    def run(stage: Stage) -> Outcome:
        command = command_of("embedded", stage.filled(stage.case.arguments))
        return in_process_of_its_own(["bash", "-c", f'exec "$@" {redirection}', "bash", *command], {})

    return run


def _below_a_quota(stage: Stage) -> Outcome:
    """Play the case in a control group that may use one core."""
    group = QUOTAS / f"reliability-{uuid.uuid4().hex}"
    group.mkdir()

    def join() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    try:
        (group / "cpu.cfs_quota_us").write_text("100000")
        command = command_of("throughput", stage.filled(stage.case.arguments))
        return in_process_of_its_own(command, {}, before=join)
    finally:
        group.rmdir()


CASES = [
    Case(
        "a container that may use one core",
        TINY,
        0,
        [" 1 threads)", ", one stream"],
        run=_below_a_quota,
        needs=["quota", "openvino", "libdetect"],
        slow=True,
    ),
    Case(
        "a number of instances with 5,000 digits",
        environ={"OMPI_COMM_WORLD_SIZE": "9" * 5000},
        words=["OMPI_COMM_WORLD_SIZE or PMI_SIZE is a number of 5000 digits"],
    ),
    Case(
        "standard output is on a full disk",
        RUN,
        2,
        ["No space left on device"],
        "embedded",
        run=_closed("> /dev/full"),
        needs=["executable", "linux"],
    ),
    Case("standard output is closed", RUN, 0, [], "embedded", run=_closed(">&-"), needs=["executable", "linux"]),
    Case(
        "standard error is closed",
        RUN,
        0,
        ["throughput"],
        "embedded",
        run=_closed("2>&-"),
        needs=["executable", "linux"],
    ),
    Case(
        "standard input is closed",
        RUN,
        0,
        ["throughput"],
        "embedded",
        run=_closed("<&-"),
        needs=["executable", "linux"],
    ),
    Case(
        "the output is read by `head -n 1`",
        [*RUN, "--num-repeats", "300"],
        0,
        ["status 0"],
        "embedded",
        run=_through_head,
        needs=["executable", "linux"],
    ),
    Case.own(
        "LANG=C and a path that is not ASCII",
        "embedded",
        ["--exec-file", "{folder}/caf\u00e9.effdet"],
        2,
        ["there is no such file"],
        environ={"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        needs=["linux"],
    ),
    Case.own(
        "LANG=C and an image whose name is not ASCII",
        "embedded",
        [*RUN, "--dataset-type", "image-directory", "--image-path", "{folder}/\u00e9"],
        3,
        ["throughput", "skipped"],
        environ={"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        prepare=lambda folder: _two_images(folder / "\u00e9"),
        needs=["executable", "linux"],
    ),
    Case(
        "POPLAR_ENGINE_OPTIONS that is no JSON",
        ["--device", "ipu"],
        2,
        [ENGINE, "is not JSON", "Expected something like"],
        environ={ENGINE: '{"autoReport.all": "true"'},
        run=lambda stage: _on_an_ipu(stage),
    ),
    Case(
        "POPLAR_ENGINE_OPTIONS that is a list",
        ["--device", "ipu"],
        2,
        [ENGINE, "must be a JSON object"],
        environ={ENGINE: "[]"},
        run=lambda stage: _on_an_ipu(stage),
    ),
    Case(
        "TF_POPLAR_FLAGS against --synthetic false",
        ["--device", "ipu", "--synthetic", "false"],
        2,
        ["TF_POPLAR_FLAGS has --use_synthetic_data"],
        environ={"TF_POPLAR_FLAGS": "--use_synthetic_data"},
        run=lambda stage: _on_an_ipu(stage),
    ),
    Case(
        "no terminal, no TERM, and a width of 0 columns",
        RUN,
        0,
        ["throughput"],
        "embedded",
        environ={"TERM": None, "COLUMNS": "0", "LINES": "0"},
        run=after(os.setsid),
        needs=["executable", "linux"],
    ),
    Case.own(
        "help for a terminal of one column",
        "embedded",
        ["--help"],
        0,
        ["--exec-file"],
        environ={"COLUMNS": "1"},
    ),
    Case(
        "no current folder",
        RUN,
        0,
        ["throughput"],
        "embedded",
        run=lambda stage: _without_folder(stage),
        needs=["executable", "linux"],
    ),
]


def _two_images(folder: Path) -> None:
    folder.mkdir()
    shutil.copy(str(sorted((ROOT / "tests" / "data" / "images").glob("*.jpg"))[0]), str(folder / "gr\u00fcn.jpg"))
    (folder / "\u00e4.jpg").write_text("text")


def _on_an_ipu(stage: Stage) -> Outcome:
    """Read the configuration as on a machine with an IPU."""
    code = (
        "import sys; from ipu_utils.config.run_config import load_config\n"
        "from ipu_utils.base.console import run_script;"
        "sys.exit(run_script(lambda: load_config(sys.argv[1:], choose_device=lambda asked: 'ipu') and None))"
    )
    environ = {**dict(stage.case.environ), "PYTHONPATH": str(ROOT)}
    return in_process_of_its_own([sys.executable, "-c", code, *stage.case.arguments], environ)


def _without_folder(stage: Stage) -> Outcome:
    """Run in a folder that somebody has removed."""
    gone = stage.folder / "gone"
    gone.mkdir()
    command = command_of("embedded", stage.filled(stage.case.arguments))
    return in_process_of_its_own(["bash", "-c", 'rmdir "$PWD" && exec "$@"', "bash", *command], {}, cwd=gone)
