# SPDX-License-Identifier: Apache-2.0
"""Random weights: deterministic, of realistic size in every precision, and with something to suppress."""

import numpy as np
import pytest

import hparams_config
from ipu_automl_io import postprocess_predictions, preprocess_normalize_image
from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.config.normalisation import normalisation_of
from ipu_utils.model import random_weights
from ipu_utils.model.host import Host
from ipu_utils.model.network import build_network

SIZE, WANTED, THRESHOLD = 256, 150, 0.4
CUT = "fpn_cell_repeats=2,box_class_repeats=2"  # most of the time is building the network


@pytest.fixture(scope="module")
def hparams():
    return hparams_config.get_inference_config("efficientdet-d0", CUT, SIZE)


@pytest.fixture(scope="module")
def calibrated(hparams):
    network = build_network(hparams)
    return network, random_weights.randomise(network, hparams, SIZE, seed=3, candidates=WANTED)


def heads(network, hparams, images, dtype=tf.float32):
    normalised = preprocess_normalize_image(tf.constant(images), dtype, *normalisation_of(hparams))
    classes, boxes = network(normalised, training=False)
    return [tf.cast(level, tf.float32) for level in classes], [tf.cast(level, tf.float32) for level in boxes]


def candidates(class_outputs, num_classes=90):
    """Anchors an image whose best class scores above the threshold, counted by NumPy."""
    logits = np.concatenate([level.numpy().reshape(len(level), -1, num_classes) for level in class_outputs], 1)
    return np.count_nonzero(logits.max(-1) > np.log(THRESHOLD / (1 - THRESHOLD)), axis=1)


@pytest.fixture(scope="module")
def noise():
    """Generated images that the calibration has not seen."""
    return np.random.RandomState(99).randint(0, 256, (4, SIZE, SIZE, 3)).astype(np.uint8)


def test_generated_images_have_about_the_candidates_asked_for(calibrated, hparams, noise):
    network, found = calibrated
    assert abs(found - WANTED) <= 0.1 * WANTED
    counts = candidates(heads(network, hparams, noise)[0])
    assert WANTED / 1.5 <= counts.mean() <= WANTED * 1.5


def test_there_is_something_to_suppress_and_something_is_left(calibrated, hparams, noise):
    network, _ = calibrated
    class_outputs, box_outputs = heads(network, hparams, noise)
    lengths = postprocess_predictions(hparams, class_outputs, box_outputs, None, "best-class")[3].numpy()
    counts = candidates(class_outputs)
    assert np.all(lengths > 0)
    assert lengths.sum() < 0.9 * np.minimum(counts, 100).sum()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(calibrated, hparams):
    network, _ = calibrated
    before = [value.copy() for value in network.get_weights()]
    random_weights.randomise(network, hparams, SIZE, seed=3, candidates=WANTED)
    assert all(np.array_equal(a, b) for a, b in zip(before, network.get_weights()))
    other = build_network(hparams)
    random_weights.randomise(other, hparams, SIZE, seed=4, candidates=WANTED)
    kernels = [i for i, variable in enumerate(other.weights) if "kernel" in variable.name]
    after = other.get_weights()
    assert not any(np.array_equal(before[i], after[i]) for i in kernels)


def test_variables_keep_their_names_and_are_finite(calibrated, hparams):
    network, _ = calibrated
    assert [variable.name for variable in network.weights] == [v.name for v in build_network(hparams).weights]
    assert all(np.isfinite(value).all() for value in network.get_weights())


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_other_precisions_stay_finite_and_close_to_float(calibrated, hparams, noise, precision):
    try:
        Host("cpu", 2).check_precision(precision)
    except UserError as error:
        pytest.skip(str(error))  # TensorFlow 2.6 has no bfloat16 convolutions; newer releases run this case
    network, _ = calibrated
    small = build_network(hparams, "mixed_" + precision)
    small.set_weights(network.get_weights())
    exact, rounded = heads(network, hparams, noise[:1]), heads(small, hparams, noise[:1], tf.as_dtype(precision))
    for reference, output in zip(exact[0] + exact[1], rounded[0] + rounded[1]):
        assert np.isfinite(output.numpy()).all()
        spread = reference.numpy().std()
        # bfloat16 has 8 bits: a rounding of 0.4 percent in each of some hundred layers.
        assert np.abs(output.numpy() - reference.numpy()).mean() < (0.05 if precision == "float16" else 0.4) * spread


@pytest.mark.slow
def test_weights_are_calibrated_for_the_inputs_that_the_configuration_asks_for(noise):
    advprop = hparams_config.get_inference_config(
        "efficientdet-d0", f"{CUT},mean_rgb=0.0,stddev_rgb=1.0,scale_range=true", SIZE
    )
    network = build_network(advprop)
    random_weights.randomise(network, advprop, SIZE, seed=3, candidates=WANTED)
    counts = candidates(heads(network, advprop, noise)[0])
    assert WANTED / 1.5 <= counts.mean() <= WANTED * 1.5
    assert len(set(counts)) > 1  # Calibrated on inputs of another size, it sees the same in all of them.


@pytest.mark.slow
def test_no_candidates_can_be_asked_for(hparams, noise):
    network = build_network(hparams)
    random_weights.randomise(network, hparams, SIZE, seed=1, candidates=0)
    assert candidates(heads(network, hparams, noise)[0]).mean() < 10
