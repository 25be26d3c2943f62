# SPDX-License-Identifier: Apache-2.0
"""The four kinds of data: what is in each batch, in which order, and what a damaged file leads to."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference_formulas import photo

from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.config.model_options import DataConfig
from ipu_utils.data.numpy_batches import GENERATED_POOL_BYTES
from ipu_utils.data.resize import fit_image
from ipu_utils.data.sources import PADDING_ID, open_source
from ipu_utils.data.tf_batches import PipelineFunction, open_dataset

ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPHS = ROOT / "tests" / "data" / "images"
SIZE = (64, 96)  # (height, width)
IMAGENET_COLOUR = (124, 116, 104)


def opened(kind="generated", path=None, batch_size=1, batches=None, size=SIZE, mean_rgb=IMAGENET_COLOUR, **options):
    data = DataConfig(dataset_type=kind, image_path=path, micro_batch_size=batch_size, **options)
    return open_dataset(data, size, batches, mean_rgb)


def taken(batches, count=None):
    """The first `count` batches as arrays, or all of them."""
    dataset = batches.dataset if count is None else batches.dataset.take(count)
    return [tuple(part.numpy() for part in batch) for batch in dataset]


@pytest.fixture
def folder(tmp_path):
    """Five photographs of five sizes and modes, on disk in another order than by name."""
    alpha = np.full((30, 44, 1), 200, np.uint8)
    images = {
        "e.png": photo(80, 40, 5),
        "a.png": photo(64, 96, 1),
        "c.png": photo(31, 31, 3)[..., 0],
        "d.png": np.dstack([photo(30, 44, 4), alpha]),
        "b.png": (photo(50, 200, 2)[..., 0].astype(np.uint16) * 257),
    }
    for name, image in images.items():
        Image.fromarray(image).save(str(tmp_path / name))
    return tmp_path


@pytest.mark.parametrize("kind", ["generated", "repeated-image", "image-directory", "single-image"])
@pytest.mark.parametrize("batches", [None, 7])
def test_every_kind_has_static_shapes_and_the_same_types(kind, batches):
    path = PHOTOGRAPHS if kind == "image-directory" else PHOTOGRAPHS / "chelsea.png"
    made = opened(kind, None if kind == "generated" else path, 3, batches)
    size = 1 if kind == "single-image" else 3
    assert made.batch_size == size
    assert made.dataset.element_spec == (
        tf.TensorSpec([size, *SIZE, 3], tf.uint8),
        tf.TensorSpec([size], tf.float32),
        tf.TensorSpec([size], tf.int32),
    )
    assert len(taken(made, 7)) == 7 or batches is None


def test_generated_images_are_noise_over_all_of_0_to_255_and_all_different():
    made = opened(batch_size=2, batches=6)
    rows = [image for images, _, _ in taken(made, 6) for image in images]
    assert made.count == len(rows) == 12
    assert len({image.tobytes() for image in rows}) == 12
    levels = np.bincount(np.concatenate(rows).ravel(), minlength=256)
    expected = sum(image.size for image in rows) / 256
    # Each count is binomial, deviation sqrt(expected): six of them leave one failure in a million runs with 256 levels.
    assert np.abs(levels - expected).max() < 6 * expected**0.5


def test_generated_images_depend_on_the_seed_and_not_on_the_batch_size():
    ones = [images[0] for images, _, _ in taken(opened(batches=4), 4)]
    fours = taken(opened(batch_size=4, batches=1), 1)[0][0]
    np.testing.assert_array_equal(ones, fours)
    np.testing.assert_array_equal(taken(opened(batch_size=4, batches=1), 1)[0][0], fours)
    assert (taken(opened(batch_size=4, batches=1, seed=1), 1)[0][0] != fours).mean() > 0.9


def test_generated_images_come_round_again_without_end():
    made = opened(batch_size=2, batches=2)
    ids = [batch[2].tolist() for batch in taken(made, 5)]
    assert ids == [[0, 1], [2, 3], [0, 1], [2, 3], [0, 1]]
    assert all(scale == 1 for batch in taken(made, 2) for scale in batch[1])


def test_noise_takes_a_bounded_amount_of_memory():
    per_image = 512 * 512 * 3
    made = opened(batch_size=3, batches=10**6, size=(512, 512))
    assert GENERATED_POOL_BYTES - 3 * per_image < made.count * per_image <= GENERATED_POOL_BYTES
    assert opened(batch_size=2, batches=5, size=(3000, 3000)).count == 2


def test_a_folder_is_read_in_the_order_of_names(folder):
    made = opened("image-directory", folder, 2, batches=100)
    assert made.count == 5
    assert [made.source.name(i) for i in range(5)] == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    for images, scales, ids in taken(made, 10):
        for image, scale, image_id in zip(images, scales, ids):
            wanted = fit_image(made.source.original(image_id), SIZE)
            np.testing.assert_array_equal(image, wanted.image)
            assert scale == wanted.scale_to_original


def test_rounds_through_a_folder_follow_each_other_without_padding(folder):
    ids = [batch[2].tolist() for batch in taken(opened("image-directory", folder, 2, batches=6), 6)]
    assert ids == [[0, 1], [2, 3], [4, 0], [1, 2], [3, 4], [0, 1]]


def test_a_folder_smaller_than_the_batch_fills_it():
    assert taken(opened("image-directory", PHOTOGRAPHS, 6, batches=1), 1)[0][2].tolist() == [0, 1, 2, 3, 0, 1]


@pytest.mark.parametrize("batch_size, padding", [(1, 0), (2, 1), (3, 1), (4, 3), (5, 0), (8, 3)])
def test_one_pass_through_a_folder_pads_its_last_batch(folder, batch_size, padding):
    batches = taken(opened("image-directory", folder, batch_size))
    ids = np.concatenate([ids for _, _, ids in batches])
    assert ids.tolist() == [0, 1, 2, 3, 4] + padding * [PADDING_ID]
    images, scales, ids = batches[-1]
    assert (images[ids == PADDING_ID] == IMAGENET_COLOUR).all()
    assert (scales[ids == PADDING_ID] == 1).all()
    assert (images[ids != PADDING_ID] != IMAGENET_COLOUR).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("kind", ["repeated-image", "image-directory", "single-image"])
def test_the_models_mean_colour_surrounds_every_image(folder, kind):
    path = folder if kind == "image-directory" else folder / "c.png"
    for images, _, ids in taken(opened(kind, path, 2, mean_rgb=[10.0, 20.4, 30.6])):
        for image, image_id in zip(images, ids):
            if kind != "image-directory" or image_id in (2, PADDING_ID):  # square
                assert (image[:, 64:] == (10, 20, 31)).all()
            if image_id == 4:  # wide
                assert (image[:, 32:] == (10, 20, 31)).all()


def test_a_dataset_can_be_read_twice(folder):
    made = opened("image-directory", folder, 2)
    for first, second in zip(taken(made), taken(made)):
        for one, other in zip(first, second):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("batches", [None, 3])
def test_a_repeated_image_fills_every_row(batches):
    made = opened("repeated-image", PHOTOGRAPHS / "coffee.png", 3, batches)
    read = taken(made, 3)
    assert len(read) == (batches or 1)
    wanted = fit_image(np.asarray(Image.open(str(PHOTOGRAPHS / "coffee.png"))), SIZE)
    for images, scales, ids in read:
        np.testing.assert_array_equal(images, [wanted.image] * 3)
        assert scales.tolist() == [wanted.scale_to_original] * 3
        assert ids.tolist() == [0, 0, 0]
    assert made.count == 1 and made.source.name(0) == "coffee.png"
    assert made.source.original(0).shape == (400, 600, 3)


def test_a_single_image_comes_in_batches_of_one():
    made = opened("single-image", PHOTOGRAPHS / "rocket.jpg", 4)
    assert [ids.tolist() for _, _, ids in taken(made)] == [[0]]


def test_images_of_a_folder_keep_the_names_of_their_subfolders(tmp_path, monkeypatch):
    (tmp_path / "day").mkdir()
    for name in ("day/x.png", "a.png"):
        Image.fromarray(photo(8, 8, 0)).save(str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, Path("."), Path("../") / tmp_path.name):
        source = open_source(DataConfig(dataset_type="image-directory", image_path=path), SIZE, 1)
        assert [source.name(i) for i in range(source.count)] == ["a.png", "day/x.png"]


def test_ids_outside_the_source_are_refused(folder):
    made = opened("image-directory", folder)
    for image_id in (PADDING_ID, 5):
        with pytest.raises(IndexError, match=f"image id {image_id}"):
            made.source.original(image_id)


def test_a_file_that_is_no_image_is_skipped_and_named_when_the_folder_is_opened(folder):
    (folder / "d.png").write_text("no image")
    made = opened("image-directory", folder, 2, batches=4)
    assert list(made.source.skipped) == ["d.png"] and "not an image" in made.source.skipped["d.png"]
    assert [made.source.name(i) for i in range(made.count)] == ["a.png", "b.png", "c.png", "e.png"]
    assert [batch[2].tolist() for batch in taken(made, 3)] == [[0, 1], [2, 3], [0, 1]]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
@pytest.mark.parametrize("batches", [None, 4])
def test_a_damaged_file_is_skipped_and_leaves_no_gap(folder, batches, batch_size):
    path = folder / "c.png"
    path.write_bytes(path.read_bytes()[:200])
    made = opened("image-directory", folder, batch_size, batches)
    assert made.count == 5
    read = taken(made, batches)
    ids = np.concatenate([ids for _, _, ids in read]).tolist()
    if batches is None:
        assert ids == [0, 1, 3, 4] + (-4 % batch_size) * [PADDING_ID]
    else:
        assert ids == ([0, 1, 3, 4] * 4)[: 4 * batch_size]
    for images, _, row_ids in read:
        for image, image_id in zip(images, row_ids):
            assert (image != IMAGENET_COLOUR).any() == (image_id != PADDING_ID)
    assert made.count == 4
    assert list(made.source.skipped) == ["c.png"] and "cannot be decoded" in made.source.skipped["c.png"]


@pytest.mark.parametrize("batches", [None, 4])
def test_a_folder_without_a_readable_image_is_an_error_and_not_an_endless_search(folder, batches):
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:200])
    made = opened("image-directory", folder, 2, batches)
    reason = r"none of 5 images can be read; the last one: .*png cannot be decoded"
    with pytest.raises(UserError, match=reason), made.user_errors():
        taken(made, batches)
    for path in folder.iterdir():
        path.write_text("no image")
    with pytest.raises(UserError, match=r"png is not an image"):
        opened("image-directory", folder, 2, batches)


def test_a_single_damaged_image_is_an_error(folder):
    path = folder / "c.png"
    path.write_bytes(path.read_bytes()[:200])
    for kind in ("single-image", "repeated-image"):
        with pytest.raises(UserError, match=r"c\.png cannot be decoded"):
            opened(kind, path, batches=2)


def test_other_errors_pass_through_untouched(folder):
    with pytest.raises(ZeroDivisionError), opened("image-directory", folder).user_errors():
        raise ZeroDivisionError


def test_a_file_that_disappears_is_skipped(folder):
    made = opened("image-directory", folder)
    (folder / "a.png").unlink()
    assert [int(ids[0]) for _, _, ids in taken(made)] == [1, 2, 3, 4]
    assert "does not exist" in made.source.skipped["a.png"]


@pytest.mark.parametrize(
    "kind, path", [("single-image", "."), ("repeated-image", "no.png"), ("image-directory", "a.png")]
)
def test_a_path_of_the_wrong_kind_is_an_error(folder, kind, path):
    with pytest.raises(UserError, match=r"folder|does not exist"):
        opened(kind, folder / path)


@pytest.mark.parametrize("buffer", [0, 1, 5])
def test_the_prefetch_buffer_does_not_change_what_is_read(folder, buffer):
    made = opened("image-directory", folder, 2, batches=4, dataset_prefetch_buffer=buffer)
    assert [batch[2].tolist() for batch in taken(made, 4)] == [[0, 1], [2, 3], [4, 0], [1, 2]]


def test_python_in_the_pipeline_comes_to_rest_at_exit():
    entered, release, results = threading.Event(), threading.Event(), []

    def slow(value):
        entered.set()
        assert release.wait(60)
        return value

    function = PipelineFunction(slow, at_exit=lambda: "ended")
    caller = threading.Thread(target=lambda: results.append(function("under way")))
    settler = threading.Thread(target=function.settle)
    caller.start()
    assert entered.wait(60)
    settler.start()
    settler.join(0.3)
    assert settler.is_alive(), "did not wait for the call under way"
    assert function("late") == "ended"
    release.set()
    caller.join(60)
    settler.join(60)
    assert not settler.is_alive() and results == ["under way"]


def test_an_error_in_the_pipelines_python_does_not_keep_it_from_resting():
    function = PipelineFunction(lambda: 1 / 0, at_exit=lambda: "ended")
    with pytest.raises(ZeroDivisionError):
        function()
    function.settle()
    assert function() == "ended"


def test_iterators_may_be_dropped_while_the_pipeline_reads_ahead():
    made = opened("image-directory", PHOTOGRAPHS, 2, batches=9)
    for _ in range(5):
        assert next(iter(made.dataset))[2].numpy().tolist() == [0, 1]


def test_a_program_may_end_in_the_middle_of_reading():
    code = f"""if True:
        from pathlib import Path
        from ipu_utils.data.tf_batches import open_dataset
        from ipu_utils.config.model_options import DataConfig
        data = DataConfig(dataset_type="image-directory", image_path=Path({str(PHOTOGRAPHS)!r}), micro_batch_size=3)
        feed = iter(open_dataset(data, (512, 512), 100).dataset)
        next(feed)
    """
    ended = subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), timeout=300, stderr=subprocess.PIPE)
    assert ended.returncode == 0, ended.stderr.decode()
