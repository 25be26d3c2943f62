# SPDX-License-Identifier: Apache-2.0
"""Which feature maps a feature network fuses into which, as a list of nodes. Needs no TensorFlow.

A map has a number: the inputs are 0, 1, ... from the finest level on, and every node adds one more. A node is
{"feat_level": its level, "inputs_offsets": the numbers of the maps that it fuses}.
"""

from typing import Dict, List, Optional

import hparams_config
from ipu_utils.base.errors import ConfigError


class _Graph:
    """Nodes so far, and the maps of every level in the order in which they appeared."""

    def __init__(self, min_level: int, max_level: int):
        self.nodes: List[dict] = []
        self.maps: Dict[int, List[int]] = {level: [level - min_level] for level in range(min_level, max_level + 1)}
        self.count = max_level - min_level + 1

    def add(self, level: int, inputs: List[int]):
        self.nodes.append({"feat_level": level, "inputs_offsets": inputs})
        self.maps[level].append(self.count)
        self.count += 1

    def config(self, weight_method: Optional[str]) -> hparams_config.Config:
        return hparams_config.Config({"weight_method": weight_method or "fastattn", "nodes": self.nodes})


def bifpn_config(min_level: int, max_level: int, weight_method: Optional[str]) -> hparams_config.Config:
    """Return the nodes of BiFPN: from the coarsest level down to the finest, then up again with all maps of a level.

    Source: Tan et al., EfficientDet (arXiv:1911.09070), section 3.2. `weight_method` None means "fastattn".
    """
    graph = _Graph(min_level, max_level)
    maps = graph.maps
    for level in range(max_level - 1, min_level - 1, -1):
        graph.add(level, [maps[level][-1], maps[level + 1][-1]])
    for level in range(min_level + 1, max_level + 1):
        graph.add(level, maps[level] + [maps[level - 1][-1]])
    return graph.config(weight_method)


def qufpn_config(min_level: int, max_level: int, weight_method: Optional[str] = None) -> hparams_config.Config:
    """Return the nodes of QuFPN: BiFPN's two ways and the same two in the opposite order, then a sum of both.

    Source: google/automl pull request 580. `weight_method` None means "fastattn".
    """
    graph = _Graph(min_level, max_level)
    maps = graph.maps

    # First the order down, up. A level that a way does not touch repeats its last map, so that `maps` keeps five each.
    for level in range(max_level - 1, min_level - 1, -1):
        graph.add(level, [maps[level][-1], maps[level + 1][-1]])
    maps[max_level].append(maps[max_level][-1])
    for level in range(min_level + 1, max_level):
        graph.add(level, maps[level] + [maps[level - 1][-1]])
    graph.add(max_level, [maps[max_level][0], maps[max_level - 1][-1]])
    maps[min_level].append(maps[min_level][-1])

    # Then the order up, down, again from the input maps.
    for level in range(min_level + 1, max_level + 1):
        below = maps[level - 1][0 if level == min_level + 1 else -1]
        graph.add(level, [maps[level][0], below])
    maps[min_level].append(maps[min_level][-1])
    for level in range(max_level - 1, min_level, -1):
        graph.add(level, [maps[level][0], maps[level][-1], maps[level + 1][-1]])
    graph.add(min_level, [maps[min_level][0], maps[min_level + 1][-1]])
    maps[max_level].append(maps[max_level][-1])

    for level in range(max_level, min_level - 1, -1):
        graph.add(level, [maps[level][2], maps[level][4]])
    return graph.config(weight_method)


FPNS = {"bifpn": bifpn_config, "bifpn_dyn": bifpn_config, "qufpn": qufpn_config}


def get_fpn_config(
    fpn_name: Optional[str], min_level: int, max_level: int, weight_method: Optional[str]
) -> hparams_config.Config:
    """Return the nodes and the weight method of a named feature network; None means "bifpn".

    Raises:
      ConfigError: the name is unknown.
    """
    if (fpn_name or "bifpn") not in FPNS:
        raise ConfigError(f"fpn_name {fpn_name!r} is unknown; it may be one of {', '.join(FPNS)}.")
    return FPNS[fpn_name or "bifpn"](min_level, max_level, weight_method)
