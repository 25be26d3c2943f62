# SPDX-License-Identifier: Apache-2.0
"""Will a run fit into this machine's memory? Estimated from the options, before anything is built. No TensorFlow.

    TensorFlow: bytes = FIXED + PER_BATCH_BYTE * batches under way * batch size * activations
    the others: bytes = the larger of what building takes, in a process that ends before the run, and the run:
                        BUILDING + PER_BUILDING_BYTE * activations, and CONVERTER for ONNX Runtime
                        RUNNING + PER_RUNNING_BYTE * batches under way * batch size * activations
                      where a kept executable is used, the latter and PER_FILE_BYTE * the size of its file
    activations of an image, the largest = 4 * height * width * (expanded / 4 + 1.33 * anchors * (classes + 4)
                                           / 4^min_level)

`expanded` is the width of the backbone's widest layer at half resolution, the second stage's expansion; the other term
is what the heads give on all levels. FIXED, BUILDING and RUNNING are Python, the engine and the network's copies. All
constants are measured: see docs/RELIABILITY.md. The estimate is for a CPU; a GPU reports by itself that memory is full.
TensorFlow takes as much with a network from --executable-cache-dir: its peak comes in the run.
"""

from pathlib import Path
from typing import NamedTuple, Optional, Union

from hparams_config import Config
from ipu_utils.backends.host import folders_of, kept_size
from ipu_utils.backends.open import COMPILERS
from ipu_utils.backends.streams import streams_of
from ipu_utils.base import cgroups
from ipu_utils.base.errors import UserError
from ipu_utils.config.run_config import RunConfig

FIXED_BYTES = 1750 << 20
PER_BATCH_BYTE = 1.6
BUILDING_BYTES = 1000 << 20
PER_BUILDING_BYTE = 6.0
CONVERTER_BYTES = {"onnxruntime": 650 << 20}  # by which tf2onnx takes more than OpenVINO
RUNNING_BYTES = 450 << 20
PER_RUNNING_BYTE = 1.2
PER_FILE_BYTE = 1.5  # it is mapped, and OpenVINO brings some of its weights into another order
# Width of the second stage's expansion: six times the first stage's 16 channels times the width coefficient, which is
# 1 for B0 and B1, rounded as the backbone does. The largest backbones' is taken for one that is not listed.
EXPANDED = {
    **{"b0": 96, "b1": 96, "b2": 96, "b3": 144, "b4": 144, "b5": 144, "b6": 192, "b7": 192},
    **{"lite0": 96, "lite1": 96, "lite2": 96, "lite3": 144, "lite4": 144},
}
LARGEST_EXPANDED = 192


class Estimate(NamedTuple):
    """Bytes that a run is going to need at its peak."""

    needed: int
    batches: int  # under way at the same time


def estimate(config: RunConfig, hparams: Config, look: bool = True) -> Estimate:
    """Estimate the peak memory of a run on a CPU, whose engine is resolved; `look` for a kept executable of it."""
    height, width = hparams.image_size
    expanded = EXPANDED.get(str(hparams.backbone_name).rpartition("-")[2], LARGEST_EXPANDED)
    anchors = hparams.num_scales * len(hparams.aspect_ratios)
    heads = 4 / 3 * anchors * (hparams.num_classes + 4) / 4**hparams.min_level
    image = 4 * height * width * (expanded / 4 + heads)
    batch_size, device = config.data.micro_batch_size, config.device
    if config.embedded is not None:
        batches = config.embedded.requests_in_flight
    else:
        pixels = batch_size * height * width
        batches = streams_of(device.engine, device.num_threads, device.num_streams, pixels).in_flight
    running = batches * batch_size * image
    if device.engine == "tensorflow":
        return Estimate(int(FIXED_BYTES + PER_BATCH_BYTE * running), batches)
    needed, kept = RUNNING_BYTES + PER_RUNNING_BYTE * running, None
    if look and folders_of(config) != (None, None):
        compilers = COMPILERS["openvino" if device.engine == "auto" else device.engine]()
        kept = kept_size(config, compilers.Compiler(config).wanted())
    if kept is not None:
        return Estimate(int(needed + PER_FILE_BYTE * kept), batches)
    building = BUILDING_BYTES + PER_BUILDING_BYTE * image + CONVERTER_BYTES.get(device.engine, 0)
    return Estimate(int(max(needed, building)), batches)


def available(root: Union[str, Path] = cgroups.ROOT) -> Optional[int]:
    """Bytes that this process may still take, of the machine and of its container; None where nobody tells.

    Args:
      root: folder that has this machine's /proc and /sys below it.
    """
    found = _meminfo(Path(root, "proc/meminfo")), cgroups.memory_left(root)
    return min((value for value in found if value is not None), default=None)


def _meminfo(path: Path) -> Optional[int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)


def check_memory(config: RunConfig, hparams: Config) -> None:
    """Refuse a run that is not going to fit, unless --force says to try.

    Raises:
      UserError: says what is needed, what there is, and what to make smaller.
    """
    if config.device.device != "cpu" or config.device.force:
        return
    there = available()
    # To look for a kept executable takes a moment, which a run that fits anyway need not wait for.
    if there is None or estimate(config, hparams, look=False).needed <= there:
        return
    found = estimate(config, hparams)
    if found.needed > there:
        height, width = hparams.image_size
        raise UserError(
            f"{config.model.model_name} at {width}x{height} with {found.batches} batches of "
            f"{config.data.micro_batch_size} images under way needs about {_gib(found.needed)} GiB of memory, and "
            f"{_gib(there)} GiB are free: take a smaller --micro-batch-size, --image-size or --model-name, or add "
            "--force to try."
        )


def _gib(value: int) -> str:
    return f"{max(value, 0) / 2**30:.1f}"
