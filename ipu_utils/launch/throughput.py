# SPDX-License-Identifier: Apache-2.0
"""A run of the throughput script: batches in calls, as many under way as the backend has use for."""

import contextlib
import time
from pathlib import Path
from typing import Callable, List

from ipu_utils.backends.contract import Batches, Loop
from ipu_utils.backends.open import open_backend
from ipu_utils.base.console import progress_bar
from ipu_utils.base.errors import UserError
from ipu_utils.base.printable import report_line
from ipu_utils.config.run_config import RunConfig, write_app_json
from ipu_utils.config.run_hparams import hparams_of_run
from ipu_utils.data.sources import describe_left_out
from ipu_utils.launch import dry_run
from ipu_utils.launch.agreement_pass import keep_detections
from ipu_utils.launch.conclude import conclude
from ipu_utils.launch.memory_check import check_memory
from ipu_utils.launch.one_pass import CallResults
from ipu_utils.measure.objects import mean_objects
from ipu_utils.measure.stages import POST_PROCESSING
from ipu_utils.measure.throughput import Samples, measure
from ipu_utils.outputs.writers import Outputs, open_outputs
from ipu_utils.report import text
from ipu_utils.report.publish import Publisher
from ipu_utils.report.result import outcome_of


def run(config: RunConfig, results: Publisher, folder: Path) -> int:
    """Build, measure and report one configuration, and return the exit status; `folder` is for what goes with the run.

    The report comes on standard output, all else on standard error.
    """
    hparams, benchmark = hparams_of_run(config), config.benchmark
    check_memory(config, hparams)
    start = time.perf_counter()
    # Inputs and outputs come before the network: a missing folder should not cost the time of building it.
    backend = open_backend(config, folder)
    batches, size_asked = backend.open_batches(), config.data.image_size is not None
    writer = open_outputs(config.output, config.model.model_name, hparams, batches, size_asked, results.instances)
    if config.output.dry_run:
        dry_run.conclude(config, backend.preview, batches.source)
        return 0
    results.note(*describe_left_out(batches.source))
    if config.output.profile_dir is not None:
        write_app_json(config, hparams.as_dict(), config.output.profile_dir)

    info = backend.prepare()
    print(report_line("weights", info.weights), flush=True)  # first: they decide what the rest is worth
    prepared = time.perf_counter()
    executable = backend.compile()
    loop, measured = backend.loop(), text.measured_span(config)
    compiled = time.perf_counter()
    print(text.describe_run(config, info, loop.hardware, measured, inputs=text.input_range(hparams)), flush=True)

    def begin() -> None:
        loop.stages.clear()
        results.start_together()

    # The first repeat, which may still compile, is not counted; a single one is preceded by an extra one.
    calls = max(1, benchmark.num_repeats - benchmark.warmup)
    found = CallResults(config, writer, loop)
    with writer or contextlib.nullcontext():
        with progress_bar(calls + benchmark.warmup, "calls", config.output.quiet) as bar:
            timing = measure(
                timed_call(loop, benchmark.benchmark_host_postprocessing),
                calls,
                benchmark.warmup,
                benchmark.min_seconds or 0.0,
                on_call=bar.update,
                on_warm=begin,
                on_result=found.take,
                span=loop.span,
                into=results.expect(calls, benchmark.benchmark_repeats, config.data.micro_batch_size, True, info),
            )
        stages = loop.stages.seconds()
        found.end(timing.outputs[-1])
        objects = mean_objects(loop.candidates(), found.lengths)
        if writer is not None:
            write_predictions(writer, loop, batches)
    keep_detections(loop.detect, batches.source, config.data.micro_batch_size)

    samples = Samples(timing.seconds, benchmark.benchmark_repeats, config.data.micro_batch_size)
    seconds = prepared - start, compiled - prepared
    outcome = outcome_of(
        *(config, info, loop.hardware, measured, samples, stages, objects, timing.warmup_seconds, executable),
        prepare=seconds[0],
        compile=seconds[1],
    )
    start_up = text.describe_start(*seconds, timing.warmup_seconds)
    return conclude(config, results, outcome, batches.source, objects, start_up, info, writer)


def timed_call(loop: Loop, with_host_postprocessing: bool) -> Callable[[], List]:
    """Put post-processing on the host inside the timed call when the user asks for it."""
    if not with_host_postprocessing:
        return loop.call

    def call_and_postprocess() -> List:
        outputs = loop.call()
        for batch in outputs:
            with loop.stages.span(POST_PROCESSING):
                loop.results(batch)
        return outputs

    return call_and_postprocess


def write_predictions(writer: Outputs, loop: Loop, data: Batches) -> None:
    """Run on until each of `data.count` images has been written once, or nothing new has come for one round of them.

    The writer has been entered. Where images are run once, all are written before.
    """
    rows_without_news = 0
    while writer.written < data.count and rows_without_news <= data.count:
        found, written = [loop.results(outputs) for outputs in loop.call()], writer.written
        if not found:
            raise UserError("--output-predictions needs outputs, and --synthetic true makes none: use one of them.")
        for ids, detections in found:
            writer.write(ids, detections)
        # One instance of several never sees the images of the others.
        rows = sum(len(results.ids) for results in found)
        rows_without_news = 0 if writer.written > written else rows_without_news + rows
