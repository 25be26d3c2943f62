# SPDX-License-Identifier: Apache-2.0
"""The model configuration of a run: the published one, and what the run's other options imply. No TensorFlow.

AdvProp checkpoints have the variables of all others but were trained on inputs in [-1, 1], padding -1, instead of
ImageNet's mean and deviation. Nothing in the file tells; the published folder is called `advprop`, so that is what is
looked for.
"""

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import hparams_config
from ipu_utils.base.errors import ConfigError, UserError
from ipu_utils.base.openvino_api import check_precision
from ipu_utils.config.hparams_rules import check_hparams
from ipu_utils.config.model_options import ModelConfig, Precision
from ipu_utils.config.normalisation import normalisation_of
from ipu_utils.config.options import path_kind
from ipu_utils.config.trainer_config import find_config, read_config
from tf2.nms_settings import SCORE_THRESHOLDS

if TYPE_CHECKING:
    from ipu_utils.config.run_config import RunConfig

_MODEL = re.compile(r"efficientdet-(?:d|lite)[0-9]x?")
ADVPROP = {"mean_rgb": 0.0, "stddev_rgb": 1.0, "scale_range": True}  # 0..255 -> -1..1; AutoML's own for them


def is_advprop(model: ModelConfig) -> bool:
    """Does --model-dir say that its weights are AdvProp's: by its name, or that of one of the two folders above it?"""
    if model.random_weights or model.model_dir is None:
        return False
    return any("advprop" in part.lower() for part in Path(model.model_dir).absolute().parts[-3:])


def hparams_of(
    model: ModelConfig, image_size: Optional[Tuple[int, int]] = None, score_preset: Optional[str] = None
) -> hparams_config.Config:
    """Return the configuration that a run builds its network from; --hparams wins over what follows from the rest.

    Where no --hparams is given, the config.yaml beside the weights counts: see `ipu_utils.config.trainer_config`.

    Args:
      model: model_name, hparams, and where the weights come from.
      image_size: (height, width) in pixels, None for the model's own.
      score_preset: one of SCORE_THRESHOLDS.

    Raises:
      ConfigError: the name, the changes or the size are wrong, or the changes are another model's.
    """
    found = read_config(model)
    settings: Dict[str, Any] = {} if found is None else dict(found.changes)
    if score_preset:
        settings["nms_configs"] = {**settings.get("nms_configs", {}), "score_thresh": SCORE_THRESHOLDS[score_preset]}
    try:
        config = hparams_config.get_inference_config(model.model_name, model.hparams, image_size, settings)
        if is_advprop(model):
            advprop = hparams_config.get_inference_config(
                model.model_name, model.hparams, image_size, {**ADVPROP, **settings}
            )
            # Whoever sets one of them means all of them: a mean for 0..255 is none for inputs that are scaled again.
            if all(advprop[key] == value for key, value in ADVPROP.items()):
                config = advprop
        if config.name != model.model_name and config.name in hparams_config.MODEL_NAMES:
            raise ConfigError(
                f"--hparams are of {config.name}, not {model.model_name}: add --model-name {config.name}."
            )
        check_hparams(config)
    except ConfigError as error:
        note = "" if found is None else f" {found.note()}"
        where = "--hparams: " if model.hparams and "--hparams" not in str(error) else ""
        if not (where or note):
            raise
        raise type(error)(f"{where}{error}{note}") from None
    return config


def hparams_of_run(config: "RunConfig") -> hparams_config.Config:
    """As `hparams_of`, for what a run's options say."""
    return hparams_of(config.model, config.data.image_size, config.nms.score_preset)


def follow_hparams(config: "RunConfig") -> "RunConfig":
    """Bring a run's other options in line with what its hparams ask for, and note what that is.

    Raises:
      ConfigError: see `hparams_of`.
    """
    if config.embedded is not None and config.embedded.exec_file is not None:
        return config  # made already
    model, notes = config.model, []
    hparams, found = hparams_of_run(config), read_config(model)
    if found is not None:
        notes.append(found.note())
    beside = find_config(dataclasses.replace(model, hparams="")) if model.hparams else None
    if beside is not None and str(beside) != model.hparams:
        notes.append(f"{beside} is not read: --hparams takes its place.")
    if not takes_averages(model, hparams) and not (model.no_ema or model.random_weights):
        model = dataclasses.replace(model, no_ema=True)
        notes.append(
            f"moving_average_decay={hparams.moving_average_decay}: a checkpoint's raw weights are taken, not its "
            "averaged copies, as with --no-ema."
        )
    if hparams.mixed_precision and model.model_precision is None:
        reason = _why_no_half(config)
        if reason is None:
            model = dataclasses.replace(model, model_precision=Precision.HALF)
        else:
            notes.append(f"mixed_precision has no effect: {reason}")
    idle = without_effect(hparams)
    if idle:
        notes.append(f"hparams that have no effect here: {', '.join(idle)}.")
    return dataclasses.replace(config, model=model, notes=(*config.notes, *notes))


