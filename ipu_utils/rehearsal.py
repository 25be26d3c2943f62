# SPDX-License-Identifier: Apache-2.0
"""Runs that measure nothing: print the resolved configuration, or check it and say what would run. No TensorFlow."""

from typing import Any, Dict, List

import yaml

from ipu_utils import publish
from ipu_utils.arguments import sections_of
from ipu_utils.config import RunConfig
from ipu_utils.embedded.fingerprint import checkpoint_files
from ipu_utils.image_sources import open_source
from ipu_utils.options import rules_of
from ipu_utils.presets import NOT_IN_PRESETS
from ipu_utils.run_hparams import check_wishes, hparams_of
from ipu_utils.summary import nms_settings
from utils import parse_image_size

NOT_PRINTED = (*NOT_IN_PRESETS, "print_config", "dry_run")


def rehearse(config: RunConfig) -> bool:
    """Do what --print-config and --dry-run ask for; False when neither is given, and the run is for real.

    Raises:
      UserError: --dry-run has found what would have stopped the run.
    """
    if config.output.print_config:
        print(describe_config(config), end="")
    elif config.output.dry_run:
        print("\n".join(check(config)))
    return config.output.print_config or config.output.dry_run


def describe_config(config: RunConfig) -> str:
    """The configuration as YAML that `--config FILE.yml` reads; what is no option of a preset is a remark."""
    hparams = hparams_of(config.model, config.data.image_size, config.nms.preset)
    height, width = parse_image_size(hparams.image_size)
    remarks = [
        f"# script: {config.script}, preset: {config.config_name}, device: {config.device.device}",
        f"# model: {config.model.model_name}, {width}x{height} pixels, {hparams.num_classes} classes",
        f"# nms: {config.nms.nms_mode.value}, {nms_settings(hparams)}",
        *(f"# note: {note}" for note in config.notes),
    ]
    preset = yaml.safe_dump({config.model.model_name: options(config)}, sort_keys=False, allow_unicode=True)
    return "\n".join(remarks) + "\n" + preset


def options(config: RunConfig) -> Dict[str, Any]:
    """Every option that has a value, as one would write it into a preset."""
    found: Dict[str, Any] = {}
    for part in sections_of(config.script):
        section = getattr(config, part)
        for name, rule in rules_of(section).items():
            value = getattr(section, name)
            if value is None or name in NOT_PRINTED:
                continue
            if name == "image_size":
                value = f"{value[1]}x{value[0]}"
            elif isinstance(value, tuple):
                value = ",".join(f"{item:g}" for item in value)
            elif not isinstance(value, (bool, int, float)):
                value = rule.kind.text_of(value)
            found[name] = value
    return found


def _has_executable(config: RunConfig) -> bool:
    return config.embedded is not None and config.embedded.exec_file is not None


def check(config: RunConfig) -> List[str]:
    """Check what can be checked without building anything, and say what would run.

    Raises:
      UserError: something would have stopped the run.
    """
    publish.check_outputs(config.output, config.benchmark.percentiles)
    hparams = hparams_of(config.model, config.data.image_size, config.nms.preset)
    height, width = parse_image_size(hparams.image_size)
    source = open_source(config.data, (height, width), config.data.micro_batch_size)
    path, benchmark = config.model.weights_path, config.benchmark
    weights = "random"
    if not config.model.random_weights:
        found = bool(checkpoint_files(path))
        weights = str(path) if found else f"random, for there is no checkpoint in {path}"
        if not found and not _has_executable(config):
            check_wishes(config)
    images = f"{source.count} images of {config.data.image_path}"
    if config.data.dataset_type == "generated":
        images = "noise"
    work = f"{benchmark.num_repeats} calls of {benchmark.benchmark_repeats} batches, {benchmark.warmup} not counted"
    if config.script == "embedded":
        work = f"{benchmark.num_repeats} requests after {benchmark.warmup} that are not counted"
    engine = "" if config.device.engine == "auto" else f", {config.device.engine}"
    return [
        "dry run: nothing is measured",
        f"model:     {config.model.model_name}, {width}x{height} pixels",
        f"weights:   {weights}",
        f"device:    {config.device.device}{engine}",
        f"data:      {images}, batches of {config.data.micro_batch_size}",
        f"nms:       {config.nms.nms_mode.value}, {nms_settings(hparams)}",
        f"work:      {work}",
        *(f"note:      {note}" for note in config.notes),
    ]
