# SPDX-License-Identifier: Apache-2.0
"""A run of the throughput script: batches in calls, as many under way as the backend has use for."""

import contextlib
import time

from ipu_utils.backends.open import open_throughput
from ipu_utils.backends.pipeline import count_objects, timed_call, write_predictions
from ipu_utils.base.console import progress_bar
from ipu_utils.config.run_config import RunConfig, write_app_json
from ipu_utils.config.run_hparams import hparams_of
from ipu_utils.data.sources import describe_left_out
from ipu_utils.launch.conclude import conclude
from ipu_utils.launch.dry_run import foretell
from ipu_utils.launch.memory_check import check_memory
from ipu_utils.launch.one_pass import as_they_come
from ipu_utils.measure.throughput import Samples, measure
from ipu_utils.outputs.writers import open_outputs
from ipu_utils.report import text
from ipu_utils.report.publish import Publisher
from ipu_utils.report.result import device_facts, outcome_of


def run(config: RunConfig, results: Publisher) -> int:
    """Build, measure and report one configuration: the report on standard output, all else on standard error.

    Returns:
      The exit status.
    """
    hparams = hparams_of(config.model, config.data.image_size, config.nms.preset)
    check_memory(config, hparams)
    start = time.perf_counter()
    # Inputs and outputs come before the network: a missing folder should not cost the time of building it.
    backend = open_throughput(config, hparams)
    device, batches, benchmark = backend.device, backend.batches, config.benchmark
    size_asked = config.data.image_size is not None
    writer = open_outputs(config.output, config.model.model_name, hparams, batches, size_asked)
    if config.output.dry_run:
        foretell(config, backend.foresee, batches.source)
        return 0
    results.note(*describe_left_out(batches.source))
    if config.output.profile_dir is not None:
        write_app_json(config, hparams.as_dict(), config.output.profile_dir)

    info, pipeline = backend.prepare()
    print(text.describe_weights(info))
    told = f"{device.name}, {device.description}", pipeline.nms_implementation, text.measured_span(config)
    print(text.describe_run(config, info, *told, inputs=text.input_range(hparams)), flush=True)

    prepared = time.perf_counter()
    with device.scope(), batches.user_errors(), writer or contextlib.nullcontext():
        dataset = backend.dataset
        call = device.compile(pipeline.step, dataset, benchmark.benchmark_repeats)
        compiled = time.perf_counter()
        timed = timed_call(pipeline, call, benchmark.benchmark_host_postprocessing, device.stages)

        def begin() -> None:
            device.stages.clear()
            results.start_together()

        # The first repeat, which may still compile, is not counted; a single one is preceded by an extra one.
        calls = max(1, benchmark.num_repeats - benchmark.warmup)
        with progress_bar(calls + benchmark.warmup, "calls", config.output.quiet) as bar:
            timing = measure(
                timed,
                calls,
                benchmark.warmup,
                benchmark.min_seconds or 0.0,
                on_call=bar.update,
                on_warm=begin,
                on_result=as_they_come(config, writer, pipeline),
                span=device.span,
                into=results.expect(calls, benchmark.benchmark_repeats, config.data.micro_batch_size),
            )
        stages = device.stages.seconds()
        objects = count_objects(pipeline, timing.outputs[-1], dataset, device)
        if writer is not None:
            write_predictions(writer, pipeline, call, batches)

    samples = Samples(timing.seconds, benchmark.benchmark_repeats, config.data.micro_batch_size)
    seconds = prepared - start, compiled - prepared
    facts = device_facts(device.kind, device.name, device.description, device.streams)
    outcome = outcome_of(
        *(config, info, facts, *told[1:], samples, stages, objects, timing.warmup_seconds),
        prepare=seconds[0],
        compile=seconds[1],
    )
    start_up = text.describe_start(*seconds, timing.warmup_seconds)
    return conclude(config, results, outcome, batches.source, objects, start_up, info, writer)
