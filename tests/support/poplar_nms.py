# SPDX-License-Identifier: Apache-2.0
"""The Poplar operator on the model, and scenes to run it on; shared by its tests."""

import json

import numpy as np
import poplar_model

import nms_np

LIBRARIES = {form: poplar_model.NMS / form / "build" / "nms_custom_op.so" for form in ("tf", "tf_multi")}


def attributes_of(mode="best-class", **changes):
    """Return the operator's attributes as JSON; None leaves one out."""
    attributes = {
        "threshold": 0.5,
        "scoreThreshold": 0.3,
        "numDetections": 10,
        "sigma": 0.0,
        "classAgnostic": mode == "class-agnostic",
        "buildId": "test",
        **changes,
    }
    return json.dumps({key: value for key, value in attributes.items() if value is not None})


def outputs_of(scores, rows, with_classes=True):
    """Return the declaration of outputs for scores [B, ...]."""
    batch, floating = scores.shape[0], scores.dtype
    types = [np.int32, floating, floating, np.int32, np.int32]
    shapes = [(batch, rows), (batch, rows), (batch, rows, 4), (batch, rows), (batch,)]
    if not with_classes:
        del types[3], shapes[3]
    return {"output_types": types, "output_shapes": shapes}


def run(scores, boxes, classes=None, mode="best-class", library=None, tiles=poplar_model.TILES, **changes):
    """Run the operator; return nms_np.NmsOutputs (classes None where there are none to report)."""
    multi = mode == "multi-class"
    inputs = [scores, boxes] if classes is None or multi else [scores, boxes, classes]
    rows = changes.get("numDetections", 10)
    with_classes = multi or classes is not None
    outputs = poplar_model.run(
        library or LIBRARIES["tf_multi" if multi else "tf"],
        inputs,
        attributes_of(mode, **changes),
        outputs_of(scores, rows, with_classes),
        tiles=tiles,
    )
    if not with_classes:
        outputs.insert(3, None)
    return nms_np.NmsOutputs(*outputs)


def expected(scores, boxes, classes=None, mode="best-class", **changes):
    """Return what `run` must return, by the reference in NumPy."""
    outputs = nms_np.batched_nms(
        scores,
        boxes,
        classes,
        mode,
        threshold=changes.get("threshold", 0.5),
        score_threshold=changes.get("scoreThreshold", 0.3),
        num_detections=changes.get("numDetections", 10),
        sigma=changes.get("sigma", 0.0),
    )
    if mode == "multi-class":  # The operator numbers pairs of anchor and class, the reference anchors.
        used = outputs.indices != nms_np.UNUSED_INDEX
        pairs = np.where(used, outputs.indices * scores.shape[2] + outputs.classes, outputs.indices)
        outputs = outputs._replace(indices=pairs.astype(np.int32))
    return outputs


def assert_same(actual, wanted, score_rtol=0.0):
    """Compare outputs; all but scores that suppression has lowered must agree exactly."""
    for name, mine, other in zip(wanted._fields, actual, wanted):
        if mine is None:
            continue
        if name == "scores" and score_rtol:
            np.testing.assert_allclose(mine.astype(np.float32), other.astype(mine.dtype), rtol=score_rtol, err_msg=name)
        else:
            np.testing.assert_array_equal(mine, other.astype(mine.dtype), err_msg=name)


def scene(seed, objects, anchors, num_classes=5, extent=500.0, dtype=np.float32, multi=False):
    """Return (scores, boxes, classes) of a batch: `objects[b]` things in image b, each seen by several anchors.

    Candidates score 0.35 to 1, all other anchors below 0.3. Scores repeat, so that ties happen.
    """
    rng = np.random.RandomState(seed)
    batch = len(objects)
    scores = rng.uniform(0, 0.29, (batch, anchors) + ((num_classes,) if multi else ()))
    corner = rng.uniform(0, extent, (batch, anchors, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, extent / 2, (batch, anchors, 2))], -1)
    classes = rng.randint(0, num_classes, (batch, anchors)).astype(np.int32)
    for image, count in enumerate(objects):
        for _ in range(count):
            size = rng.uniform(extent / 50, extent, 2)
            box = np.concatenate([rng.uniform(0, extent, 2), size])
            label = rng.randint(num_classes)
            # An anchor may belong to two objects: the later one wins.
            for anchor in rng.choice(anchors, min(anchors, rng.randint(1, 9)), replace=False):
                top = box[:2] + rng.normal(0, 0.1, 2) * size
                boxes[image, anchor] = np.concatenate([top, top + size * rng.uniform(0.8, 1.25, 2)])
                score = rng.randint(35, 100) / 100
                if multi:
                    scores[image, anchor, label] = score
                    scores[image, anchor, rng.randint(num_classes)] = score
                else:
                    scores[image, anchor] = score
                    classes[image, anchor] = label if rng.rand() < 0.8 else rng.randint(num_classes)
    return scores.astype(dtype), boxes.astype(dtype), classes
