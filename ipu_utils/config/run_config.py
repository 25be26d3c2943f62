# SPDX-License-Identifier: Apache-2.0
"""The resolved configuration of one run: command line over host settings over preset over default."""

import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Mapping, Optional, Sequence, Tuple

from ipu_utils.base import hardware
from ipu_utils.base.errors import ConfigError, UserError
from ipu_utils.base.files import write_atomically
from ipu_utils.config.command_line import DEFAULT_CONFIGS, build_parser
from ipu_utils.config.device_options import DeviceConfig, IpuConfig
from ipu_utils.config.images import DATASETS, GENERATED, check_images, kind_of_images
from ipu_utils.config.model_options import DataConfig, ModelConfig, NmsConfig, Precision
from ipu_utils.config.options import Rule, flag_of, path_kind, rules_of
from ipu_utils.config.poplar_environment import options_from_environment
from ipu_utils.config.preset_files import is_own, read_preset
from ipu_utils.config.run_options import BenchmarkConfig, EmbeddedConfig, OutputConfig
from ipu_utils.config.sections import all_rules, names_where, sections_of
from ipu_utils.config.unused_options import flags, note_unused

DEFAULT_IO_TILES = 96
# The exchange code of the larger models does not fit beside their activations unless it is kept small.
SMALL_EXCHANGE_MODELS = tuple(f"efficientdet-{size}" for size in ("d4", "d5", "d6", "d7", "d7x"))
EMBEDDED_WARMUP = 10  # requests before the measured ones: caches, clocks and allocators settle
ONE_PASS_WARMUP = 1  # where each photograph is run once
TYPED = "command line"


@dataclass(frozen=True)
class RunConfig:
    """Everything about one run. Functions take the part they need; the whole stops at the script."""

    script: str  # "throughput" or "embedded"
    config_name: str
    data: DataConfig
    model: ModelConfig
    nms: NmsConfig
    device: DeviceConfig
    ipu: IpuConfig
    benchmark: BenchmarkConfig
    output: OutputConfig
    embedded: Optional[EmbeddedConfig] = None  # None for the throughput script
    typed: FrozenSet[str] = frozenset()  # names of the options that were on the command line
    given: Mapping[str, Tuple[Any, str]] = dataclasses.field(default_factory=dict)  # option -> (value, where from)
    command: Tuple[str, ...] = ()  # the script's file name and arguments
    notes: Tuple[str, ...] = ()  # what the user should know about the above; to be shown once

    def options(self) -> Iterator[Tuple[str, Rule, Any]]:
        """Name, rule and value of every option of the script, in the order of their declarations."""
        for part in sections_of(self.script):
            section = getattr(self, part)
            yield from ((name, rule, getattr(section, name)) for name, rule in rules_of(section).items())

    def value_of(self, name: str) -> Any:
        """The value of an option of the script; KeyError where it has no such option."""
        return {known: value for known, _, value in self.options()}[name]

    @classmethod
    def from_options(cls, options: Mapping[str, Any], script: str = "throughput", **kwargs: Any) -> "RunConfig":
        """Distribute options to the sections by field name.

        Raises:
          ConfigError: a value is not what its option takes, or options contradict each other.
          TypeError: a name is not an option of the script.
        """
        unknown = {*options} - {*all_rules(script)}
        if unknown:
            raise TypeError(f"not options of the {script} script: {', '.join(sorted(unknown))}")
        parts = {
            part: section(**{name: options[name] for name in rules_of(section) if name in options})
            for part, section in sections_of(script).items()
        }
        return cls(script=script, **{"config_name": DEFAULT_CONFIGS[script], **parts, **kwargs})


def load_config(
    argv: Optional[Sequence[str]] = None,
    script: str = "throughput",
    choose_device: Optional[Callable[[str], str]] = None,
    environ: Optional[Mapping[str, str]] = None,
    program: str = "",
) -> RunConfig:
    """Read the command line of a script and everything below it.

    The last of these wins: defaults, the model's section of the preset, on a CPU or GPU its `host` settings, on an
    IPU what POPLAR_ENGINE_OPTIONS and TF_POPLAR_FLAGS say, the command line.

    Args:
      argv: arguments without the program's name; None takes the process's own.
      script: "throughput" or "embedded".
      choose_device: resolves "auto", "ipu", "cpu" or "gpu" to one of the last three; None asks this machine.
      environ: variables of the environment; None takes the process's own.
      program: what was typed, where it is not the script.

    Raises:
      SystemExit: the command line, the preset or the environment is wrong; status 2, after `error: ...` on standard
        error.
      UserError: from `choose_device`, when the device that was asked for is not there.
    """
    parser = build_parser(script)
    parser.typed_program = program
    typed = vars(parser.parse_args(argv))
    device = typed.get("device", "auto")
    if (device, typed.get("engine")) != ("gpu", "onnxruntime"):  # whose own package says whether there is a GPU for it
        device = (choose_device or hardware.choose_device)(device)
    try:
        config = resolve(typed, script, device, os.environ if environ is None else environ)
    except UserError as error:
        parser.error(*error.lines)
    command = (parser.prog, *(sys.argv[1:] if argv is None else argv))
    return dataclasses.replace(config, command=command, notes=tuple(parser.notes) + config.notes)


