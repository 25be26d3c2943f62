# SPDX-License-Identifier: Apache-2.0
"""Runs that measure nothing: print the resolved configuration, or check it and say what would run. No TensorFlow."""

from typing import Any, Dict, List

import yaml

from ipu_utils import outputs, publish
from ipu_utils.claims import check_images, check_run
from ipu_utils.config import RunConfig
from ipu_utils.embedded.executable import read_executable
from ipu_utils.embedded.fingerprint import checkpoint_files
from ipu_utils.image_sources import describe_left_out, open_source
from ipu_utils.names import shown, shown_lines
from ipu_utils.options import rules_of
from ipu_utils.predictions import picture_names, size_label
from ipu_utils.run_hparams import check_wishes, hparams_of
from ipu_utils.sections import sections_of
from ipu_utils.summary import nms_settings
from utils import parse_image_size


def rehearse(config: RunConfig) -> bool:
    """Do what --print-config and --dry-run ask for; False when neither is given, and the run is for real.

    Raises:
      UserError: --dry-run has found what would have stopped the run.
    """
    if config.output.print_config:
        print(describe_config(config), end="")
    elif config.output.dry_run:
        print("\n".join(map(shown, check(config))))
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
    content = {config.model.model_name: options(config)}
    preset = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    if shown_lines(preset) != preset:  # YAML's own escapes, which its readers undo
        preset = yaml.safe_dump(content, sort_keys=False, allow_unicode=False)
    return "\n".join(map(shown, remarks)) + "\n" + preset


def options(config: RunConfig) -> Dict[str, Any]:
    """Every option that has a value, as one would write it into a preset."""
    found: Dict[str, Any] = {}
    for part in sections_of(config.script):
        section = getattr(config, part)
        for name, rule in rules_of(section).items():
            value = getattr(section, name)
            if value is None or not rule.facets.printed:
                continue
            found[name] = value if isinstance(value, (bool, int, float)) else rule.kind.text_of(value)
    return found


def _has_executable(config: RunConfig) -> bool:
    return config.embedded is not None and config.embedded.exec_file is not None


def _executable_header(config: RunConfig) -> Any:
    """The header of a given executable, whose classes count; only read where annotations are compared with them."""
    if not _has_executable(config) or config.output.coco_annotations is None:
        return None
    return read_executable(config.embedded.exec_file).header


def check(config: RunConfig) -> List[str]:
    """Check what can be checked without building anything, and say what would run.

    Raises:
      UserError: something would have stopped the run.
    """
    check_run(config)
    publish.check_outputs(config.output, config.benchmark.percentiles)
    hparams = hparams_of(config.model, config.data.image_size, config.nms.preset)
    height, width = parse_image_size(hparams.image_size)
    source = open_source(config.data, (height, width), config.data.micro_batch_size)
    size = size_label((height, width), config.data.image_size is not None)
    names = (config.model.model_name, size, source.count, config.data.micro_batch_size)
    check_images(config.output, source, picture_names(*names) if config.output.output_predictions else ())
    path, benchmark = config.model.weights_path, config.benchmark
    weights = "random"
    if not config.model.random_weights:
        found = bool(checkpoint_files(path))
        weights = str(path) if found else f"random, for there is no checkpoint in {path}"
        if not found and not _has_executable(config):
            check_wishes(config)
    told = outputs.check(config.output, source, _executable_header(config) or hparams)
    images = ", ".join([f"{source.count} images of {config.data.image_path}", *describe_left_out(source)])
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
        *told,
        *source.left_out.describe().expandtabs(4).splitlines(),
    ]
