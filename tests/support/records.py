# SPDX-License-Identifier: Apache-2.0
"""Outcomes of runs that never were, and publishing them."""

import contextlib
import io

from ipu_utils.config.run_config import RunConfig
from ipu_utils.measure.stages import DEVICE, INPUT_WAIT
from ipu_utils.measure.throughput import Samples
from ipu_utils.report.publish import publisher
from ipu_utils.report.result import Outcome, nms_facts, weights_facts

SHA = "0" * 64


def run_config(script="throughput", **options):
    return RunConfig.from_options({"device": "cpu", **options}, script, command=("ipu_inference.py",))


def outcome(samples=None, **changes):
    values = {
        "samples": samples or Samples((0.5, 0.4, 0.6), batches_per_call=5, batch_size=2),
        "stages": {INPUT_WAIT: (0.001, 0.003), DEVICE: (0.09, 0.11)},
        "start_up": {"prepare": 1.5, "compile": 2.5, "first_call": 0.7},
        "warmup_seconds": (0.7,),
        "objects": {"candidates": 300.5, "detections": 99.0, "images": 10},
        "measured": "from here to there",
        "label": "Per-batch",
        "model": {
            "name": "efficientdet-d0",
            "image_size": [128, 256],
            "num_classes": 90,
            "precision": "float32",
            "input_type": "uint8",
        },
        "weights": weights_facts("random, seed 0", True, SHA, "the network's variables"),
        "nms": nms_facts({"method": "hard", "score_thresh": 0.4}, "best-class", "an operator", True),
        "device": {"kind": "cpu", "name": "cpu (a, 2 threads)", "engine": "TensorFlow", "threads": 2},
        "executable": {
            "engine": "TensorFlow 2.21.0",
            "sources_sha256": SHA,
            "nms_operator_sha256": None,
            "versions": {"tensorflow": "2.21.0"},
        },
    }
    return Outcome(**{**values, **changes})


def publish(config, found):
    """Return (standard output, standard error) of publishing."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), publisher(config) as results:
        results.publish(found)
    return out.getvalue(), err.getvalue()
