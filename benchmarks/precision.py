#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How far an executable's numbers are from TensorFlow's in float32, and those of OpenVINO's own conversion beside it.

    python benchmarks/precision.py --model-name efficientdet-d0 --images tests/data/images

Weights are random and calibrated unless --model-dir names trained ones. Drift on random weights says how much a
precision rounds, not what it costs in accuracy. `plain` is the network as OpenVINO converts and compiles it by itself.
`python -m ipu_utils.compare_precision` compares precisions, also TensorFlow's, on a user's images.
"""

import argparse
import functools
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from ipu_utils.backends.heads import Heads, Model, build, detector_of, in_openvino, in_tensorflow
from ipu_utils.base.errors import UserError
from ipu_utils.base.image_folder import list_images
from ipu_utils.base.keras2 import tf
from ipu_utils.base.openvino_api import import_openvino, properties
from ipu_utils.compare_precision import compare
from ipu_utils.config.model_options import PRECISION_WORDS
from ipu_utils.config.run_config import load_config
from ipu_utils.data.sources import ImageFiles
from ipu_utils.graph.freeze import freeze
from ipu_utils.model.network import heads_of
from ipu_utils.outputs.agreement import Agreement


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-name", default="efficientdet-d0")
    parser.add_argument("--model-dir", help="trained weights instead of random ones")
    parser.add_argument("--images", default="tests/data/images", help="folder of images (default: tests/data/images)")
    parser.add_argument("--precisions", nargs="+", choices=["float", "bfloat16"], default=["float", "bfloat16"])
    options = parser.parse_args()

    weights = ["--model-dir", options.model_dir] if options.model_dir else ["--random-weights"]
    arguments = ["--config", "efficientdet-low-latency", "--model-name", options.model_name, *weights]
    configs = {
        word: load_config([*arguments, "--model-precision", word], "embedded", choose_device=lambda name: "cpu")
        for word in options.precisions
    }
    model = build(next(iter(configs.values())))
    others: Dict[str, Heads] = {}
    for word, config in configs.items():
        others[word] = in_openvino(model, config)
        others[f"{word} plain"] = plain_openvino(model, PRECISION_WORDS[word].value)
    folder, hparams = Path(options.images), model.hparams
    source = ImageFiles(list_images(folder), folder, hparams.image_size, mean_rgb=hparams.mean_rgb)
    detect = detector_of(model, configs[options.precisions[0]].nms.nms_mode.value)
    print(f"{options.model_name}, weights {model.weights}, {source.count} images of {options.images}")
    print(Agreement.HEADER)
    for name, agreement in compare(in_tensorflow(model, "float32"), others, detect, source).items():
        print(agreement.row(name))


def plain_openvino(model: Model, precision: str) -> Heads:
    """The frozen network, untouched, in OpenVINO."""
    openvino = import_openvino()
    heads = functools.partial(heads_of, model.network, model.hparams, "float32")
    signature = [tf.TensorSpec((1, *model.hparams.image_size, 3), tf.uint8)]
    frozen = freeze(lambda images: [output for level in heads(images) for output in level], signature)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "plain.pb")
        path.write_bytes(frozen.graph_def.SerializeToString())
        compiled = openvino.Core().compile_model(openvino.Core().read_model(path), "CPU", properties(precision, None))

    def run(image: np.ndarray) -> List[np.ndarray]:
        found = compiled([image])
        return [found[name] for name in frozen.outputs]

    return run


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