def takes_averages(model: ModelConfig, hparams: hparams_config.Config) -> bool:
    """Are the averaged copies of a checkpoint wanted? AutoML takes the raw weights where the decay is none."""
    decay = hparams.moving_average_decay
    return not model.no_ema and decay is not None and decay > 0


def without_effect(hparams: hparams_config.Config) -> List[str]:
    """What of a configuration is set, and changes nothing: it is about training, or about how AutoML computes."""
    found = [f"strategy={hparams.strategy}"] if hparams.strategy else []
    found += [] if hparams.use_keras_model else [f"use_keras_model={hparams.use_keras_model}"]
    found += [f"nms_configs.pyfunc={hparams.nms_configs.pyfunc}"] if hparams.nms_configs.pyfunc else []
    optimizations = hparams.model_optimizations
    if hasattr(optimizations, "keys"):
        optimizations = [str(name) for name in optimizations.keys()]  # noqa: SIM118 - a Config
    return found + ([f"model_optimizations ({', '.join(optimizations)})"] if optimizations else [])


def _why_no_half(config: "RunConfig") -> Optional[str]:
    """None where the device of a run computes in half, else why it does not."""
    if config.device.device != "cpu" or config.device.engine == "tensorflow":
        return None  # TensorFlow has half on every device, the IPU its own
    if config.device.engine in ("litert", "onnxruntime"):
        return f"--engine {config.device.engine} computes in float alone"
    try:
        check_precision(Precision.HALF.value)
    except UserError as error:
        return str(error)
    return None


def path_remark(model: ModelConfig, hparams: hparams_config.Config) -> str:
    """What the report adds to weights whose path tells something that their variables do not, else nothing.

    That they are AdvProp's, or another model's: D6 and D7 have the same variables.
    """
    if model.model_dir is None:
        return ""
    named = set(_MODEL.findall("/".join(Path(model.model_dir).absolute().parts[-3:])))
    text = "" if not named or model.model_name in named else f"; its path says {' and '.join(sorted(named))}"
    if not is_advprop(model):
        return text
    if normalisation_of(hparams).is_minus_one_to_one:
        return text + "; AdvProp by its path: inputs scaled to [-1, 1]"
    return text + "; AdvProp by its path, but --hparams set other inputs than [-1, 1]"


def check_wishes(config: "RunConfig", wish: Optional[str] = None) -> None:
    """Check, where there is no checkpoint, that nothing in the run asks for trained weights.

    Args:
      wish: what asks for them, where it is no option of the run.

    Raises:
      UserError: something does; says how to get them.
    """
    wish = wish or config.output.about_images
    path = config.model.weights_path
    lacking = f"there is no checkpoint in {path}"
    if config.model.model_dir is not None:
        wish = f"--model-dir {path}"
        kind = path_kind("--model-dir", path)
        if kind != "folder":
            lacking += ", which is no folder, prefix, .h5, .tar.gz or .tgz" if kind else ", which is not there"
    elif config.data.dataset_type != "generated":
        typed = config.given.get("dataset_type", ("", "default"))[1] != "default"
        wish = f"--dataset-type {config.data.dataset_type}" if typed else f"--image-path {config.data.image_path}"
    if wish is not None:
        raise UserError(
            f"{wish} asks for trained weights, and {lacking}. To fetch the published one:",
            f"  {fetch_command(config.model.model_name)}",
            "or add --random-weights to run without trained ones.",
        )


def fetch_command(model_name: str) -> str:
    """The command that makes the checkpoint of a model appear where the scripts look for it."""
    return f"python -m ipu_utils.fetch_weights --model-name {model_name}"
