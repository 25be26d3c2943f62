# SPDX-License-Identifier: Apache-2.0
"""EfficientNet B0 to B7: how the stages of B0 are stated, and how the larger backbones are scaled from them.

Source: Tan and Le, EfficientNet (arXiv:1905.11946), table 1 and section 4; google/automl
backbone/efficientnet_builder.py.
"""

import math
import re
from typing import Dict, List, NamedTuple, Sequence, Tuple

from ipu_utils.base.errors import ConfigError


class BlockArgs(NamedTuple):
    """One stage: `num_repeat` inverted bottlenecks of which only the first has the stride and changes the width."""

    num_repeat: int
    kernel_size: int
    strides: Tuple[int, int]
    expand_ratio: int
    input_filters: int
    output_filters: int
    se_ratio: float = 0.0  # Squeezed width over the block's input width; 0 leaves squeeze and excitation out.
    id_skip: bool = True


class GlobalParams(NamedTuple):
    """What holds for the whole backbone."""

    stages: Tuple[BlockArgs, ...]
    width_coefficient: float
    depth_coefficient: float
    use_se: bool = True
    fix_head_stem: bool = False  # Scale neither the width of the stem nor the depth of the first and the last stage.
    depth_divisor: int = 8

    def round_filters(self, filters: int) -> int:
        """Return the scaled number of channels: the nearest multiple of the divisor, at most 10 percent below."""
        scaled, divisor = filters * self.width_coefficient, self.depth_divisor
        rounded = max(divisor, int(scaled + divisor / 2) // divisor * divisor)
        return int(rounded + divisor if rounded < 0.9 * scaled else rounded)

    def round_repeats(self, repeats: int) -> int:
        """Return the scaled number of blocks of a stage."""
        return math.ceil(self.depth_coefficient * repeats)

    @property
    def stem_filters(self) -> int:
        """Channels behind the first convolution."""
        filters = self.stages[0].input_filters
        return filters if self.fix_head_stem else self.round_filters(filters)

    def blocks(self) -> List[BlockArgs]:
        """Return every block of the scaled backbone in order, each with `num_repeat` 1."""
        blocks = []
        for number, stage in enumerate(self.stages):
            is_end = number in (0, len(self.stages) - 1)
            repeats = stage.num_repeat if self.fix_head_stem and is_end else self.round_repeats(stage.num_repeat)
            first = stage._replace(
                num_repeat=1,
                input_filters=self.round_filters(stage.input_filters),
                output_filters=self.round_filters(stage.output_filters),
            )
            blocks += [first] + [first._replace(input_filters=first.output_filters, strides=(1, 1))] * (repeats - 1)
        return blocks


def decode_block(text: str) -> BlockArgs:
    """Return the stage that a text such as "r1_k3_s11_e1_i32_o16_se0.25" stands for.

    r: repeats, k: kernel, s: the two strides, e: expansion, i and o: channels in and out, se: squeeze ratio, "noskip".

    Raises:
      ConfigError: a part is missing, or asks for a kind of block that no published EfficientDet has.
    """
    options: Dict[str, str] = {}
    for part in text.split("_"):
        match = re.fullmatch(r"([a-z]+)(\d[\d.]*)?", part)
        if not match:
            raise ConfigError(f"block {text!r}: {part!r} is not a letter and a number.")
        options[match.group(1)] = match.group(2) or ""
    wanted = {name: options.pop(name, "") for name in "rkseio"}
    if not all(value.isdigit() for value in wanted.values()) or len(wanted["s"]) != 2:
        raise ConfigError(f"block {text!r}: expected r, k, e, i, o with a number each and s with two digits.")
    se_ratio, id_skip = float(options.pop("se", 0.0)), "noskip" not in options
    unsupported = [name for name, value in options.items() if name != "noskip" and value.strip("0")]
    if unsupported or "cc" in options:
        raise ConfigError(f"block {text!r}: only inverted bottlenecks with depthwise convolution are supported.")
    repeats, kernel, strides, expand, filters_in, filters_out = (wanted[name] for name in "rkseio")
    return BlockArgs(
        num_repeat=int(repeats),
        kernel_size=int(kernel),
        strides=(int(strides[0]), int(strides[1])),
        expand_ratio=int(expand),
        input_filters=int(filters_in),
        output_filters=int(filters_out),
        se_ratio=se_ratio,
        id_skip=id_skip,
    )


def decode_blocks(texts: Sequence[str]) -> Tuple[BlockArgs, ...]:
    """Return the stages that a list of texts stands for; see `decode_block`."""
    return tuple(decode_block(text) for text in texts)


STAGES = (
    "r1_k3_s11_e1_i32_o16_se0.25",
    "r2_k3_s22_e6_i16_o24_se0.25",
    "r2_k5_s22_e6_i24_o40_se0.25",
    "r3_k3_s22_e6_i40_o80_se0.25",
    "r3_k5_s11_e6_i80_o112_se0.25",
    "r4_k5_s22_e6_i112_o192_se0.25",
    "r1_k3_s11_e6_i192_o320_se0.25",
)

# Factors of width and depth over B0.
SCALES = {
    "efficientnet-b0": (1.0, 1.0),
    "efficientnet-b1": (1.0, 1.1),
    "efficientnet-b2": (1.1, 1.2),
    "efficientnet-b3": (1.2, 1.4),
    "efficientnet-b4": (1.4, 1.8),
    "efficientnet-b5": (1.6, 2.2),
    "efficientnet-b6": (1.8, 2.6),
    "efficientnet-b7": (2.0, 3.1),
}


def get_model_params(model_name: str, stages: Sequence[str] = STAGES) -> GlobalParams:
    """Return the scaled parameters of a backbone of `SCALES`."""
    width, depth = SCALES[model_name]
    return GlobalParams(decode_blocks(stages), width, depth)
