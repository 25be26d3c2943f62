# SPDX-License-Identifier: Apache-2.0
"""A configuration that is resolved, run: what comes before and behind measuring, for both scripts."""

import contextlib
from pathlib import Path

from ipu_utils.backends.open import choose_engine
from ipu_utils.base.console import setup_logging
from ipu_utils.base.signals import temporary_folder
from ipu_utils.config.run_config import RunConfig
from ipu_utils.config.run_hparams import check_wishes, follow_hparams
from ipu_utils.launch import latency, throughput
from ipu_utils.launch.dry_run import describe_config, without_new_folders
from ipu_utils.launch.one_pass import planned
from ipu_utils.model.checkpoint_files import checkpoint_files
from ipu_utils.report.instances import joined
from ipu_utils.report.publish import publisher


def run(config: RunConfig) -> int:
    """Print, rehearse or measure what a configuration asks for, and return the exit status."""
    config = choose_engine(config)
    config = follow_hparams(config)
    _check_model_dir(config)
    setup_logging("error" if config.output.quiet else config.output.log_level)
    if config.output.print_config:
        print(describe_config(config), end="")
        return 0
    with contextlib.ExitStack() as stack:
        if config.output.dry_run:
            stack.enter_context(without_new_folders(config))
        config, instances = stack.enter_context(joined(config))
        config = planned(config)
        results = stack.enter_context(publisher(config, instances))
        if not config.output.dry_run:  # which tells them among what it prints
            results.note(*config.notes)
        folder = Path(stack.enter_context(temporary_folder("efficientdet-")))
        return (throughput if config.embedded is None else latency).run(config, results, folder)


def _check_model_dir(config: RunConfig) -> None:
    """Find out before anything slow is imported whether a checkpoint is there that the run is going to read."""
    model, embedded = config.model, config.embedded
    is_read = not model.random_weights and (embedded is None or embedded.exec_file is None)
    if is_read and model.model_dir is not None and not checkpoint_files(model.model_dir):
        check_wishes(config)
