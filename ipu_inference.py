#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure the throughput of EfficientDet inference on an IPU, a GPU or a CPU.

python ipu_inference.py --model-name efficientdet-d0
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # PYTHONSAFEPATH leaves it out

from ipu_utils.base import program

if __name__ == "__main__":
    program.begin()

import contextlib
import time
from typing import TYPE_CHECKING

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    from ipu_utils.base.console import progress_bar, run_script, setup_logging, status_of
    from ipu_utils.base.printable import report_line
    from ipu_utils.config.run_config import RunConfig, load_config, write_app_json
    from ipu_utils.launch.sweep import run_if_asked

if TYPE_CHECKING:
    from ipu_utils.report.publish import Publisher


def run(config: RunConfig, results: "Publisher") -> int:
    """Build, measure and report one configuration: the report on standard output, all else on standard error.

    Returns:
      The exit status.
    """
    # What follows takes longer to import than a mistyped option to be told.
    from ipu_utils.backends.open import open_engine
    from ipu_utils.backends.pipeline import count_objects, timed_call, write_predictions
    from ipu_utils.config.run_hparams import hparams_of
    from ipu_utils.data.sources import describe_left_out
    from ipu_utils.launch.dry_run import foretell
    from ipu_utils.launch.memory_check import check_memory
    from ipu_utils.measure.throughput import Samples, measure
    from ipu_utils.outputs.writers import open_outputs
    from ipu_utils.report import summary

    hparams = hparams_of(config.model, config.data.image_size, config.nms.preset)
    check_memory(config, hparams)
    start = time.perf_counter()
    # Inputs and outputs come before the network: a missing folder should not cost the time of building it.
    engine = open_engine(config, hparams)
    device, batches = engine.device, engine.batches
    size_asked = config.data.image_size is not None
    writer = open_outputs(config.output, config.model.model_name, hparams, batches, size_asked)
    if config.output.dry_run:
        foretell(config, engine.foresee, batches.source)
        return 0
    results.note(*describe_left_out(batches.source))
    if config.output.profile_dir is not None:
        write_app_json(config, hparams.as_dict(), config.output.profile_dir)

    model, pipeline = engine.prepare()
    print(summary.describe_run(config, hparams, device, model, pipeline), flush=True)

    prepared = time.perf_counter()
    with device.scope(), batches.user_errors():
        dataset = engine.dataset
        call = device.compile(pipeline.step, dataset, config.benchmark.benchmark_repeats)
        compiled = time.perf_counter()
        benchmark = config.benchmark
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
                span=device.span,
                into=results.expect(calls, benchmark.benchmark_repeats, config.data.micro_batch_size),
            )
        stages = device.stages.seconds()
        objects = count_objects(pipeline, timing.outputs[-1], dataset, device)
        if writer is not None:
            write_predictions(writer, pipeline, call, batches)

    samples = Samples(timing.seconds, benchmark.benchmark_repeats, config.data.micro_batch_size)
    start_up = {"prepare": prepared - start, "compile": compiled - prepared}
    outcome = summary.outcome_of(
        config, hparams, device, model, pipeline, samples, stages, timing.warmup_seconds, objects, **start_up
    )
    results.publish(outcome, batches.source)
    print(summary.describe_objects(objects))
    print(summary.describe_start(*start_up.values(), timing.warmup_seconds))
    if model.random:
        print(report_line("weights", f"{model.weights}: the speed is real, the detections mean nothing"))
    if writer is not None:
        print(writer.report())
    print(summary.describe_skipped(batches.source.skipped) + batches.source.left_out.describe(), end="")
    return status_of(batches.source.skipped, config.data.skip_bad_images)


def main(argv=None) -> int:
    swept = run_if_asked(argv, "throughput")
    if swept is not None:
        return swept
    config = load_config(argv)
    # A command line that is wrong, or asks for help, has been answered by now: before NumPy was imported.
    from ipu_utils.backends.open import choose_engine
    from ipu_utils.config.run_hparams import follow_hparams
    from ipu_utils.launch.dry_run import describe_config, without_new_folders
    from ipu_utils.report.instances import joined
    from ipu_utils.report.publish import publisher

    config = follow_hparams(choose_engine(config))
    setup_logging("error" if config.output.quiet else config.output.log_level)
    if config.output.print_config:
        print(describe_config(config), end="")
        return 0
    with contextlib.ExitStack() as stack:
        if config.output.dry_run:
            stack.enter_context(without_new_folders(config))
        config, instances = stack.enter_context(joined(config))
        results = stack.enter_context(publisher(config, instances))
        if not config.output.dry_run:  # which tells them among what it prints
            results.note(*config.notes)
        return run(config, results)


if __name__ == "__main__":
    program.run(lambda: run_script(main))
