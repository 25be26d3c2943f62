# SPDX-License-Identifier: Apache-2.0
"""The graph passes, each alone: what a pass removes is gone, and the outputs stay what they were."""

from collections import Counter

import numpy as np
import pytest

import hparams_config
from ipu_automl_io import preprocess_normalize_image
from ipu_utils.base.keras2 import tf
from ipu_utils.config.normalisation import normalisation_of
from ipu_utils.graph.clean_up import PASS_ON, remove_identities
from ipu_utils.graph.fold_batch_norm import fold_batch_norm
from ipu_utils.graph.fold_constants import fold_constants
from ipu_utils.graph.freeze import as_function, freeze
from ipu_utils.graph.gather_nearest import gather_nearest
from ipu_utils.graph.normalise_rows import normalise_rows
from tf2.efficientdet_keras import EfficientDetNet

HEIGHT, WIDTH = 6, 10
IMAGE = tf.TensorSpec((2, HEIGHT, WIDTH, 3), tf.uint8)
MEAN, STDDEV = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def operations(frozen):
    return Counter(node.op for node in frozen.graph_def.node)


def noise(shape=tuple(IMAGE.shape), seed=0):
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def outputs_of(frozen, *inputs):
    return [output.numpy() for output in as_function(frozen)(*map(tf.constant, inputs))]


# remove_identities


def test_only_work_is_left_of_a_chain_of_identities():
    def step(x):
        first, second = tf.raw_ops.IdentityN(input=[tf.identity(x), x * 2.0])
        return tf.identity(tf.stop_gradient(first) - second), second

    frozen = freeze(step, [tf.TensorSpec((3,), tf.float32)])
    cleaned = remove_identities(frozen)
    assert not set(operations(cleaned)) & set(PASS_ON)
    x = np.array([1, 2, 3], np.float32)
    difference, doubled = outputs_of(cleaned, x)
    assert (difference.tolist(), doubled.tolist()) == ([-1, -2, -3], [2, 4, 6])


def test_the_outputs_of_an_operation_with_several_are_told_apart():
    frozen = freeze(lambda x: tuple(map(tf.identity, tf.split(x, 3)))[::-1], [tf.TensorSpec((3,), tf.float32)])
    assert [o.tolist() for o in outputs_of(remove_identities(frozen), np.array([1, 2, 3], np.float32))] == [
        [3],
        [2],
        [1],
    ]


def test_a_step_that_returns_its_argument_still_does():
    cleaned = remove_identities(freeze(lambda x: (x, x + 1.0), [tf.TensorSpec((), tf.float32)]))
    assert [float(o) for o in outputs_of(cleaned, np.float32(4))] == [4, 5]


def test_what_only_waits_for_variables_is_dropped():
    variable = tf.Variable([1.0, 2.0])
    frozen = freeze(lambda x: (x * variable,), [tf.TensorSpec((2,), tf.float32)])
    assert not any(edge.startswith("^") for node in remove_identities(frozen).graph_def.node for edge in node.input)


# fold_constants


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_single_numbers_of_every_precision_are_folded(precision):
    def step(x):
        return (tf.cast(x, precision) * tf.maximum(tf.constant(-3.0, precision), tf.constant(1.5, precision)),)

    folded = fold_constants(remove_identities(freeze(step, [tf.TensorSpec((2,), tf.float32)])))
    assert "Maximum" not in operations(folded)
    assert outputs_of(folded, np.array([2, 4], np.float32))[0].tolist() == [3, 6]


def test_fusion_weights_become_constant_factors():
    weights = [tf.Variable(2.0), tf.Variable(-1.0), tf.Variable(6.0)]

    def step(x):
        positive = [tf.nn.relu(weight) for weight in weights]
        total = tf.add_n(positive) + 1e-4
        return (tf.add_n([x * (weight / total) for weight in positive]),)

    folded = fold_constants(remove_identities(freeze(step, [tf.TensorSpec((4,), tf.float32)])))
    assert not {"Relu", "RealDiv"} & set(operations(folded))
    x = np.array([1, -2, 3, 4], np.float32)
    np.testing.assert_allclose(outputs_of(folded, x)[0], x * (8 / 8.0001), rtol=1e-6)
    factors = [tf.make_ndarray(node.attr["value"].tensor) for node in folded.graph_def.node if node.op == "Const"]
    np.testing.assert_allclose(sorted(factors), np.array([0, 2, 6]) / 8.0001, rtol=1e-6)


def test_both_outputs_of_a_constant_operation_are_folded():
    pair = tf.Variable([3.0, 5.0])

    def step(x):
        first, second = tf.unstack(pair)
        return (x * first - second,)

    folded = fold_constants(freeze(step, [tf.TensorSpec((), tf.float32)]))
    assert "Unpack" not in operations(folded)
    assert float(outputs_of(folded, np.float32(2))[0]) == 1