def resolve(typed: Mapping[str, Any], script: str, device: str, environ: Mapping[str, str]) -> RunConfig:
    """Put what was typed over presets and defaults; see `load_config`. `device` is ipu, cpu or gpu.

    Raises:
      UserError: an option, the preset or the environment is wrong.
    """
    config_name = typed.get("config", DEFAULT_CONFIGS[script])
    model_name = typed.get("model_name", ModelConfig.model_name)
    preset = read_preset(config_name, model_name)
    notes: List[str] = []
    layers: List[Tuple[str, Mapping[str, Any]]] = []  # where options come from, the weakest first
    if script == "embedded":
        layers.append(("default of this script", {"warmup": EMBEDDED_WARMUP}))
    if model_name in SMALL_EXCHANGE_MODELS:
        layers.append(("default of large models", {"opt_internal_exchange_target": "memory"}))
    layers.append((f"preset {config_name}", preset.own))
    if device == "ipu":
        layers.append(("environment", options_from_environment(environ, typed, notes)))
    else:
        layers.append((f"preset {config_name}, for a host", preset.host))
    layers.append((TYPED, typed))
    rules = all_rules(script)
    given = {name: (rule.default, "default") for name, rule in rules.items()}
    for source, options in layers:
        given.update((name, (value, source)) for name, value in options.items() if name in rules)
    chosen = {name: value for name, (value, source) in given.items() if source != "default"}
    options = _derive({**chosen, "device": device}, script, typed, notes)
    config = RunConfig.from_options(options, script, config_name=config_name, typed=frozenset(typed))
    checked = {name: (rules[name].check(name, value), source) for name, (value, source) in given.items()}
    config = dataclasses.replace(config, given=checked)
    return dataclasses.replace(_check(config, notes), notes=tuple(notes))


def _derive(options: Dict[str, Any], script: str, typed: Mapping[str, Any], notes: List[str]) -> Dict[str, Any]:
    """Options that follow from others; each change is noted."""
    on_ipu = options["device"] == "ipu"
    if "image_path" in typed and "dataset_type" not in typed and options.get("dataset_type", GENERATED) == GENERATED:
        kind = kind_of_images(options["image_path"])
        if kind:
            options["dataset_type"] = DATASETS.get(kind, "image-directory")
            notes.append(f"--image-path is a {kind}: --dataset-type {options['dataset_type']}.")
    if options.get("dataset_type") == "single-image":
        # The embedded executable's loop is not a number of batches: of length one, it would start again each request.
        forced = ("micro_batch_size",) if on_ipu and script == "embedded" else ("micro_batch_size", "benchmark_repeats")
        options.update(dict.fromkeys(forced, 1))
        unused = [name for name in forced if typed.get(name, 1) != 1]
        because = f" What was given for {flags(unused)} is not used." if unused else ""
        notes.append(
            f"--dataset-type single-image sets {' and '.join(flag_of(name) for name in forced)} to 1.{because}"
        )
    if options.get("opt_use_io_tiles") and options.get("opt_num_io_tiles") is None:
        options["opt_num_io_tiles"] = DEFAULT_IO_TILES
        if on_ipu:
            notes.append(f"--opt-use-io-tiles without --opt-num-io-tiles sets {DEFAULT_IO_TILES} tiles apart.")
    if options.get("onchip_nms", NmsConfig.onchip_nms) and options.get("benchmark_host_postprocessing"):
        options["benchmark_host_postprocessing"] = False
        notes.append(
            "--benchmark-host-postprocessing is off: with on-chip NMS the host does no post-processing. "
            "Add --onchip-nms false to measure it."
        )
    return options


def _check(config: RunConfig, notes: List[str]) -> RunConfig:
    """Check what no section can check by itself, and note what has no effect."""
    results_dir = config.output.output_dir if config.output.output_predictions else None
    data = check_images(dataclasses.replace(config.data, results_dir=results_dir), config.typed, notes)
    device, calibration = config.device.device, config.model.calibration_images
    if isinstance(calibration, Path) and not kind_of_images(calibration, "--calibration-images"):
        raise ConfigError(
            f"--calibration-images must be a number, or a folder or image that is there; got {str(calibration)!r}."
        )
    if config.output.coco_annotations is not None and data.dataset_type == GENERATED:
        raise ConfigError("--coco-annotations are of images, and the data is generated: add --image-path.")
    if config.output.profile_dir is not None:
        _check_profile(config.output.profile_dir)
    note_unused(config, notes)
    if device == "ipu":
        _check_ipu(config, notes)
    if config.embedded is not None:
        exec_file = config.embedded.exec_file
        kind = "file" if exec_file is None else path_kind("--exec-file", exec_file)
        if kind != "file":
            raise ConfigError(
                f"--exec-file {exec_file}: there is no such file{', it is a folder' if kind else ''}. "
                "--compile-only --exec-output-dir FOLDER writes an executable."
            )
        config = dataclasses.replace(config, benchmark=outlasting(config, notes))
    elif 1 < config.benchmark.num_repeats <= config.benchmark.warmup:
        notes.append(
            f"--warmup {config.benchmark.warmup} leaves none of the {config.benchmark.num_repeats} calls of "
            "--num-repeats to be counted: one more is."
        )
    return _once(dataclasses.replace(config, data=data), notes)


