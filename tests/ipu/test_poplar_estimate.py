# SPDX-License-Identifier: Apache-2.0
"""The estimate of NMS on an IPU: the targets it was made for, and whether the documentation shows what it says."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("nms_poplar_estimate", ROOT / "benchmarks" / "nms_poplar_estimate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documented(model, batch):
    """Return the row of the table in docs/NMS_POPLAR.md as {column: text}."""
    text = (ROOT / "docs" / "NMS_POPLAR.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", text, re.MULTILINE)
    ]
    head = next(row for row in rows if row[0].startswith("estimate: model"))
    return dict(zip(head, next(row for row in rows if row[0] == f"{model}, {batch}")))


@pytest.mark.slow
def test_d0_takes_at_most_half_a_millisecond_and_half_of_the_former_loop(benchmark):
    library = benchmark.load_library()
    scene = benchmark.few_candidates(benchmark.anchor_boxes("efficientdet-d0"), batch=1)
    ours, former = (benchmark.estimate(library, scene, former) for former in (False, True))
    np.testing.assert_array_equal(ours.indices, former.indices)
    assert ours.iterations == former.iterations == benchmark.ROWS
    assert ours.milliseconds <= 0.5
    assert ours.milliseconds <= former.milliseconds / 2
    # Also where each of six workers of a tile receives the finalists for itself.
    assert ours.milliseconds < ours.milliseconds_apart <= 0.5
    finalists = next(stage for stage in ours.stages if stage["name"] == "suppress")
    assert finalists["apart"] == 6 * finalists["exchange"]
    row = documented("D0", 1)
    assert row["ours, ms"] == f"{ours.milliseconds:.2f}", "run benchmarks/nms_poplar_estimate.py --write again"
    assert row["former shape, ms"] == f"{former.milliseconds:.2f}"
    assert row["ours, a read a worker, ms"] == f"{ours.milliseconds_apart:.2f}"
    assert row["former, a read a worker, ms"] == f"{former.milliseconds_apart:.2f}"


def test_every_model_and_batch_is_documented():
    for model in ("D0", "D1", "D2", "D3", "D4"):
        for batch in (1, 2, 3, 4):
            row = documented(model, batch)
            assert float(row["ours, ms"]) <= float(row["ours, a read a worker, ms"]) <= 0.5
            assert 2 * float(row["ours, ms"]) <= float(row["former shape, ms"]) + 0.005
