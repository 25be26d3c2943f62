#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compile EfficientDet into a file and measure the latency of single requests against that file, on an IPU or a CPU.

python ipu_embedded_inference.py --config efficientdet-low-latency
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # PYTHONSAFEPATH leaves it out

from ipu_utils.base import program

if __name__ == "__main__":
    program.begin()

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Sequence

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    from ipu_utils.base import hardware
    from ipu_utils.base.console import progress_bar, run_script, setup_logging, status_of
    from ipu_utils.base.errors import UserError
    from ipu_utils.base.signals import temporary_folder
    from ipu_utils.config.run_config import RunConfig, load_config, write_app_json
    from ipu_utils.launch.sweep import run_if_asked
    from ipu_utils.measure.stages import Stages

if TYPE_CHECKING:
    from ipu_utils.report.publish import Publisher

# TensorFlow is imported where something has to be compiled, and by the IPU: a start from a file does without it.


def choose_device(requested: str) -> str:
    """Resolve --device: executables are an IPU's or a CPU's, and `auto` takes an attached IPU before the CPU."""
    if requested == "gpu":
        raise UserError("--device gpu: executables are compiled for an IPU or a CPU. A GPU runs ipu_inference.py.")
    if requested == "auto":
        return "ipu" if hardware.PROBES["ipu"]().available else "cpu"
    return hardware.choose_device(requested)


def run(config: RunConfig, folder: Path, results: "Publisher") -> int:
    """Open, measure and report one executable: the report on standard output, all else on standard error.

    Returns:
      The exit status.
    """
    from ipu_utils.backends.requests_contract import open_world
    from ipu_utils.backends.spans import check_ends, count_objects, open_inputs, span_of, write_predictions
    from ipu_utils.data.sources import describe_left_out, open_source
    from ipu_utils.executable import cache
    from ipu_utils.launch.dry_run import foretell
    from ipu_utils.launch.memory_check import check_memory
    from ipu_utils.measure.requests import keeps_up, measure_requests, plan_arrivals, samples_of
    from ipu_utils.outputs.writers import open_outputs
    from ipu_utils.report import latency_text
    from ipu_utils.report.summary import describe_skipped
    from utils import parse_image_size

    embedded, benchmark, stages = config.embedded, config.benchmark, Stages()
    check_ends(config)
    if embedded.exec_file is None:
        check_memory(config, cache.hparams_of(config))
    world = open_world(config)
    if config.output.dry_run:
        height, width = parse_image_size(cache.hparams_of(config).image_size)
        foretell(config, lambda: world.foresee(folder), open_source(config.data, (height, width), 1))
        return 0
    if config.output.profile_dir is not None:
        write_app_json(config, cache.hparams_of(config), config.output.profile_dir)
    opened = world.executable(folder)
    temporary = embedded.exec_output_dir is None and folder in opened.path.parents
    print(latency_text.describe_weights(opened.header), flush=True)
    if embedded.compile_only:
        print(latency_text.describe_executable(opened, temporary))
        return 0
    span, first = span_of(config, stages), open_inputs(config, opened.header, requests=1)
    with contextlib.closing(world.start(opened)) as program:
        workers = program.workers(embedded.requests_in_flight)
        start = time.perf_counter()
        measure_requests([span.client(workers[0], first)], 1)
        first_seconds = time.perf_counter() - start
        start_up = latency_text.describe_start(opened, program, first_seconds)
        print(latency_text.describe_run(config, opened, program, span.text, temporary), flush=True)
        inputs = open_inputs(config, opened.header, benchmark.num_repeats)
        if inputs.left_out:
            results.note(f"{inputs.left_out} of {inputs.source.count} images are not requested: see --num-repeats.")
        results.note(*describe_left_out(inputs.source))
        size_asked = config.data.image_size is not None
        writer = open_outputs(config.output, opened.header.model_name, opened.header, inputs, size_asked)
        clients = [span.client(worker, inputs) for worker in workers]
        for client in clients:  # each has memory of its own that is touched for the first time
            if benchmark.warmup:
                measure_requests([client], benchmark.warmup)
        min_seconds = benchmark.min_seconds or 0.0
        arrivals = plan_arrivals(embedded.arrival_rate, benchmark.num_repeats, min_seconds, config.data.seed)
        count = benchmark.num_repeats if arrivals is None else len(arrivals)
        alone = arrivals is None and len(clients) == 1
        stages.clear()
        results.start_together()
        with progress_bar(count, "requests", config.output.quiet) as bar:
            so_far = results.expect(count, 1, opened.header.batch_size, alone)
            times = measure_requests(
                clients, count, arrivals, min_seconds=min_seconds, on_request=bar.update, into=so_far
            )
        seconds = stages.seconds()
        objects = count_objects(program, workers[0], inputs)
        if writer is not None:
            write_predictions(writer, workers[0], inputs)
    samples = samples_of(times, opened.header.batch_size, alone, planned=arrivals is not None)
    outcome = latency_text.outcome_of(config, opened, program, span.text, samples, seconds, objects, first_seconds)
    results.publish(outcome, inputs.source)
    print(latency_text.describe_objects(objects))
    print(start_up)
    if arrivals is not None and not keeps_up(times, arrivals):
        results.note("requests arrive faster than they are answered: these latencies grow with the number of requests.")
    last = latency_text.describe_random(opened.header)
    if last is not None:
        print(last)
    if writer is not None:
        print(writer.report())
    print(describe_skipped(inputs.source.skipped) + inputs.source.left_out.describe(), end="")
    return status_of(inputs.source.skipped, config.data.skip_bad_images)


def main(argv: Optional[Sequence[str]] = None) -> int:
    swept = run_if_asked(argv, "embedded")
    if swept is not None:
        return swept
    config = load_config(argv, script="embedded", choose_device=choose_device)
    # A command line that is wrong, or asks for help, has been answered by now: before NumPy was imported.
    from ipu_utils.config.run_hparams import follow_hparams
    from ipu_utils.launch.dry_run import describe_config, without_new_folders
    from ipu_utils.report.instances import joined
    from ipu_utils.report.publish import publisher

    config = follow_hparams(config)
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
        folder = config.embedded.exec_output_dir
        if folder is None:
            folder = Path(stack.enter_context(temporary_folder("efficientdet-")))
        return run(config, folder, results)


if __name__ == "__main__":
    program.run(lambda: run_script(main))
