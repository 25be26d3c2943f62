# SPDX-License-Identifier: Apache-2.0
"""The report's lines, but for the statistics (`measure/throughput.py`). Text only.

`publish.py` puts those of the report in their order, `launch/conclude.py` prints those behind it.
"""

import math
from typing import Any, Mapping, Optional, Sequence

import numpy as np

from hparams_config import Config
from ipu_utils.backends.contract import Hardware
from ipu_utils.base import process
from ipu_utils.base.printable import report_line, shown
from ipu_utils.config.normalisation import normalisation_of
from ipu_utils.config.run_config import Precision, RunConfig
from ipu_utils.executable.model_info import ModelInfo
from ipu_utils.measure.objects import Objects
from ipu_utils.measure.throughput import PooledSamples, Samples
from tf2.nms_settings import nms_settings

RANDOM = "the speed is real, the detections mean nothing"  # of a run with random weights
NAMED_FILES = 100  # of those that could not be read; the rest is counted


def describe_random_weights(info: ModelInfo) -> Optional[str]:
    """The last line about weights; None where they are trained."""
    return report_line("weights", f"{info.weights}: {RANDOM}") if info.random else None


def describe_instances(samples: PooledSamples) -> str:
    """The report's line about instances."""
    rates = " + ".join(f"{part.images_per_second:.2f}" for part in samples.instances)
    return f"instances: {len(samples.instances)}, {rates} samples/sec"


def describe_stages(stages: Mapping[str, Sequence[float]], overlap: bool = True) -> Optional[str]:
    """The report's line about stages, or None where the device shows none; `overlap`: was more than one under way?"""
    if not stages:
        return None
    parts = [f"{name} {1e3 * sum(seconds) / len(seconds):.2f} ms" for name, seconds in stages.items()]
    batches = max(len(seconds) for seconds in stages.values())
    remark = "batches under way at the same time overlap" if overlap else "one at a time"
    return f"stages:    {', '.join(parts)} a batch (means of {batches}; {remark})"


def describe_nms(nms_configs: Mapping[str, Any]) -> str:
    """The thresholds in effect, in words."""
    nms = nms_settings(nms_configs)
    rule = f"soft (gaussian, sigma {nms.sigma})" if nms.soft else f"hard, IoU > {nms.iou_thresh} suppresses"
    lowest = nms.score_thresh if math.isfinite(nms.score_thresh) else "any"
    return f"{rule}, score > {lowest}, at most {nms.max_output_size} an image"


def input_range(hparams: Config) -> str:
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


def describe_executable(path: Any, how: str, temporary: bool) -> str:
    """Say which file runs, how it came to be there, and of one that goes with the run how to keep it."""
    remark = ", a temporary file: it is removed at the end, --exec-output-dir FOLDER keeps it" if temporary else ""
    return report_line("executable", f"{path} ({how}){remark}")


def describe_run(
    config: RunConfig, info: ModelInfo, hardware: Hardware, measured: str, executable: str = "", inputs: str = ""
) -> str:
    """Say what runs, one `name: value` line each.

    Args:
      measured: the timed span.
      executable: the line about it, where one is asked. inputs: what `input_range` says.
    """
    data, benchmark, embedded = config.data, config.benchmark, config.embedded
    height, width = info.image_size
    source = f"uint8 noise, seed {data.seed}" if data.dataset_type == "generated" else str(data.image_path)
    precision, wire = Precision(info.precision).word, Precision(info.input_type).word
    batch = "images a request" if embedded is not None else f"images, {benchmark.benchmark_repeats} batches a call"
    lines = [
        report_line("model", f"{info.name}, {width}x{height} pixels, {info.num_classes} classes"),
        report_line("device", f"{hardware.name}, {hardware.engine}"),
        *filter(None, [executable]),
        report_line("precision", f"{precision}, images travel as {wire}{inputs}"),
    ]
    if info.calibration is not None:  # which says nothing of its accuracy
        check = "check the accuracy: python -m ipu_utils.compare_precision"
        lines.append(report_line("calibrated", f"on {info.calibration['images']}; {check}"))
    lines += [
        report_line("data", f"{data.dataset_type} ({source})"),
        report_line("batch", f"{info.batch_size} {batch}"),
        report_line("nms", f"{info.nms_mode}, {describe_nms(info.nms_configs)}; {hardware.post_processing}"),
    ]
    if embedded is not None:
        lines.append(report_line("requests", describe_arrivals(config)))
    if benchmark.one_pass:
        lines.append(report_line("pass", describe_pass(config)))
    return "\n".join([*lines, report_line("measured", measured)])


