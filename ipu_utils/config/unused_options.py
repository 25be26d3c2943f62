# SPDX-License-Identifier: Apache-2.0
"""Options that were given and that a run does not use: each is noted, none is dropped in silence."""

from typing import Any, List, Sequence

from ipu_utils.config.model_options import Precision
from ipu_utils.config.options import flag_of
from ipu_utils.config.sections import names_where


def flags(names: Sequence[str]) -> str:
    """Options as they are typed, for a note."""
    return ", ".join(map(flag_of, names))


def note_unused(config: Any, notes: List[str]) -> None:
    """Add a note for each option of a `RunConfig` that changes nothing."""
    device, typed = config.device.device, config.typed
    if config.model.random_weights and "model_dir" in typed:
        notes.append("--model-dir: with --random-weights no weights are read from there.")
    idle = [name for name in names_where(lambda facets: device not in facets.read_by) if name in typed]
    if idle:
        notes.append(f"no effect on this device ({device}): {flags(idle)}.")
    if device == "ipu":
        return
    if "calibration_images" in typed and config.model.model_precision is not Precision.INT8:
        notes.append("--calibration-images has no effect without --model-precision int8.")
    if config.embedded is None:
        return
    stronger = "exec_output_dir" if config.embedded.exec_file is None else "exec_file"
    if config.device.executable_cache_dir is not None and getattr(config.embedded, stronger) is not None:
        notes.append(f"--executable-cache-dir is not used, because of {flag_of(stronger)}.")
    if "benchmark_repeats" in typed:
        notes.append(f"no effect on this device ({device}): --benchmark-repeats; --num-repeats counts requests.")
