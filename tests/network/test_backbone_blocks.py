# SPDX-License-Identifier: Apache-2.0
"""The texts that describe a backbone's stages."""

import pytest

from backbone import efficientnet_builder, efficientnet_lite_builder
from backbone.efficientnet_builder import BlockArgs, decode_block
from ipu_utils.base.errors import ConfigError


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


@pytest.mark.parametrize(
    "name, stem, blocks, last",
    [
        ("efficientnet-b0", 32, 16, 320),
        ("efficientnet-b1", 32, 23, 320),
        ("efficientnet-b2", 32, 23, 352),
        ("efficientnet-b3", 40, 26, 384),
        ("efficientnet-b4", 48, 32, 448),
        ("efficientnet-b5", 48, 39, 512),
        ("efficientnet-b6", 56, 45, 576),
        ("efficientnet-b7", 64, 55, 640),
        ("efficientnet-lite0", 32, 16, 320),
        ("efficientnet-lite1", 32, 21, 320),
        ("efficientnet-lite2", 32, 21, 352),
        ("efficientnet-lite3", 32, 24, 384),
        ("efficientnet-lite4", 32, 30, 448),
    ],
)
def test_published_backbones_have_their_widths_and_depths(name, stem, blocks, last):
    builder = efficientnet_lite_builder if "lite" in name else efficientnet_builder
    params = builder.get_model_params(name)
    assert params.stem_filters == stem and len(params.blocks()) == blocks
    assert params.blocks()[-1].output_filters == last
