# SPDX-License-Identifier: Apache-2.0
"""Files of JSON that strangers wrote: COCO annotations and records of runs."""

import contextlib
import copy
import io
import json
import random
import re
import warnings
from pathlib import Path
from typing import Any, List, Tuple

from fuzz.driver import mutated
from fuzz.in_folder import InFolder
from fuzz.texts import WORDS
from ipu_utils.base.errors import UserError

ODD = (
    None, True, False, 0, 1, -1, 2, 7, 0.5, 1.0, -0.0, 5e-324, 1e15, 1e308, 10**20, 10**400, 2**63, float("nan"),
    float("inf"), "", "0", "1", "x", "\ud800", "\x1b[31m\n", "\x00", "e\u0301", "9" * 5000, [], {}, [[]], [1],
    [1, 2, 3, 4], ["a"], {"a": 1}, {"id": 1}, [None] * 4, "1.jpg", "a/2.jpg", "..\\3.JPG", "%31.jpg", "Infinity",
)  # fmt: skip


def places_of(value: Any) -> List[Tuple[Any, Any]]:
    """(container, key) of everything in a value."""
    found, waiting = [], [value]
    while waiting:
        container = waiting.pop()
        for key, one in container.items() if isinstance(container, dict) else enumerate(container):
            found.append((container, key))
            if isinstance(one, (dict, list)):
                waiting.append(one)
    return found


