# SPDX-License-Identifier: Apache-2.0
"""Annotations as people write them: each way gives pycocotools' own numbers for the same data written cleanly."""

import copy
import json
import unicodedata

import coco_set
import numpy as np
import pytest
from test_coco import SIZE, run

from ipu_utils.base.errors import UserError
from ipu_utils.base.image_folder import list_images
from ipu_utils.data.sources import ImageFiles
from ipu_utils.outputs.coco import Annotations, CocoWriter, ResultsFile, coco_entries, compared
from ipu_utils.outputs.coco_classes import Classes

NAMES = Classes(90, {1: "person", 3: "car", 17: "cat", 90: "toothbrush"})


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return coco_set.make_set(tmp_path_factory.mktemp("annotations"), count=12)


@pytest.fixture(scope="module")
def expected(coco, tmp_path_factory):
    """The twelve numbers of pycocotools alone: its own reader of the clean file and of results written here."""
    pytest.importorskip("pycocotools")
    path, source = tmp_path_factory.mktemp("expected") / "results.json", source_of(coco)
    file = ResultsFile(path)
    ids = {image["file_name"]: image["id"] for image in coco.dataset["images"]}
    for number in range(source.count):
        name = source.name(number)
        boxes, scores, classes, lengths = (part[0] for part in coco_set.flawed(coco, name))
        rows = slice(0, lengths)
        sizes = source.size(number)
        file.append(coco_entries(ids[name], boxes[rows], scores[rows], classes[rows].tolist(), sizes))
    file.commit()
    file.close()
    values = coco_set.by_hand(coco, path)
    assert 0.05 < values[0] < 0.95, "a detector without flaws, or without a hit, would prove nothing"
    return values


def source_of(coco):
    return ImageFiles(list_images(coco.images), coco.images, SIZE)


def written(tmp_path, dataset, encoding="utf-8"):
    path = tmp_path / "annotations.json"
    path.write_text(dataset if isinstance(dataset, str) else json.dumps(dataset), encoding=encoding)
    return Annotations(path)


def measured(coco, annotations, classes=None):
    """The twelve numbers of the same detections, and the report."""
    source = source_of(coco)
    writer = CocoWriter(source, None, annotations, classes or Classes())
    run(source, writer, lambda name: coco_set.flawed(coco, name))
    return writer.accuracy().values, writer.report()


def each(part, **changes):
    """Change entries of a part: values, functions of (number, entry), or Ellipsis for a key to be taken away."""

    def change(dataset):
        for number, entry in enumerate(dataset[part]):
            for key, value in changes.items():
                value = value(number, entry) if callable(value) else value
                if value is ...:
                    del entry[key]
                else:
                    entry[key] = value

    return change


def both(*changes):
    def change(dataset):
        for one in changes:
            one(dataset)

    return change


def as_text(key, form=str):
    return lambda number, entry: form(entry[key])


def crowd(one, zero):
    return each("annotations", iscrowd=lambda number, entry: one if entry["iscrowd"] else zero)


def renamed(form):
    return each("images", file_name=lambda number, entry: form(entry["file_name"]))


def split_images(dataset):
    """Every image is listed twice, under two ids, and each has half of the objects."""
    dataset["images"] += [{**image, "id": image["id"] + 5000} for image in dataset["images"]]
    for one in dataset["annotations"][::2]:
        one["image_id"] += 5000


def doubled(dataset):
    """A file that was put together from itself."""
    for part, key in (("images", "id"), ("annotations", "image_id")):
        dataset[part] += [{**entry, key: entry[key] + 5000} for entry in dataset[part]]


def unlisted(dataset):
    """Objects of images that are not listed, and an image that is not in the folder."""
    dataset["annotations"] += [{**one, "image_id": 77777, "id": 0} for one in dataset["annotations"][:9]]
    dataset["images"].append({"id": 5, "file_name": "elsewhere.jpg"})
    dataset["annotations"].append({**dataset["annotations"][0], "image_id": 5})


def unused_zero(dataset):
    dataset["categories"].insert(0, {"id": 0, "name": "things"})


