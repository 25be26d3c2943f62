# SPDX-License-Identifier: Apache-2.0
"""A run of the latency script: requests to a compiled model, one after the other, several at a time, or by chance."""

import contextlib
import time
from pathlib import Path

from ipu_utils.backends.open import open_backend
from ipu_utils.base.console import progress_bar
from ipu_utils.base.printable import report_line
from ipu_utils.config.run_config import RunConfig, write_app_json
from ipu_utils.data.sources import describe_left_out, open_source
from ipu_utils.data.video import VideoFrames
from ipu_utils.executable import cache
from ipu_utils.launch import dry_run
from ipu_utils.launch.agreement_pass import keep_detections
from ipu_utils.launch.conclude import conclude
from ipu_utils.launch.memory_check import check_memory
from ipu_utils.launch.one_pass import RequestResults
from ipu_utils.launch.requests import check_ends, count_objects, detect, open_inputs, span_of, write_predictions
from ipu_utils.measure.requests import keeps_up, measure_requests, plan_arrivals, samples_of
from ipu_utils.measure.stages import Stages
from ipu_utils.outputs.writers import open_outputs
from ipu_utils.report import text
from ipu_utils.report.publish import Publisher
from ipu_utils.report.result import outcome_of


def run(config: RunConfig, results: Publisher, folder: Path) -> int:
    """Open, measure and report one executable, and return the exit status; `folder` is for what goes with the run.

    The report comes on standard output, all else on standard error.
    """
    embedded, benchmark, stages = config.embedded, config.benchmark, Stages()
    check_ends(config)
    if embedded.exec_file is None:
        check_memory(config, cache.hparams_of(config))
    start = time.perf_counter()
    backend = open_backend(config, folder)
    if config.output.dry_run:
        size = tuple(cache.hparams_of(config).image_size)
        dry_run.conclude(config, backend.preview, open_source(config.data, size, 1))
        return 0
    if config.output.profile_dir is not None:
        write_app_json(config, cache.hparams_of(config), config.output.profile_dir)
    info = backend.prepare()
    print(report_line("weights", info.weights), flush=True)  # first: they decide what the rest is worth
    compiled = backend.compile()
    path, header, origin = compiled[:3]
    compile_seconds = time.perf_counter() - start if origin == "compiled" else 0.0
    executable = text.describe_executable(path, origin, temporary=folder in path.parents)
    if embedded.compile_only:
        print(executable)
        return 0
    span, first = span_of(config, stages), open_inputs(config, header, requests=1)
    start = time.perf_counter()
    with contextlib.closing(backend.start()) as runtime:
        load_seconds, sessions = time.perf_counter() - start, runtime.sessions(embedded.requests_in_flight)
        start = time.perf_counter()
        measure_requests([span.client(sessions[0], first)], 1)
        first_seconds = time.perf_counter() - start
        start_up = text.describe_first_request(compile_seconds, load_seconds, first_seconds)
        print(text.describe_run(config, info, runtime.hardware, span.text, executable), flush=True)
        inputs = open_inputs(config, header, benchmark.num_repeats)
        if inputs.left_out:
            results.note(f"{inputs.left_out} of {len(inputs.source.own)} images are not requested: see --num-repeats.")
        results.note(*describe_left_out(inputs.source))
        video = inputs.source if isinstance(inputs.source, VideoFrames) else None
        decodes_inside = embedded.measure == "end-to-end"
        size_asked = config.data.image_size is not None
        writer = open_outputs(config.output, info.name, header, inputs, size_asked, results.instances)
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
        if video is not None and decodes_inside:
            video.seconds.clear()
        results.start_together()
        with writer or contextlib.nullcontext(), found or contextlib.nullcontext():
            with progress_bar(count, "requests", config.output.quiet) as bar:
                so_far = results.expect(count, 1, info.batch_size, alone, info)
                times = measure_requests(
                    clients, count, arrivals, min_seconds=min_seconds, on_request=bar.update, into=so_far
                )
            seconds = stages.seconds()
            objects = count_objects(sessions[0], inputs) if found is None else found.objects()
            if writer is not None and found is None:
                write_predictions(writer, sessions[0], inputs)
        keep_detections(lambda *batch: detect(sessions[0], *batch), inputs.source, header.batch_size)
    samples = samples_of(times, info.batch_size, alone, planned=arrivals is not None)
    outcome = outcome_of(
        *(config, info, runtime.hardware, span.text, samples, seconds, objects, (first_seconds,), compiled),
        compile=compile_seconds,
        load=load_seconds,
    )
    if video is not None:
        start_up += "\n" + text.describe_decoding(samples if alone else None, video.seconds, decodes_inside)
    if arrivals is not None and not keeps_up(times, arrivals):
        results.note("requests arrive faster than they are answered: these latencies grow with the number of requests.")
    return conclude(config, results, outcome, inputs.source, objects, start_up, info, writer)
