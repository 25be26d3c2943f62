# SPDX-License-Identifier: Apache-2.0
"""The network's outputs are those of the published implementation, and would not be if any layer were wrong."""

import functools

import golden_network
import numpy as np
import pytest
from golden_network import Golden

import hparams_config
from ipu_utils.base.keras2 import tf
from tf2.efficientdet_keras import EfficientDetNet

LAYERS = 20


class Network:
    """A published model with a golden file's weights."""

    def __init__(self, path):
        self.golden = Golden(path)
        self.model = EfficientDetNet(config=hparams_config.get_efficientdet_config(self.golden.model))
        self.model(tf.zeros((1, 32, 32, 3)), training=False)  # Variables do not depend on the size.
        self.golden.set_weights(self.model)
        self._input = tf.constant(self.golden.input())
        self._function = tf.function(lambda images: self.model(images, training=False), autograph=False)

    def outputs(self):
        """Class levels, then box levels."""
        class_outputs, box_outputs = self._function(self._input)
        return [output.numpy() for output in (*class_outputs, *box_outputs)]

    def layers(self):
        """Every kernel, and every weight of a fusion."""
        return [weight for weight in self.model.weights if "kernel" in weight.name or "WSM" in weight.name]

    def assert_noticed(self, layer):
        """Fail when the golden file does not notice that a layer is a tenth too large."""
        before = layer.numpy()
        layer.assign(before * np.float32(1.1))
        try:
            with pytest.raises(AssertionError, match="output"):
                self.golden.assert_equal(self.outputs())
        except pytest.fail.Exception:
            pytest.fail(f"{self.golden.model}: nobody notices {layer.name} times 1.1")
        finally:
            layer.assign(before)


made = functools.lru_cache(maxsize=1)(Network)  # the tests of a file follow each other; D7x takes 1.5 GB


@pytest.fixture
def network(request):
    return made(request.param)


def files(models, marks=()):
    """Parameters of a test: the golden files of these models."""
    chosen = [path for path in golden_network.files("live") if Golden(path).model in models]
    return [pytest.param(path, marks=marks, id=path.stem) for path in chosen]


QUICK, LARGE = ("efficientdet-d0", "efficientdet-lite0"), ("efficientdet-d3", "efficientdet-d7x")
each_quick_file = pytest.mark.parametrize("network", files(QUICK), indirect=True, scope="module")
each_file = pytest.mark.parametrize(
    "network", files(QUICK) + files(LARGE, pytest.mark.slow), indirect=True, scope="module"
)


def test_there_is_a_file_of_every_kind_of_model():
    assert sorted(Golden(path).model for path in golden_network.files("live")) == sorted(QUICK + LARGE)


@each_file
def test_outputs_are_those_of_the_published_implementation(network):
    network.golden.assert_equal(network.outputs())


@each_file
def test_a_layer_that_is_a_tenth_too_large_is_noticed(network):
    layers = network.layers()
    chosen = {int(number) for number in np.linspace(0, len(layers) - 1, LAYERS)}
    assert len(chosen) == LAYERS
    for number in sorted(chosen):
        network.assert_noticed(layers[number])
    network.golden.assert_equal(network.outputs())  # It was the layers.


@pytest.mark.slow
@each_quick_file
def test_any_layer_that_is_a_tenth_too_large_is_noticed(network):
    for layer in network.layers():
        network.assert_noticed(layer)