RIGHT = {
    "ids from 0": each("annotations", id=lambda number, entry: number),
    "ids all 0": each("annotations", id=0),
    "ids all 1": each("annotations", id=1),
    "ids below zero": each("annotations", id=lambda number, entry: -number),
    "ids null": each("annotations", id=None),
    "ids missing": each("annotations", id=...),
    "ids of letters": each("annotations", id=lambda number, entry: f"n{number}"),
    "ids that are lists": each("annotations", id=lambda number, entry: [number]),
    "image ids are text in images": each("images", id=as_text("id")),
    "image ids are text in annotations": each("annotations", image_id=as_text("image_id")),
    "image ids are text in both": both(
        each("images", id=as_text("id")), each("annotations", image_id=as_text("image_id"))
    ),
    "image ids have zeros in front": each("annotations", image_id=as_text("image_id", "{:012d}".format)),
    "image ids are floating-point": each("annotations", image_id=as_text("image_id", float)),
    "image ids are letters": both(
        each("images", id=as_text("id", "{:05d}x".format)),
        each("annotations", image_id=as_text("image_id", "{:05d}x".format)),
    ),
    "image ids of twenty digits": both(
        each("images", id=as_text("id", lambda number: number + 10**20)),
        each("annotations", image_id=as_text("image_id", lambda number: number + 10**20)),
    ),
    "image ids below zero": both(
        each("images", id=as_text("id", lambda number: number - 2000)),
        each("annotations", image_id=as_text("image_id", lambda number: number - 2000)),
    ),
    "iscrowd is text": crowd("1", "0"),
    "iscrowd is true and false": crowd(True, False),
    "iscrowd is floating-point": crowd(1.0, 0.0),
    "iscrowd is null for no": crowd(1, None),
    "iscrowd is missing for no": crowd(1, ...),
    "category ids are text in categories": each("categories", id=as_text("id")),
    "category ids are text in annotations": each("annotations", category_id=as_text("category_id")),
    "category ids are floating-point": each("annotations", category_id=as_text("category_id", float)),
    "a category is listed twice": lambda dataset: dataset["categories"].append(dict(dataset["categories"][0])),
    "categories without names": each("categories", name=...),
    "area is null": each("annotations", area=None),
    "area is missing": each("annotations", area=...),
    "images are listed twice": split_images,
    "a file is doubled": doubled,
    "images are shuffled": lambda dataset: dataset["images"].reverse(),
    "objects of unlisted images": unlisted,
    "an unused category 0": unused_zero,
    "ignore, which COCO does not know": each("annotations", ignore=1, score=float("nan"), segmentation=[[[]]]),
    "names in a folder": renamed("train/{}".format),
    "names in a folder of Windows": renamed("C:\\data\\{}".format),
    "names behind ./": renamed("./{}".format),
    "names with the folder's name": renamed("images/{}".format),
    "names in capitals": renamed(str.upper),
    "names of a web address": renamed("https://x.org/a%20b/{}".format),
}


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_annotations_that_mean_the_same_give_the_numbers_of_the_clean_file(coco, expected, tmp_path, name):
    dataset = copy.deepcopy(coco.dataset)
    RIGHT[name](dataset)
    assert json.dumps(dataset) != json.dumps(coco.dataset)
    values, _ = measured(coco, written(tmp_path, dataset))
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_byte_order_mark_or_another_unicode_encoding_changes_nothing(coco, expected, tmp_path, encoding):
    np.testing.assert_array_equal(measured(coco, written(tmp_path, coco.dataset, encoding))[0], expected)


@pytest.mark.parametrize(
    "name, words",
    [
        ("images are listed twice", "12 images of the annotations are listed twice"),
        ("area is missing", "objects of the annotations have no area"),
        ("objects of unlisted images", "9 objects of the annotations are of images that they do not list"),
        ("objects of unlisted images", "not used:  1 images of"),
        ("names in a folder", "12 images matched by the last part of the name, such as 000000000000.jpg: train/0"),
        ("an unused category 0", "categories[0] (0, things) has no objects and is no class"),
    ],
)
def test_what_was_made_right_is_told_in_the_report(coco, tmp_path, name, words):
    pytest.importorskip("pycocotools")
    dataset = copy.deepcopy(coco.dataset)
    RIGHT[name](dataset)
    assert words in measured(coco, written(tmp_path, dataset))[1]


