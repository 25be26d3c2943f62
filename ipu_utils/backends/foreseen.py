# SPDX-License-Identifier: Apache-2.0
"""What a --dry-run says of the network, found out by whatever would compile it."""

from typing import Any, NamedTuple, Optional

from hparams_config import Config
from ipu_utils.config.run_config import RunConfig
from ipu_utils.model import weights_text

TO_BE_COMPILED = "to be compiled"


class Foreseen(NamedTuple):
    """What a run would work with."""

    weights: str  # for the report
    executable: str  # where the network comes from: a file, or TO_BE_COMPILED
    header: Optional[Any] = None  # the executable's header, of a file that is given, whose options count


def foresee_network(config: RunConfig, hparams: Config, device: Any) -> Foreseen:
    """Do as `ipu_utils.model.network.prepare`, but draw no random weights: find out whether everything is there.

    Raises:
      UserError: as `prepare`.
    """
    from ipu_utils.model import checkpoint, network  # TensorFlow, which is there already where this is called

    if config.model.random_weights or checkpoint.find_checkpoint(config.model.weights_path) is None:
        network.precision_of(config, device)
        return Foreseen(weights_text.foreseen(config), TO_BE_COMPILED)
    return Foreseen(network.prepare(config, hparams, device).weights, TO_BE_COMPILED)
