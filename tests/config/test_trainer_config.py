# SPDX-License-Identifier: Apache-2.0
"""hparams that AutoML's trainer left behind: what of its config.yaml counts, and what is named."""

import copy

import checkpoints
import numpy as np
import pytest
import yaml
from config_loading import load

import hparams_config
import ipu_embedded_inference
import ipu_inference
from ipu_utils.base.console import run_script
from ipu_utils.base.errors import ConfigError
from ipu_utils.config.model_options import ModelConfig
from ipu_utils.config.run_config import Precision
from ipu_utils.config.run_hparams import follow_hparams, hparams_of
from ipu_utils.executable import cache
from ipu_utils.model.network import build_network, prepare

LITE = "efficientdet-lite0"
NAMES = {1: "circle", 2: "square", 3: "triangle", 4: "star"}
FLAGS = {
    "profile": False, "model_name": LITE, "steps_per_execution": 1, "model_dir": "/tmp/run", "steps_per_epoch": 100,
    "strategy": "", "batch_size": 16, "tf_random_seed": 111111, "debug": False, "val_json_file": None,
    "eval_samples": 5000, "num_shards": 1,
}  # fmt: skip


def saved(name=LITE, **changes):
    """What AutoML's trainer writes: every value, sizes and ratios as tuples, and its own flags."""
    values = hparams_config.get_efficientdet_config(name).as_dict()
    size = values["image_size"]
    values.update(image_size=(size, size), label_map=None, **{**FLAGS, "model_name": name})
    values = copy.deepcopy(values)
    values["nms_configs"].update(changes.pop("nms_configs", {}))
    return yaml.dump({**values, **changes}, indent=4)


TRAINED = saved(num_classes=5, image_size=(128, 256), label_map=NAMES, aspect_ratios=[(1.0, 1.0), (1.4, 0.7)])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(TRAINED)
    for name in ("emackpt-1.index", "emackpt-1.data-00000-of-00001", "model.h5"):
        (tmp_path / "run" / name).write_bytes(b"")
    return tmp_path / "run"


def followed(*argv, device="cpu", script="throughput"):
    return follow_hparams(load("--model-name", LITE, *argv, device=device, script=script))


def test_the_trainers_file_loads_as_hparams(folder):
    assert "!!python/tuple" in TRAINED
    config = hparams_of(ModelConfig(model_name=LITE, hparams=str(folder / "config.yaml")))
    assert (config.num_classes, config.image_size) == (5, (128, 256))
    assert config.aspect_ratios == [[1.0, 1.0], [1.4, 0.7]] and config.label_map.as_dict() == NAMES
    assert config.nms_configs.method == "gaussian"  # what is named counts whole
    assert "steps_per_epoch" not in config


@pytest.mark.parametrize(
    "tag",
    ["!!python/object/apply:os.getcwd []", "!!python/name:os.getcwd ''", "!!python/list [1]", "!own [1]", "!!set {a}"],
)
@pytest.mark.parametrize("named", [True, False])
def test_no_other_tag_is_read(folder, tag, named):
    (folder / "config.yaml").write_text(f"num_classes: 5\nimage_size: {tag}\n")
    model = {"hparams": str(folder / "config.yaml")} if named else {"model_dir": folder}
    with pytest.raises(ConfigError, match=r"config\.yaml cannot be used as YAML"):
        hparams_of(ModelConfig(model_name=LITE, **model))


@pytest.mark.parametrize("given", ["", "emackpt-1", "emackpt-1.index", "model.h5", "archive", "archive/emackpt-1"])
def test_it_is_found_beside_the_weights(folder, given):
    (folder / "archive").mkdir()
    (folder / "archive" / "emackpt-1.index").write_bytes(b"")
    config = followed("--model-dir", folder / given)
    hparams = hparams_of(config.model)
    assert (hparams.num_classes, hparams.image_size, hparams.label_map.as_dict()) == (5, (128, 256), NAMES)
    (note,) = config.notes
    for word in (f"{folder / 'config.yaml'} is read", "num_classes=5", "image_size=256x128", "label_map={4 names}"):
        assert word in note


def test_it_is_found_in_the_one_folder_below_and_in_the_default_folder(folder, monkeypatch):
    assert hparams_of(ModelConfig(model_name=LITE, model_dir=folder.parent)).num_classes == 5
    (folder.parent / "tmp").mkdir()
    folder.rename(folder.parent / "tmp" / LITE)
    monkeypatch.chdir(folder.parent)
    assert hparams_of(ModelConfig(model_name=LITE)).num_classes == 5