def test_clean_annotations_are_not_commented(coco, tmp_path):
    pytest.importorskip("pycocotools")
    report = measured(coco, written(tmp_path, coco.dataset), NAMES)[1]
    assert "note:" not in report and "not used:" not in report


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_match_in_either_form(coco, expected, tmp_path, form):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    dataset = copy.deepcopy(coco.dataset)
    folder = tmp_path / "images"
    folder.mkdir()
    for image in dataset["images"]:
        name = f"caf\u00e9-\u1e69-{image['file_name']}"
        (folder / unicodedata.normalize(form, name)).write_bytes((coco.images / image["file_name"]).read_bytes())
        image["file_name"] = unicodedata.normalize(other, name)
    source = ImageFiles(list_images(folder), folder, SIZE)
    writer = CocoWriter(source, None, written(tmp_path, dataset))
    run(source, writer, lambda name: coco_set.flawed(coco, name[-len("000000000000.jpg") :]))
    np.testing.assert_array_equal(writer.accuracy().values, expected)
    assert "note:" not in writer.report()


def numbered(form):
    """Number the categories otherwise; the names stay."""
    return both(
        each("categories", id=as_text("id", form.get)),
        each("annotations", category_id=as_text("category_id", form.get)),
    )


@pytest.mark.parametrize(
    "form",
    [
        {1: 0, 3: 1, 17: 2, 90: 3},
        {1: 1, 3: 2, 17: 3, 90: 4},
        {1: 3, 3: 1, 17: 90, 90: 17},
        {1: 10**20, 3: 10**20 + 1, 17: 2**63 + 1, 90: -5},
    ],
    ids=["from 0", "without gaps", "exchanged", "huge"],
)
def test_categories_of_other_numbers_are_matched_by_their_names(coco, expected, tmp_path, form):
    dataset = copy.deepcopy(coco.dataset)
    numbered(form)(dataset)
    each("categories", name=as_text("name", str.upper))(dataset)
    values, report = measured(coco, written(tmp_path, dataset), NAMES)
    # The mean over categories is taken in the order of their numbers.
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    assert "note:      categories matched by name, not by number" in report


def test_results_have_the_numbers_of_the_annotations(coco, expected, tmp_path):
    dataset = copy.deepcopy(coco.dataset)
    numbered({1: 4, 3: 1, 17: 2, 90: 3})(dataset)
    annotations, path, source = written(tmp_path, dataset), tmp_path / "results.json", source_of(coco)
    run(source, CocoWriter(source, path, annotations, NAMES), lambda name: coco_set.flawed(coco, name))
    by_hand = coco_set.by_hand(coco._replace(annotations=annotations.path), path)
    np.testing.assert_allclose(by_hand, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "form, classes, words",
    [
        ({1: 0, 3: 1, 17: 2, 90: 3}, Classes(), r"categories\[0\] \(0, person\) is no class of the model"),
        ({1: 0, 3: 1, 17: 2, 90: 3}, Classes(5, {1: "x"}), r"categories\[0\] \(0, person\) is no class"),
        ({1: -1, 3: 3, 17: 17, 90: 90}, Classes(), r"categories\[0\] \(-1, person\) is no class"),
        ({1: 101, 3: 103, 17: 117, 90: 190}, Classes(90), r"\(101, person\) is none of the 90 classes"),
        (
            {1: 2, 3: 1, 17: 3, 90: 4},
            Classes(90, {1: "person", 3: "car"}),
            r"\(\d, .*\) has objects, but no class of its",
        ),
    ],
)
def test_categories_that_may_be_several_classes_are_refused(coco, tmp_path, form, classes, words):
    dataset = copy.deepcopy(coco.dataset)
    numbered(form)(dataset)
    annotations = written(tmp_path, dataset)
    with pytest.raises(UserError, match=words):
        CocoWriter(source_of(coco), None, annotations, classes)


