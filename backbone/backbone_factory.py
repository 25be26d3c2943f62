# SPDX-License-Identifier: Apache-2.0
"""One door to all backbones."""

import difflib
from typing import Optional, Sequence

from backbone import efficientnet_builder, efficientnet_lite_builder, efficientnet_model
from ipu_utils.base.errors import ConfigError
from utils import Activation


def get_model(
    model_name: str, act_type: Activation = "swish", stages: Optional[Sequence[str]] = None
) -> efficientnet_model.Model:
    """Return an EfficientNet backbone that gives features, without a classification head.

    Args:
      model_name: efficientnet-b0 to efficientnet-b7 or efficientnet-lite0 to efficientnet-lite4.
      act_type: see `utils.activation_fn`.
      stages: block texts in place of the published ones; see `efficientnet_builder.decode_block`.

    Raises:
      ConfigError: the name or a text is unknown.
    """
    for builder in (efficientnet_builder, efficientnet_lite_builder):
        if model_name in builder.SCALES:
            params = builder.get_model_params(model_name, builder.STAGES if stages is None else stages)
            return efficientnet_model.Model(params, act_type, name=model_name)
    names = [*efficientnet_builder.SCALES, *efficientnet_lite_builder.SCALES]
    close = difflib.get_close_matches(str(model_name), names, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise ConfigError(f"backbone_name {model_name!r} is unknown; it may be one of {', '.join(names)}.{hint}")
