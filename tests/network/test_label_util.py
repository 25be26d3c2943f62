# SPDX-License-Identifier: Apache-2.0
"""Names of classes."""

import pytest

from hparams_config import Config
from ipu_utils.base.errors import UserError
from tf2 import label_util


def test_coco_names_80_of_90_classes():
    names = label_util.get_label_map("coco")
    assert len(names) == len(set(names.values())) == 80
    unused = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert set(names) == set(range(1, 91)) - unused
    assert (names[1], names[13], names[18], names[44], names[90]) == (
        "person",
        "stop sign",
        "dog",
        "bottle",
        "toothbrush",
    )


def test_other_data_sets_are_known_by_name():
    assert len(label_util.get_label_map("voc")) == 20 and label_util.get_label_map("voc")[20] == "tvmonitor"
    assert label_util.get_label_map("waymo") == {1: "vehicle", 2: "pedestrian", 3: "cyclist"}


def test_a_map_may_be_missing_a_dictionary_or_a_configuration():
    assert label_util.get_label_map(None) is None
    assert label_util.get_label_map({3: "cup"}) == {3: "cup"}
    assert label_util.get_label_map(Config({"3": "cup"})) == {3: "cup"}
    assert label_util.get_label_map({}) == {}


def test_the_named_maps_are_copies():
    label_util.get_label_map("coco")[1] = "changed"
    assert label_util.get_label_map("coco")[1] == "person"


@pytest.mark.parametrize("suffix", [".yaml", ".yml"])
def test_a_map_may_be_a_yaml_file(tmp_path, suffix):
    path = tmp_path / f"names{suffix}"
    path.write_text("1: Katze\n2: Vögel\n", encoding="utf-8")
    assert label_util.get_label_map(str(path)) == {1: "Katze", 2: "Vögel"}


@pytest.mark.parametrize("text", ["- cat\n- dog\n", "cat: 1\n", "{", "cat"])
def test_a_file_that_holds_no_names_by_id_is_refused(tmp_path, text):
    path = tmp_path / "names.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="label map"):
        label_util.get_label_map(str(path))


@pytest.mark.parametrize(
    "text",
    [".inf: a", ".nan: a", "~: a", "1.5: a", "true: a", "2001-01-01: a", "'x': a", "\u00b2: a", "1: ~", "1:", "1: [a]",
     "1: {a: b}", "1: yes", "'1': a\n1: b", "9" * 5000 + ": a", "1: a\n? [1]\n: b"],
    ids=range(16),
)  # fmt: skip
def test_keys_that_are_no_numbers_and_names_that_are_no_texts_are_refused_shortly(tmp_path, text):
    path = tmp_path / "names.yaml"
    path.write_text(text + "\n5: " + "x" * 30000, encoding="utf-8")
    with pytest.raises(UserError, match="label map") as refused:
        label_util.get_label_map(str(path))
    assert len(str(refused.value)) < 500


def test_numbers_as_names_and_numbers_in_quotation_marks_as_keys_are_taken(tmp_path):
    path = tmp_path / "names.yaml"
    path.write_text("'1': 7\n-1: 1.5\n2147483648: x")
    assert label_util.get_label_map(str(path)) == {1: "7", -1: "1.5", 2**31: "x"}


def test_an_unknown_name_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(UserError, match="expected coco, voc, waymo"):
        label_util.get_label_map("imagenet")
    with pytest.raises(UserError, match="cannot be read"):
        label_util.get_label_map(str(tmp_path / "absent.yaml"))


def test_a_class_without_a_name_is_called_by_its_id():
    names = label_util.get_label_map("coco")
    assert label_util.class_name(names, 12) == "class 12"
    assert label_util.class_name(names, 1) == "person"
    assert label_util.class_name(None, 7) == "class 7"