def test_names_that_two_categories_have_tell_nothing(coco, expected, tmp_path):
    """As some tools export them: category 0 is all things together and called like one of them."""
    dataset = copy.deepcopy(coco.dataset)
    each("categories", name="person")(dataset)
    dataset["categories"].insert(0, {"id": 0, "name": "person"})
    values, report = measured(coco, written(tmp_path, dataset), NAMES)
    np.testing.assert_array_equal(values, expected)
    assert "names of classes and categories differ, numbers were compared" in report
    assert "categories[0] (0, person) has no objects" in report


def test_categories_beyond_the_model_count_as_missed_and_are_told(coco, tmp_path):
    pytest.importorskip("pycocotools")
    values, report = measured(coco, written(tmp_path, coco.dataset), Classes(17))
    assert (
        "of categories that are no class of the model count as missed, such as categories[3] (90, toothbrush)" in report
    )
    assert values[0] > 0
    odd = copy.deepcopy(coco.dataset)
    each("categories", name="thing")(odd)
    _, report = measured(coco, written(tmp_path, odd), NAMES)
    assert "names of classes and categories differ, numbers were compared: class" in report


def first(part, **changes):
    return lambda dataset: each(part, **changes)({part: dataset[part][1:2]})


NAN, INFINITY = float("nan"), float("inf")
WRONG = [
    (first("annotations", bbox=[1, 2, NAN, 4]), r"annotations\[1\]\.bbox is \[1, 2, NaN, 4\]"),
    (first("annotations", bbox=[1, 2, INFINITY, 4]), r"annotations\[1\]\.bbox"),
    (first("annotations", bbox=[1, 2, 10**400, 4]), r"annotations\[1\]\.bbox"),
    (first("annotations", bbox=[1, 2, 1e200, 1e200]), r"annotations\[1\]\.bbox"),
    (first("annotations", bbox=[1, 2, 3]), r"annotations\[1\]\.bbox is \[1, 2, 3\]: expected four numbers"),
    (first("annotations", bbox=[1, 2, 3, 4, 5]), r"annotations\[1\]\.bbox is a list of 5"),
    (first("annotations", bbox=["1", "2", "3", "4"]), r"annotations\[1\]\.bbox"),
    (first("annotations", bbox=[True, 2, 3, 4]), r"annotations\[1\]\.bbox"),
    (first("annotations", bbox=[1, 2, -3, 4]), r"annotations\[1\]\.bbox .*not below zero"),
    (first("annotations", bbox=[[1, 2], [3, 4]]), r"annotations\[1\]\.bbox is a list of 2"),
    (first("annotations", bbox=[]), r"annotations\[1\]\.bbox is \[\]"),
    (first("annotations", bbox=None), r"annotations\[1\]\.bbox is null"),
    (first("annotations", bbox={"x": 1}), r"annotations\[1\]\.bbox is an object"),
    (first("annotations", bbox="1 2 3 4"), r"annotations\[1\]\.bbox is \"1 2 3 4\""),
    (first("annotations", bbox=...), r"annotations\[1\]\.bbox is missing"),
    (first("annotations", area=NAN), r"annotations\[1\]\.area is NaN"),
    (first("annotations", area=-1), r"annotations\[1\]\.area is -1"),
    (first("annotations", area="9"), r"annotations\[1\]\.area is \"9\""),
    (first("annotations", area=[9]), r"annotations\[1\]\.area is \[9\]"),
    (first("annotations", area=1e11), r"annotations\[1\]\.area"),
    (first("annotations", iscrowd="no"), r"annotations\[1\]\.iscrowd is \"no\": expected 0 or 1"),
    (first("annotations", iscrowd=2), r"annotations\[1\]\.iscrowd is 2"),
    (first("annotations", iscrowd=0.5), r"annotations\[1\]\.iscrowd"),
    (first("annotations", iscrowd=[0]), r"annotations\[1\]\.iscrowd is \[0\]"),
    (first("annotations", iscrowd=NAN), r"annotations\[1\]\.iscrowd is NaN"),
    (first("annotations", category_id=7), r"annotations\[1\]\.category_id is 7, which is the id of no category"),
    (first("annotations", category_id="cat"), r"annotations\[1\]\.category_id is \"cat\""),
    (first("annotations", category_id=None), r"annotations\[1\]\.category_id is null"),
    (first("annotations", category_id=1.5), r"annotations\[1\]\.category_id is 1\.5"),
    (first("annotations", category_id=True), r"annotations\[1\]\.category_id is true"),
    (first("annotations", category_id=...), r"annotations\[1\]\.category_id is missing"),
    (first("annotations", image_id=[1]), r"annotations\[1\]\.image_id is \[1\]"),
    (first("annotations", image_id=None), r"annotations\[1\]\.image_id is null"),
    (first("annotations", image_id=...), r"annotations\[1\]\.image_id is missing"),
    (each("annotations", image_id="x"), r"annotations\[\d+\]\.image_id is \"x\", the id of no image, and so"),
    (first("images", id=None), r"images\[1\]\.id is null"),
    (first("images", id=NAN), r"images\[1\]\.id is NaN"),
    (first("images", id={}), r"images\[1\]\.id is an object"),
    (first("images", id=1000), r"images\[1\]\.id is 1000, which is the id of images\[0\], too"),
    (first("images", id="1000"), r"images\[1\]\.id is \"1000\", which is the id of images\[0\], too"),
    (first("images", file_name=["a.jpg"]), r"images\[1\]\.file_name is \[\"a.jpg\"\]: expected the name"),
    (first("images", file_name=5), r"images\[1\]\.file_name is 5"),
    (first("images", file_name=None), r"images\[1\]\.file_name is null"),
    (first("images", file_name="./"), r"images\[1\]\.file_name is \"./\""),
    (first("images", file_name=...), r"images\[1\]\.file_name is missing"),
    (first("categories", id="car"), r"categories\[1\]\.id is \"car\": expected a whole number"),
    (first("categories", id=1), r"categories\[1\]\.id is 1, which is the id of categories\[0\], too"),
    (first("categories", id=...), r"categories\[1\]\.id is missing"),
    (lambda dataset: dataset["annotations"].insert(2, [1]), r"annotations\[2\] is \[1\]: expected an object"),
    (lambda dataset: dataset["images"].insert(0, None), r"images\[0\] is null"),
    (lambda dataset: dataset["categories"].clear(), "categories is an empty list"),
    (lambda dataset: dataset["annotations"].clear(), "annotations is an empty list"),
    (lambda dataset: dataset["images"].clear(), "images is an empty list"),
    (lambda dataset: dataset.pop("annotations"), "expected a list `annotations`.*it is missing"),
    (lambda dataset: dataset.pop("categories"), "expected a list `categories`"),
    (lambda dataset: dataset.update(images={"1": "a.jpg"}), "expected a list `images`.*got an object"),
    (lambda dataset: dataset.update(annotations="x"), 'expected a list `annotations`.*got "x"'),
]


