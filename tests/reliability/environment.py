# SPDX-License-Identifier: Apache-2.0
"""Machines that lack something, and places where nothing can be written."""

import resource
import shutil
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from reliability.case import MODEL, TENSORFLOW, Case, Outcome, Stage
from reliability.privileges import give_up_root_powers
from reliability.runner import ROOT, command_of, in_process_of_its_own

RUN = ["--exec-file", "{executable}", "--num-repeats", "3"]
PICTURES = [*RUN, "--output-predictions", "--output-dir"]
ENGINE = "POPLAR_ENGINE_OPTIONS"


def _own(given: str, script: str, arguments: List[str], status: int, words: List[str], **more: Any) -> Case:
    return Case(given, arguments, status, words, script, own_process=True, **more)


def _limited(before: Callable[[], None]) -> Callable[[Stage], Outcome]:
    """Play the case in a process in which `before` was called."""

    def run(stage: Stage) -> Outcome:
        command = command_of(stage.case.script, stage.filled(stage.case.arguments))
        return in_process_of_its_own(command, dict(stage.case.environ), before=before)

    return run


def _small_disk() -> None:
    """No file may grow beyond 4 kB: the write that crosses it fails as on a full disk."""
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def _read_only(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out").chmod(0o555)


def _file(folder: Path) -> None:
    (folder / "out").write_text("mine")


def _module(code: str, *names: str) -> Callable[[Path], None]:
    """Modules that stand in front of the real ones on PYTHONPATH={folder}."""

    def prepare(folder: Path) -> None:
        for name in names:
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text(code)

    return prepare


MISSING = "raise ImportError('No module named here')"
FIRST: Dict[str, Optional[str]] = {"PYTHONPATH": "{folder}"}


def _copy_of_project(change: Callable[[Path], None]) -> Callable[[Stage], Outcome]:
    """Play the case in a copy of the project with `change` made to the folder of its native libraries."""

    def run(stage: Stage) -> Outcome:
        copy = stage.folder / "project"
        ignored = shutil.ignore_patterns(".git", ".venv*", "tmp", "outputs", "*.part", "core", "*.o", "__pycache__")
        shutil.copytree(str(ROOT), str(copy), ignore=ignored, symlinks=True)
        change(copy / "NMS" / "host" / "build")
        program = {"throughput": "ipu_inference.py", "embedded": "ipu_embedded_inference.py"}[stage.case.script]
        arguments = ["--device", "cpu", *stage.filled(stage.case.arguments)]
        return in_process_of_its_own([sys.executable, program, *arguments], {}, before=give_up_root_powers, cwd=copy)

    return run


def _operators(build: Path) -> Path:
    from ipu_utils.devices import native

    return build / native.operators_path().relative_to(native.HOST_BUILD)


def _for_another_tensorflow(build: Path) -> None:
    path = _operators(build)
    path.write_bytes(path.read_bytes().replace(b"NMS_HOST_BUILD tensorflow=2.", b"NMS_HOST_BUILD tensorflow=1."))


def _damaged(build: Path) -> None:
    path = _operators(build)
    path.write_bytes(path.read_bytes()[:100])


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


def _untouched(stage: Stage) -> None:
    assert (stage.folder / "out").read_text() == "mine"


def _nothing_left(stage: Stage) -> None:
    left = sorted(path.name for path in (stage.folder / "out").iterdir())
    assert not [name for name in left if name.startswith(".") or name.endswith(".part") or name == "detections.json"], (
        left
    )


def _deep_folder(folder: Path) -> None:
    (folder / "out").mkdir()


CASES = [
    _own(
        "TensorFlow is missing",
        "throughput",
        TENSORFLOW,
        2,
        ["TensorFlow cannot be imported", "pip install -r requirements.txt"],
        prepare=_module(MISSING, "tensorflow"),
        environ=FIRST,
    ),
    _own(
        "TensorFlow is there, the Keras it needs is not",
        "throughput",
        TENSORFLOW,
        2,
        ["tf-keras", "requirements.txt"],
        prepare=_module(MISSING, "tf_keras"),
        environ=FIRST,
        needs=["keras 3"],
    ),
    _own(
        "Keras 3 was imported before",
        "throughput",
        TENSORFLOW,
        2,
        ["needs Keras 2", "TF_USE_LEGACY_KERAS=1"],
        environ={"TF_USE_LEGACY_KERAS": "0"},
        needs=["keras 3"],
    ),
    _own(
        "TensorFlow is missing, and an executable is there",
        "embedded",
        RUN,
        0,
        ["throughput"],
        prepare=_module(MISSING, "tensorflow"),
        environ=FIRST,
        needs=["executable"],
    ),
    _own(
        "TensorFlow is missing, and an executable is to be compiled",
        "embedded",
        MODEL,
        2,
        ["compiling an executable needs TensorFlow"],
        prepare=_module(MISSING, "tensorflow"),
        environ=FIRST,
        needs=["openvino"],
    ),
    _own(
        "OpenVINO is missing",
        "embedded",
        MODEL,
        2,
        ["OpenVINO cannot be imported", "pip install openvino"],
        prepare=_module(MISSING, "openvino"),
        environ=FIRST,
    ),
    *(
        Case(
            f"the operators' library {what}",
            TENSORFLOW,
            0,
            ["TensorFlow's own operators do NMS", word, 'Run "make"', "throughput"],
            slow=True,
            run=_copy_of_project(change),
            needs=["operators", "linux"],
        )
        for what, word, change in (
            ("is missing", "is missing", lambda build: _operators(build).unlink()),
            ("cannot be read", "ermission", lambda build: _operators(build).chmod(0)),
            ("was built for another TensorFlow", "was built for tf-1.", _for_another_tensorflow),
            ("is damaged", "was built for something else", _damaged),
        )
    ),
    Case(
        "the post-processing library is missing",
        RUN,
        2,
        ["libdetect.so is missing", 'Run "make"'],
        "embedded",
        run=_copy_of_project(lambda build: (build / "libdetect.so").unlink()),
        needs=["executable"],
    ),
    Case(
        "the post-processing library cannot be read",
        RUN,
        2,
        ["libdetect.so", "ermission"],
        "embedded",
        run=_copy_of_project(lambda build: (build / "libdetect.so").chmod(0)),
        needs=["executable", "linux"],
    ),
    Case(
        "no permission to write into --output-dir",
        [*PICTURES, "{folder}/out"],
        2,
        ["--output-dir", "cannot be written to (Permission denied)"],
        "embedded",
        _read_only,
        run=_limited(give_up_root_powers),
        needs=["executable", "linux"],
    ),
    Case(
        "--output-dir is a file",
        [*PICTURES, "{folder}/out"],
        2,
        ["--output-dir", "cannot be written to"],
        "embedded",
        _file,
        check=_untouched,
        needs=["executable"],
    ),
    Case(
        "--output-dir below a file",
        [*PICTURES, "{folder}/out/deep"],
        2,
        ["--output-dir", "cannot be written to"],
        "embedded",
        _file,
        check=_untouched,
        needs=["executable"],
    ),
    Case(
        "the disk is full when pictures are written",
        [*PICTURES, "{folder}/out"],
        2,
        ["cannot be written", "--output-dir"],
        "embedded",
        _deep_folder,
        run=_limited(_small_disk),
        check=_nothing_left,
        needs=["executable", "linux"],
    ),
    Case(
        "the disk is full when an executable is written",
        [*MODEL, "--exec-output-dir", "{folder}/out"],
        2,
        ["cannot be written", "TMPDIR"],
        "embedded",
        _deep_folder,
        run=_limited(_small_disk),
        check=_nothing_left,
        needs=["openvino", "linux"],
        slow=True,
    ),
    Case(
        "the disk is full when a record is written",
        [*RUN, "--results-json", "{folder}/out/a.json"],
        2,
        ["cannot be written", "--results-json"],
        "embedded",
        _deep_folder,
        run=_limited(_small_disk),
        check=_nothing_left,
        needs=["executable", "linux"],
    ),
    Case(
        "--results-json is a folder",
        [*RUN, "--results-json", "{folder}"],
        2,
        ["is a folder"],
        "embedded",
        needs=["executable"],
    ),
    Case(
        "--exec-output-dir is a file",
        [*MODEL, "--exec-output-dir", "{folder}/out"],
        2,
        ["--exec-output-dir"],
        "embedded",
        _file,
        check=_untouched,
        needs=["openvino"],
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
    _own(
        "LANG=C and a path that is not ASCII",
        "embedded",
        ["--exec-file", "{folder}/caf\u00e9.effdet"],
        2,
        ["there is no such file"],
        environ={"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        needs=["linux"],
    ),
    _own(
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
        "import sys; from ipu_utils.config import load_config; from ipu_utils.console import run_script;"
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