def _check_profile(path: Path) -> None:
    """Refuse to write over a file that is no app.json of a run."""
    place = app_json_path(path)
    if not place.is_file():
        return
    try:
        content = json.loads(place.read_bytes())
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or {*content} != {"arguments", "config"}:
        raise ConfigError(f"--profile-dir {path}: {place} is there, and no run has written it: name another folder.")


def _once(config: RunConfig, notes: List[str]) -> RunConfig:
    """Have each photograph run once where something is written about it and nobody says how often to run."""
    asked = config.output.about_images
    repeats = names_where(lambda facets: facets.repeats)
    if asked is None or not config.data.has_photographs or any(_by_user(config, name) for name in repeats):
        return config
    notes.append(f"each image is run once, because of {asked}. To measure longer, add --num-repeats or --min-seconds.")
    changes = {} if _by_user(config, "warmup") else {"warmup": ONE_PASS_WARMUP}
    return dataclasses.replace(config, benchmark=dataclasses.replace(config.benchmark, one_pass=True, **changes))


def _by_user(config: RunConfig, name: str) -> bool:
    """Does an option have its value from the command line, or from a preset that is no part of this program?"""
    source = config.given[name][1]
    return source == TYPED or (source.startswith("preset ") and not is_own(config.config_name))


def _check_ipu(config: RunConfig, notes: List[str]) -> None:
    """Refuse what an IPU cannot do, and say what an unusual choice costs."""
    ipu, typed = config.ipu, config.typed
    precision = config.model.model_precision
    if precision in (Precision.BFLOAT16, Precision.INT8):
        raise ConfigError(f"--model-precision {precision.word} does not exist on an IPU: use half or float.")
    if ipu.synthetic and config.output.about_images:
        raise ConfigError(
            f"--synthetic sends no results to the host, so there is nothing for {config.output.about_images}: drop one."
        )
    if ipu.synthetic and config.data.dataset_type != "generated":
        notes.append(f"--synthetic makes the input on the device: {config.data.image_path} is not used.")
    if "opt_num_io_tiles" in typed and not ipu.opt_use_io_tiles:
        notes.append("--opt-num-io-tiles has no effect without --opt-use-io-tiles.")
    if config.embedded is not None and ipu.opt_use_io_tiles:
        notes.append(
            "--opt-use-io-tiles lets the executable stall: a request that no other follows waits until the runtime's "
            "time-out pushes a dummy batch after it, and its latency grows by both. --opt-use-io-tiles false avoids it."
        )


def outlasting(config: RunConfig, notes: List[str]) -> BenchmarkConfig:
    """The repeats of the embedded script, which on an IPU has a compiled loop that outlasts the measurement."""
    benchmark = config.benchmark
    needed = benchmark.num_repeats + benchmark.warmup
    if config.device.device != "ipu" or benchmark.benchmark_repeats >= needed:
        return benchmark
    if "benchmark_repeats" in config.typed:
        notes.append(
            f"--benchmark-repeats {benchmark.benchmark_repeats} compiles a loop shorter than the {needed} requests: "
            "the engine starts again each time it is used up, and the request that waits for it is slow."
        )
        return benchmark
    return dataclasses.replace(benchmark, benchmark_repeats=needed)


def options_dict(config: RunConfig) -> Dict[str, Any]:
    """Every option of the run and its value, as plain JSON types, for records of the run."""
    values = {name: _plain(value) for name, _, value in config.options()}
    return {"script": config.script, "config": config.config_name, **values}


def _plain(value: Any) -> Any:
    if isinstance(value, (str, Path)):  # the Enums are strings
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def write_app_json(config: RunConfig, model_config: Any, path: Path) -> None:
    """Write the run's arguments and the model's configuration, which the profile viewer shows beside a profile.

    Args:
      model_config: an `hparams_config.Config`, or its plain dict. path: see `app_json_path`.

    Raises:
      ConfigError: the file cannot be written there.
    """
    model_options = model_config.as_dict() if hasattr(model_config, "as_dict") else dict(model_config)
    content = json.dumps({"arguments": options_dict(config), "config": model_options}, indent=2, default=str)
    write_atomically(app_json_path(path), ((content + "\n").encode(),), "--profile-dir")


def app_json_path(path: Path) -> Path:
    """Where `write_app_json` writes: `app.json` in a folder, or the path itself if it ends in .json."""
    return Path(path) if Path(path).suffix == ".json" else Path(path) / "app.json"
