# SPDX-License-Identifier: Apache-2.0
"""EfficientDet as a Keras model: backbone, feature network (BiFPN) and prediction heads, from image to raw outputs.

Source: Tan et al., EfficientDet (arXiv:1911.09070); google/automl tf2/efficientdet_keras.py. Differs from automl:
inference only, channels last only, and no segmentation head.

Published checkpoints are matched by variable names or by object paths, so both the `name=` of every layer and the
attribute it is kept in (`fnodes`, `op_after_combine`, `conv_op`, `classes`, ...) are frozen, and so is the order in
which they are set.
"""

import math
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import hparams_config
import utils
from backbone import backbone_factory
from ipu_utils.base.errors import ConfigError
from ipu_utils.base.keras2 import tf
from tf2 import fpn_configs
from tf2.util_keras import build_batch_norm

# Every anchor starts with a probability of 0.01 for every class: focal loss (arXiv:1708.02002), section 4.1.
PRIOR_BIAS = -math.log((1 - 0.01) / 0.01)


@dataclass(frozen=True)
class NetConfig:
    """What the feature network and the heads are made of."""

    min_level: int
    max_level: int
    filters: int  # channels of the feature network and the heads
    cell_repeats: int
    head_repeats: int
    num_anchors: int  # anchors of one cell of a feature map
    num_classes: int
    act_type: utils.Activation
    separable_conv: bool
    bn_for_resampling: bool
    conv_after_downsample: bool
    conv_bn_act: bool  # activate behind the batch norm of a node instead of before its convolution
    head_residual: bool  # add a head layer's input to its output
    weight_method: str
    nodes: Tuple[dict, ...]  # see fpn_configs

    @property
    def num_levels(self) -> int:
        return self.max_level - self.min_level + 1

    def conv3x3(self, filters: int, name: str, use_bias: bool = True, bias: float = 0.0) -> tf.keras.layers.Layer:
        """Return a 3x3 convolution, separable where the model's are."""
        layer = tf.keras.layers.SeparableConv2D if self.separable_conv else tf.keras.layers.Conv2D
        initial = tf.constant_initializer(bias)
        return layer(filters, 3, padding="same", use_bias=use_bias, bias_initializer=initial, name=name)


def net_config(config: hparams_config.Config) -> NetConfig:
    """Pick what the network needs from the hparams; training keys stop here.

    Raises:
      ConfigError: the hparams ask for something that this network does not have.
    """
    if config.data_format != "channels_last":
        raise ConfigError(
            f"data_format {config.data_format!r}: this network is channels_last; on a GPU TensorFlow itself turns the "
            "convolutions to channels_first."
        )
    if list(config.heads) != ["object_detection"]:
        raise ConfigError(f"heads {config.heads}: only ['object_detection'] is there.")
    if not 1 <= config.min_level <= min(5, config.max_level):
        raise ConfigError(
            f"min_level {config.min_level}, max_level {config.max_level}: expected 1 <= min_level <= 5 and "
            "min_level <= max_level, as the backbone gives levels 1 to 5."
        )
    fpn = config.fpn_config or fpn_configs.get_fpn_config(
        config.fpn_name, config.min_level, config.max_level, config.fpn_weight_method
    )
    if fpn.weight_method not in FUSIONS:
        raise ConfigError(f"fpn_weight_method {fpn.weight_method!r}: expected one of {', '.join(FUSIONS)}.")
    return NetConfig(
        min_level=config.min_level,
        max_level=config.max_level,
        filters=config.fpn_num_filters,
        cell_repeats=config.fpn_cell_repeats,
        head_repeats=config.box_class_repeats,
        num_anchors=len(config.aspect_ratios) * config.num_scales,
        num_classes=config.num_classes,
        act_type=config.act_type,
        separable_conv=config.separable_conv,
        bn_for_resampling=config.apply_bn_for_resampling,
        conv_after_downsample=config.conv_after_downsample,
        conv_bn_act=config.conv_bn_act_pattern,
        head_residual=bool(config.survival_prob),
        weight_method=fpn.weight_method,
        nodes=tuple(fpn.nodes),
    )