def test_random_numbers_are_not_constants():
    frozen = freeze(lambda x: (x + tf.random.uniform((2,)) * 1.0,), [tf.TensorSpec((2,), tf.float32)])
    assert operations(fold_constants(frozen))["RandomUniform"] == 1


def test_an_output_that_is_constant_stays_an_output():
    frozen = freeze(lambda x: (x + 1.0, tf.constant(2.0) * 3.0), [tf.TensorSpec((), tf.float32)])
    assert [float(o) for o in outputs_of(fold_constants(frozen), np.float32(1))] == [2, 6]


def test_a_graph_without_constants_to_compute_is_returned_as_it_is():
    frozen = remove_identities(freeze(lambda x: (x + 1.0,), [tf.TensorSpec((), tf.float32)]))
    assert fold_constants(frozen) is frozen


# normalise_rows


def normalising_step(dtype=tf.float32, mean=MEAN, stddev=STDDEV):
    kernel = np.random.RandomState(1).normal(size=(3, 3, 3, 4)).astype(np.float32)

    def step(images):
        normalised = preprocess_normalize_image(images, dtype, mean, stddev)
        return (tf.nn.conv2d(tf.cast(normalised, tf.float32), kernel, 2, "SAME"),)

    return step


@pytest.mark.parametrize("mean, stddev", [(MEAN, STDDEV), (127.0, 128.0)], ids=["per channel", "one number"])
def test_rows_give_the_same_network_input_at_the_border_too(mean, stddev):
    step = normalising_step(mean=mean, stddev=stddev)
    frozen = remove_identities(freeze(step, [IMAGE]))
    (ours,), (reference,) = outputs_of(normalise_rows(frozen), noise()), step(noise())
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-5 * np.std(reference))


def test_rows_leave_no_arithmetic_on_three_channels():
    frozen = normalise_rows(remove_identities(freeze(normalising_step(), [IMAGE])))
    found = operations(frozen)
    # The convolution scales.
    assert (found["Sub"], found["RealDiv"], found["Reshape"], found["AddV2"], found["Mul"]) == (0, 0, 2, 1, 0)
    for node in frozen.graph_def.node:
        if node.op == "Const" and node.name.endswith(("/scale", "/shift")):
            assert tf.make_ndarray(node.attr["value"].tensor).shape == (WIDTH * 3,)


def test_an_image_that_two_convolutions_or_something_else_read_is_scaled_by_row():
    kernel = np.random.RandomState(2).normal(size=(3, 3, 3, 4)).astype(np.float32)

    def step(images):
        normalised = preprocess_normalize_image(images, tf.float32, MEAN, STDDEV)
        return tf.nn.conv2d(normalised, kernel, 2, "SAME"), tf.nn.relu(normalised)

    frozen = remove_identities(freeze(step, [IMAGE]))
    rows = normalise_rows(frozen)
    assert (operations(rows)["Reshape"], operations(rows)["Mul"]) == (2, 1)
    for ours, reference in zip(outputs_of(rows, noise()), step(noise())):
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-5 * np.std(reference))


def test_every_order_of_channel_wise_arithmetic_is_followed():
    mean, scale = np.array(MEAN, np.float32), np.array([0.5, 0.25, 2], np.float32)

    def step(images):
        return (tf.nn.relu(3.0 * (scale * (1.0 - (tf.cast(images, tf.float32) - mean) / 255.0)) + mean),)

    frozen = remove_identities(freeze(step, [IMAGE]))
    rows = normalise_rows(frozen)
    assert operations(rows)["Reshape"] == 2
    np.testing.assert_allclose(outputs_of(rows, noise())[0], step(noise())[0], rtol=1e-5)


def test_half_precision_is_rounded_once():
    frozen = remove_identities(freeze(normalising_step(tf.float16), [IMAGE]))
    rows = normalise_rows(frozen)
    assert operations(rows)["Reshape"] == 2
    (ours,), (reference,) = outputs_of(rows, noise()), outputs_of(frozen, noise())
    # Where the two float32 results lie on both sides of a rounding border they differ by one step of half.
    np.testing.assert_allclose(ours, reference, atol=27 * 2.0**-10 * 4)


def test_batches_of_unknown_size_are_normalised_too():
    frozen = remove_identities(freeze(normalising_step(), [tf.TensorSpec((None, HEIGHT, WIDTH, 3), tf.uint8)]))
    rows = normalise_rows(frozen)
    assert operations(rows)["Reshape"] == 2
    images = noise((5, HEIGHT, WIDTH, 3))
    np.testing.assert_allclose(outputs_of(rows, images)[0], outputs_of(frozen, images)[0], atol=1e-4)


