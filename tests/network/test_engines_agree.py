# SPDX-License-Identifier: Apache-2.0
"""The same weights give the same detections on the photographs, whatever engine computes them, in float."""

import functools
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from ipu_utils.config.run_config import load_config
from ipu_utils.data.decode import read_image
from ipu_utils.executable import cache, fingerprint, freeze_lite, freeze_onnx
from ipu_utils.executable.engines import ENGINES
from ipu_utils.executable.file import write_executable
from ipu_utils.executable.freeze import compile_network
from ipu_utils.executable.freeze_graph import named_graph
from ipu_utils.executable.runtime import EmbeddedModel
from ipu_utils.model import random_weights
from ipu_utils.model.host import Host
from ipu_utils.model.network import build_network, heads_of
from object_detection.box_list import iou

PHOTOGRAPHS = sorted((Path(__file__).resolve().parents[1] / "data" / "images").glob("*.[jp][pn]g"))
NEEDED = {
    "openvino": ["openvino"],
    "litert": ["ai_edge_litert"],
    "onnxruntime": ["onnxruntime", "onnx", "tf2onnx"],
    "tensorflow": [],
}
SAME = 0.99  # overlap of two boxes that are one
SAME_PIXELS = 0.05  # of corners, where a box has almost no area
CLOSE = 1e-3  # to the threshold, where rounding decides

pytestmark = pytest.mark.slow


class Network:
    """A network of random weights, as each engine's executable."""

    def __init__(self, model, size, folder):
        arguments = ["--device", "cpu", "--random-weights", "--model-name", model]
        self.config = load_config([*arguments, *(["--image-size", size] if size else [])], "embedded", lambda _: "cpu")
        hparams = cache.hparams_of(self.config)
        keras = build_network(hparams, activation=Host("cpu", 2).swish)
        random_weights.randomise(keras, hparams, hparams.image_size, 0, 300)
        self.heads = functools.partial(heads_of, keras, hparams, "float32")
        self.threshold, self.folder = hparams.nms_configs.score_thresh, folder

    @functools.lru_cache(maxsize=None)  # noqa: B019 - of one fixture
    def detections(self, engine):
        """Of each photograph."""
        name = ENGINES[engine].module().engine_name()
        header = cache.plan(self.config, "float32", "float32", name, fingerprint.cpu_features())
        path = self.folder / f"{engine}.effdet"
        write_executable(path, header, self._content(engine, header))
        model = EmbeddedModel.load(path)
        return [model.detect(read_image(photograph)) for photograph in PHOTOGRAPHS]

    def _content(self, engine, header):
        if engine == "openvino":
            return compile_network(self.heads, header)
        if engine == "tensorflow":
            return named_graph(self.heads, header).SerializeToString()
        freeze = {"litert": freeze_lite, "onnxruntime": freeze_onnx}[engine].freeze_network
        return freeze(self.heads, header, str(self.folder)).path.read_bytes()


@pytest.fixture(
    scope="module",
    params=[
        ("efficientdet-d0", ""),
        ("efficientdet-d3", ""),
        ("efficientdet-lite0", ""),
        ("efficientdet-d0", "328x200"),
    ],
    ids="-".join,
)
def network(request, tmp_path_factory):
    return Network(*request.param, tmp_path_factory.mktemp("engines"))


def lacking(ours, theirs, threshold):
    """Detections that are clearly above the threshold and have no equal among the others."""
    found = []
    for box, score, number in zip(*ours):
        boxes = theirs.boxes[theirs.classes == number]
        same = (iou(box, boxes) > SAME) | (np.abs(boxes - box).max(1, initial=0) < SAME_PIXELS)
        if score > threshold + CLOSE and not same.any():
            found.append((number, score, box))
    return found


def test_there_are_four_photographs():
    assert len(PHOTOGRAPHS) == 4


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "tensorflow"])
def test_detections_on_the_photographs_are_those_of_tensorflow(network, engine):
    absent = [name for name in NEEDED[engine] if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"{' and '.join(absent)} is not installed")
    for ours, reference in zip(network.detections(engine), network.detections("tensorflow")):
        assert len(reference.scores) > 20
        assert lacking(ours, reference, network.threshold) == []
        assert lacking(reference, ours, network.threshold) == []
        np.testing.assert_allclose(ours.scores[:10], reference.scores[:10], atol=CLOSE)
