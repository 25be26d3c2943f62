# SPDX-License-Identifier: Apache-2.0
"""What the report says of weights, and how the words for kept ones are made those of the present run.

An executable that is kept is known by the content of its weights: the checkpoint that it was compiled from may be
another one, of the same content, than that of the run that finds it.
"""

import re

from ipu_utils.config.run_config import RunConfig
from ipu_utils.config.run_hparams import check_wishes

_LOADED = re.compile(r"(\d+ of \d+ variables) from .*( \([^()]*\))(?:;[^()]*)?", re.DOTALL)
_ABSENT = re.compile(r" \(no checkpoint in .*\)$", re.DOTALL)


def of_checkpoint(matched: int, total: int, path: object, form: str) -> str:
    """Words for weights that were loaded; `form` tells the kind of checkpoint and which of its weights were taken."""
    return f"{matched} of {total} variables from {path} ({form})"


def of_random(seed: int, candidates: float, absent: object = None) -> str:
    """Words for random weights; `absent` is where a checkpoint was looked for."""
    return looked_for_here(f"random, seed {seed}, calibrated to {candidates:.0f} candidates an image", absent)


def from_here(text: str, path: object, remark: str = "") -> str:
    """The words for loaded weights of the same content in another place.

    Args:
      text: what `of_checkpoint` gave for the first place, with or without a remark behind it.
      path: the place.
      remark: what its path tells, see `ipu_utils.config.run_hparams.path_remark`.
    """
    found = _LOADED.fullmatch(text)
    return f"those in {path}{remark}" if found is None else f"{found[1]} from {path}{found[2]}{remark}"


def looked_for_here(text: str, absent: object = None) -> str:
    """The same for what `of_random` gave."""
    looked = "" if absent is None else f" (no checkpoint in {absent})"
    return _ABSENT.sub("", text) + looked


def planned(config: RunConfig) -> str:
    """What the weights of a run without a checkpoint are going to be; UserError where something needs a checkpoint."""
    if config.model.random_weights:
        return "random"
    check_wishes(config)
    return f"random, for there is no checkpoint in {config.model.weights_path}"
