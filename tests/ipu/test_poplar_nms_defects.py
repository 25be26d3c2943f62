# SPDX-License-Identifier: Apache-2.0
"""Would the tests notice? Each defect of the operator that this one replaces is put back into a copy of the sources and
the copy is built against the model. Then the checks that the real operator passes must fail, or the model must refuse.

The numbers are those of the list of defects the project was started with; the texts say what was wrong.
"""

import shutil

import numpy as np
import poplar_model
import pytest
from poplar_nms import assert_same, expected, run, scene

pytestmark = pytest.mark.slow  # each defect compiles operator and codelets once

DEFECTS = {
    "1: a part that crosses the border between two images counts as one image's": (
        "nms.cpp",
        "scores_(in.scores[image].flatten())",
        # Parts of a linear mapping are multiples of 4 elements, wherever images begin.
        "scores_(in.scores.flatten().slice(image * in.scores.dim(1) / 4 * 4,"
        " image * in.scores.dim(1) / 4 * 4 + in.scores.dim(1)))",
    ),
    "2: all workers of a tile take the tile's first image": (
        "nms.cpp",
        "boxes_(localBoxes[image])",
        "boxes_(localBoxes[0])",
    ),
    "3: the loop ends with the first image that is done": (
        "codelet.cpp",
        """bool result = false;
    for (unsigned i = 0; i < active.size(); ++i)
      result = result || active[i];""",
        """bool result = true;
    for (unsigned i = 0; i < active.size(); ++i)
      result = result && active[i];""",
    ),
    "4: rows of the answer's boxes are one element apart": (
        "codelet.cpp",
        "boxes[4 * row + k] = static_cast<T>(finalistBoxes",
        "boxes[row + k] = static_cast<T>(finalistBoxes",
    ),
    "5: areas are kept in the type of the boxes": (
        "nms_core.hpp",
        "box.area = (box.yMax - box.yMin) * (box.xMax - box.xMin);",
        "box.area = static_cast<float>(static_cast<T>((box.yMax - box.yMin) * (box.xMax - box.xMin)));",
    ),
    "7: the score threshold is rounded to the type of the scores": (
        "codelet.cpp",
        "if (!nms_core::isCandidate(score, scoreThreshold))\n        continue;\n      alive[kept]",
        "if (!nms_core::isCandidate(score, static_cast<float>(static_cast<T>(scoreThreshold))))\n        continue;\n"
        "      alive[kept]",
    ),
    "8: boxes without area, or inverted ones, overlap by accident": (
        "nms_core.hpp",
        "Box box{lesser(y1, y2), lesser(x1, x2), greater(y1, y2), greater(x1, x2), 0.0f};",
        "Box box{y1, x1, y2, x2, 0.0f};",
    ),
    "9: the inputs are moved to other tiles": (
        "nms.cpp",
        "graph.setTileMapping(to[image].slice(slice.anchors.begin, slice.anchors.end), slice.tile);",
        "graph.setTileMapping(to[image].slice(slice.anchors.begin, slice.anchors.end), slice.tile),\n"
        "          graph.setTileMapping(from[image].slice(slice.anchors.begin, slice.anchors.end), slice.tile);",
    ),
    "10: the input scores are written": (
        "codelet.cpp",
        "const unsigned kept = slice.select(&scores[0], scores.size());",
        "const unsigned kept = slice.select(&scores[0], scores.size());\n"
        "    const_cast<T &>(scores[0]) = static_cast<T>(0.0f);",
    ),
    "15: the class of an unused row is one more than the largest int32": (
        "codelet.cpp",
        "classes[row] = nms_core::unusedClass;",
        "classes[row] = static_cast<int>(nms_core::unusedClass + 1u);",
    ),
}


def checks(library):
    """Run the operator on scenes that between them touch every defect; raise where it is wrong."""
    cases = [
        scene(1, [30, 0, 1, 12], 203),
        scene(2, [20, 9], 333, dtype=np.float16, extent=900.0),
        scene(3, [50], 150, dtype=np.float16),
    ]
    inverted = scene(4, [30], 150)
    inverted[1][:, ::3] = inverted[1][:, ::3][..., [2, 3, 0, 1]]
    rounded = scene(5, [0], 60, dtype=np.float16)
    rounded[0][:] = 0.4
    for arrays in [*cases, inverted]:
        assert_same(run(*arrays, library=library, numDetections=40), expected(*arrays, numDetections=40))
    assert_same(run(*rounded, library=library, scoreThreshold=0.3999), expected(*rounded, scoreThreshold=0.3999))


def build_copy(folder, file=None, text=None, changed=None):
    """Build NMS/tf from a copy of the sources in `folder`, one text changed; return the library."""
    for source in [*poplar_model.NMS.glob("*.?pp"), poplar_model.NMS / "poplar.mk"]:
        shutil.copy(source, folder)
    (folder / "tf").mkdir()
    for name in ("Makefile", "nms_custom_op.cpp"):
        shutil.copy(poplar_model.NMS / "tf" / name, folder / "tf")
    if file:
        source = (folder / file).read_text()
        assert text in source, f"{file} has changed: this defect needs another way in"
        (folder / file).write_text(source.replace(text, changed))
    return poplar_model.build_form(folder / "tf") / "nms_custom_op.so"


def test_a_copy_without_a_defect_passes(tmp_path):
    checks(build_copy(tmp_path))


@pytest.mark.parametrize("defect", list(DEFECTS), ids=lambda text: text.split(":")[0])
def test_a_defect_that_is_put_back_is_noticed(defect, tmp_path):
    library = build_copy(tmp_path, *DEFECTS[defect])
    with pytest.raises((AssertionError, poplar_model.PoplarModelError)):
        checks(library)
