# SPDX-License-Identifier: Apache-2.0
"""OpenVINO as this project uses it: how it is imported, what it is told, what it can do here. Imports it on demand."""

import contextlib
import functools
import sys
from typing import Any, Dict, Iterator, Optional

from ipu_utils.base import hardware, instruction_sets
from ipu_utils.base.errors import NotSupportedError, UserError
from ipu_utils.base.missing_packages import how_to_install, pip_install
from ipu_utils.base.signals import raise_again

# The names of types in OpenVINO.
OPENVINO_TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
# One of these has to be left by oneDNN's limit, which OpenVINO does not ask when it says what it can do.
BFLOAT16_SETS = frozenset({"avx512f", "avx_ne_convert"})


@contextlib.contextmanager
def without_reporting() -> Iterator[None]:
    """Import something of OpenVINO's within it.

    On import OpenVINO reports to its makers over the network, from a thread of its own. A latency benchmark and a
    deployed program should not; without the reporting package it does not, and is imported sooner.
    """
    report = "openvino_telemetry"
    blocked = report not in sys.modules
    if blocked:
        sys.modules[report] = None
    try:
        yield
    finally:
        if blocked:
            del sys.modules[report]


def import_openvino() -> Any:
    """Return the package `openvino`; a UserError says what to install where it is missing."""
    try:
        with without_reporting():
            import openvino
    except ImportError as error:
        raise_again()
        raise UserError(
            f"OpenVINO cannot be imported ({error}), which compiles and runs the network on a CPU: "
            f"{pip_install('openvino')} (Python 3.9 or later), or measure TensorFlow: ipu_inference.py --engine "
            "tensorflow."
        ) from error
    if not hasattr(openvino, "get_version"):
        where = getattr(openvino, "__file__", None) or ", ".join(getattr(openvino, "__path__", ["?"]))
        raise UserError(
            f"what `import openvino` finds in {where} is not OpenVINO as it has been since 2023: move it away, or "
            f"install OpenVINO anew with {how_to_install('openvino')}."
        )
    return openvino


@functools.lru_cache(maxsize=None)
def core_of(openvino: Any) -> Any:
    """The one Core of this process, which is never freed.

    OpenVINO's plug-in for a CPU gives the thread a stack for signals, and takes it away again when it is freed. Where
    several are not freed in reverse order, the next Ctrl-C finds a stack that is gone: a segmentation fault.
    """
    return openvino.Core()


def engine_name(openvino: Any) -> str:
    """Name and full version, as it is kept in executables and printed."""
    return f"OpenVINO {openvino.get_version()}"


def properties(precision: str, num_threads: Optional[int], num_streams: Optional[int] = None) -> Dict[str, Any]:
    """What OpenVINO is told on compiling and on loading, so that both agree.

    The precision is never left to OpenVINO, which takes bfloat16 by itself where a CPU can compute it. The number of
    threads is, unless the user says it or a container has a CPU quota, which OpenVINO does not see: it knows which
    logical processors share a core and which cores a socket.

    Args:
      precision: type name; of an int8 network what is not quantised is float32.
      num_threads: of all streams together.
      num_streams: requests that are computed side by side, each on its share of the threads; None: one at a time, on
        all of them.
    """
    chosen = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": OPENVINO_TYPES.get(precision, "f32")}
    if num_streams is not None:
        chosen.update(PERFORMANCE_HINT="THROUGHPUT", NUM_STREAMS=num_streams)
    threads = hardware.quota_threads() if num_threads is None else num_threads
    if threads is not None:
        chosen["INFERENCE_NUM_THREADS"] = threads
    return chosen


def check_precision(precision: str) -> None:
    """Raise NotSupportedError when OpenVINO cannot compute in a precision on this CPU."""
    words = {"float32": "FP32", "float16": "FP16", "bfloat16": "BF16", "int8": "INT8"}
    typed = {"float32": " (float)", "float16": " (half)"}  # behind names that the option shows other words for
    offered = core_of(import_openvino()).get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    limit = instruction_sets.limit()
    if precision == "bfloat16" and limit is not None and not limit.kept & BFLOAT16_SETS:
        raise NotSupportedError(
            f"OpenVINO cannot compute in bfloat16 below {limit.setting}: unset the variable, or use --model-precision "
            "float."
        )
    if words[precision] not in offered:
        can = ", ".join(name + typed.get(name, "") for name, word in words.items() if word in offered)
        raise NotSupportedError(
            f"OpenVINO cannot compute in {precision} on this CPU, only in {can}: use --model-precision float."
        )