def _shares(weights: Sequence[tf.Tensor]) -> List[tf.Tensor]:
    positive = [tf.nn.relu(weight) for weight in weights]
    total = positive[0]
    for weight in positive[1:]:
        total = total + weight
    # Differs from automl, which multiplies the maps by the weight and then divides them by the total: here a map is
    # multiplied once, by a number that becomes a constant when the weights are frozen.
    return [weight / (total + 0.0001) for weight in positive]


def _softmax(weights: Sequence[tf.Tensor]) -> List[tf.Tensor]:
    return tf.unstack(tf.nn.softmax(tf.stack(weights, -1), axis=-1), axis=-1)


@dataclass(frozen=True)
class Fusion:
    """How a node's weights become factors; with `normalise` None it has no weights and adds its maps as they are."""

    normalise: Optional[object]
    per_channel: bool = False


FUSIONS = {
    "fastattn": Fusion(_shares),
    "attn": Fusion(_softmax),
    "channel_fastattn": Fusion(_shares, per_channel=True),
    "channel_attn": Fusion(_softmax, per_channel=True),
    "sum": Fusion(None),
}


def _size(feature: tf.Tensor) -> Tuple[int, int]:
    height, width = feature.shape[1:3]
    return height, width


class ResampleFeatureMap(tf.keras.layers.Layer):
    """Bring a map to the channels of the feature network and to another size.

    Call: [N, H, W, C] and the size (height, width), None for half of it rounded up -> [N, height, width, filters].
    Smaller by max pooling, larger by nearest neighbour; the 1x1 convolution runs only where the channels differ.
    """

    def __init__(self, net: NetConfig, name: str):
        super().__init__(name=name)
        self._net = net
        self.conv2d = tf.keras.layers.Conv2D(net.filters, 1, padding="same", name="conv2d")
        self.bn = build_batch_norm(name="bn")

    def _project(self, feature, training):
        if feature.shape[-1] == self._net.filters:
            return feature
        feature = self.conv2d(feature)
        return self.bn(feature, training=training) if self._net.bn_for_resampling else feature

    def call(self, feature, size=None, training=False):
        height, width = _size(feature)
        target_height, target_width = size or ((height + 1) // 2, (width + 1) // 2)
        # Differs from automl, which refuses a map that is already one pixel high (or wide) and shrinks only sideways.
        shrinks = (height, width) != (target_height, target_width) and height >= target_height and width >= target_width
        if not (shrinks and self._net.conv_after_downsample):
            feature = self._project(feature, training)
        if shrinks:
            strides = ((height - 1) // target_height + 1, (width - 1) // target_width + 1)
            feature = tf.nn.max_pool2d(feature, [strides[0] + 1, strides[1] + 1], strides, "SAME")
            if self._net.conv_after_downsample:
                feature = self._project(feature, training)
        elif (height, width) != (target_height, target_width):
            # Not tf.image.resize: it samples at pixel centres, which differs where the ratio is not a whole number.
            feature = tf.raw_ops.ResizeNearestNeighbor(images=feature, size=[target_height, target_width])
        return feature


class OpAfterCombine(tf.keras.layers.Layer):
    """Activation, 3x3 convolution and batch norm behind a fusion, in the order that the model has.

    Call: [N, H, W, filters] -> the same.
    """

    def __init__(self, net: NetConfig, name: str):
        super().__init__(name=name)
        self._net = net
        self.conv_op = net.conv3x3(net.filters, "conv", use_bias=not net.conv_bn_act)
        self.bn = build_batch_norm(name="bn")

    def call(self, feature, training=False):
        if self._net.conv_bn_act:
            return utils.activation_fn(self.bn(self.conv_op(feature), training=training), self._net.act_type)
        return self.bn(self.conv_op(utils.activation_fn(feature, self._net.act_type)), training=training)


class FNode(tf.keras.layers.Layer):
    """One node of the feature network: resample some of the maps there are to one size, fuse them, convolve.

    Call: a list of maps [N, H_i, W_i, C_i], the network's inputs and the nodes before this one -> [N, H, W, filters].
    """

    def __init__(self, net: NetConfig, number: int, name: str):
        super().__init__(name=name)
        self._net = net
        self._fusion = FUSIONS[net.weight_method]
        self._offsets = tuple(net.nodes[number]["inputs_offsets"])
        self._level = net.nodes[number]["feat_level"] - net.min_level
        num_maps = net.num_levels + number  # how many maps there are when this node is called
        self.resample_layers = [
            ResampleFeatureMap(net, name=f"resample_{i}_{offset}_{num_maps}") for i, offset in enumerate(self._offsets)
        ]
        self.vars = []
        self.op_after_combine = OpAfterCombine(net, name=f"op_after_combine{num_maps}")

    def build(self, input_shape):
        if self._fusion.normalise is not None:
            shape = [self._net.filters] if self._fusion.per_channel else []
            for i in range(len(self._offsets)):
                name = f"WSM_{i}" if i else "WSM"
                self.vars.append(self.add_weight(name=name, shape=shape, initializer="ones"))
        super().build(input_shape)

    def call(self, features, training=False):
        size = _size(features[self._level])
        maps = [
            resample(features[offset], size=size, training=training)
            for resample, offset in zip(self.resample_layers, self._offsets)
        ]
        if self._fusion.normalise is not None:
            factors = self._fusion.normalise([tf.convert_to_tensor(weight) for weight in self.vars])
            maps = [feature * tf.cast(factor, feature.dtype) for feature, factor in zip(maps, factors)]
        fused = maps[0]
        for feature in maps[1:]:
            fused = fused + feature
        return self.op_after_combine(fused, training=training)


class FPNCell(tf.keras.layers.Layer):
    """The feature network once. Call: a list of maps, finest level first -> the newest map of every level."""

    def __init__(self, net: NetConfig, name: str):
        super().__init__(name=name)
        self.fnodes = [FNode(net, number, name=f"fnode{number}") for number in range(len(net.nodes))]
        node_levels = [node["feat_level"] for node in net.nodes]
        self._newest = tuple(
            max(
                (net.num_levels + i for i, node in enumerate(node_levels) if node == level),
                default=level - net.min_level,
            )
            for level in range(net.min_level, net.max_level + 1)
        )

    def call(self, features, training=False):
        features = list(features)
        for node in self.fnodes:
            features.append(node(features, training=training))
        return [features[i] for i in self._newest]


class FPNCells(tf.keras.layers.Layer):
    """The feature network, repeated with its own weights each time.

    Call: a list of [N, H_l, W_l, C_l], finest level first -> a list of [N, H_l, W_l, filters].
    """

    def __init__(self, net: NetConfig, name: str = "fpn_cells"):
        super().__init__(name=name)
        self.cells = [FPNCell(net, name=f"cell_{number}") for number in range(net.cell_repeats)]

    def call(self, features, training=False):
        for cell in self.cells:
            features = cell(features, training=training)
        return features


class PredictionHead(tf.keras.layers.Layer):
    """Convolutions shared by all levels, a batch norm for each level and repeat, and a shared last convolution.

    Call: a list of [N, H_l, W_l, filters], finest level first -> a list of [N, H_l, W_l, anchors * per_anchor], or of
    the maps before the last convolution with `feature_only`.
    """

    def __init__(
        self, net: NetConfig, prefix: str, predictor: str, per_anchor: int, bias: float, feature_only: bool, name: str
    ):
        super().__init__(name=name)
        self._net, self._feature_only, self._predictor = net, feature_only, predictor
        self.conv_ops = [net.conv3x3(net.filters, f"{prefix}-{i}") for i in range(net.head_repeats)]
        levels = range(net.min_level, net.max_level + 1)
        self.bns = [
            [build_batch_norm(name=f"{prefix}-{i}-bn-{level}") for level in levels] for i in range(net.head_repeats)
        ]
        # The attribute differs between the two heads, and object paths are frozen: `classes` and `boxes`.
        setattr(self, predictor, net.conv3x3(net.num_anchors * per_anchor, f"{prefix}-predict", bias=bias))

    @property
    def predictor(self) -> tf.keras.layers.Layer:
        """The last convolution."""
        return getattr(self, self._predictor)

    def hidden(self, features, training=False) -> List[tf.Tensor]:
        """Return what the last convolution gets, a list of [N, H_l, W_l, filters]."""
        return [self._level(feature, level, training) for level, feature in enumerate(features)]

    def _level(self, feature, level, training):
        for i, (conv, bns) in enumerate(zip(self.conv_ops, self.bns)):
            before = feature
            feature = utils.activation_fn(bns[level](conv(feature), training=training), self._net.act_type)
            if i > 0 and self._net.head_residual:
                feature = feature + before
        return feature

    def call(self, features, training=False):
        hidden = self.hidden(features, training=training)
        return hidden if self._feature_only else [self.predictor(feature) for feature in hidden]


class EfficientDetNet(tf.keras.Model):
    """The network without pre- and post-processing.

    Call: normalised images [N, H, W, 3] of any size, H and W known -> (class_outputs, box_outputs), two lists over
    levels, finest first: logits [N, H_l, W_l, anchors * num_classes] and box regressions [N, H_l, W_l, anchors * 4] in
    the order (ty, tx, th, tw), where H_l = ceil(H / 2^l). Computes in the dtype of the Keras policy.
    """

    def __init__(
        self,
        model_name: Optional[str] = None,
        config: Optional[hparams_config.Config] = None,
        name: str = "",
        feature_only: bool = False,
    ):
        """Create the layers; variables appear with the first call or with `build((None, height, width, 3))`.

        Args:
          model_name: a published model, read only where there is no `config`.
          config: see `hparams_config`.
          name: a prefix of all variable names; published checkpoints have none.
          feature_only: leave out the last convolution of the heads and return what goes into it.

        Raises:
          ConfigError: the name is unknown, or the configuration asks for what this network does not have.
        """
        super().__init__(name=name)
        self.config = config or hparams_config.get_efficientdet_config(model_name)
        net = net_config(self.config)
        self._net = net
        stages = self.config.backbone_config and self.config.backbone_config.blocks
        self.backbone = backbone_factory.get_model(self.config.backbone_name, net.act_type, stages)
        # The backbone ends at level 5; coarser levels are made from its last map.
        self.resample_layers = [
            ResampleFeatureMap(net, name=f"resample_p{level}") for level in range(6, net.max_level + 1)
        ]
        self.fpn_cells = FPNCells(net)
        self.class_net = PredictionHead(
            net, "class", "classes", net.num_classes, PRIOR_BIAS, feature_only, name="class_net"
        )
        self.box_net = PredictionHead(net, "box", "boxes", 4, 0.0, feature_only, name="box_net")

    def _init_set_name(self, name, zero_based=True):
        # Keras replaces an empty name by one of its own; published variable names start without any.
        if name:
            super()._init_set_name(name, zero_based)
        else:
            self._name = ""

    def features(self, inputs, training=False) -> List[tf.Tensor]:
        """Return the maps that go into the heads, a list of [N, H_l, W_l, filters], finest level first."""
        if None in _size(inputs):
            raise ConfigError(f"the network needs images of a known height and width, got {inputs.shape}.")
        features = self.backbone(inputs, training=training)[self._net.min_level : self._net.max_level + 1]
        for resample in self.resample_layers:
            features.append(resample(features[-1], training=training))
        return self.fpn_cells(features, training=training)

    def call(self, inputs, training=False):
        features = self.features(inputs, training=training)
        return self.class_net(features, training=training), self.box_net(features, training=training)