def test_values_as_published_leave_the_settings_for_inference(tmp_path):
    (tmp_path / "config.yaml").write_text(saved())
    plain = hparams_of(ModelConfig(model_name=LITE))
    assert hparams_of(ModelConfig(model_name=LITE, model_dir=tmp_path)) == plain
    assert plain.nms_configs.method == "hard" and plain.nms_configs.score_thresh == 0.4
    assert "it changes nothing" in followed("--model-dir", tmp_path).notes[0]
    (tmp_path / "config.yaml").write_text(saved(label_map="coco", nms_configs={"score_thresh": None}))
    assert hparams_of(ModelConfig(model_name=LITE, model_dir=tmp_path)) == plain


def test_the_command_line_wins(folder):
    (folder / "config.yaml").write_text(saved(num_classes=5, nms_configs={"score_thresh": 0.2, "iou_thresh": 0.3}))
    model = ModelConfig(model_name=LITE, model_dir=folder)
    nms = hparams_of(model).nms_configs
    assert (nms.score_thresh, nms.iou_thresh, nms.method) == (0.2, 0.3, "hard")
    nms = hparams_of(model, score_preset="accuracy").nms_configs
    assert (nms.score_thresh, nms.iou_thresh) == (0.001, 0.3)
    assert hparams_of(model, (64, 96)).image_size == (64, 96)
    config = followed("--model-dir", folder, "--hparams", "num_classes=7")
    assert hparams_of(config.model).num_classes == 7 and hparams_of(config.model).nms_configs.iou_thresh is None
    assert "config.yaml is not read: --hparams takes its place" in config.notes[0]
    assert hparams_of(ModelConfig(model_name=LITE, model_dir=folder, random_weights=True)).num_classes == 90


def test_another_models_configuration_is_refused(folder, capsys):
    (folder / "config.yaml").write_text(saved("efficientdet-d1", num_classes=5))
    named = ["--hparams", str(folder / "config.yaml"), "--random-weights"]
    for arguments in (["--model-dir", str(folder)], named, ["--hparams", "name=efficientdet-d1"]):
        for script in (ipu_inference.main, ipu_embedded_inference.main):
            argv = ["--device", "cpu", "--model-name", LITE, "--dry-run", *arguments]
            assert run_script(lambda script=script, argv=argv: script(argv)) == 2
            error = capsys.readouterr().err
            assert "efficientdet-d1, not efficientdet-lite0: add --model-name efficientdet-d1" in error
    assert hparams_of(ModelConfig(model_name="efficientdet-d1", model_dir=folder)).num_classes == 5
    (folder / "config.yaml").write_text("model_name: efficientdet-d1\nnum_classes: 5\n")
    with pytest.raises(ConfigError, match="of efficientdet-d1"):
        hparams_of(ModelConfig(model_name=LITE, model_dir=folder))


