# SPDX-License-Identifier: Apache-2.0
"""What a run has found out, as plain data: reports, records and pages are made from it. No TensorFlow here."""

import contextlib
import dataclasses
import math
import re
import time
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from ipu_utils.backends.contract import Compiled, Hardware
from ipu_utils.base import process
from ipu_utils.config.run_config import RunConfig
from ipu_utils.executable.model_info import ModelInfo
from ipu_utils.measure.objects import Objects
from ipu_utils.measure.throughput import Samples
from tf2.nms_settings import nms_settings


@dataclass(frozen=True)
class Outcome:
    """One run: what was measured, of what, and how long each part took."""

    samples: Samples
    stages: Mapping[str, Tuple[float, ...]]  # seconds by stage, one a batch; empty where the device shows none
    start_up: Mapping[str, float]  # seconds by name, none of them in the samples
    warmup_seconds: Tuple[float, ...]
    objects: Mapping[str, Any]  # candidates (or None) and detections, means an image; images
    measured: str  # where the span begins and ends
    label: str  # of a latency: "Per-batch" or "Request"
    model: Mapping[str, Any]
    weights: Mapping[str, Any]
    nms: Mapping[str, Any]
    device: Mapping[str, Any]  # kind, name, engine, threads
    images: Mapping[str, str] = dataclasses.field(default_factory=dict)  # sha256, and what it is of
    executable: Optional[Mapping[str, Any]] = None  # which sources, engine and versions the network comes from
    accuracy: Optional[Mapping[str, Any]] = None  # COCO's numbers, where there are annotations
    started: float = dataclasses.field(default_factory=lambda: time.time() - process.seconds_since_start())


def weights_facts(text: str, random: bool, sha256: str, sha256_of: str) -> Dict[str, Any]:
    """Facts about weights from the sentence that the report prints, and from their content."""
    matched = re.match(r"(\d+) of (\d+) variables ", text)
    return {
        "description": text,
        "random": random,
        "sha256": sha256,
        "sha256_of": sha256_of,
        "variables_matched": int(matched[1]) if matched else None,
        "variables_total": int(matched[2]) if matched else None,
    }


def nms_facts(nms_configs: Mapping[str, Any], mode: str, implementation: str, on_device: bool) -> Dict[str, Any]:
    """NMS as it was in effect."""
    settings = nms_settings(nms_configs)
    return {
        "mode": mode,
        "method": settings.method,
        "iou_threshold": settings.iou_thresh,
        "score_threshold": settings.score_thresh if math.isfinite(settings.score_thresh) else None,  # None: any
        "sigma": settings.sigma,
        "max_detections": settings.max_output_size,
        "implementation": implementation,
        "on_device": on_device,
    }


def device_facts(hardware: Hardware) -> Dict[str, Any]:
    """What a record says of the device; of an IPU there are no streams to set."""
    streams = dict(zip(("threads", "streams", "batches_in_flight"), hardware.streams or (None, None, None)))
    return {"kind": hardware.kind, "name": hardware.name, "engine": hardware.engine, **streams}


def file_facts(compiled: Optional[Compiled]) -> Dict[str, Any]:
    """What a record says of the file of a compiled model; nothing where there is none."""
    if compiled is None:
        return {}
    size = None
    with contextlib.suppress(OSError):  # another run may have removed what is kept
        size = compiled.path.stat().st_size
    return {"origin": compiled.origin.partition(" ")[0], "bytes": size, "compile_seconds": compiled.seconds}


def latency_label(config: RunConfig) -> str:
    """What a latency of the report is of."""
    return "Per-batch" if config.embedded is None else "Request"


def outcome_of(
    config: RunConfig,
    info: ModelInfo,
    hardware: Hardware,
    measured: str,
    samples: Samples,
    stages: Mapping[str, Tuple[float, ...]],
    objects: Objects,
    warmup_seconds: Tuple[float, ...],
    compiled: Optional[Compiled],
    **start_up: float,
) -> Outcome:
    """Gather what a run has found out.

    Args:
      measured: the timed span.
      compiled: what ran, where it is in a file.
      start_up: seconds by name.
    """
    detects = config.nms.onchip_nms
    if config.embedded is not None:
        detects = detects or config.benchmark.benchmark_host_postprocessing
    sha256, sha256_of = info.identity()
    return Outcome(
        samples=samples,
        stages=stages,
        start_up={**start_up, "first_call": warmup_seconds[0] if warmup_seconds else samples.seconds[0]},
        warmup_seconds=warmup_seconds,
        objects=objects._asdict(),
        measured=measured,
        label=latency_label(config),
        model={
            "name": info.name,
            "image_size": list(info.image_size),
            "num_classes": info.num_classes,
            "precision": info.precision,
            "calibration": info.calibration,
            "input_type": info.input_type,
            "hparams_sha256": info.hparams_sha256,
        },
        weights=weights_facts(info.weights, info.random, sha256, sha256_of),
        nms=nms_facts(info.nms_configs, info.nms_mode, hardware.post_processing, detects),
        device=device_facts(hardware),
        executable={**info.origin, **file_facts(compiled)},
    )
