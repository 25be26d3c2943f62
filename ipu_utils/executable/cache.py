# SPDX-License-Identifier: Apache-2.0
"""Which executable a run asks for, and whether a file is that one. No TensorFlow: files are started without it."""

import dataclasses
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

from ipu_utils.base.errors import UserError
from ipu_utils.config import run_hparams
from ipu_utils.config.normalisation import rgb
from ipu_utils.config.options import flag_of
from ipu_utils.config.run_config import RunConfig
from ipu_utils.config.run_hparams import hparams_of_run as hparams_of
from ipu_utils.config.sections import all_rules
from ipu_utils.executable import fingerprint
from ipu_utils.executable.calibration import calibration_of
from ipu_utils.executable.file import Executable, ExecutableError, Header, differences, with_weights
from ipu_utils.model import checkpoint_files, weights_text
from ipu_utils.nms.anchors import ANCHOR_KEYS
from tf2 import label_util

# The modules that build networks, one a kind of executable. By all that they import, executables are known.
NETWORK = "ipu_utils.executable.freeze"  # a CPU's, which OpenVINO compiles
LITE = "ipu_utils.executable.freeze_lite"  # LiteRT's
ONNX = "ipu_utils.executable.freeze_onnx"  # ONNX Runtime's
GRAPH = "ipu_utils.executable.freeze_graph"  # TensorFlow's on a host
PROGRAM = "ipu_utils.backends.ipu_build"  # an IPU's


def plan(
    config: RunConfig,
    precision: str,
    output_type: str,
    engine: str,
    target: Tuple[str, ...],
    options: Any = None,
    builder: str = NETWORK,
    operator: Sequence[Path] = (),
) -> Header:
    """Describe the executable that a run asks for; what its weights are is told by compiling.

    Args:
      config: the run.
      precision, output_type: type names.
      engine: what compiles, with its version.
      target: what it compiles for.
      options: anything else that the compiled network depends on, in JSON types.
      builder: one of the modules above.
      operator: compiled files that become a part of what is compiled.
    """
    hparams, model = hparams_of(config), config.model
    random = model.random_weights or not checkpoint_files.checkpoint_files(model.weights_path)
    made = {"seed": config.data.seed, "candidates": model.random_candidates}
    recipe = made if random else {"no_ema": model.no_ema}
    more = {"NMS operator": fingerprint.of_files(operator)} if operator else {}
    calibration = calibration_of(config, hparams, random) if precision == "int8" else None
    more.update({} if calibration is None else {"calibration images": calibration.sha256})
    more.update({} if options is None else {"options": fingerprint.digest(options)})
    labels = label_util.get_label_map("coco" if hparams.label_map is None else hparams.label_map) or {}
    return Header(
        model_name=model.model_name,
        image_size=tuple(hparams.image_size),
        batch_size=config.data.micro_batch_size,
        input_type=model.io_precision.value,
        output_type=output_type,
        mean_rgb=rgb(hparams.mean_rgb),
        num_classes=hparams.num_classes,
        anchors={key: hparams[key] for key in ANCHOR_KEYS},
        nms_mode=config.nms.nms_mode.value,
        nms_configs=hparams.nms_configs.as_dict(),
        label_map=dict(labels),
        precision=precision,
        weights="",
        random_weights=random,
        fingerprint={
            "weights": fingerprint.of_weights(model.weights_path, model.random_weights, recipe),
            "settings": fingerprint.of_hparams(hparams),
            "network code": fingerprint.of_sources(builder),
            **more,
        },
        engine=engine,
        target=target,
        calibration="" if calibration is None else calibration.text,
        versions=fingerprint.versions(),
    )


def told_anew(found: Header, config: RunConfig) -> Header:
    """The header of a kept executable in words of this run, whose weights may lie in another place.

    Args:
      found: its header, which fits the run.
    """
    model = config.model
    if found.random_weights:
        absent = None if model.random_weights else model.weights_path
        text = weights_text.looked_for_here(found.weights, absent)
    else:
        path = checkpoint_files.checkpoint_name(model.weights_path)
        text = weights_text.from_here(found.weights, path, run_hparams.path_remark(model, hparams_of(config)))
    if found.calibration:
        text_of_images = calibration_of(config, hparams_of(config), found.random_weights).text
        found = dataclasses.replace(found, calibration=text_of_images)
    return with_weights(found, text, found.random_weights)


def wants_trained_weights(config: RunConfig) -> bool:
    """Would random weights make no sense, although nobody asked for them? Then compiling is left to say so."""
    generated = config.data.dataset_type == "generated" and config.output.about_images is None
    return not config.model.random_weights and (config.model.model_dir is not None or not generated)


def reasons_to_compile(found: Optional[Header], wanted: Header, config: RunConfig) -> List[str]:
    """Say why a kept executable is not what a run asks for; empty when it can be run as it is.

    Args:
      found: its header, None when there is no such file.
    """
    if found is None:
        return ["there is none yet"]
    reasons = differences(found, wanted)
    if not reasons and found.random_weights and wants_trained_weights(config):
        reasons.append("its weights are random")
    return reasons


def check_typed(executable: Executable, config: RunConfig) -> None:
    """Refuse options that contradict an executable which is to be run as it is.

    Raises:
      UserError: an option was typed that the executable cannot follow any more.
    """
    for name, rule in all_rules().items():
        if name in config.typed and rule.facets.compiled.fixed:
            raise UserError(
                f"{flag_of(name)} takes part in compiling, and --exec-file {executable.path} is compiled already: "
                "leave it out, or give --exec-output-dir FOLDER instead."
            )
        told = rule.facets.compiled.header
        if name not in config.typed or told is None:
            continue
        typed, found = config.value_of(name), getattr(executable.header, told)
        if typed != found:
            raise ExecutableError(
                f"{executable.path} was compiled for {flag_of(name)} {rule.kind.text_of(found)}, not "
                f"{rule.kind.text_of(typed)}: leave the option out, or compile another with --exec-output-dir FOLDER."
            )


def cached_file(folder: Path, header: Header) -> Path:
    """Where --executable-cache-dir keeps an executable: a name of its own for everything that it depends on."""
    key = fingerprint.digest(dataclasses.asdict(with_weights(header, "", header.random_weights)))
    return folder / file_name(header).replace(".effdet", f"-{key[:16]}.effdet")


def file_name(header: Header) -> str:
    """Name of a host's executable in --exec-output-dir: one for every model, size, batch, precision and engine."""
    height, width = header.image_size
    batch = "" if header.batch_size == 1 else f"_b{header.batch_size}"
    engine = header.engine.partition(" ")[0].lower()
    engine = "" if engine == "openvino" else f"_{engine}"  # whose files had their names first
    return f"{header.model_name}_{width}x{height}{batch}_{header.precision}{engine}.effdet"
