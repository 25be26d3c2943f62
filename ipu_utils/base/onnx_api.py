# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime and the converter to ONNX as this project uses them: how they are imported, what they can do here.

Imports them on demand: ONNX Runtime to run a network, tf2onnx and onnx to make one.
"""

import importlib.util
from typing import Any, Dict, List

from ipu_utils.base import machine
from ipu_utils.base.errors import UserError
from ipu_utils.base.missing_packages import pip_install
from ipu_utils.base.signals import raise_again

PACKAGE = "onnxruntime"
CONVERTER = ("tf2onnx", "onnx")
CPU_PROVIDER = "CPUExecutionProvider"
GPU_PROVIDERS = ("CUDAExecutionProvider", "TensorrtExecutionProvider")  # the first that is there is taken


def import_onnxruntime() -> Any:
    """Return the package `onnxruntime`; a UserError says what to install where it is missing."""
    try:
        import onnxruntime
    except ImportError as error:
        raise_again()
        raise UserError(
            f"ONNX Runtime cannot be imported ({error}): {pip_install(missing_packages())}, or use another --engine."
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise UserError(f"what `import onnxruntime` finds is not ONNX Runtime: install it with {pip_install(PACKAGE)}.")
    return onnxruntime


def missing_packages() -> str:
    """What to install for this engine, as pip takes it; what compiles for it too, where TensorFlow builds networks."""
    compiles = importlib.util.find_spec("tensorflow") is not None
    absent = [name for name in reversed(CONVERTER) if compiles and importlib.util.find_spec(name) is None]
    return " ".join([PACKAGE, *absent])


def engine_name() -> str:
    """Name and version, as it is kept in executables and printed."""
    return f"ONNX Runtime {import_onnxruntime().__version__}"


def providers(kind: str) -> List[str]:
    """What ONNX Runtime is told to compute with on "cpu" or "gpu", the first choice first.

    Raises UserError where the package that is installed has nothing for a GPU.
    """
    if kind == "cpu":
        return [CPU_PROVIDER]
    available = import_onnxruntime().get_available_providers()
    found = next((name for name in GPU_PROVIDERS if name in available), None)
    if found is None:
        raise UserError(
            f"--engine onnxruntime on a GPU needs one of {', '.join(GPU_PROVIDERS)}, and the package that is installed "
            f"has {', '.join(available)}: {pip_install('onnxruntime-gpu')} in its place, or use another --engine."
        )
    return [found, CPU_PROVIDER]


def check_converter() -> None:
    """Raise UserError where a package that makes ONNX is not installed; imports none, as that takes TensorFlow too."""
    missing = [name for name in CONVERTER if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"making an ONNX file needs the Python packages {' and '.join(CONVERTER)}, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed: {pip_install(' '.join(missing))}."
        )


def import_converter() -> Any:
    """Return the module `tf2onnx.convert`; a UserError says what to install where it cannot be imported."""
    check_converter()
    try:
        return importlib.import_module("tf2onnx.convert")
    except ImportError as error:
        raise_again()
        raise UserError(f"tf2onnx cannot be imported ({error}): {pip_install(' '.join(CONVERTER))}.") from error


def converter_versions() -> Dict[str, str]:
    """Versions of what makes ONNX, without importing it; what is missing is left out."""
    return machine.package_versions(CONVERTER)