@pytest.mark.parametrize("change, words", WRONG, ids=range(len(WRONG)))
def test_what_has_no_meaning_is_refused_with_its_place(coco, tmp_path, change, words):
    dataset = copy.deepcopy(coco.dataset)
    change(dataset)
    with pytest.raises(UserError, match=words):
        written(tmp_path, dataset)


TWICE = '{"images": [{"id": 1, "file_name": "a.jpg", "id": 2}], "categories": [{"id": 1}], "annotations": []}'


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"\x1f\x8b\x08\x00", "compressed with gzip"),
        (b'{"images": "\xff"}', "byte 12 is not UTF-8"),
        (b"[" * 100000, "nested too deeply"),
        (b'{"images": ' + b'{"a":' * 100000, "nested too deeply"),
        (b"{} {}", "Extra data"),
        (b'"text"', 'got "text"'),
        (b"null", "got null"),
        (b"NaN", "got NaN"),
        (TWICE.encode(), r'images\[0\] has "id" twice'),
        (b'{"images": [], "images": []}', 'the file has "images" twice'),
        (b'{"a\\u001b[31m\\ud800": 1, "a\\u001b[31m\\ud800": 1}', r'the file has "a\\u001b\[31m\\ud800" twice'),
    ],
    ids=range(13),
)
def test_a_file_that_is_no_annotations_is_refused(tmp_path, content, words):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        Annotations(path)


