# SPDX-License-Identifier: Apache-2.0
"""TensorFlow, Keras, OpenVINO and the libraries of NMS/: missing, too old, too new, or something else."""

import shutil
import sys
from pathlib import Path
from typing import Callable, Dict, Optional

from reliability.case import MODEL, TENSORFLOW, TINY, Case, Outcome, Stage
from reliability.privileges import give_up_root_powers
from reliability.runner import ROOT, in_process_of_its_own

RUN = ["--exec-file", "{executable}", "--num-repeats", "3"]
INSTALL = "pip install -r requirements.txt"


def _module(code: str, *names: str) -> Callable[[Path], None]:
    """Modules that stand in front of the real ones on PYTHONPATH={folder}."""

    def prepare(folder: Path) -> None:
        for name in names:
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text(code)

    return prepare


MISSING = "raise ImportError('No module named here')"
FIRST: Dict[str, Optional[str]] = {"PYTHONPATH": "{folder}"}


def _stub(given: str, code: str, *words: str, package: str = "tensorflow", **more) -> Case:
    """Another package stands in a package's place."""
    prepare = _module(code, package)
    return Case.own(given, "throughput", TENSORFLOW, 2, [*words, INSTALL], prepare=prepare, environ=FIRST, **more)


def _copy_of_project(change: Callable[[Path], None]) -> Callable[[Stage], Outcome]:
    """Play the case in a copy of the project with `change` made to the folder of its native libraries."""

    def run(stage: Stage) -> Outcome:
        copy = stage.folder / "project"
        ignored = shutil.ignore_patterns(".git", ".venv*", "tmp", "*.part", "core", "*.o", "__pycache__")
        shutil.copytree(str(ROOT), str(copy), ignore=ignored, symlinks=True)
        change(copy / "NMS" / "host" / "build")
        program = {"throughput": "ipu_inference.py", "embedded": "ipu_embedded_inference.py"}[stage.case.script]
        arguments = ["--device", "cpu", *stage.filled(stage.case.arguments)]
        return in_process_of_its_own([sys.executable, program, *arguments], {}, before=give_up_root_powers, cwd=copy)

    return run


def _damaged(build: Path) -> None:
    path = build / "libdetect.so"
    path.write_bytes(path.read_bytes()[:100])


CASES = [
    Case.own(
        "TensorFlow is missing",
        "throughput",
        TENSORFLOW,
        2,
        ["TensorFlow cannot be imported", "pip install -r requirements.txt"],
        prepare=_module(MISSING, "tensorflow"),
        environ=FIRST,
    ),
    _stub("TensorFlow 3", "__version__ = '3.0.0'", "TensorFlow 3.0.0 is too new", "tested with 2.6, 2.20 and 2.21"),
    _stub("TensorFlow 2.4", "__version__ = '2.4.1'", "TensorFlow 2.4.1 is too old", "from 2.6 on"),
    _stub("TensorFlow 1", "__version__ = '1.15.5'", "TensorFlow 1.15.5 is too old"),
    _stub("a package named tensorflow that is something else", "", "is not TensorFlow", "tensorflow/__init__.py"),
    _stub("a later TensorFlow 2 without tf.keras", "__version__ = '2.99.0'", "TensorFlow 2.99.0 needs", "tf-keras"),
    _stub(
        "TensorFlow with a package beside it that does not fit",
        "raise TypeError('Descriptors cannot be created directly.')",
        "TensorFlow cannot be imported (Descriptors cannot be created directly.)",
    ),
    _stub(
        "a tf-keras that does not fit TensorFlow",
        "import tensorflow\ntensorflow.compat.v9",
        "tf-keras of the same version",
        package="tf_keras",
        needs=["keras 3"],
        slow=True,
    ),
    Case.own(
        "a package named openvino that is something else",
        "throughput",
        [*TINY, "--engine", "openvino"],
        2,
        ["is not OpenVINO", INSTALL],
        prepare=_module("", "openvino"),
        environ=FIRST,
    ),
    Case.own(
        "TensorFlow is there, the Keras it needs is not",
        "throughput",
        TENSORFLOW,
        2,
        ["tf-keras", "requirements.txt"],
        prepare=_module(MISSING, "tf_keras"),
        environ=FIRST,
        needs=["keras 3"],
        slow=True,
    ),
    Case.own(
        "Keras 3 was imported before",
        "throughput",
        TENSORFLOW,
        2,
        ["needs Keras 2", "TF_USE_LEGACY_KERAS=1"],
        environ={"TF_USE_LEGACY_KERAS": "0"},
        needs=["keras 3"],
        slow=True,
    ),
    Case.own(
        "TensorFlow is missing, and an executable is there",
        "embedded",
        RUN,
        0,
        ["throughput"],
        prepare=_module(MISSING, "tensorflow"),
        environ=FIRST,
        needs=["executable"],
    ),
    Case.own(
        "TensorFlow is missing, and an executable is to be compiled",
        "embedded",
        MODEL,
        2,
        ["compiling an executable needs TensorFlow"],
        prepare=_module(MISSING, "tensorflow"),
        environ=FIRST,
        needs=["openvino"],
    ),
    Case.own(
        "OpenVINO is asked for and missing",
        "embedded",
        [*MODEL, "--engine", "openvino"],
        2,
        ["OpenVINO cannot be imported", "pip install openvino"],
        prepare=_module(MISSING, "openvino"),
        environ=FIRST,
    ),
    *(
        Case(
            f"with TensorFlow the post-processing library {what}",
            TENSORFLOW,
            0,
            ["TensorFlow's own operators do NMS", word, 'Run "make"', "throughput"],
            slow=True,
            run=_copy_of_project(change),
            needs=["linux"],
        )
        for what, word, change in (
            ("is missing", "is missing", lambda build: (build / "libdetect.so").unlink()),
            ("cannot be read", "ermission", lambda build: (build / "libdetect.so").chmod(0)),
            ("is damaged", "cannot be loaded", _damaged),
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
]
