# SPDX-License-Identifier: Apache-2.0
"""COCO annotations with something wrong in them: told by both scripts and by --dry-run, before a network is built."""

import copy
import json
from typing import Any, Callable

from reliability.case import Case, Outcome, Stage
from reliability.runner import here

NAN = float("nan")
# The checkpoint is damaged: whoever comes to the network before the annotations says so instead.
RUN = [
    "--model-name", "efficientdet-lite0", "--image-size", "64", "--model-dir", "{folder}/weights", "--num-repeats", "2",
    "--dataset-type", "image-directory", "--image-path", "{images}", "--coco-annotations", "{folder}/annotations.json",
]  # fmt: skip
WHOLE = {
    "images": [{"id": 1, "file_name": "chelsea.png"}, {"id": 2, "file_name": "coffee.png"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 17, "bbox": [90, 30, 300, 260], "area": 50000, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 47, "bbox": [200, 50, 250, 250], "area": 40000, "iscrowd": 0},
    ],
    "categories": [{"id": 17, "name": "cat"}, {"id": 47, "name": "cup"}],
}


def _wrong(given: str, change: Callable[[Any], Any], *words: str) -> Case:
    """A file with something changed; what `change` returns, if anything, is written instead."""

    def run(stage: Stage) -> Outcome:
        content = copy.deepcopy(WHOLE)
        changed = change(content)
        content = json.dumps(content).encode() if changed is None else changed
        (stage.folder / "annotations.json").write_bytes(content)
        (stage.folder / "weights").mkdir()
        (stage.folder / "weights" / "model.index").write_bytes(b"text")
        said = set()
        for script in ("embedded", "throughput"):
            for more in ([], ["--dry-run"]):
                outcome = here(script, [*stage.filled(RUN), *more], {})
                said.add((outcome.status, outcome.message))
        assert len(said) == 1, said
        return outcome

    return Case(given, RUN, 2, ["--coco-annotations", "annotations.json", *words], run=run, needs=["openvino"])


def _object(**changes: Any) -> Callable[[Any], None]:
    return lambda content: content["annotations"][1].update(changes)


def _category_from_0(content: Any) -> None:
    content["categories"] = [{"id": 0, "name": "pussycat"}, {"id": 1, "name": "beaker"}]
    for number, one in enumerate(content["annotations"]):
        one["category_id"] = number


CASES = [
    _wrong("annotations with a box of NaN", _object(bbox=[1, 2, NAN, 4]), "annotations[1].bbox is [1, 2, NaN, 4]"),
    _wrong("annotations with a box of three numbers", _object(bbox=[1, 2, 3]), "annotations[1].bbox is [1, 2, 3]"),
    _wrong("annotations with a box below zero", _object(bbox=[9, 9, -4, 4]), "annotations[1].bbox", "not below zero"),
    _wrong("annotations with outlines alone", lambda content: content["annotations"][1].pop("bbox") and None,
           "annotations[1].bbox is missing"),
    _wrong("annotations with a crowd that is a word", _object(iscrowd="no"), 'annotations[1].iscrowd is "no"'),
    _wrong("annotations of a category that is not listed", _object(category_id=7), "annotations[1].category_id is 7"),
    _wrong("annotations with a list for an image", _object(image_id=[2]), "annotations[1].image_id is [2]"),
    _wrong("annotations without categories", lambda content: content.update(categories=[]), "categories is an empty"),
    _wrong("annotations whose categories begin at 0 and have other names", _category_from_0,
           "categories[0] (0, pussycat) is no class of the model", "label_map"),
    _wrong("annotations with a list for a name", lambda content: content["images"][0].update(file_name=["a.jpg"]),
           'images[0].file_name is ["a.jpg"]'),
    _wrong("annotations of two images with one id", lambda content: content["images"][1].update(id="1"),
           'images[1].id is "1", which is the id of images[0], too'),
    _wrong("annotations of another folder", lambda content: content["images"].pop() and content["images"][0].update(
           file_name="dog.jpg"), "knows none of the 4 images"),
    _wrong("annotations nested 100,000 deep", lambda content: b"[" * 100000, "nested too deeply"),
    _wrong("annotations that are a list", lambda content: json.dumps(content["annotations"]).encode(), "a list of 2"),
    _wrong("annotations with a key twice", lambda content: b'{"images": [], "images": []}', 'has "images" twice'),
    _wrong("annotations compressed with gzip", lambda content: b"\x1f\x8b\x08" + bytes(9), "gzip"),
    _wrong("annotations that are not Unicode", lambda content: b'{"info": "caf\xe9"}', "byte 13 is not UTF-8"),
    _wrong("annotations that are empty", lambda content: b"", "is empty"),
]  # fmt: skip
