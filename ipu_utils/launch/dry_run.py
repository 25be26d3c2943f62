# SPDX-License-Identifier: Apache-2.0
"""Runs that measure nothing: print the resolved configuration, or say what would run after all checks of the run."""

from typing import Any, Callable, ContextManager, Dict, List, Sequence

import yaml

from ipu_utils.backends.contract import Preview
from ipu_utils.base import paths
from ipu_utils.base.files import check_writable
from ipu_utils.base.printable import shown, shown_lines
from ipu_utils.config.options import flag_of
from ipu_utils.config.run_config import RunConfig, app_json_path
from ipu_utils.config.run_hparams import hparams_of_run
from ipu_utils.data.sources import ImageSource, describe_left_out
from ipu_utils.outputs import writers
from ipu_utils.outputs.claims import written_by
from ipu_utils.report.text import describe_nms, describe_pass, describe_skipped


def describe_config(config: RunConfig) -> str:
    """The configuration as YAML that `--config FILE.yml` reads; what is no option of a preset is a remark."""
    hparams = hparams_of_run(config)
    height, width = hparams.image_size
    remarks = [
        f"# script: {config.script}, preset: {config.config_name}, device: {config.device.device}",
        f"# model: {config.model.model_name}, {width}x{height} pixels, {hparams.num_classes} classes",
        f"# nms: {config.nms.nms_mode.value}, {describe_nms(hparams.nms_configs)}",
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
    for name, rule, value in config.options():
        # How often photographs run once would have run says nothing, and given again it would be meant.
        unmeant = rule.facets.repeats and config.benchmark.one_pass
        if value is not None and rule.facets.printed and not unmeant:
            found[name] = value if isinstance(value, (bool, int, float)) else rule.kind.text_of(value)
    return found


def without_new_folders(config: RunConfig) -> ContextManager[None]:
    """Remove the empty folders that trying outputs has made."""
    places = [claim.path for claim in written_by(config)]
    folders = [config.device.executable_cache_dir, config.embedded and config.embedded.exec_output_dir]
    return paths.without_new_folders([*places, *(folder / "executable" for folder in folders if folder is not None)])


def conclude(config: RunConfig, preview: Callable[[], Preview], source: ImageSource) -> None:
    """End a --dry-run: find out about the network and about annotations, and print what would run.

    Raises:
      UserError: something would have stopped the run.
    """
    if config.output.profile_dir is not None:
        check_writable(app_json_path(config.output.profile_dir), "--profile-dir")
    found = preview()
    hparams = hparams_of_run(config)
    told = writers.check(config.output, source, found.header or hparams)
    print("\n".join(map(shown, _described(config, found, source, told))))


def _described(config: RunConfig, found: Preview, source: ImageSource, annotations: Sequence[str]) -> List[str]:
    """What would run, as the report says it; then every option with its value and where that comes from."""
    hparams, benchmark = hparams_of_run(config), config.benchmark
    name, size, batch = config.model.model_name, hparams.image_size, config.data.micro_batch_size
    mode, thresholds = config.nms.nms_mode.value, hparams.nms_configs
    if found.header is not None:  # made already, of what its header says
        name, size, batch = found.header.model_name, found.header.image_size, found.header.batch_size
        mode, thresholds = found.header.nms_mode, found.header.nms_configs
    images = ", ".join([f"{source.count} images of {config.data.image_path}", *describe_left_out(source)])
    if config.data.dataset_type == "generated":
        images = "noise"
    calls = max(benchmark.num_repeats, benchmark.warmup + 1)  # one at least is counted
    work = f"{calls} calls of {benchmark.benchmark_repeats} batches, {benchmark.warmup} not counted"
    if config.script == "embedded":
        work = f"{benchmark.num_repeats} requests after {benchmark.warmup} that are not counted"
    if benchmark.one_pass:
        work = describe_pass(config)
    engine = "" if config.device.engine == "auto" else f", {config.device.engine}"
    return [
        "dry run: nothing is measured",
        f"model:     {name}, {size[1]}x{size[0]} pixels",
        f"weights:   {found.weights}",
        f"device:    {config.device.device}{engine}",
        f"network:   {found.executable}",
        f"data:      {images}, batches of {batch}",
        f"nms:       {mode}, {describe_nms(thresholds)}",
        f"work:      {work}",
        *(f"note:      {note}" for note in config.notes),
        *annotations,
        *(describe_skipped(source.skipped) + source.left_out.describe()).expandtabs(4).splitlines(),
        "options:",
        *describe_sources(config),
    ]


def describe_sources(config: RunConfig) -> List[str]:
    """A line for every option: its value, and where that comes from."""
    lines = []
    for name, rule, value in config.options():
        given, source = config.given[name]
        if value != given:
            source = f"derived ({source}: {rule.kind.text_of(given)})"
        text = rule.default_text if value is None else rule.kind.text_of(value)
        lines.append(f"    {source:40} {flag_of(name)} {text}")
    return lines
