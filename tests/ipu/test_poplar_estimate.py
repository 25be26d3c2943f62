# SPDX-License-Identifier: Apache-2.0
"""The estimate of NMS on an IPU: the targets it was made for, and whether the documentation shows what it says."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = [(model, batch) for model in ("D0", "D1", "D2", "D3", "D4") for batch in (1, 2, 3, 4)]


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("nms_poplar_estimate", ROOT / "benchmarks" / "nms_poplar_estimate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documented(model, batch, table="estimate"):
    """Return the row of a table in docs/NMS_POPLAR.md as {column: text}."""
    text = (ROOT / "docs" / "NMS_POPLAR.md").read_text()
    (found,) = re.findall(rf"^(\| {table}: model, batch .*\n(?:\|.*\n)+)", text, re.MULTILINE)
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines())
    return dict(zip(head, next(row for row in rows if row[0] == f"{model}, {batch}")))


@pytest.mark.slow
def test_d0_takes_at_most_half_a_millisecond_and_half_of_what_the_former_loop_took(benchmark):
    library = benchmark.load_library()
    scene = benchmark.few_candidates(benchmark.anchor_boxes("efficientdet-d0"), batch=1)
    found = benchmark.estimate(library, scene)
    np.testing.assert_array_equal(found.indices, benchmark.expected(scene))
    assert found.iterations == benchmark.ROWS
    assert found.milliseconds <= 0.5
    assert found.milliseconds <= float(documented("D0", 1, "former loop")["ms"]) / 2
    # Also where each of six workers of a tile receives the finalists for itself.
    assert found.milliseconds < found.milliseconds_apart <= 0.5
    finalists = next(stage for stage in found.stages if stage["name"] == "suppress")
    assert finalists["apart"] == 6 * finalists["exchange"]
    row = documented("D0", 1)
    assert row["ms"] == f"{found.milliseconds:.2f}", "run benchmarks/nms_poplar_estimate.py --write again"
    assert row["a read a worker, ms"] == f"{found.milliseconds_apart:.2f}"


@pytest.mark.parametrize("model, batch", CASES)
def test_every_model_and_batch_is_documented(model, batch):
    row, former = documented(model, batch), documented(model, batch, "former loop")
    assert float(row["ms"]) <= float(row["a read a worker, ms"]) <= 0.5
    assert 2 * float(row["ms"]) <= float(former["ms"]) + 0.005
