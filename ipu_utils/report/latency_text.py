# SPDX-License-Identifier: Apache-2.0
"""The lines around the report of the embedded script: what ran, before it; what the statistics leave out, after it."""

from typing import Mapping, Optional, Tuple

from ipu_utils.backends.requests_contract import Opened, Program
from ipu_utils.backends.spans import Objects
from ipu_utils.base import process
from ipu_utils.base.printable import report_line
from ipu_utils.config.model_options import Precision
from ipu_utils.config.run_config import RunConfig
from ipu_utils.executable.file import Header, origin, weights_identity
from ipu_utils.measure.requests import describe_arrivals
from ipu_utils.measure.throughput import Samples
from ipu_utils.report.result import Outcome, nms_facts, weights_facts
from ipu_utils.report.summary import describe_nms


def _lines(*fields) -> str:
    return "\n".join(report_line(*field) for field in fields)


def describe_weights(header: Header) -> str:
    """The first line: the weights decide what the rest is worth."""
    return _lines(("weights", header.weights))


def describe_executable(opened: Opened, temporary: bool) -> str:
    """Say which file runs, and of one that goes with the run how to keep it."""
    remark = ", a temporary file: it is removed at the end, --exec-output-dir FOLDER keeps it" if temporary else ""
    return _lines(("executable", f"{opened.path} ({opened.origin}){remark}"))


def describe_run(config: RunConfig, opened: Opened, program: Program, span: str, temporary: bool = False) -> str:
    """Say what runs, one `name: value` line each.

    Args:
      temporary: the executable's file goes with the run.
    """
    header, data, embedded = opened.header, config.data, config.embedded
    height, width = header.image_size
    source = f"uint8 noise, seed {data.seed}" if data.dataset_type == "generated" else str(data.image_path)
    precision, wire = Precision(header.precision).word, Precision(header.input_type).word
    arrivals = describe_arrivals(
        config.benchmark.num_repeats, embedded.requests_in_flight, embedded.arrival_rate, data.seed
    )
    before = _lines(
        ("model", f"{header.model_name}, {width}x{height} pixels, {header.num_classes} classes"),
        ("device", program.device),
    )
    after = _lines(
        ("precision", f"{precision}, images travel as {wire}"),
        ("data", f"{data.dataset_type} ({source})"),
        ("batch", f"{header.batch_size} images a request"),
        ("nms", f"{header.nms_mode}, {describe_nms(header.nms_configs)}; {program.post_processing}"),
        ("requests", arrivals),
        ("measured", span),
    )
    return "\n".join((before, describe_executable(opened, temporary), after))


def outcome_of(
    config: RunConfig,
    opened: Opened,
    program: Program,
    span: str,
    samples: Samples,
    stages: Mapping[str, Tuple[float, ...]],
    objects: Objects,
    first_seconds: float,
) -> Outcome:
    """Gather what a run of the embedded script has found out."""
    header = opened.header
    detects = config.nms.onchip_nms or config.benchmark.benchmark_host_postprocessing
    return Outcome(
        samples=samples,
        stages=stages,
        start_up={"compile": opened.compile_seconds, "load": program.load_seconds, "first_call": first_seconds},
        warmup_seconds=(first_seconds,),
        objects=objects._asdict(),
        measured=span,
        label="Request",
        model={
            "name": header.model_name,
            "image_size": list(header.image_size),
            "num_classes": header.num_classes,
            "precision": header.precision,
            "input_type": header.input_type,
            "hparams_sha256": header.fingerprint["settings"],
        },
        weights=weights_facts(
            header.weights,
            header.random_weights,
            *weights_identity(header),
        ),
        nms=nms_facts(header.nms_configs, header.nms_mode, program.post_processing, detects),
        device={
            "kind": config.device.device,
            "name": program.device,
            "engine": header.engine,
            "threads": getattr(program, "num_threads", None),  # of an IPU there are none to set
            "streams": getattr(program, "num_streams", None),
            "batches_in_flight": config.embedded.requests_in_flight,
        },
        executable=origin(header),
    )


def describe_objects(objects: Objects) -> str:
    """Say how much there was to suppress and how much was left."""
    found = "" if objects.candidates is None else f"{objects.candidates:.1f} candidates and "
    return _lines(("objects", f"{found}{objects.detections:.1f} detections an image (mean of {objects.images})"))


def describe_start(opened: Opened, program: Program, first_seconds: float) -> str:
    """Say, right behind the first result, what it took to get there; none of it is in the statistics."""
    compiled = f"compile {opened.compile_seconds:.2f} s, " if opened.compile_seconds else ""
    peak = process.peak_memory_mib()
    memory = "" if peak is None else f"; at most {peak:.0f} MiB resident so far"
    return _lines(
        (
            "start-up",
            f"{compiled}load {program.load_seconds:.2f} s, first request {first_seconds:.2f} s, "
            f"process start to first result {process.seconds_since_start():.2f} s{memory} (not in the statistics)",
        )
    )


def describe_random(header: Header) -> Optional[str]:
    """The last line where weights are random, else None."""
    if not header.random_weights:
        return None
    return _lines(("weights", f"{header.weights}: the speed is real, the detections mean nothing"))
