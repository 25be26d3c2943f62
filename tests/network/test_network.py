# SPDX-License-Identifier: Apache-2.0
"""The network against the variables of the published implementation; against its outputs: test_golden.py."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import reference_formulas

import hparams_config
import utils
from ipu_utils.base.errors import ConfigError
from ipu_utils.base.keras2 import tf
from tf2 import efficientdet_keras, fpn_configs
from tf2.efficientdet_keras import EfficientDetNet

DATA = Path(__file__).resolve().parents[1] / "data"

# Making the variables of all fifteen takes a minute; these differ in scaling, fusion and kind of backbone.
QUICK = ("efficientdet-d0", "efficientdet-lite0")

# One block for every feature: what does not depend on the published depths is tested on this backbone.
TINY_BLOCKS = [
    "r1_k3_s11_e1_i32_o16_se0.25",
    "r1_k3_s22_e2_i16_o24_se0.25",
    "r1_k3_s22_e2_i24_o40_se0.25",
    "r1_k5_s22_e2_i40_o112_se0.25",
    "r2_k3_s22_e2_i112_o32",
]


def tiny_config(hparams="", **values):
    config = hparams_config.get_efficientdet_config("efficientdet-d0")
    config.override("fpn_num_filters=16,fpn_cell_repeats=1,box_class_repeats=2,num_classes=3")
    config.override({"backbone_config": {"blocks": TINY_BLOCKS}})
    config.override(hparams)
    for key, value in values.items():
        setattr(config, key, value)
    return config


def tiny_net(hparams="", **values):
    """Return a small EfficientDet with its variables made and set to the formulas."""
    return ready(EfficientDetNet(config=tiny_config(hparams, **values)))


def published_net(name):
    """Return a published model with its variables made."""
    model = EfficientDetNet(config=hparams_config.get_efficientdet_config(name))
    model(tf.zeros((1, 32, 32, 3)), training=False)  # Variables do not depend on the size.
    return model


# For the two models that several tests need; all fifteen at once would fill the memory.
shared_net = functools.lru_cache(maxsize=None)(published_net)


@pytest.fixture(scope="module")
def net():
    return tiny_net()


def ready(model):
    model(tf.zeros((1, 32, 32, 3)), training=False)
    set_to_formulas(model)
    return model


def set_to_formulas(model):
    for variable in model.weights:
        variable.assign(reference_formulas.weight(variable.name.split(":")[0], tuple(variable.shape)))


def flat(outputs):
    class_outputs, box_outputs = outputs
    return [*class_outputs, *box_outputs]


def names(weights):
    return [weight.name.split(":")[0] for weight in weights]


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in hparams_config.MODEL_NAMES],
)
def test_variables_are_those_of_the_published_checkpoint(name):
    expected = json.loads((DATA / "variables" / f"{name}.json").read_text())
    model = shared_net(name) if name in ("efficientdet-d0", "efficientdet-lite0") else published_net(name)
    assert [[v.name.split(":")[0], v.shape.as_list(), v.trainable] for v in model.weights] == expected["variables"]
    layers = {layer.name: names(layer.trainable_weights + layer.non_trainable_weights) for layer in model.layers}
    assert layers == expected["h5_layers"] and list(layers) == list(expected["h5_layers"])
    assert sum(int(np.prod(v.shape)) for v in model.weights) == expected["num_params"]


@pytest.mark.parametrize("name", ["efficientdet-d0", "efficientdet-lite0"])
def test_object_paths_are_those_of_the_published_checkpoint(name, tmp_path):
    expected = json.loads((DATA / "variables" / f"{name}.json").read_text())["object_checkpoint_keys"]
    model = shared_net(name)
    model.save_weights(str(tmp_path / "model"))
    keys = [key for key, _ in tf.train.list_variables(str(tmp_path / "model"))]
    assert sorted(key for key in keys if key.endswith("VARIABLE_VALUE") and "save_counter" not in key) == sorted(
        expected
    )


@pytest.mark.parametrize("size", [(96, 160), (128, 128), (57, 33), (17, 300), (1, 1)])
def test_any_image_size_gives_features_of_halved_sizes(net, size):
    expected = [(level["height"], level["width"]) for level in utils.get_feat_sizes(size, 7)[3:]]
    class_outputs, box_outputs = net(np.zeros((2, *size, 3), np.float32), training=False)
    assert [tuple(output.shape) for output in class_outputs] == [(2, *hw, 9 * 3) for hw in expected]
    assert [tuple(output.shape) for output in box_outputs] == [(2, *hw, 9 * 4) for hw in expected]


def test_build_makes_the_variables(net):
    model = EfficientDetNet(config=net.config)
    model.build((None, 40, 56, 3))
    assert names(model.weights) == names(net.weights)


def test_images_of_a_batch_do_not_influence_each_other(net):
    images = np.random.RandomState(0).standard_normal((3, 48, 80, 3)).astype(np.float32)
    together = flat(net(images, training=False))
    for i in range(3):
        for batch, alone in zip(together, flat(net(images[i : i + 1], training=False))):
            np.testing.assert_allclose(batch[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_a_graph_with_an_unknown_batch_size_gives_what_eager_gives(net):
    graph = tf.function(lambda images: net(images, training=False)).get_concrete_function(
        tf.TensorSpec((None, 48, 80, 3), tf.float32)
    )
    assert flat(graph.structured_outputs)[0].shape.as_list() == [None, 6, 10, 27]
    images = reference_formulas.network_input(48, 80)
    for expected, actual in zip(flat(net(images, training=False)), flat(graph(tf.constant(images)))):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_the_model_works_inside_a_functional_model_without_changing_names(net):
    inputs = tf.keras.layers.Input((32, 32, 3), batch_size=2)
    model = EfficientDetNet(config=net.config)
    outputs = tf.keras.Model(inputs, model(inputs, training=False))(np.zeros((2, 32, 32, 3), np.float32))
    assert flat(outputs)[0].shape == (2, 4, 4, 27)
    assert names(model.weights) == names(net.weights)


def test_an_unknown_image_size_is_refused(net):
    with pytest.raises(Exception, match="known height and width"):
        tf.function(net).get_concrete_function(tf.TensorSpec((1, None, None, 3)), training=False)


def test_the_activation_may_be_a_function():
    images = reference_formulas.network_input(32, 32)
    expected = flat(tiny_net("act_type=hswish")(images, training=False))
    actual = flat(tiny_net(act_type=lambda x: x * tf.nn.relu6(x + 3) / 6)(images, training=False))
    for one, other in zip(expected, actual):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


X = np.linspace(-6, 6, 49, dtype=np.float64)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("swish", X / (1 + np.exp(-X))),
        ("silu", X / (1 + np.exp(-X))),
        ("ipu_swish", X / (1 + np.exp(-X))),
        ("hswish", X * np.clip(X + 3, 0, 6) / 6),
        ("relu", np.maximum(X, 0)),
        ("relu6", np.clip(X, 0, 6)),
        ("mish", X * np.tanh(np.log1p(np.exp(X)))),
        ("srelu", np.where(X > 0, X - np.log1p(1.6e5 * np.maximum(X, 0)) / 1.6e5, 0)),
    ],
)
@pytest.mark.parametrize("dtype, atol", [("float32", 2e-6), ("float16", 2e-2)])
def test_activations(name, expected, dtype, atol):
    actual = utils.activation_fn(tf.constant(X, dtype), name)
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, atol=atol)


def test_an_unknown_activation_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean swish"):
        utils.activation_fn(tf.zeros(1), "swich")


def test_resampling_down_takes_maxima_and_up_takes_the_nearest():
    config = efficientdet_keras.net_config(tiny_config("fpn_num_filters=1"))
    layer = efficientdet_keras.ResampleFeatureMap(config, name="resample")
    column = tf.reshape([5.0, 1.0, 3.0, 2.0, 4.0], (1, 5, 1, 1))
    # Windows of three rows, two rows apart, and one row of padding before the first.
    np.testing.assert_array_equal(tf.reshape(layer(column), [-1]), [5, 3, 4])
    row = tf.reshape([7.0, 8.0, 9.0], (1, 1, 3, 1))
    # Row i of five comes from row floor(3 i / 5) of three, not from the pixel whose centre is nearest.
    np.testing.assert_array_equal(tf.reshape(layer(row, size=(1, 5)), [-1]), [7, 7, 8, 8, 9])
    assert not layer.weights


@pytest.mark.parametrize(
    "method, expected",
    [("fastattn", [2 / 3.0001, 1 / 3.0001, 0]), ("attn", np.exp([2, 1, -4]) / np.exp([2, 1, -4]).sum())],
)
def test_fusion_weights_become_factors(method, expected):
    factors = efficientdet_keras.FUSIONS[method].normalise([tf.constant(w) for w in (2.0, 1.0, -4.0)])
    np.testing.assert_allclose(factors, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "hparams, name, shape",
    [
        ("fpn_weight_method=channel_attn", "fpn_cells/cell_0/fnode4/WSM_2", [16]),
        ("fpn_weight_method=channel_fastattn", "fpn_cells/cell_0/fnode7/WSM_1", [16]),
        ("fpn_weight_method=attn", "fpn_cells/cell_0/fnode4/WSM_2", []),
        ("fpn_name=qufpn", "fpn_cells/cell_0/fnode20/op_after_combine25/conv/bias", [16]),
        ("separable_conv=false", "class_net/class-predict/kernel", [3, 3, 16, 27]),
        ("min_level=2", "class_net/class-0-bn-2/gamma", [16]),
        ("max_level=5", "box_net/box-1-bn-5/gamma", [16]),
        ("max_level=9", "box_net/box-1-bn-9/gamma", [16]),
        ("min_level=5,max_level=5", "box_net/box-1-bn-5/gamma", [16]),  # a pyramid of one level, which no node feeds
        ("num_scales=2,aspect_ratios=[1.0]", "box_net/box-predict/bias", [8]),
        ("conv_bn_act_pattern=true", "fpn_cells/cell_0/fnode0/op_after_combine5/conv/pointwise_kernel", [1, 1, 16, 16]),
        ("conv_after_downsample=true", "resample_p6/conv2d/kernel", [1, 1, 32, 16]),
        ("backbone_name=efficientnet-b6", "efficientnet-b6/blocks_5/se/conv2d/kernel", [1, 1, 80, 10]),
    ],
)
def test_architectural_hparams_reach_the_network(hparams, name, shape):
    model = tiny_net(hparams)
    assert dict(zip(names(model.weights), [v.shape.as_list() for v in model.weights]))[name] == shape
    outputs = flat(model(reference_formulas.network_input(40, 56), training=False))
    assert all(np.isfinite(output).all() for output in outputs)


def test_without_batch_norm_for_resampling_and_conv_bn_act_there_are_fewer_variables(net):
    assert "resample_p6/bn/gamma" not in names(tiny_net("apply_bn_for_resampling=false").weights)
    node = "fpn_cells/cell_0/fnode0/op_after_combine5/conv/bias"
    assert node in names(net.weights)
    assert node not in names(tiny_net("conv_bn_act_pattern=true").weights)


def test_survival_probability_adds_the_residual_of_the_heads(net):
    residual = tiny_net("survival_prob=0.8")
    images = reference_formulas.network_input(32, 32)
    difference = np.abs(net(images, training=False)[0][0] - residual(images, training=False)[0][0]).max()
    assert difference > 1e-3


def test_feature_only_returns_what_the_last_convolution_gets(net):
    features = ready(EfficientDetNet(config=net.config, feature_only=True))
    images = reference_formulas.network_input(32, 32)
    class_outputs, box_outputs = net(images, training=False)
    class_features, box_features = features(images, training=False)
    np.testing.assert_allclose(net.class_net.classes(class_features[0]), class_outputs[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net.box_net.boxes(box_features[-1]), box_outputs[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "hparams, message",
    [
        ("data_format=channels_first", "channels_last"),
        ("heads=[object_detection,segmentation]", "heads"),
        ("heads=['segmentation']", "heads"),
        ("fpn_name=pan", "bifpn"),
        ("fpn_weight_method=fast", "fastattn"),
        ("backbone_name=efficientnet-b9", "Did you mean efficientnet-b"),
        ("min_level=7,max_level=5", "min_level"),
    ],
)
def test_what_the_network_does_not_have_is_refused(hparams, message):
    config = hparams_config.get_efficientdet_config("efficientdet-d0")
    config.override(hparams)
    with pytest.raises(ConfigError, match=message):
        EfficientDetNet(config=config)


def test_untrained_class_outputs_are_one_percent_and_all_other_biases_nothing():
    model = EfficientDetNet(config=tiny_config())
    model(tf.zeros((1, 32, 32, 3)), training=False)
    biases = {variable.name: variable.numpy() for variable in model.weights if variable.name.endswith("/bias:0")}
    initial = {name: np.log(0.01 / 0.99) if "class-predict" in name else 0 for name in biases}
    assert sum(map(bool, initial.values())) == 1 and len(initial) > 20
    for name, values in biases.items():
        np.testing.assert_allclose(values, initial[name], rtol=1e-6, err_msg=name)


def test_bifpn_nodes():
    config = fpn_configs.bifpn_config(3, 7, None)
    assert config.weight_method == "fastattn"
    assert [(node["feat_level"], node["inputs_offsets"]) for node in config.nodes] == [
        (6, [3, 4]), (5, [2, 5]), (4, [1, 6]), (3, [0, 7]), (4, [1, 7, 8]), (5, [2, 6, 9]), (6, [3, 5, 10]),
        (7, [4, 11]),
    ]  # fmt: skip


def test_qufpn_nodes():
    config = fpn_configs.get_fpn_config("qufpn", 3, 7, "sum")
    assert config.weight_method == "sum"
    assert [(node["feat_level"], node["inputs_offsets"]) for node in config.nodes] == [
        (6, [3, 4]), (5, [2, 5]), (4, [1, 6]), (3, [0, 7]), (4, [1, 7, 8]), (5, [2, 6, 9]), (6, [3, 5, 10]),
        (7, [4, 11]), (4, [1, 0]), (5, [2, 13]), (6, [3, 14]), (7, [4, 15]), (6, [3, 15, 16]), (5, [2, 14, 17]),
        (4, [1, 13, 18]),
        (3, [0, 19]), (7, [12, 16]), (6, [11, 17]), (5, [10, 18]), (4, [9, 19]), (3, [8, 20]),
    ]  # fmt: skip


def test_half_precision_follows_the_keras_policy(net):
    try:
        tf.keras.backend.set_floatx("float16")
        tf.keras.mixed_precision.set_global_policy("float16")
        model = tiny_net()
        outputs = flat(model(reference_formulas.network_input(32, 32).astype(np.float16), training=False))
    finally:
        tf.keras.backend.set_floatx("float32")
        tf.keras.mixed_precision.set_global_policy("float32")
    kinds = {variable.name.split("/")[-1].split(":")[0]: variable.dtype for variable in model.weights}
    assert {output.dtype for output in outputs} == {tf.float16}
    assert kinds["depthwise_kernel"] == kinds["WSM"] == tf.float16
    expected = flat(net(reference_formulas.network_input(32, 32), training=False))
    for half, single in zip(outputs, expected):
        # Half keeps 11 bits; some forty layers in a row lose most of what exceeds 5.
        assert np.abs(half.numpy() - single.numpy()).mean() < 0.03 * np.std(single) + 0.03 * np.abs(single).mean()