def test_pipes_and_folders_are_refused_at_once(tmp_path):
    import os

    with pytest.raises(UserError, match="cannot be read"):
        Annotations(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        Annotations(tmp_path / "missing.json")
    os.mkfifo(str(tmp_path / "pipe"))
    with pytest.raises(UserError, match="is a pipe or a device"):
        Annotations(tmp_path / "pipe")


def listed(*names):
    """Annotations of images of these names, an object each."""
    images = [{"id": number, "file_name": name} for number, name in enumerate(names, 1)]
    objects = [{"image_id": image["id"], "category_id": 1, "bbox": [1, 1, 9, 9]} for image in images]
    return {"images": images, "annotations": objects, "categories": [{"id": 1}]}


def files(folder, *names):
    source = ImageFiles([], folder, SIZE)
    source.paths, source.count = [folder / name for name in names], len(names)
    return source


@pytest.mark.parametrize(
    "names, entries, ids",
    [
        (["a/1.jpg", "b/1.jpg"], ["b/1.jpg", "a/1.jpg"], {0: 2, 1: 1}),
        (["1.jpg"], ["1.jpg", "train/1.jpg"], {0: 1}),
        (["1.jpg"], ["val/1.jpg", "train/1.jpg"], {0: 2}),  # the folder is called train
        (["sub/1.jpg"], ["1.jpg"], {0: 1}),
        (["a b.jpg", "c.JPG"], ["a%20b.jpg", "C.jpg"], {0: 1, 1: 2}),
        (["1.jpg", "2.jpg"], ["elsewhere/1.jpg", "2.jpg"], {0: 1, 1: 2}),
        (["1.jpg", "2.jpg"], ["x/1.jpg", "y/1.jpg", "2.jpg"], {1: 3}),  # nobody can tell
        (["x/1.jpg", "y/1.jpg", "2.jpg"], ["z/1.jpg", "2.jpg"], {2: 2}),
        (["1.jpg", "1.JPG"], ["1.JPG", "1.jpg"], {0: 2, 1: 1}),
    ],
)
def test_names_are_matched_by_the_longest_end_and_only_where_it_is_clear(tmp_path, names, entries, ids):
    folder = tmp_path / "train"
    folder.mkdir()
    assert compared(files(folder, *names), written(tmp_path, listed(*entries)), Classes())[0] == ids


def test_two_images_that_would_be_one_of_the_annotations_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"a/1\.jpg and b/1\.jpg would both be image 1 of the annotations"):
        CocoWriter(files(tmp_path, "a/1.jpg", "b/1.jpg"), None, written(tmp_path, listed("1.jpg")))


def test_images_of_another_size_than_annotated_are_told(coco, tmp_path):
    pytest.importorskip("pycocotools")
    dataset = copy.deepcopy(coco.dataset)
    dataset["images"][3]["width"] *= 2
    report = measured(coco, written(tmp_path, dataset))[1]
    assert "1 image of another size than the annotations say, such as 000000000003.jpg" in report


def test_boxes_given_as_two_corners_are_told(coco, tmp_path):
    pytest.importorskip("pycocotools")
    dataset = copy.deepcopy(coco.dataset)
    for one in dataset["annotations"]:
        x, y, width, height = one["bbox"]
        one["bbox"] = [x, y, x + width, y + height]
    assert "reach beyond their image, where [x, y, width, height]" in measured(coco, written(tmp_path, dataset))[1]


def test_more_than_100_detections_an_image_count_as_pycocotools_counts_them(coco, tmp_path):
    rng = np.random.RandomState(3)

    def many(name):
        found = []
        for category, box in coco.boxes_of(name) * 60:
            found.append((category, round(rng.rand(), 2), tuple(np.array(box) + rng.normal(0, 8, 4))))
        return coco_set.as_batch(found)

    path, source = tmp_path / "results.json", source_of(coco)
    writer = run(source, CocoWriter(source, path, Annotations(coco.annotations)), many)
    expected = coco_set.by_hand(coco, path)
    assert expected[6] < expected[7] < expected[8]
    np.testing.assert_array_equal(writer.accuracy().values, expected)
