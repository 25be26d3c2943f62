# SPDX-License-Identifier: Apache-2.0
"""Inputs for tests of NMS: boxes, scores, classes and head outputs, every one a pure function of its arguments."""

from typing import NamedTuple

import numpy as np

LEVELS_64X96 = ((8, 12), (4, 6), (2, 3), (1, 2), (1, 1))
LEVELS_128 = ((16, 16), (8, 8), (4, 4), (2, 2), (1, 1))


class Scene(NamedTuple):
    """Candidates of a batch."""

    boxes: np.ndarray  # float32 [B, N, 4]
    scores: np.ndarray  # float32 [B, N]
    classes: np.ndarray  # int32 [B, N]


def make_scene(seed, batch, count, num_classes=3, ties=False, odd_boxes=False):
    """Boxes around a few objects.

    Args:
      ties: scores of nine values and boxes on a coarse grid, so that equal scores and equal boxes abound. Otherwise
        all scores of an image differ.
      odd_boxes: some boxes have their corners swapped, and some no area.
    """
    rng = np.random.RandomState(seed)
    objects = rng.uniform(0, 60, (batch, 6, 4))
    boxes = objects[:, rng.randint(0, 6, count)] if count else np.zeros((batch, 0, 4))
    boxes = boxes + rng.standard_normal(boxes.shape) * 4
    boxes[..., 2:] = boxes[..., :2] + np.abs(boxes[..., 2:]) / 2 + 1
    if ties:
        boxes = np.round(boxes / 8) * 8
        scores = rng.randint(0, 9, (batch, count)) / 8
    else:
        scores = np.array([rng.permutation(count) for _ in range(batch)]).reshape(batch, count) / max(count, 1)
    if odd_boxes and count:
        swapped, flat = rng.rand(batch, count) < 0.2, rng.rand(batch, count) < 0.2
        boxes[swapped] = boxes[swapped][:, [2, 1, 0, 3]]
        boxes[flat, 3] = boxes[flat, 1]
    classes = rng.randint(0, num_classes, (batch, count))
    return Scene(boxes.astype(np.float32), scores.astype(np.float32), classes.astype(np.int32))


def make_heads(seed, levels, batch, num_classes=90, objects=40):
    """Head outputs with `objects` anchors an image above a score of 0.4: one number, or one for each image.

    Returns:
      (class_outputs, box_outputs), lists over levels of float32 [batch, h, w, 9 * num_classes] and [batch, h, w, 36].
    """
    rng = np.random.RandomState(seed)
    rows = [height * width * 9 for height, width in levels]
    logits = np.minimum(rng.standard_normal((batch, sum(rows), num_classes)) - 4, -1.0).astype(np.float32)
    regressions = (rng.standard_normal((batch, sum(rows), 4)) * 0.3).astype(np.float32)
    for image, count in enumerate(np.broadcast_to(objects, batch)):
        anchors = rng.choice(sum(rows), count, replace=False)
        logits[image, anchors, rng.randint(0, num_classes, count)] = rng.uniform(-0.3, 4, count)

    def split(values, width):
        parts = np.split(values, np.cumsum(rows)[:-1], axis=1)
        return [part.reshape(batch, h, w, 9 * width) for part, (h, w) in zip(parts, levels)]

    return split(logits, num_classes), split(regressions, 4)
