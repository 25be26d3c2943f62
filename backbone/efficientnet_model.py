# SPDX-License-Identifier: Apache-2.0
"""EfficientNet as layers: a stem and inverted bottleneck blocks, features at every stride.

Source: Tan and Le, EfficientNet (arXiv:1905.11946); google/automl backbone/efficientnet_model.py. Differs from automl:
only what a detector needs, so no classification head, no stochastic depth and no other kinds of block.

Published checkpoints are matched by variable names or by object paths, so both the `name=` of every layer and the
attribute it is kept in (`_blocks`, `_bn0`, `_se_reduce`, ...) are frozen, and so is the order in which they are set.
"""

import functools
from typing import List

import utils
from backbone.efficientnet_builder import BlockArgs, GlobalParams
from ipu_utils.base.keras2 import tf
from tf2.util_keras import build_batch_norm


def _conv(filters, kernel_size, strides, name, use_bias=False):
    return tf.keras.layers.Conv2D(filters, kernel_size, strides, padding="same", use_bias=use_bias, name=name)


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


class SE(tf.keras.layers.Layer):
    """Squeeze and excitation: scale every channel by a gate computed from the means of all channels.

    Call: [N, H, W, output_filters] -> the same.
    """

    def __init__(self, se_filters: int, output_filters: int, act_type: utils.Activation, name: str = "se"):
        super().__init__(name=name)
        self._act = functools.partial(utils.activation_fn, act_type=act_type)
        self._se_reduce = _conv(se_filters, 1, 1, "conv2d", use_bias=True)
        self._se_expand = _conv(output_filters, 1, 1, "conv2d_1", use_bias=True)

    def call(self, inputs):
        means = tf.reduce_mean(inputs, [1, 2], keepdims=True)
        return tf.sigmoid(self._se_expand(self._act(self._se_reduce(means)))) * inputs


class MBConvBlock(tf.keras.layers.Layer):
    """Inverted bottleneck: expand by a 1x1 convolution, filter by channel, squeeze and excite, project back.

    Call: [N, H, W, input_filters] -> [N, ceil(H / stride), ceil(W / stride), output_filters].
    """

    def __init__(self, args: BlockArgs, act_type: utils.Activation, use_se: bool, name: str):
        super().__init__(name=name)
        self._act = functools.partial(utils.activation_fn, act_type=act_type)
        self._has_skip = args.id_skip and tuple(args.strides) == (1, 1) and args.input_filters == args.output_filters
        self._expands = args.expand_ratio != 1
        filters, first = args.input_filters * args.expand_ratio, int(self._expands)
        if self._expands:
            self._expand_conv = _conv(filters, 1, 1, "conv2d")
            self._bn0 = build_batch_norm(name="tpu_batch_normalization")
        self._depthwise_conv = tf.keras.layers.DepthwiseConv2D(
            args.kernel_size, args.strides, padding="same", use_bias=False, name="depthwise_conv2d"
        )
        self._bn1 = build_batch_norm(name=_numbered("tpu_batch_normalization", first))
        self._se = None
        if use_se and 0 < args.se_ratio <= 1:
            self._se = SE(max(1, int(args.input_filters * args.se_ratio)), filters, act_type)
        self._project_conv = _conv(args.output_filters, 1, 1, _numbered("conv2d", first))
        self._bn2 = build_batch_norm(name=_numbered("tpu_batch_normalization", first + 1))

    @property
    def last_norm(self) -> tf.keras.layers.BatchNormalization:
        """The batch norm behind the projection, whose gamma is the gain of the block beside its skip."""
        return self._bn2

    def call(self, inputs, training=False):
        x = inputs
        if self._expands:
            x = self._act(self._bn0(self._expand_conv(x), training=training))
        x = self._act(self._bn1(self._depthwise_conv(x), training=training))
        if self._se is not None:
            x = self._se(x)
        x = self._bn2(self._project_conv(x), training=training)
        return x + inputs if self._has_skip else x


class Stem(tf.keras.layers.Layer):
    """The first convolution. Call: [N, H, W, 3] -> [N, ceil(H / 2), ceil(W / 2), filters]."""

    def __init__(self, filters: int, act_type: utils.Activation, name: str = "stem"):
        super().__init__(name=name)
        self._act = functools.partial(utils.activation_fn, act_type=act_type)
        self._conv_stem = _conv(filters, 3, 2, "conv2d")
        self._bn = build_batch_norm(name="tpu_batch_normalization")

    def call(self, inputs, training=False):
        return self._act(self._bn(self._conv_stem(inputs), training=training))


class Model(tf.keras.Model):
    """The backbone.

    Call: [N, H, W, 3], normalised -> a list of which item l has stride 2^l: the input itself, then [N, ceil(H / 2^l),
    ceil(W / 2^l), C_l] for l from 1 to 5, each taken behind the last block of its size.
    """

    def __init__(self, params: GlobalParams, act_type: utils.Activation, name: str):
        super().__init__(name=name)
        blocks = params.blocks()
        self._blocks = [
            MBConvBlock(args, act_type, params.use_se, name=f"blocks_{number}") for number, args in enumerate(blocks)
        ]
        self._stem = Stem(params.stem_filters, act_type)
        # A feature is what the next block would halve, or what no block follows.
        self._is_feature = tuple([max(args.strides) > 1 for args in blocks[1:]] + [True])

    @property
    def blocks(self) -> List[MBConvBlock]:
        """All blocks in order."""
        return list(self._blocks)

    def call(self, inputs, training=False) -> List[tf.Tensor]:
        features, x = [inputs], self._stem(inputs, training=training)
        for block, is_feature in zip(self._blocks, self._is_feature):
            x = block(x, training=training)
            if is_feature:
                features.append(x)
        return features