def bent(rng: random.Random, value: Any) -> Any:
    """A copy of a value with a few things in it exchanged, taken away, doubled or put in."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 8))):
        places = places_of(value)
        if not places:
            break
        container, key = rng.choice(places)
        kind = rng.randrange(8)
        if kind == 0:
            del container[key]
        elif kind == 1:
            other, other_key = rng.choice(places)
            if other_key in other if isinstance(other, dict) else other_key < len(other):
                container[key] = copy.deepcopy(other[other_key])
        elif kind == 2 and isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        elif kind == 3:
            container[key] = str(container[key]) if rng.random() < 0.8 else [container[key]]
        elif kind == 4 and isinstance(container, dict):
            container[rng.choice(WORDS)] = copy.deepcopy(rng.choice(ODD))
        elif kind == 5 and isinstance(container[key], (int, float)) and not isinstance(container[key], bool):
            with contextlib.suppress(OverflowError):
                container[key] *= rng.choice((-1, 0, 1.0, 1e-12, 3, 1e9, 1e300))
        else:
            container[key] = copy.deepcopy(rng.choice(ODD))
    return value


def as_bytes(rng: random.Random, value: Any) -> bytes:
    """A file of a value, which may be damaged, of another encoding, or have a key twice."""
    text = json.dumps(value)
    kind = rng.random()
    if kind < 0.1:
        return mutated(rng, text.encode())
    if kind < 0.13:
        return text.encode(rng.choice(("utf-8-sig", "utf-16", "utf-32-le", "utf-7")))
    if kind < 0.16:
        place = rng.randrange(len(text) + 1)
        return (text[:place] + rng.choice(("[", '{"a":')) * rng.choice((3, 60, 900, 20000)) + text[place:]).encode()
    if kind < 0.2:
        key = rng.choice(("id", "bbox", "seconds", "images", "samples"))
        return text.replace(f'"{key}":', f'"{key}": {json.dumps(rng.choice(ODD))}, "{key}":', 1).encode()
    return text.encode()


class CocoAnnotations(InFolder):
    """`Annotations`, their matching with images and classes, and the twelve numbers."""

    name = "annotations"

    def __init__(self) -> None:
        super().__init__()
        from PIL import Image

        from ipu_utils.base.image_folder import list_images
        from ipu_utils.data.sources import ImageFiles

        (self.folder / "images").mkdir()
        for number in range(3):
            Image.new("RGB", (200, 100)).save(str(self.folder / "images" / f"{number + 1}.jpg"))
        self._source = ImageFiles(list_images(self.folder / "images"), self.folder / "images", (64, 64))
        boxes = ((10, 10, 50, 40), (100, 20, 30, 30), (60, 5, 90, 90), (1, 1, 9, 9))
        self._whole = {
            "info": {"year": 2017},
            "images": [
                {"id": 7 * i, "file_name": f"{i}.jpg", "width": 200, "height": 100} for i in (1, 2, 3)
            ],
            "annotations": [
                {"id": i, "image_id": 7 * (i % 3 + 1), "category_id": 1 + i % 2, "bbox": list(box),
                 "area": box[2] * box[3], "iscrowd": int(i == 3), "segmentation": [[1, 2, 3, 4]]}
                for i, box in enumerate(boxes)
            ],
            "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle", "supercategory": "vehicle"}],
        }  # fmt: skip

    def make(self, rng: random.Random) -> Tuple[bytes, int]:
        """(bytes of a file, what is known of the model's classes)."""
        return as_bytes(rng, bent(rng, self._whole)), rng.randrange(3)

    def try_out(self, given: Tuple[bytes, int]) -> str:
        """Accepted is twelve numbers between 0 and 1 or -1, refused a UserError in one line that can be printed."""
        import numpy as np

        from ipu_utils.outputs.coco import Annotations, CocoWriter
        from ipu_utils.outputs.coco_classes import Classes
        from tf2.label_util import coco

        content, known = given
        path = self.folder / "annotations.json"
        path.write_bytes(content)
        classes = (Classes(), Classes(2), Classes(90, coco))[known]
        boxes = np.array([[[10, 10, 50, 60], [20, 100, 50, 130], [0, 0, 90, 90]]] * 3, np.float32)
        found = boxes, np.full((3, 3), 0.5), np.array([[1, 2, 1]] * 3), np.array([3, 2, 3])
        try:
            with CocoWriter(self._source, None, Annotations(path), classes) as writer:
                writer.write([0, 1, 2], found)
                report = writer.report()
        except UserError as error:
            assert str(error).isprintable(), str(error)
            assert "cannot use" not in str(error), "it is pycocotools that stumbled"
            return "refused"
        values = re.findall(r"^\tA\w+ += +(\S+)  IoU", report, re.M)
        assert len(values) == 12 and all(value == "none" or 0 <= float(value) <= 1 for value in values), report
        assert all(line.replace("\t", "").isprintable() for line in report.split("\n")), report
        return "accepted"


class Records(InFolder):
    """`ipu_utils.compare` on two records, one or both bent, with its page or without."""

    name = "records"
    OPTIONS = ("script", "config", "model_name", "device", "num_repeats", "benchmark_repeats", "micro_batch_size",
               "nms_mode", "num_threads", "image_size", "percentiles", "model_dir", "pin")  # fmt: skip
    CONDITIONS = ("", "p50>+5%", "throughput<-1%,p99.9>+20%", "mean<-99%")

    def __init__(self) -> None:
        super().__init__()
        from records import outcome, run_config

        from ipu_utils.measure.throughput import Samples, pool
        from ipu_utils.report import record

        one = Samples((0.1, 0.11, 0.1, 0.12, 0.1), 1, 1)
        self._whole = [
            json.loads(record.to_json(record.make_record(run_config(), outcome(samples))))
            for samples in (one, pool([one, Samples((0.2, 0.21), 1, 1)]))
        ]
        for whole in self._whole:  # what is many times of a kind is checked alike: the rest is to be bent as often
            whole["started"] = "2026-01-01T00:00:00+00:00"  # the same in every run
            whole["configuration"] = {name: whole["configuration"][name] for name in self.OPTIONS}
            latency = whole["statistics"]["latency_ms"]
            latency["percentiles"] = {name: latency["percentiles"][name] for name in ("50", "99")}

    def make(self, rng: random.Random) -> Tuple[bytes, bytes, List[str]]:
        """(one file, another, options)."""
        pair = []
        for _ in range(2):
            whole = self._whole[0] if rng.random() < 0.9 else self._whole[1]
            pair.append(as_bytes(rng, bent(rng, whole)) if rng.random() < 0.6 else json.dumps(whole).encode())
        options = ["--force"] if rng.random() < 0.7 else []
        options += ["--fail-if", rng.choice(self.CONDITIONS[1:])] if rng.random() < 0.7 else []
        options += ["--report", str(self.folder / "page.html")] if rng.random() < 0.4 else []
        return pair[0], pair[1], options

    def try_out(self, given: Tuple[bytes, bytes, List[str]]) -> str:
        """Accepted is status 0, or 1 with a condition that is named; refused is status 2 with one error."""
        from ipu_utils import compare

        paths = [self.folder / "A.json", self.folder / "B.json"]
        for path, content in zip(paths, given):
            path.write_bytes(content)
        out, err = (io.TextIOWrapper(io.BytesIO(), "ascii", "strict") for _ in range(2))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy's of a number that is none
            status = compare.run([*map(str, paths), *given[2]])
        out.flush(), err.flush()
        printed, told = (stream.buffer.getvalue().decode() for stream in (out, err))
        assert "Traceback" not in told, told
        assert "\x1b" not in printed + told
        if status == 2:
            assert told.startswith("error: "), told
            return "refused"
        assert status in (0, 1) and (status == 1) == ("\nFAILED " in printed), (status, printed)
        assert not told and not re.search(r"(?<![.\w])nan(?!\w)", printed), (told, printed)  # a key may have that name
        if "--report" in given[2]:
            assert "</html>" in Path(given[2][-1]).read_text(encoding="utf-8")
        return "accepted"