@pytest.mark.parametrize(
    "step, spec",
    [
        (lambda x: (tf.nn.relu(tf.cast(x, tf.float32)),), IMAGE),
        (lambda x: ((tf.cast(x, tf.float32) - np.ones((WIDTH, 3), np.float32)) * 1.5,), IMAGE),
        (lambda x: (tf.nn.relu(1.0 / (tf.cast(x, tf.float32) + 1.0)), tf.cast(x, tf.float32) * 2.0), IMAGE),
        (lambda x: (tf.nn.relu(x - 1.0),), tf.TensorSpec((4,), tf.float32)),
        (lambda x: (tf.nn.relu(tf.cast(x, tf.float32) * np.array([1, 0, 1], np.float32) + 2.0),), IMAGE),
    ],
    ids=["nothing to scale", "a constant a pixel", "two readers", "not an image", "a channel times zero"],
)
def test_what_is_not_a_normalisation_is_left_alone(step, spec):
    frozen = remove_identities(freeze(step, [spec]))
    assert normalise_rows(frozen) is frozen


def test_an_image_input_beside_others_is_found():
    def step(scale, images, ids):
        return ids, tf.nn.relu((tf.cast(images, tf.float32) - MEAN) / STDDEV) * scale

    specs = [tf.TensorSpec((), tf.float32), IMAGE, tf.TensorSpec((2,), tf.int32)]
    frozen = remove_identities(freeze(step, specs))
    rows = normalise_rows(frozen)
    arguments = (np.float32(3), noise(), np.array([4, 5], np.int32))
    for ours, reference in zip(outputs_of(rows, *arguments), outputs_of(frozen, *arguments)):
        np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-5)
    assert operations(rows)["Reshape"] == 2


# gather_nearest


@pytest.mark.parametrize("how", [{}, {"half_pixel_centers": True}, {"align_corners": True}], ids=str)
def test_resizes_by_factors_that_are_not_whole_become_gathers_of_the_same_pixels(how):
    sizes = [(5, 7), (6, 10), (3, 5), (6, 7), (4, 10), (2, 3), (12, 20)]

    def step(maps):
        return tuple(tf.raw_ops.ResizeNearestNeighbor(images=maps, size=size, **how) for size in sizes)

    frozen = freeze(step, [tf.TensorSpec((2, 3, 5, 4), tf.float32)])
    gathered = gather_nearest(frozen)
    found = operations(gathered)
    assert (found["ResizeNearestNeighbor"], found["GatherV2"]) == (3, 8)  # whole: 6x10, 3x5 and 12x20
    maps = np.arange(120, dtype=np.float32).reshape(2, 3, 5, 4)
    for ours, reference in zip(outputs_of(gathered, maps), outputs_of(frozen, maps)):
        np.testing.assert_array_equal(ours, reference)


def test_maps_of_unknown_size_are_resized_as_before():
    frozen = freeze(
        lambda maps: (tf.raw_ops.ResizeNearestNeighbor(images=maps, size=[5, 7]),),
        [tf.TensorSpec((1, None, 5, 4), tf.float32)],
    )
    assert operations(gather_nearest(frozen)) == operations(frozen)


# All of them, on a network


@pytest.mark.slow
def test_the_passes_together_keep_the_networks_outputs():
    hparams = hparams_config.get_inference_config("efficientdet-lite0", "", (40, 72))
    network = EfficientDetNet(config=hparams)
    network.build((None, 40, 72, 3))
    random = np.random.RandomState(3)
    for variable in network.weights:
        spread = 1.4 / np.sqrt(np.prod(variable.shape[:-1])) if len(variable.shape) == 4 else 0.1
        centre = 1.0 if variable.name.split("/")[-1] in ("gamma:0", "moving_variance:0") else 0.0
        variable.assign(random.normal(centre, spread, variable.shape).clip(0.5 * centre))

    def step(images):
        normalised = preprocess_normalize_image(images, tf.float32, *normalisation_of(hparams))
        class_outputs, box_outputs = network(normalised, training=False)
        return (*class_outputs, *box_outputs)

    frozen = freeze(step, [tf.TensorSpec((1, 40, 72, 3), tf.uint8)])
    images = noise((1, 40, 72, 3))
    reference = [output.numpy() for output in step(tf.constant(images))]
    for a_pass in (remove_identities, fold_batch_norm, fold_constants, normalise_rows):
        frozen = a_pass(frozen)
        for ours, wanted in zip(outputs_of(frozen, images), reference):
            np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-4 * np.std(wanted))
    assert not {"Identity", "NoOp", "FusedBatchNormV3", "Sub", "RealDiv"} & set(operations(frozen))
