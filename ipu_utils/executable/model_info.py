# SPDX-License-Identifier: Apache-2.0
"""The network of a run, as its report and record describe it. No TensorFlow."""

from typing import Any, Callable, Mapping, NamedTuple, Optional, Tuple

from hparams_config import Config
from ipu_utils.config.run_config import RunConfig
from ipu_utils.executable.file import Header, calibration_in, weights_identity
from ipu_utils.executable.file import origin as origin_of_file
from ipu_utils.executable.fingerprint import of_hparams
from utils import parse_image_size


class ModelInfo(NamedTuple):
    """What runs, whether it was built for the run or comes from a file."""

    name: str
    image_size: Tuple[int, int]  # height, width
    num_classes: int
    batch_size: int
    precision: str  # type name that the network computes in
    input_type: str  # type name that images travel as
    nms_mode: str
    nms_configs: Mapping[str, Any]
    hparams_sha256: str
    weights: str  # what the weights are
    random: bool  # they are random ones
    identity: Callable[[], Tuple[str, str]]  # SHA-256 of the weights, and of what it is
    calibration: Optional[Mapping[str, str]]  # of int8: its images in words, their SHA-256
    origin: Mapping[str, Any]  # which sources, engine and versions the network comes from


def info_of_file(header: Header) -> ModelInfo:
    """Describe the network of an executable."""
    return ModelInfo(
        header.model_name,
        tuple(header.image_size),
        header.num_classes,
        header.batch_size,
        header.precision,
        header.input_type,
        header.nms_mode,
        header.nms_configs,
        header.fingerprint["settings"],
        header.weights,
        header.random_weights,
        lambda: weights_identity(header),
        calibration_in(header),
        origin_of_file(header),
    )


def info_of_run(config: RunConfig, hparams: Config, prepared: Any, origin: Mapping[str, Any]) -> ModelInfo:
    """Describe a network that is in no file.

    Args:
      prepared: the network, see `ipu_utils.model.network.Prepared`. origin: see `ipu_utils.executable.file.origin`.
    """
    return ModelInfo(
        config.model.model_name,
        parse_image_size(hparams.image_size),
        hparams.num_classes,
        config.data.micro_batch_size,
        prepared.precision,
        config.model.io_precision.value,
        config.nms.nms_mode.value,
        hparams.nms_configs,
        of_hparams(hparams),
        prepared.weights,
        prepared.random,
        prepared.identity,
        None,
        origin,
    )
