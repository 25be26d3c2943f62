# SPDX-License-Identifier: Apache-2.0
"""Batches without TensorFlow: those of the tf.data pipeline, in order and without end."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from ipu_utils.base.errors import UserError
from ipu_utils.config.model_options import DataConfig
from ipu_utils.data.numpy_batches import open_feed
from ipu_utils.data.tf_batches import open_dataset

PHOTOGRAPHS = Path(__file__).resolve().parents[1] / "data" / "images"
SIZE, BATCHES = (48, 64), 5


def take(feed, count=BATCHES):
    return list(itertools.islice(iter(feed), count))


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(
    "kind, path",
    [
        ("generated", None),
        ("repeated-image", PHOTOGRAPHS / "coffee.png"),
        ("single-image", PHOTOGRAPHS / "coffee.png"),
        ("image-directory", PHOTOGRAPHS),
    ],
)
def test_batches_are_those_of_the_other_engine(kind, path, batch_size):
    data = DataConfig(dataset_type=kind, image_path=path, micro_batch_size=batch_size)
    theirs = open_dataset(data, SIZE, BATCHES, 127.0)
    ours = open_feed(data, SIZE, BATCHES, 127.0)
    assert (ours.count, ours.batch_size) == (theirs.count, theirs.batch_size)
    for batch, reference in zip(take(ours), theirs.dataset):
        for array, expected in zip(batch, reference):
            assert array.dtype == expected.dtype.as_numpy_dtype
            np.testing.assert_array_equal(array, expected.numpy())
        assert kind == "generated" or (batch[0][0, -1, -1] == 127).all()  # no photograph has this shape


def test_every_iteration_begins_with_the_first_image():
    feed = open_feed(DataConfig(dataset_type="image-directory", image_path=PHOTOGRAPHS), SIZE, BATCHES)
    assert [batch[2].tolist() for batch in take(feed)] == [[0], [1], [2], [3], [0]]
    assert [batch[2].tolist() for batch in take(feed, 1)] == [[0]]


def test_unreadable_images_leave_no_gap(tmp_path):
    for name in ("astronaut.png", "coffee.png"):
        shutil.copy(str(PHOTOGRAPHS / name), str(tmp_path))
    damaged = (PHOTOGRAPHS / "chelsea.png").read_bytes()
    (tmp_path / "b.png").write_bytes(damaged[: len(damaged) // 2])  # the header is whole: only decoding tells
    feed = open_feed(DataConfig(dataset_type="image-directory", image_path=tmp_path, micro_batch_size=2), SIZE, 4)
    assert [batch[2].tolist() for batch in take(feed, 3)] == [[0, 2], [0, 2], [0, 2]]
    assert list(feed.source.skipped) == ["b.png"] and feed.count == 2


def test_a_folder_without_a_readable_image_is_an_error(tmp_path):
    damaged = (PHOTOGRAPHS / "chelsea.png").read_bytes()
    (tmp_path / "b.png").write_bytes(damaged[: len(damaged) // 2])
    feed = open_feed(DataConfig(dataset_type="image-directory", image_path=tmp_path), SIZE, 4)
    with pytest.raises(UserError, match=r"b\.png"):
        take(feed, 1)
