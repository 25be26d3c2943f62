# SPDX-License-Identifier: Apache-2.0
"""One photograph in inputs of three shapes: the same boxes, and in each of them those of AutoML's preprocessing.

Boxes of a network with random weights lie anywhere and change with everything, so the golden weights of the last layer
are made smaller for boxes, and a threshold leaves a few hundred candidates.
"""

import golden_network
import numpy as np
import pytest

import dataloader
from hparams_config import get_inference_config
from ipu_automl_io import postprocess_predictions, preprocess_normalize_image
from ipu_utils.base.keras2 import tf
from ipu_utils.config.normalisation import normalisation_of
from ipu_utils.data.decode import read_image
from ipu_utils.data.resize import fit_image
from ipu_utils.model.network import build_network
from ipu_utils.outputs.agreement import iou

IMAGES = golden_network.DATA / "images"
SHAPES = {"square": (288, 288), "16:9": (288, 512), "9:16": (512, 288)}
OTHER_SQUARE = (272, 272)  # resizes a little more
BOX_GAIN, CANDIDATES = 0.1, 200


class Detector:
    """lite0, which sees what surrounds an image in few places, with its golden weights."""

    def __init__(self):
        golden = golden_network.live("efficientdet-lite0")
        self._hparams = get_inference_config(golden.model)
        self._network = build_network(self._hparams)
        golden.set_weights(self._network)
        for weight in self._network.box_net.predictor.weights:
            if "depthwise" not in weight.name:
                weight.assign(BOX_GAIN * weight)

    def heads(self, image, size, preprocess):
        """Outputs for a photograph that `preprocess` fits into an input of `size`, and the way back to the original."""
        normalised, scale = preprocess(image, size, self._hparams)
        class_outputs, box_outputs = self._network(normalised[None], training=False)
        return list(class_outputs), list(box_outputs), np.float32([scale])

    def threshold(self, class_outputs):
        """The score that the wanted number of anchors exceed."""
        best = np.sort(np.concatenate([output.numpy().reshape(-1, 90).max(1) for output in class_outputs]))
        return float(1 / (1 + np.exp(-best[-CANDIDATES].astype(np.float64))))

    def detections(self, image, size, threshold, preprocess):
        """(boxes, classes) that reach into the photograph."""
        hparams = get_inference_config(self._hparams.name, "", size)
        hparams.nms_configs.score_thresh = threshold
        found = postprocess_predictions(hparams, *self.heads(image, size, preprocess), "best-class")
        boxes, _, classes, lengths = (np.asarray(part)[0] for part in found)
        boxes = np.clip(boxes[:lengths], 0, [*image.shape[:2], *image.shape[:2]])
        inside = (boxes[:, 2:] > boxes[:, :2] + 1).all(1)
        return boxes[inside], classes[:lengths][inside]


def ours(image, size, hparams):
    fitted = fit_image(image, size, hparams.mean_rgb)
    return preprocess_normalize_image(fitted.image, tf.float32, *normalisation_of(hparams)), fitted.scale_to_original


def automls(image, size, hparams):
    """Normalised, resized, then padded with zeros, all in float32."""
    processor = dataloader.DetectionInputProcessor(image, size)
    processor.normalize_image(hparams.mean_rgb, hparams.stddev_rgb)
    processor.set_scale_factors_to_output_size()
    return processor.resize_and_crop_image(), processor.image_scale_to_original.numpy()


def found_again(detections, others, least_iou):
    """How many of the first are among the others: same class, enough overlap."""
    (boxes, classes), (other_boxes, other_classes) = detections, others
    return sum(
        ((iou(box, other_boxes) > least_iou) & (other_classes == number)).any() for box, number in zip(boxes, classes)
    )


@pytest.fixture(scope="module")
def detector():
    return Detector()


@pytest.fixture(scope="module")
def squares():
    """Two photographs, cut to squares."""
    images = (read_image(IMAGES / name) for name in ("astronaut.png", "coffee.png"))
    return [image[: min(image.shape[:2]), : min(image.shape[:2])] for image in images]


def test_the_same_photograph_has_the_same_boxes_at_16_9_and_9_16_and_square(detector, squares):
    again, total = dict.fromkeys(["16:9", "9:16", "other square"], 0), 0
    for image in squares:
        threshold = detector.threshold(detector.heads(image, SHAPES["square"], ours)[0])
        expected = detector.detections(image, SHAPES["square"], threshold, ours)
        total += len(expected[0])
        for name, size in [*SHAPES.items(), ("other square", OTHER_SQUARE)]:
            if name != "square":
                found = detector.detections(image, size, threshold, ours)
                again[name] += found_again(expected, found, 0.7)
    # What surrounds the photograph changes less than a slightly smaller photograph does.
    assert min(again["16:9"], again["9:16"]) >= again["other square"]
    assert min(again["16:9"], again["9:16"]) > 0.2 * total


@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_are_those_of_automls_preprocessing_whatever_the_shape(detector, shape):
    again = total = 0
    for name in ("coffee.png", "rocket.jpg"):
        image = read_image(IMAGES / name)
        threshold = detector.threshold(detector.heads(image, SHAPES[shape], automls)[0])
        expected = detector.detections(image, SHAPES[shape], threshold, automls)
        found = detector.detections(image, SHAPES[shape], threshold, ours)
        again, total = again + found_again(expected, found, 0.9), total + len(expected[0])
    assert total > 50 and again > 0.85 * total  # with black padding 20 to 60 percent
