# SPDX-License-Identifier: Apache-2.0
"""What the configuration means for an IPU, as plain values: no SDK and no TensorFlow needed to ask."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ipu_utils.base.errors import ConfigError, UserError
from ipu_utils.config.device_options import IpuConfig
from ipu_utils.config.model_options import MAX_IO_TILES, MIN_IO_TILES, ModelConfig, Precision
from ipu_utils.config.poplar_environment import (
    ENGINE_VARIABLE,
    FLAGS_VARIABLE,
    merge_engine_options,
    merge_poplar_flags,
    poplar_flags_of,
)

# Names of members of the SDK's enums.
CONNECTION_TYPES = {"always": "ALWAYS", "never": "NEVER", "on_demand": "ON_DEMAND"}
SCHEDULERS = {
    "best": "CHOOSE_BEST",
    "clustering": "CLUSTERING",
    "post_order": "POST_ORDER",
    "look_ahead": "LOOK_AHEAD",
    "shortest_path": "SHORTEST_PATH",
}
COMPILE_TARGET = "ipu2"  # Mk2 and Bow: what to compile for when no device is attached that could be asked
# Fetching and converting batches runs beside the program: six threads, as the application was tuned with.
STREAM_OPTIONS = {
    "streamCallbacks.numWorkerThreads": "6",
    "streamCallbacks.multiThreadMode": "collaborative",
    "streamCallbacks.maxLookahead": "unlimited",
}
OWN_PRECISION = Precision.HALF.value  # where none is asked for
LONE_REQUEST_TIMEOUT_US = 50  # nobody else will push the request through: do not wait for it
POPC_SECONDS = 20  # to say its version
SHARED_TIMEOUT_US = 5000  # the runtime's own: another request is about to come


def check_precision(precision: str) -> None:
    """Raise UserError unless the IPU computes in `precision`, a type name."""
    if precision not in (Precision.FLOAT.value, Precision.HALF.value):
        raise UserError(f"an IPU does not compute in {precision}: use --model-precision half or float.")


def partials_type(model: ModelConfig) -> str:
    """Poplar's name for the type of partial sums: what was asked for, else the model's own precision."""
    precision = model.partials_precision or model.model_precision or Precision.HALF
    check_precision(precision.value)
    return "half" if precision is Precision.HALF else "float"


def matmul_options(ipu: IpuConfig, model: ModelConfig) -> Dict[str, str]:
    """Options of matrix products; Poplar takes strings alone."""
    return {
        "partialsType": partials_type(model),
        "availableMemoryProportion": str(ipu.available_memory_proportion),
    }


def convolution_options(ipu: IpuConfig, model: ModelConfig) -> Dict[str, str]:
    """Options of convolutions: those of matrix products and dithering."""
    return {**matmul_options(ipu, model), "enableConvDithering": str(ipu.opt_conv_dithering).lower()}


def io_tiles(ipu: IpuConfig) -> int:
    """Tiles set apart for streaming, an even number; 0 without them.

    Raises:
      ConfigError: there is no number, or one outside the range.
    """
    if not ipu.opt_use_io_tiles:
        return 0
    number = ipu.opt_num_io_tiles
    if number is None or not MIN_IO_TILES <= number <= MAX_IO_TILES:
        raise ConfigError(
            f"--opt-use-io-tiles needs --opt-num-io-tiles {MIN_IO_TILES} to {MAX_IO_TILES}, got {number}."
        )
    return number + number % 2  # The compiler would round an odd number up; so what is reported is what is used.


def engine_options(ipu: IpuConfig, profile_dir: Optional[Path]) -> Dict[str, str]:
    """Poplar engine options that the configuration asks for; a profile goes to `profile_dir`, where one is named."""
    options: Dict[str, str] = {}
    if profile_dir is not None:
        options["autoReport.all"] = "true"
        options["autoReport.directory"] = str(profile_dir)
        options["debug.instrument"] = str(not ipu.skip_execution_report).lower()
    if ipu.opt_internal_exchange_target is not None:
        options["opt.internalExchangeOptimisationTarget"] = ipu.opt_internal_exchange_target
    return options


def poplar_flags(ipu: IpuConfig, cache_dir: Optional[Path], environ: Mapping[str, str]) -> List[str]:
    """Flags for TF_POPLAR_FLAGS that the configuration asks for and the environment does not have."""
    found, flags = poplar_flags_of(environ), []
    if ipu.synthetic and found.get("use_synthetic_data", "false") == "false":
        flags += ["--use_synthetic_data", "--synthetic_data_initializer=random"]
    if cache_dir is not None:
        path = os.path.abspath(str(cache_dir))
        if found.get("executable_cache_path") not in (path, str(cache_dir)):
            flags.append(f"--executable_cache_path={path}")
    return flags


def environment(
    ipu: IpuConfig, profile_dir: Optional[Path], cache_dir: Optional[Path], environ: Mapping[str, str]
) -> Tuple[Dict[str, str], Tuple[str, ...]]:
    """Variables to set before anything of the SDK reads them, and warnings about what they override.

    Args:
      ipu: the IPU's options. profile_dir, cache_dir: --profile-dir and --executable-cache-dir.
      environ: `os.environ` or the like; it is read only.

    Raises:
      ConfigError: the environment contradicts the configuration, or cannot be read.
    """
    engine = merge_engine_options(environ, engine_options(ipu, profile_dir), STREAM_OPTIONS)
    variables = {ENGINE_VARIABLE: engine.json}
    flags = merge_poplar_flags(environ.get(FLAGS_VARIABLE), poplar_flags(ipu, cache_dir, environ))
    if flags:
        variables[FLAGS_VARIABLE] = flags
    return variables, engine.warnings


def check_purpose(ipu: IpuConfig, embedded: bool, kept: bool) -> None:
    """Refuse options with which the script cannot do what it is for; `kept`: does a folder keep what is compiled?

    Raises:
      UserError: compiling without a device and without a place that keeps the result; requests that carry no data.
    """
    if ipu.synthetic and embedded:
        raise UserError(
            "--synthetic: requests to an embedded executable carry their data. Use it with ipu_inference.py."
        )
    if ipu.ipu_connection_type == "never" and not embedded and not kept:
        raise UserError(
            "--ipu-connection-type never compiles without an IPU, so nothing can be measured: add "
            "--executable-cache-dir FOLDER to keep what is compiled, or use ipu_embedded_inference.py --compile-only "
            "--exec-output-dir FOLDER."
        )


def embedded_timeout_us(requests_in_flight: int, arrival_rate: Any = None) -> int:
    """How long the embedded runtime waits for a further request before it pushes a lone one through with a dummy.

    It matters only to executables with I/O tiles. A client that sends one request at a time would wait in vain.
    """
    return LONE_REQUEST_TIMEOUT_US if requests_in_flight == 1 and arrival_rate is None else SHARED_TIMEOUT_US


def poplar_version(environ: Mapping[str, str]) -> Optional[str]:
    """Version of the Poplar SDK that is switched on, with its build; None where nobody tells.

    Its compiler of codelets says it, and otherwise the name of the folder that the SDK's `enable` remembers.
    """
    try:
        done = subprocess.run(
            ["popc", "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=POPC_SECONDS, check=True
        )
        found = re.search(r"POPLAR version (\S+(?: \(\w+\))?)", done.stdout.decode("utf-8", "replace"))
    except (OSError, subprocess.SubprocessError):
        found = None
    if found is None:
        found = re.search(r"-(\d[\w.+-]*)$", environ.get("POPLAR_SDK_ENABLED", "").rstrip("/"))
    return None if found is None else found[1]
