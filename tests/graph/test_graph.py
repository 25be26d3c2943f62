# SPDX-License-Identifier: Apache-2.0
"""Freezing a step and folding its batch norms, on small networks with the shapes of the real one."""

import numpy as np
import pytest

from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.graph.fold_batch_norm import BATCH_NORMS, fold_batch_norm
from ipu_utils.graph.freeze import as_function, freeze
from ipu_utils.model.host import Host

SIZE = 8
layers = tf.keras.layers


def network(name):
    """A network that holds one of the patterns in which EfficientDet uses batch norm."""
    image = layers.Input((SIZE, SIZE, 3), batch_size=2)
    if name == "convolution":
        outputs = [layers.BatchNormalization()(layers.Conv2D(4, 3, strides=2, use_bias=False)(image))]
    elif name == "convolution with bias":
        outputs = [layers.BatchNormalization()(layers.Conv2D(4, 1)(image))]
    elif name == "depthwise":
        outputs = [layers.BatchNormalization()(layers.DepthwiseConv2D(3, use_bias=False, depth_multiplier=2)(image))]
    elif name == "shared convolution":
        shared = layers.SeparableConv2D(4, 3, padding="same")
        outputs = [layers.BatchNormalization()(shared(image)), layers.BatchNormalization()(shared(image * 2.0))]
    elif name == "no convolution":
        outputs = [layers.BatchNormalization()(layers.MaxPool2D(2)(image))]
    elif name == "convolution used twice":
        features = layers.Conv2D(4, 3)(image)
        outputs = [layers.BatchNormalization()(features) + features]
    model = tf.keras.Model(image, outputs)
    random = np.random.RandomState(0)
    for variable in model.weights:
        variable.assign(random.uniform(0.2, 1.5, variable.shape))
    return model


PATTERNS = ["convolution", "convolution with bias", "depthwise", "shared convolution", "no convolution"]


def frozen_step(model, dtype=tf.float32):
    def step(image):
        return tf.nest.flatten(model(tf.cast(image, dtype), training=False))

    return freeze(step, [tf.TensorSpec((2, SIZE, SIZE, 3), tf.float32)])


def operations(frozen):
    return [node.op for node in frozen.graph_def.node]


@pytest.fixture
def image():
    return tf.constant(np.random.RandomState(1).uniform(-1, 1, (2, SIZE, SIZE, 3)).astype(np.float32))


@pytest.mark.parametrize("name", [*PATTERNS, "convolution used twice"])
def test_folding_keeps_the_outputs(name, image):
    model = network(name)
    folded = as_function(fold_batch_norm(frozen_step(model)))(image)
    for ours, reference in zip(folded, tf.nest.flatten(model(image, training=False))):
        np.testing.assert_allclose(ours, reference, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", PATTERNS)
def test_no_batch_norm_is_left(name):
    frozen = frozen_step(network(name))
    assert set(operations(frozen)) & set(BATCH_NORMS)
    assert not set(operations(fold_batch_norm(frozen))) & set(BATCH_NORMS)


@pytest.mark.parametrize("name", ["convolution", "convolution with bias", "depthwise", "shared convolution"])
def test_a_folded_batch_norm_costs_no_multiplication(name):
    operations_before, operations_after = (
        operations(frozen) for frozen in (frozen_step(network(name)), fold_batch_norm(frozen_step(network(name))))
    )
    assert operations_after.count("Mul") == operations_before.count("Mul")


def test_the_frozen_graph_holds_no_variable():
    assert not [op for op in operations(frozen_step(network("convolution"))) if "Variable" in op or op == "VarHandleOp"]


def test_freezing_fixes_the_weights_of_that_moment(image):
    model = network("convolution")
    before = [output.numpy() for output in tf.nest.flatten(model(image, training=False))]
    function = as_function(frozen_step(model))
    for variable in model.weights:
        variable.assign(tf.zeros_like(variable))
    np.testing.assert_allclose(function(image)[0], before[0], rtol=1e-5, atol=1e-5)


def test_inputs_and_outputs_keep_their_order():
    function = as_function(freeze(lambda a, b, c: (b - c, a), [tf.TensorSpec((), tf.float32)] * 3))
    difference, first = function(tf.constant(1.0), tf.constant(5.0), tf.constant(3.0))
    assert (float(difference), float(first)) == (2.0, 1.0)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float16, tf.bfloat16, tf.int32])
def test_variables_and_tensors_of_outside_become_constants_of_their_present_value(dtype):
    variable, outside = tf.Variable(tf.cast([1, 2], dtype)), tf.cast([10, 20], dtype)
    frozen = freeze(lambda x: (x * variable + outside, variable + x), [tf.TensorSpec((2,), dtype)])
    variable.assign(tf.cast([7, 7], dtype))
    assert [node.op for node in frozen.graph_def.node].count("Placeholder") == 1
    found = as_function(frozen)(tf.cast([3, 4], dtype))
    assert [tf.cast(output, tf.int32).numpy().tolist() for output in found] == [[13, 28], [4, 6]]


def test_a_variable_without_a_shape_becomes_a_constant():
    variable = tf.Variable(2.5)
    frozen = freeze(lambda x: (x * variable,), [tf.TensorSpec((), tf.float32)])
    assert float(as_function(frozen)(tf.constant(2.0))[0]) == 5


@pytest.mark.parametrize(
    "use",
    [lambda variable, x: tf.gather(variable, x), lambda variable, x: tf.function(lambda: variable + x)()],
    ids=["gathered from", "handed to another function"],
)
def test_a_variable_that_is_not_only_read_is_refused(use):
    variable = tf.Variable([1, 2, 3])
    with pytest.raises(ValueError, match=r"does more with the variable .* than to read it"):
        freeze(lambda x: (use(variable, x),), [tf.TensorSpec((), tf.int32)])


def test_an_argument_the_step_does_not_use_may_still_be_passed():
    function = as_function(fold_batch_norm(freeze(lambda a, b: (a * 2.0,), [tf.TensorSpec((), tf.float32)] * 2)))
    assert float(function(tf.constant(1.5), tf.constant(9.0))[0]) == 3.0


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_mixed_precision_folds_in_float32(precision, image):
    try:
        Host("cpu", 2).check_precision(precision)
    except UserError as error:
        pytest.skip(str(error))  # TensorFlow 2.6 has no bfloat16 convolutions; newer releases run this case
    tf.keras.mixed_precision.set_global_policy("mixed_" + precision)
    try:
        model = network("convolution with bias")
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    exact = network("convolution with bias")(image, training=False)
    folded = fold_batch_norm(frozen_step(model, precision))
    assert not set(operations(folded)) & set(BATCH_NORMS)
    output = as_function(folded)(image)[0]
    assert output.dtype.name == precision
    # Three operands rounded once each: a few units in the last place of 11 or 8 bits at values up to about 4.
    np.testing.assert_allclose(
        tf.cast(output, tf.float32), exact, atol=4 * 2.0 ** (-10 if precision == "float16" else -7)
    )
