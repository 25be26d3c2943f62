# SPDX-License-Identifier: Apache-2.0
"""The model configuration of a run: the published one, and what the run's other options imply. No TensorFlow.

AdvProp checkpoints have the variables of all others but were trained on inputs in [-1, 1] instead of ImageNet's mean
and deviation. Nothing in the file tells; the published folder is called `advprop`, so that is what is looked for.
"""

import re
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import hparams_config
from ipu_utils.config import RunConfig
from ipu_utils.errors import UserError
from ipu_utils.hparams_rules import check_hparams
from ipu_utils.settings import ModelConfig

# Average precision needs the low scores too; who acts on detections wants the likely ones.
PRESETS = {
    "accuracy": {"nms_configs": {"score_thresh": 0.001}},
    "deployment": {"nms_configs": {"score_thresh": 0.4}},
}
_MODEL = re.compile(r"efficientdet-(?:d|lite)[0-9]x?")
ADVPROP = {"mean_rgb": 127.5, "stddev_rgb": 127.5}  # 0..255 -> -1..1


def is_advprop(model: ModelConfig) -> bool:
    """Does --model-dir say that its weights are AdvProp's: by its name, or that of one of the two folders above it?"""
    if model.random_weights or model.model_dir is None:
        return False
    return any("advprop" in part.lower() for part in Path(model.model_dir).absolute().parts[-3:])


def hparams_of(
    model: ModelConfig, image_size: Optional[Tuple[int, int]] = None, preset: Optional[str] = None
) -> hparams_config.Config:
    """Return the configuration that a run builds its network from; --hparams wins over what follows from the rest.

    Args:
      model: model_name, hparams, and where the weights come from.
      image_size: (height, width) in pixels, None for the model's own.
      preset: one of PRESETS.

    Raises:
      ConfigError: the name, the changes or the size are wrong.
    """
    settings: Dict[str, Any] = dict(PRESETS[preset]) if preset else {}
    if is_advprop(model):
        settings.update(ADVPROP)
    config = hparams_config.get_inference_config(model.model_name, model.hparams, image_size, settings)
    check_hparams(config)
    return config


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
    if all(hparams[key] == value for key, value in ADVPROP.items()):
        return text + "; AdvProp by its path: inputs scaled to [-1, 1]"
    return text + "; AdvProp by its path, but --hparams set other inputs than [-1, 1]"


def check_wishes(config: RunConfig) -> None:
    """Check, where there is no checkpoint, that nothing in the run asks for trained weights.

    Raises:
      UserError: something does; says how to get them.
    """
    wish = config.output.about_images
    if config.model.model_dir is not None:
        wish = f"--model-dir {config.model.model_dir}"
    elif config.data.dataset_type != "generated":
        wish = f"--dataset-type {config.data.dataset_type}"
    if wish is not None:
        from ipu_utils.fetch_weights import fetch_command  # HTTP, for which a run with weights need not wait

        path = config.model.weights_path
        raise UserError(
            f"{wish} asks for trained weights, and there is no checkpoint in {path}. To fetch the published one:",
            f"  {fetch_command(config.model.model_name)}",
            "or add --random-weights to run without trained ones.",
        )