def describe_pass(config: RunConfig) -> str:
    """Say how a run that takes each image once goes on, and what of it is not counted."""
    benchmark, embedded = config.benchmark, config.embedded is not None
    calls, warmup, batches = benchmark.num_repeats, benchmark.warmup, benchmark.benchmark_repeats
    work = f"{calls} {'request' if embedded else 'call'}{'' if calls == 1 else 's'}"
    work += "" if embedded else f" of {batches} {'batch' if batches == 1 else 'batches'}"
    inside = not embedded and calls > 1
    if not warmup:
        told = "all counted"
    elif inside:
        told = "the first is not counted" if warmup == 1 else f"the first {warmup} are not counted"
    else:
        told = f"after {warmup} more that {'is' if warmup == 1 else 'are'} not counted"
    return f"each image once: {work}, {told}"


def describe_arrivals(config: RunConfig) -> str:
    """Say how requests come."""
    count, in_flight = config.benchmark.num_repeats, config.embedded.requests_in_flight
    if config.embedded.arrival_rate is None:
        return f"{count} requests, " + ("one at a time" if in_flight == 1 else f"{in_flight} in flight")
    return (
        f"{count} requests, Poisson arrivals at {config.embedded.arrival_rate:g} a second (seed {config.data.seed}), "
        f"latency from the planned arrival, at most {in_flight} under way"
    )


def describe_objects(objects: Objects) -> str:
    """Say how much there was to suppress and how much was left, as means an image."""
    parts = [] if objects.candidates is None else [f"{objects.candidates:.1f} candidates"]
    if objects.images:
        parts.append(f"{objects.detections:.1f} detections")
    what = " and ".join(parts) + f" an image (mean of {objects.images})" if parts else "no outputs with synthetic data"
    return report_line("objects", what)


def describe_start(prepare_seconds: float, compile_seconds: float, warmup_seconds: Sequence[float]) -> str:
    """Say what it took the throughput script to get going, none of which is in the statistics."""
    first, more = warmup_seconds[:1], warmup_seconds[1:]
    parts = [f"model and weights {prepare_seconds:.2f} s", f"compile {compile_seconds:.2f} s"]
    parts += [f"first call {seconds:.2f} s" for seconds in first]
    parts += [f"further warm-up {sum(more):.2f} s ({len(more)} calls)"] if more else []
    return report_line("start-up", ", ".join(parts) + " (not in the statistics)")


def describe_first_request(compile_seconds: float, load_seconds: float, first_seconds: float) -> str:
    """Say, right behind the first result, what it took to get there; none of it is in the statistics."""
    compiled = f"compile {compile_seconds:.2f} s, " if compile_seconds else ""
    peak = process.peak_memory_mib()
    memory = "" if peak is None else f"; at most {peak:.0f} MiB resident so far"
    return report_line(
        "start-up",
        f"{compiled}load {load_seconds:.2f} s, first request {first_seconds:.2f} s, process start to first result "
        f"{process.seconds_since_start():.2f} s{memory} (not in the statistics)",
    )


def describe_decoding(samples: Optional[Samples], decoded: Sequence[float], inside: bool) -> str:
    """The line about a video: frames a second with and without decoding, one of which is what was measured.

    Args:
      samples: of requests one after the other; None: they overlapped, so that times do not add up.
      decoded: seconds that each frame took to be decoded and resized.
      inside: was that a part of the measured span?
    """
    mean = sum(decoded) / len(decoded)  # of those in the span, where decoding is a part of it
    told = f"a frame takes {1e3 * mean:.2f} ms to decode and resize (mean of {len(decoded)})"
    if samples is None:
        return report_line("video", f"{told}, {'inside' if inside else 'outside'} the measured span")
    frames, seconds = samples.images_per_call * len(samples.seconds), sum(samples.seconds)
    other = frames / (seconds - frames * mean if inside else seconds + frames * mean)
    words = ("with", "without") if inside else ("without", "with")
    rates = f"{frames / seconds:.2f} frames/sec {words[0]} decoding, {other:.2f} {words[1]}"
    return report_line("video", f"{rates}; {told}")


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
