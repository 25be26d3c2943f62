# SPDX-License-Identifier: Apache-2.0
"""What the combinations of a sweep would run, known before any of them has: the rows of those without numbers."""

import contextlib
from typing import Any, Mapping, Optional

from ipu_utils.backends.open import own_precision
from ipu_utils.base.errors import UserError
from ipu_utils.config.model_options import ModelConfig, Precision
from ipu_utils.config.run_config import DeviceConfig, RunConfig, resolve
from ipu_utils.config.run_hparams import follow_hparams
from ipu_utils.config.sections import sweep_axes
from ipu_utils.report.sweep_table import SweepRow, head_of

NOT_RUN = "not run to its end: the sweep was interrupted"
GIVEN = ("config", "exec_file")  # options whose files may say what a row is


def row_of_plan(
    swept: Mapping[str, str], config: Optional[RunConfig], typed: Mapping[str, Any], script: str, device: str
) -> SweepRow:
    """The row of a combination that has not run.

    Args:
      swept: see `SweepRow`.
      config: None where it cannot be made: then what its options say that name it counts.
      typed: its options. device: ipu, cpu or gpu.
    """
    if config is None:
        with contextlib.suppress(UserError):
            named = [name for name in (*sweep_axes(), *GIVEN) if name in typed]
            config = resolve({name: typed[name] for name in named}, script, device, {})
    if config is None:  # these cannot be used either
        known = {"model": ModelConfig.model_name, "engine": DeviceConfig.engine}
        told = {head_of(name): _text(typed[name]) for name in sweep_axes() if name in typed}
        return SweepRow(swept, None, NOT_RUN, {**known, **told})
    with contextlib.suppress(UserError):  # which the combination itself will tell
        config = follow_hparams(config)
    model, precision = config.model, config.model.model_precision
    expected = {"model": model.model_name, "batch": str(config.data.micro_batch_size), "engine": config.device.engine}
    if precision is not None:
        return SweepRow(swept, None, NOT_RUN, {**expected, "precision": precision.word})
    own = own_precision(config)
    return SweepRow(swept, None, NOT_RUN, expected, "" if own is None else Precision(own).word)


def _text(value: Any) -> str:
    return value.word if isinstance(value, Precision) else str(value)
