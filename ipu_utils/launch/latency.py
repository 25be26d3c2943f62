# SPDX-License-Identifier: Apache-2.0
"""A run of the latency script: requests to a compiled model, one after the other, several at a time, or by chance."""

import contextlib
import time
from pathlib import Path

from ipu_utils.backends.open import open_latency
from ipu_utils.backends.spans import check_ends, count_objects, open_inputs, span_of, write_predictions
from ipu_utils.backends.streams import Streams
from ipu_utils.base.console import progress_bar
from ipu_utils.base.signals import temporary_folder
from ipu_utils.config.run_config import RunConfig, write_app_json
from ipu_utils.data.sources import describe_left_out, open_source
from ipu_utils.executable import cache
from ipu_utils.executable.model_info import info_of_file
from ipu_utils.launch.conclude import conclude
from ipu_utils.launch.dry_run import foretell
from ipu_utils.launch.memory_check import check_memory
from ipu_utils.launch.one_pass import RequestResults
from ipu_utils.measure.requests import keeps_up, measure_requests, plan_arrivals, samples_of
from ipu_utils.measure.stages import Stages
from ipu_utils.outputs.writers import open_outputs
from ipu_utils.report import text
from ipu_utils.report.publish import Publisher
from ipu_utils.report.result import device_facts, outcome_of
from utils import parse_image_size


def run(config: RunConfig, results: Publisher) -> int:
    """Open, measure and report one executable: the report on standard output, all else on standard error.

    Returns:
      The exit status.
    """
    folder = config.embedded.exec_output_dir
    if folder is not None:
        return _run(config, folder, results)
    with temporary_folder("efficientdet-") as temporary:
        return _run(config, Path(temporary), results)


def _run(config: RunConfig, folder: Path, results: Publisher) -> int:
    embedded, benchmark, stages = config.embedded, config.benchmark, Stages()
    check_ends(config)
    if embedded.exec_file is None:
        check_memory(config, cache.hparams_of(config))
    backend = open_latency(config)
    if config.output.dry_run:
        height, width = parse_image_size(cache.hparams_of(config).image_size)
        foretell(config, lambda: backend.foresee(folder), open_source(config.data, (height, width), 1))
        return 0
    if config.output.profile_dir is not None:
        write_app_json(config, cache.hparams_of(config), config.output.profile_dir)
    opened = backend.executable(folder)
    temporary = embedded.exec_output_dir is None and folder in opened.path.parents
    info, header = info_of_file(opened.header), opened.header
    print(text.describe_weights(info), flush=True)
    executable = text.describe_executable(opened.path, opened.origin, temporary)
    if embedded.compile_only:
        print(executable)
        return 0
    span, first = span_of(config, stages), open_inputs(config, header, requests=1)
    with contextlib.closing(backend.start(opened)) as runtime:
        sessions = runtime.sessions(embedded.requests_in_flight)
        start = time.perf_counter()
        measure_requests([span.client(sessions[0], first)], 1)
        first_seconds = time.perf_counter() - start
        start_up = text.describe_first_request(opened.compile_seconds, runtime.load_seconds, first_seconds)
        told = runtime.device, runtime.post_processing, span.text
        print(text.describe_run(config, info, *told, executable), flush=True)
        inputs = open_inputs(config, header, benchmark.num_repeats)
        if inputs.left_out:
            results.note(f"{inputs.left_out} of {inputs.source.count} images are not requested: see --num-repeats.")
        results.note(*describe_left_out(inputs.source))
        size_asked = config.data.image_size is not None
        writer = open_outputs(config.output, info.name, header, inputs, size_asked)
        clients = [span.client(session, inputs) for session in sessions]
        for client in clients:  # each has memory of its own that is touched for the first time
            if benchmark.warmup:
                measure_requests([client], benchmark.warmup)
        min_seconds = benchmark.min_seconds or 0.0
        arrivals = plan_arrivals(embedded.arrival_rate, benchmark.num_repeats, min_seconds, config.data.seed)
        count = benchmark.num_repeats if arrivals is None else len(arrivals)
        alone = arrivals is None and len(clients) == 1
        found = RequestResults(writer, inputs, alone) if benchmark.one_pass else None
        if found is not None:
            clients = [found.client(client, session) for client, session in zip(clients, sessions)]
        stages.clear()
        results.start_together()
        with writer or contextlib.nullcontext(), found or contextlib.nullcontext():
            with progress_bar(count, "requests", config.output.quiet) as bar:
                so_far = results.expect(count, 1, info.batch_size, alone)
                times = measure_requests(
                    clients, count, arrivals, min_seconds=min_seconds, on_request=bar.update, into=so_far
                )
            seconds = stages.seconds()
            objects = count_objects(sessions[0], inputs) if found is None else found.objects()
            if writer is not None and found is None:
                write_predictions(writer, sessions[0], inputs)
    samples = samples_of(times, info.batch_size, alone, planned=arrivals is not None)
    streams = Streams(runtime.num_threads, runtime.num_streams, embedded.requests_in_flight)
    facts = device_facts(config.device.device, runtime.device, header.engine, streams)
    outcome = outcome_of(
        *(config, info, facts, *told[1:], samples, seconds, objects, (first_seconds,)),
        compile=opened.compile_seconds,
        load=runtime.load_seconds,
    )
    if arrivals is not None and not keeps_up(times, arrivals):
        results.note("requests arrive faster than they are answered: these latencies grow with the number of requests.")
    return conclude(config, results, outcome, inputs.source, objects, start_up, info, writer)