@pytest.mark.parametrize(
    "text, words",
    [
        ("num_classes: many\n", ["num_classes must be a number", "config.yaml", "give --hparams"]),
        ("num_classes: 0\n", ["from 1 to 100000", "config.yaml"]),
        ("- 1\n", ["`key: value`", "config.yaml", "give --hparams"]),
        ("image_size: [1, 2, 3]\n", ["image_size", "config.yaml"]),
    ],
)
def test_what_cannot_be_used_names_the_file(folder, text, words):
    (folder / "config.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        hparams_of(ModelConfig(model_name=LITE, model_dir=folder))
    for word in words:
        assert word in str(error.value)


def test_another_programs_file_is_left_alone_and_unknown_keys_are_told(folder):
    (folder / "config.yaml").write_text("dataset: {path: here}\nseed: 3\n")
    assert "holds nothing of a model's configuration" in followed("--model-dir", folder).notes[0]
    (folder / "config.yaml").write_text("num_classes: 5\nour_own: 3\nnms_configs: {iou: 1}\n")
    assert "Not known here: our_own, nms_configs.iou." in followed("--model-dir", folder).notes[0]


def test_a_kept_executable_of_another_configuration_is_not_taken(folder):
    def file():
        config = followed("--model-dir", folder, script="embedded")
        return cache.cached_file(folder, cache.plan(config, "float32", "float32", "engine", ("cpu",)))

    first = file()
    assert file() == first
    (folder / "config.yaml").write_text(TRAINED.replace("num_classes: 5", "num_classes: 6"))
    assert file() != first


@pytest.mark.parametrize("script", [ipu_inference.main, ipu_embedded_inference.main])
def test_a_printed_configuration_tells_what_is_read(folder, capsys, script):
    argv = ["--device", "cpu", "--model-name", LITE, "--model-dir", str(folder)]
    assert run_script(lambda: script([*argv, "--print-config"])) == 0
    out = capsys.readouterr().out
    assert "256x128 pixels, 5 classes" in out and "# note: " in out


def test_one_note_names_what_has_no_effect(folder):
    assert followed("--random-weights").notes == ()
    text = "strategy=gpus,use_keras_model=false,nms_configs.pyfunc=true,model_optimizations.prune={'begin_step': 0}"
    (note,) = followed("--random-weights", "--hparams", text).notes
    assert note == (
        "hparams that have no effect here: strategy=gpus, use_keras_model=False, nms_configs.pyfunc=True, "
        "model_optimizations (prune)."
    )
    (folder / "config.yaml").write_text(saved(strategy="tpu"))
    assert any("no effect here: strategy=tpu." in note for note in followed("--model-dir", folder).notes)


def test_mixed_precision_is_half_where_the_device_has_it():
    argv = ["--random-weights", "--hparams", "mixed_precision=true"]
    for device in ("ipu", "gpu"):
        config = followed(*argv, device=device)
        assert config.model.model_precision is Precision.HALF and config.notes == ()
    config = followed(*argv, "--engine", "tensorflow")
    assert config.model.model_precision is Precision.HALF and config.notes == ()
    config = followed(*argv, "--model-precision", "float", device="gpu")
    assert config.model.model_precision is Precision.FLOAT and config.notes == ()
    assert followed("--random-weights", device="gpu").model.model_precision is None


@pytest.mark.parametrize("script", ["throughput", "embedded"])
def test_mixed_precision_is_noted_where_openvino_has_no_half(script):
    openvino = pytest.importorskip("openvino")
    has = "FP16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    engine = ["--engine", "openvino"] if script == "throughput" else []
    config = followed("--random-weights", "--hparams", "mixed_precision=true", *engine, script=script)
    assert (config.model.model_precision is Precision.HALF) == has
    assert (
        any("mixed_precision has no effect: OpenVINO cannot compute in float16" in note for note in config.notes) != has
    )


class Float:
    """As much of a device as loading weights needs."""

    kind = "cpu"
    swish = None

    def default_precision(self):
        return "float32"

    def check_precision(self, precision):
        pass

    def dtype_policy(self, precision):
        return precision


@pytest.mark.parametrize("decay, raw", [("0", True), ("0.0", True), ("-1", True), ("None", True), ("0.99", False)])
def test_a_decay_of_zero_asks_for_raw_weights(tmp_path, decay, raw):
    config = followed("--model-dir", tmp_path, "--hparams", f"moving_average_decay={decay}")
    assert config.model.no_ema is raw
    assert any("raw weights are taken" in note for note in config.notes) is raw


def test_a_decay_of_zero_loads_raw_weights_also_where_nobody_has_followed_hparams(tmp_path):
    small = "fpn_cell_repeats=1,box_class_repeats=1,num_classes=2"
    config = load("--model-name", LITE, "--model-dir", tmp_path, "--hparams", small, device="cpu")
    averaging = hparams_of(config.model, (64, 64))
    values = checkpoints.weights_of(build_network(averaging))
    checkpoints.write_tf1_checkpoint(tmp_path, values, averages={name: value + 1 for name, value in values.items()})
    raw = copy.deepcopy(averaging)
    raw.moving_average_decay = 0
    for hparams, added, told in ((averaging, 1, ", averaged;"), (raw, 0, ", raw;")):
        prepared = prepare(config, hparams, Float())
        assert told in prepared.weights
        np.testing.assert_array_equal(prepared.network.weights[0], next(iter(values.values())) + added)


@pytest.mark.slow
@pytest.mark.parametrize("script", [ipu_inference.main, ipu_embedded_inference.main])
def test_a_run_finds_the_configuration_of_its_weights(tmp_path, capsys, script):
    (tmp_path / "config.yaml").write_text(saved(num_classes=5, image_size=(64, 96), label_map=NAMES))
    network = build_network(hparams_of(ModelConfig(model_name=LITE, model_dir=tmp_path)))
    network.save_weights(str(tmp_path / "emackpt-1"))
    argv = ["--device", "cpu", "--model-name", LITE, "--model-dir", str(tmp_path), "--num-repeats", "2"]
    argv += ["--benchmark-repeats", "2"] if script is ipu_inference.main else ["--warmup", "1"]
    assert run_script(lambda: script(argv)) == 0
    told = capsys.readouterr()
    assert "96x64 pixels, 5 classes" in told.out and "588 of 588 variables" in told.out
    assert "config.yaml is read, as there is no --hparams: " in told.err
