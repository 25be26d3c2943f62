# SPDX-License-Identifier: Apache-2.0
"""Model configurations and the ways to change them."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

import hparams_config
import utils
from ipu_utils.base.errors import ConfigError, UserError
from ipu_utils.config.model_options import ModelConfig
from ipu_utils.config.run_hparams import hparams_of

RESOLVED = sorted((Path(__file__).resolve().parents[1] / "data" / "variables").glob("*.json"))


def d0():
    return hparams_config.get_efficientdet_config("efficientdet-d0")


def test_every_published_model_has_its_resolved_configuration():
    assert sorted(path.stem for path in RESOLVED) == sorted(hparams_config.MODEL_NAMES)
    for path in RESOLVED:
        expected = json.loads(path.read_text())
        config = hparams_config.get_efficientdet_config(path.stem)
        assert config.name == path.stem
        assert config.backbone_name == expected["backbone"]
        assert list(utils.parse_image_size(config.image_size)) == expected["image_size"]
        for key in set(expected) & set(config.keys()) - {"image_size"}:
            assert config[key] == expected[key], (path.stem, key)


@pytest.mark.parametrize(
    "text, path, value",
    [
        ("num_classes=20", "num_classes", 20),
        (" num_classes = 20 ,", "num_classes", 20),
        ("nms_configs.score_thresh=0.05", "nms_configs.score_thresh", 0.05),
        ("nms_configs.method=hard,nms_configs.iou_thresh=0.3", "nms_configs.iou_thresh", 0.3),
        ("nms_configs.iou_thresh=None", "nms_configs.iou_thresh", None),
        ("separable_conv=false", "separable_conv", False),
        ("separable_conv=True", "separable_conv", True),
        ("fpn_weight_method=sum", "fpn_weight_method", "sum"),
        ("aspect_ratios=1.0*3.0", "aspect_ratios", [1.0, 3.0]),
        ("aspect_ratios=[1.0, 3.0],num_classes=3", "aspect_ratios", [1.0, 3.0]),
        ("aspect_ratios=[(1.4, 0.7)]", "aspect_ratios", [(1.4, 0.7)]),
        ("image_size=640x384", "image_size", "640x384"),
        ("learning_rate=1e-3", "learning_rate", 0.001),
        ("var_freeze_expr='(stem|blocks_.*)'", "var_freeze_expr", "(stem|blocks_.*)"),
        ("label_map.3=dog", "label_map", {3: "dog"}),
    ],
)
def test_text_overrides_are_parsed_by_type(text, path, value):
    config = d0()
    config.override(text)
    for key in path.split("."):
        config = config[key]
    assert (config.as_dict() if isinstance(config, hparams_config.Config) else config) == value
    assert type(config) is type(value) or isinstance(config, hparams_config.Config)


def test_an_override_changes_nothing_else():
    config, before = d0(), d0().as_dict()
    config.override("nms_configs.method=hard,num_classes=3")
    before["num_classes"], before["nms_configs"]["method"] = 3, "hard"
    assert config.as_dict() == before
    config.override("")
    assert config.as_dict() == before


def test_a_file_and_a_dictionary_override_like_a_text(tmp_path):
    path = tmp_path / "hparams.yaml"
    path.write_text("nms_configs:\n  iou_thresh: 0.3\nlearning_rate: 8e-3\nlabel_map: {1: cat, 2: dog}\n")
    from_file, from_dict = d0(), d0()
    from_file.override(str(path))
    from_dict.override({"nms_configs": {"iou_thresh": 0.3}, "learning_rate": 0.008, "label_map": {1: "cat", 2: "dog"}})
    assert from_file.as_dict() == from_dict.as_dict()
    assert from_file.label_map[2] == "dog"
    from_file.override({"label_map": {3: "cow"}})
    assert from_file.label_map.as_dict() == {1: "cat", 2: "dog", 3: "cow"}


def test_a_saved_configuration_loads_again(tmp_path):
    config = d0()
    config.override({"label_map": {1: "cat"}, "image_size": (384, 640), "num_classes": 1})
    config.save_to_yaml(str(tmp_path / "saved.yaml"))
    again = hparams_config.get_efficientdet_config("efficientdet-lite4")
    again.override(str(tmp_path / "saved.yaml"))
    assert utils.parse_image_size(again.image_size) == (384, 640)
    expected, actual = config.as_dict(), again.as_dict()
    expected["image_size"] = actual["image_size"]
    assert actual == expected


def test_training_keys_of_new_and_old_automl_files_load():
    config = d0()
    config.override("learning_rate=0.1,moving_average_decay=0,grad_checkpoint=true,map_freq=5,optimizer=adam")
    config.override({"use_bfloat16": False, "resnet_depth": 50, "save_freq": 1000, "jitter_min": 0.8})
    assert config.save_freq == 1000


@pytest.mark.parametrize(
    "text, message",
    [
        ("num_clases=20", "num_clases. Did you mean num_classes?"),
        ("nms_configs.iou_tresh=0.5", "Did you mean nms_configs.iou_thresh?"),
        ("nms_configs.zzz=0.5", "nms_configs has method, iou_thresh"),
    ],
)
def test_an_unknown_key_is_named_with_a_suggestion(text, message):
    with pytest.raises(KeyError) as error:
        d0().override(text)
    assert isinstance(error.value, UserError)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "source, message",
    [
        ("num_classes", "key=value|num_classes=20"),
        ("num_classes=20,foo", "'foo' is not of the form key=value"),
        ("num_classes=many", "num_classes must be a number, got 'many'"),
        ("separable_conv=maybe", "separable_conv must be true or false, got 'maybe'"),
        ("nms_configs=hard", "nms_configs is a group"),
        ("num_classes=1,num_classes.x=2", "both a value and members"),
        ("missing.yaml", "missing.yaml cannot be read"),
        (7, "must be a text"),
    ],
)
def test_a_wrong_override_says_what_is_wrong(source, message):
    with pytest.raises(ConfigError, match=message):
        d0().override(source)


def test_a_wrong_override_leaves_the_configuration_as_it_was():
    config = d0()
    with pytest.raises(ConfigError):
        config.override("num_classes=3,nms_configs.method=hard,no_such_key=1")
    assert config == d0()


def test_new_keys_are_taken_when_asked_for():
    config = d0()
    config.override("my_key=3", allow_new_keys=True)
    assert config.my_key == 3 and config["my_key"] == 3 and config.get("my_key") == 3
    assert config.get("no_such_key", 5) == 5


def test_copies_share_nothing():
    config = d0()
    other = copy.deepcopy(config)
    plain = config.as_dict()
    other.nms_configs.method = "hard"
    plain["aspect_ratios"].append(7.0)
    assert config == d0()


def test_a_missing_attribute_is_an_attribute_error():
    assert not hasattr(d0(), "no_such_key")
    with pytest.raises(AttributeError, match="Did you mean num_classes"):
        d0().num_clases  # noqa: B018


def test_a_function_may_be_the_activation():
    config = d0()
    config.act_type = abs
    assert config.act_type is abs
    assert copy.deepcopy(config).act_type is abs
    assert json.loads(config.to_json())["act_type"] == "abs"


def test_a_threshold_above_every_score_is_refused_with_its_option():
    with pytest.raises(ConfigError, match=r"--hparams nms_configs.score_thresh must be at most 1.*got 2"):
        hparams_of(ModelConfig(hparams="nms_configs.score_thresh=2"))
    assert hparams_of(ModelConfig(hparams="nms_configs.score_thresh=1")).nms_configs.score_thresh == 1


@pytest.mark.parametrize("text, said", [
    ("foo=1", "--hparams: the configuration has no key foo. hparams_config.py lists them."),
    ("num_classes=x", "--hparams: num_classes must be a number, got 'x'."),
    ("none.yml", "--hparams: none.yml cannot be read: No such file or directory."),
])  # fmt: skip
def test_a_message_names_the_option(text, said):
    with pytest.raises(ConfigError) as caught:
        hparams_of(ModelConfig(hparams=text))
    assert str(caught.value) == said


def test_an_unknown_model_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean efficientdet-lite3"):
        hparams_config.get_efficientdet_config("efficientdet-light3")


def test_inference_settings_yield_to_hparams_and_those_to_the_image_size():
    config = hparams_config.get_inference_config("efficientdet-d0")
    assert config.image_size == (512, 512) and config.is_training_bn is False
    assert config.nms_configs.as_dict() == {
        **d0().nms_configs.as_dict(),
        "method": "hard",
        "score_thresh": 0.4,
        "max_output_size": 100,
    }
    hparams = "nms_configs.score_thresh=0.001,image_size=320"
    config = hparams_config.get_inference_config("efficientdet-d0", hparams)
    assert config.nms_configs.score_thresh == 0.001 and config.image_size == (320, 320)
    assert hparams_config.get_inference_config("efficientdet-d0", hparams, "640x384").image_size == (384, 640)


@pytest.mark.parametrize(
    "size, expected",
    [
        (512, (512, 512)),
        ("512", (512, 512)),
        ("640x384", (384, 640)),
        ("640X384", (384, 640)),
        ((384, 640), (384, 640)),
    ],
)
def test_image_sizes(size, expected):
    assert utils.parse_image_size(size) == expected


@pytest.mark.parametrize("size", ["", "x", "640x", "big", "1x2x3", 0, -3, "0x5", 51.2, (1, 2, 3), (1.5, 2), None, True])
def test_wrong_image_sizes_are_refused(size):
    with pytest.raises(ConfigError, match="image_size"):
        utils.parse_image_size(size)


def test_feature_sizes_are_ceilings_of_halves():
    sizes = utils.get_feat_sizes("300x17", 5)
    assert [(size["height"], size["width"]) for size in sizes] == [
        (17, 300),
        (9, 150),
        (5, 75),
        (3, 38),
        (2, 19),
        (1, 10),
    ]


def test_configurations_need_no_tensorflow():
    code = "import hparams_config, utils, sys; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])
