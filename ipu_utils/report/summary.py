# SPDX-License-Identifier: Apache-2.0
"""The lines around the report: what ran, before it; what the statistics leave out, after it. Text only."""

import math
from typing import TYPE_CHECKING, Any, Mapping, Tuple

import numpy as np

from hparams_config import Config
from ipu_utils.base.printable import report_line, shown
from ipu_utils.config.normalisation import normalisation_of
from ipu_utils.config.run_config import Precision, RunConfig
from ipu_utils.executable.fingerprint import of_hparams
from ipu_utils.measure.throughput import Samples
from ipu_utils.report.result import Outcome, nms_facts, weights_facts
from tf2.nms_settings import nms_settings
from utils import parse_image_size

if TYPE_CHECKING:  # These need TensorFlow; the text does not.
    from ipu_utils.backends.contract import Device
    from ipu_utils.backends.pipeline import Objects, Pipeline
    from ipu_utils.model.network import Prepared

NAMED_FILES = 100  # of those that could not be read; the rest is counted


def describe_nms(nms_configs: Mapping[str, Any]) -> str:
    """The thresholds in effect, in words."""
    nms = nms_settings(nms_configs)
    rule = f"soft (gaussian, sigma {nms.sigma})" if nms.soft else f"hard, IoU > {nms.iou_thresh} suppresses"
    lowest = nms.score_thresh if math.isfinite(nms.score_thresh) else "any"
    return f"{rule}, score > {lowest}, at most {nms.max_output_size} an image"


def _input_range(hparams: Config) -> str:
    """What --hparams scale_range makes of pixels: -1 to 1, or, without AdvProp's mean and deviation, anything."""
    if not hparams.scale_range:
        return ""
    mean, stddev = np.array(normalisation_of(hparams))
    return f", the network's inputs are {(-mean / stddev).min():.3g} to {((255 - mean) / stddev).max():.3g}"


def measured_span(config: RunConfig) -> str:
    """Say where the timed span of the throughput script begins and ends."""
    end = "the network's outputs in host memory, before post-processing"
    if config.nms.onchip_nms or config.benchmark.benchmark_host_postprocessing:
        end = "detections in host memory"
    return f"from asking for a batch of resized images to {end}"


def describe_run(config: RunConfig, hparams: Config, device: "Device", model: "Prepared", pipeline: "Pipeline") -> str:
    """Say what runs, one `name: value` line each; the weights come first, for they decide what the rest is worth."""
    height, width = parse_image_size(hparams.image_size)
    data, benchmark = config.data, config.benchmark
    source = f"uint8 noise, seed {data.seed}" if data.dataset_type == "generated" else str(data.image_path)
    precision, wire = Precision(model.precision).word, config.model.io_precision.word
    fields = [
        ("weights", model.weights),
        ("model", f"{config.model.model_name}, {width}x{height} pixels, {hparams.num_classes} classes"),
        ("device", f"{device.name}, {device.engine}"),
        ("precision", f"{precision}, images travel as {wire}{_input_range(hparams)}"),
        ("data", f"{data.dataset_type} ({source})"),
        ("batch", f"{data.micro_batch_size} images, {benchmark.benchmark_repeats} batches a call"),
        ("nms", f"{config.nms.nms_mode.value}, {describe_nms(hparams.nms_configs)}; {pipeline.nms_implementation}"),
        ("measured", measured_span(config)),
    ]
    return "\n".join(report_line(*field) for field in fields)


def outcome_of(
    config: RunConfig,
    hparams: Config,
    device: "Device",
    model: "Prepared",
    pipeline: "Pipeline",
    samples: Samples,
    stages: Mapping[str, Tuple[float, ...]],
    warmup_seconds: Tuple[float, ...],
    objects: "Objects",
    **start_up: float,
) -> Outcome:
    """Gather what a run of the throughput script has found out; `start_up` is seconds by name."""
    streams = getattr(device, "streams", None)
    height, width = parse_image_size(hparams.image_size)
    return Outcome(
        samples=samples,
        stages=stages,
        start_up={**start_up, "first_call": warmup_seconds[0] if warmup_seconds else samples.seconds[0]},
        warmup_seconds=warmup_seconds,
        objects=objects._asdict(),
        measured=measured_span(config),
        label="Per-batch",
        model={
            "name": config.model.model_name,
            "image_size": [height, width],
            "num_classes": hparams.num_classes,
            "precision": model.precision,
            "input_type": config.model.io_precision.value,
            "hparams_sha256": of_hparams(hparams),
        },
        weights=weights_facts(model.weights, model.random, *model.identity()),
        nms=nms_facts(
            hparams.nms_configs, config.nms.nms_mode.value, pipeline.nms_implementation, config.nms.onchip_nms
        ),
        device={
            "kind": device.kind,
            "name": device.name,
            "engine": device.engine,
            # Of an IPU there are none to set.
            "threads": None if streams is None else streams.threads,
            "streams": None if streams is None else streams.streams,
            "batches_in_flight": None if streams is None else streams.in_flight,
        },
        executable=model.origin,
    )


def describe_objects(objects: "Objects") -> str:
    """Say how much there was to suppress and how much was left, as means an image."""
    parts = [] if objects.candidates is None else [f"{objects.candidates:.1f} candidates"]
    if objects.images:
        parts.append(f"{objects.detections:.1f} detections")
    what = " and ".join(parts) + f" an image (mean of {objects.images})" if parts else "no outputs with synthetic data"
    return f"objects:   {what}"


def describe_start(prepare_seconds: float, compile_seconds: float, warmup_seconds: Tuple[float, ...]) -> str:
    """Say what it took to get going, none of which is in the statistics."""
    first, more = warmup_seconds[:1], warmup_seconds[1:]
    parts = [f"model and weights {prepare_seconds:.2f} s", f"compile {compile_seconds:.2f} s"]
    parts += [f"first call {seconds:.2f} s" for seconds in first]
    parts += [f"further warm-up {sum(more):.2f} s ({len(more)} calls)"] if more else []
    return "start-up:  " + ", ".join(parts) + " (not in the statistics)"


def describe_skipped(skipped: Mapping[str, str]) -> str:
    """Count and name the files that were left out, or say nothing when there are none."""
    if not skipped:
        return ""
    named = sorted(skipped.items())[:NAMED_FILES]
    lines = [
        f"skipped:   {len(skipped)} files that could not be read",
        # A name with a colon would begin its line like one of the report's.
        *(f"\t{repr(name) if ':' in name else shown(name)}: {shown(why)}" for name, why in named),
    ]
    if len(skipped) > len(named):
        lines.append(f"\tand {len(skipped) - len(named)} more")
    return "\n".join(lines) + "\n"
