# SPDX-License-Identifier: Apache-2.0
"""The texts that describe a backbone's stages."""

import pytest

from backbone.efficientnet_builder import BlockArgs, decode_block
from ipu_utils.errors import ConfigError


def test_a_block_is_read_part_by_part():
    block = BlockArgs(
        num_repeat=2,
        kernel_size=5,
        strides=(1, 2),
        expand_ratio=6,
        input_filters=24,
        output_filters=40,
        se_ratio=0.25,
        id_skip=True,
    )
    assert decode_block("r2_k5_s12_e6_i24_o40_se0.25") == block
    assert decode_block("k5_r2_o40_i24_s12_e6_noskip") == block._replace(se_ratio=0, id_skip=False)


@pytest.mark.parametrize(
    "text, message",
    [
        ("r1_k3_s1_e1_i32_o16", "two digits"),
        ("r1_k3_s11_e1_i32", "a number each"),
        ("r1_kx_s11_e1_i32_o16", "a letter and a number|a number each"),
        ("r1_k3_s11_e1_i32_o16_f1", "inverted bottlenecks"),
        ("r1_k3_s11_e1_i32_o16_cc", "inverted bottlenecks"),
    ],
)
def test_a_block_that_the_backbone_does_not_have_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        decode_block(text)
