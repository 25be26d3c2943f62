# SPDX-License-Identifier: Apache-2.0
"""What a run is made of: precedence, derived options, notes, refusals and the record of a run."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from config_loading import load, refused
from PIL import Image

import hparams_config
from ipu_utils.base.console import REASON_VARIABLE
from ipu_utils.base.errors import ConfigError, UserError
from ipu_utils.base.safe_yaml import load_yaml
from ipu_utils.config.model_options import MODEL_NAMES, NmsMode
from ipu_utils.config.preset_files import CONFIG_DIR
from ipu_utils.config.run_config import (
    BenchmarkConfig,
    DataConfig,
    DeviceConfig,
    EmbeddedConfig,
    IpuConfig,
    ModelConfig,
    NmsConfig,
    Precision,
    RunConfig,
    load_config,
    options_dict,
    write_app_json,
)

pytest_plugins = ("preset_fixtures",)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (8, 8)).save(str(path))
    return path


# Precedence


def test_command_line_beats_preset_beats_default(preset):
    path = preset("efficientdet-d0: {num_repeats: 7, benchmark_repeats: 9}")
    config = load("--config", path, "--num-repeats", "3")
    assert config.benchmark == BenchmarkConfig(num_repeats=3, benchmark_repeats=9)
    assert config.data.micro_batch_size == 1


@pytest.mark.parametrize("device, batches", [("cpu", 2), ("gpu", 2), ("ipu", 9)])
def test_host_settings_beat_the_model_section_on_hosts_alone(preset, device, batches):
    path = preset("efficientdet-d0: {benchmark_repeats: 9, host: {benchmark-repeats: 2}}")
    assert load("--config", path, device=device).benchmark.benchmark_repeats == batches
    assert load("--config", path, "--benchmark-repeats=5", device=device).benchmark.benchmark_repeats == 5


def test_a_preset_turns_a_boolean_on_and_the_command_line_off_again(preset):
    path = preset("efficientdet-d0: {opt_conv_dithering: true, onchip-nms: no}")
    assert load("--config", path).ipu.opt_conv_dithering is True
    assert load("--config", path, "--opt-conv-dithering", "false").ipu.opt_conv_dithering is False
    assert load("--config", path, "--opt-conv-dithering").ipu.opt_conv_dithering is True
    assert load("--config", path).nms.onchip_nms is False
    assert load("--config", path, "--onchip-nms", "true").nms.onchip_nms is True


def test_the_last_of_a_repeated_option_counts():
    assert load("--num-repeats", "3", "--num-repeats", "5").benchmark.num_repeats == 5


def test_typed_names_are_recorded():
    config = load("--num-repeats", "3", "--config", "efficientdet")
    assert config.typed == {"num_repeats", "config"} and config.config_name == "efficientdet"


def test_the_device_that_was_asked_for_is_resolved():
    asked = []
    config = load_config(["--device", "gpu"], choose_device=lambda word: asked.append(word) or "gpu")
    assert asked == ["gpu"] and config.device == DeviceConfig(device="gpu")
    config = load_config([], choose_device=lambda word: asked.append(word) or "cpu")
    assert asked[1:] == ["auto"] and config.device.device == "cpu"


def test_a_missing_device_is_the_callers_to_report():
    def choose(word):
        raise UserError("no such device")

    with pytest.raises(UserError, match="no such device"):
        load_config([], choose_device=choose)


# Options that follow from others


def test_single_image_sets_batch_and_repeats_to_one_and_says_so(image):
    argv = ("--dataset-type", "single-image", "--image-path", image)
    config = load(*argv, "--micro-batch-size", "4", "--benchmark-repeats", "50")
    assert (config.data.micro_batch_size, config.benchmark.benchmark_repeats) == (1, 1)
    assert config.benchmark.num_repeats == 20
    (note,) = config.notes
    assert "to 1" in note and "What was given for --micro-batch-size, --benchmark-repeats is not used" in note
    (note,) = load(*argv).notes
    assert "to 1" in note and "not used" not in note


def test_a_single_image_does_not_shorten_the_loop_of_an_ipu_executable(image):
    argv = ("--dataset-type", "single-image", "--image-path", image, "--config", "efficientdet-low-latency")
    assert load(*argv, script="embedded").benchmark.benchmark_repeats >= 200
    assert load(*argv, script="embedded", device="cpu").benchmark.benchmark_repeats == 1


def test_host_postprocessing_is_benchmarked_only_without_onchip_nms(preset):
    config = load("--benchmark-host-postprocessing")
    assert config.benchmark.benchmark_host_postprocessing is False
    assert "--benchmark-host-postprocessing is off" in config.notes[0]
    config = load("--benchmark-host-postprocessing", "--onchip-nms", "false")
    assert config.benchmark.benchmark_host_postprocessing is True and config.notes == ()
    config = load("--config", preset("efficientdet-d0: {benchmark_host_postprocessing: true}"))
    assert config.benchmark.benchmark_host_postprocessing is False and len(config.notes) == 1


def test_a_bare_onchip_nms_switches_it_off_and_says_so():
    config = load("--onchip-nms")
    assert config.nms.onchip_nms is False
    assert "--onchip-nms true" in config.notes[0]
    assert load("--onchip-nms", "false").notes == () == load("--synthetic").notes


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_the_exchange_target_is_memory_for_d4_and_larger(model, preset):
    path = preset("efficientdet-base: {}")
    larger = model.split("-")[1] in ("d4", "d5", "d6", "d7", "d7x")
    argv = ("--config", path, "--model-name", model)
    assert load(*argv).ipu.opt_internal_exchange_target == ("memory" if larger else None)
    assert load(*argv, "--opt-internal-exchange-target", "cycles").ipu.opt_internal_exchange_target == "cycles"


def test_io_tiles_asked_for_without_a_number_get_the_presets_or_96(preset):
    config = load("--config", preset("efficientdet-d0: {}"), "--opt-use-io-tiles")
    assert config.ipu.opt_num_io_tiles == 96 and "96 tiles" in config.notes[0]
    config = load("--config", preset("efficientdet-d0: {opt_num_io_tiles: 64}"), "--opt-use-io-tiles")
    assert config.ipu.opt_num_io_tiles == 64 and config.notes == ()
    config = load("--model-name", "efficientdet-d3", "--opt-use-io-tiles")
    assert config.ipu.opt_use_io_tiles is True and config.ipu.opt_num_io_tiles == 96


def test_a_number_of_io_tiles_alone_has_no_effect_and_says_so():
    config = load("--model-name", "efficientdet-d3", "--opt-num-io-tiles", "64")
    assert config.ipu.opt_use_io_tiles is False and "without --opt-use-io-tiles" in config.notes[0]


def test_io_tiles_in_an_embedded_executable_say_what_they_cost():
    argv = ("--config", "efficientdet-low-latency")
    assert "time-out" in load(*argv, "--opt-use-io-tiles", script="embedded").notes[-1]
    assert load(*argv, script="embedded").notes == ()


def test_the_embedded_loop_outlasts_the_requests():
    argv = ("--config", "efficientdet-low-latency", "--num-repeats", "5000")
    assert load(*argv, script="embedded").benchmark.benchmark_repeats >= 5000
    config = load(*argv, "--benchmark-repeats", "100", script="embedded")
    assert config.benchmark.benchmark_repeats == 100 and "starts again" in config.notes[0]
    assert load(*argv, device="cpu", script="embedded").benchmark.benchmark_repeats == 1


# Options without effect


def test_ipu_options_on_a_host_are_accepted_and_named_in_one_note():
    argv = ("--opt-use-io-tiles", "--partials-precision", "half", "--available-memory-proportion", "0.3", "--seed", "2")
    for device in ("cpu", "gpu"):
        (note,) = load(*argv, device=device).notes
        beginning, flags = note.rstrip(".").split(": ")
        assert beginning == f"no effect on this device ({device})"
        assert flags == "--partials-precision, --available-memory-proportion, --opt-use-io-tiles"
    assert load(device="cpu").notes == ()  # what a preset sets for the IPU is nobody's typing


def test_host_options_on_an_ipu_are_named():
    assert load("--num-threads", "2", "--engine", "tensorflow").notes == (
        "no effect on this device (ipu): --engine, --num-threads.",
    )
    assert load("--num-threads", "2", device="cpu").notes == ()


def test_bfloat16_is_refused_on_an_ipu_alone(capsys):
    assert "use half or float" in refused(capsys, "--model-precision", "bfloat16")
    assert load("--model-precision", "bfloat16", device="cpu").model.model_precision is Precision.BFLOAT16


def test_synthetic_data_gives_no_predictions(capsys):
    assert "nothing for --output-predictions" in refused(capsys, "--synthetic", "--output-predictions")


# Images


@pytest.mark.parametrize("kind", ["repeated-image", "image-directory", "single-image"])
def test_image_datasets_need_a_path_that_is_there(kind, tmp_path, capsys):
    assert "add --image-path" in refused(capsys, "--dataset-type", kind)
    missing = tmp_path / "missing"
    assert "no such file or folder" in refused(capsys, "--dataset-type", kind, "--image-path", missing)


@pytest.mark.parametrize("option, name", [
    ("--image-path", "x.jpg"), ("--image-path", "x.mp4"), ("--calibration-images", "x.jpg"), ("--config", "x.yml"),
    ("--exec-file", "x.effdet"),
])  # fmt: skip
def test_a_pipe_is_refused_and_not_waited_for(option, name, tmp_path, capsys):
    os.mkfifo(str(tmp_path / name))
    script = "embedded" if option == "--exec-file" else "throughput"
    message = refused(capsys, option, tmp_path / name, script=script)
    assert f"{option} {tmp_path / name} is a pipe or a device: expected a file" in message


def test_a_pipe_of_the_file_system_is_no_file_of_settings_and_is_not_waited_for(tmp_path):
    os.mkfifo(str(tmp_path / "x.yaml"))
    with pytest.raises(ConfigError, match="is a pipe: expected a file"):
        load_yaml(tmp_path / "x.yaml")


def test_what_the_shell_opened_is_read_where_a_file_of_settings_is(tmp_path):
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    os.write(writer, b"seed: 5")
    os.close(writer)
    assert load_yaml(f"/dev/fd/{reader}") == {"seed": 5}
    os.close(reader)


def test_image_datasets_need_a_path_of_their_type(image, tmp_path, capsys):
    assert "reads a folder" in refused(capsys, "--dataset-type", "image-directory", "--image-path", image)
    assert "reads one image" in refused(capsys, "--dataset-type", "single-image", "--image-path", tmp_path)
    assert load("--dataset-type", "image-directory", "--image-path", tmp_path).data.image_path == tmp_path
    assert load("--dataset-type", "single-image", "--image-path", image).data.image_path == image


def test_a_repeated_image_may_be_the_first_of_a_folder(image, tmp_path, capsys):
    argv = ("--dataset-type", "repeated-image", "--image-path")
    assert load(*argv, image).data.image_path == image
    config = load(*argv, tmp_path)
    assert config.data.image_path == image and str(image) in config.notes[0]
    (tmp_path / "empty").mkdir()
    assert "no image" in refused(capsys, *argv, tmp_path / "empty")


def test_a_path_with_generated_images_is_not_used(image):
    config = load("--image-path", image, "--dataset-type", "generated")
    assert config.data.dataset_type == "generated" and "--image-path is not used" in config.notes[0]


@pytest.mark.parametrize("script", ["throughput", "embedded"])
def test_a_path_alone_is_read_for_what_it_is(image, tmp_path, capsys, script):
    single = load("--image-path", image, script=script)
    assert (single.data.dataset_type, single.data.micro_batch_size) == ("single-image", 1)
    assert single.notes[0] == "--image-path is a file: --dataset-type single-image."
    folder = load("--image-path", tmp_path, script=script)
    assert folder.data.dataset_type == "image-directory"
    assert "is a folder" in folder.notes[0]
    assert "no such file or folder" in refused(capsys, "--image-path", tmp_path / "missing")


def test_a_pattern_alone_is_a_folder_of_what_it_matches(image, tmp_path, capsys):
    config = load("--image-path", tmp_path / "*.png")
    assert config.data.dataset_type == "image-directory" and config.data.image_path == tmp_path / "*.png"
    assert config.notes[0] == "--image-path is a pattern: --dataset-type image-directory."
    assert "matches no image file" in refused(capsys, "--image-path", tmp_path / "*.jpg")
    argv = ("--image-path", tmp_path / "*.png", "--dataset-type")
    assert load(*argv, "image-directory").data.image_path == tmp_path / "*.png"
    assert load(*argv, "repeated-image").data.image_path == image
    assert "is a pattern, and --dataset-type single-image" in refused(capsys, *argv, "single-image")


def test_a_wrong_command_line_is_left_as_the_reason_where_a_sweep_looks_for_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(REASON_VARIABLE, str(tmp_path / "reason"))
    error = refused(capsys, "--image-path", tmp_path / "gone")
    assert error.startswith(f"error: {(tmp_path / 'reason').read_text()}\n")


def test_what_a_shell_makes_of_a_pattern_is_told_to_be_quoted(image, tmp_path, capsys):
    (tmp_path / "b.png").touch()
    assert "or quote a pattern" in refused(capsys, "--image-path", image, tmp_path / "b.png")
    assert "quote" not in refused(capsys, "--image-path", image, tmp_path / "gone.png")


# Photographs are run once


WRITTEN = [("--output-predictions",), ("--coco-results", "r.json"), ("--contact-sheet", "s.png")]


@pytest.mark.parametrize("asked", WRITTEN)
@pytest.mark.parametrize("script", ["throughput", "embedded"])
@pytest.mark.parametrize("kind", ["image-directory", "single-image"])
def test_photographs_that_something_is_written_about_are_run_once(image, tmp_path, asked, script, kind):
    path = image if kind == "single-image" else tmp_path
    argv = ("--dataset-type", kind, "--image-path", path)
    config = load(*argv, *asked, script=script)
    assert config.benchmark.one_pass and config.benchmark.warmup == 1
    assert f"each image is run once, because of {asked[0]}. To measure longer, add --num-repeats" in config.notes[-1]
    assert not load(*argv, script=script).benchmark.one_pass


@pytest.mark.parametrize("repeats", ["num_repeats", "benchmark_repeats", "min_seconds"])
def test_who_says_how_often_to_run_gets_that(image, preset, repeats):
    argv = ("--image-path", image.parent, "--output-predictions")
    assert not load(*argv, f"--{repeats.replace('_', '-')}", "3").benchmark.one_pass
    path = preset(f"efficientdet-d0: {{{repeats}: 3}}")
    for device in ("ipu", "cpu"):
        assert not load(*argv, "--config", path, device=device).benchmark.one_pass
    path = preset(f"efficientdet-d0: {{host: {{{repeats}: 3}}}}")
    assert not load(*argv, "--config", path, device="cpu").benchmark.one_pass
    assert load(*argv, "--config", path).benchmark.one_pass, "what is said of a host is not said of an IPU"


def test_what_the_presets_of_this_program_say_is_nobodys_wish(image, preset):
    argv = ("--image-path", image.parent, "--output-predictions", "--config")
    for own in ("efficientdet", "efficientdet-low-latency", CONFIG_DIR / "efficientdet.yml"):
        assert load(*argv, own, device="cpu").benchmark.one_pass, own
    assert load(*argv, preset("efficientdet-d0: {percentiles: 50}")).benchmark.one_pass


@pytest.mark.parametrize("script", ["throughput", "embedded"])
def test_a_warm_up_that_is_given_stays(image, preset, script):
    argv = ("--image-path", image, "--output-predictions")
    assert load(*argv, "--warmup", "3", script=script).benchmark.warmup == 3
    assert load(*argv, "--config", preset("efficientdet-d0: {warmup: 0}"), script=script).benchmark.warmup == 0


def test_noise_and_one_image_over_and_over_are_measured_as_ever(image):
    assert not load("--output-predictions").benchmark.one_pass
    argv = ("--dataset-type", "repeated-image", "--image-path", image)
    assert not load(*argv, "--output-predictions").benchmark.one_pass


# The embedded script's executable


def test_an_executable_to_run_must_be_there(tmp_path, capsys):
    path = tmp_path / "d0.exec"
    assert "no such file" in refused(capsys, "--exec-file", path, script="embedded")
    path.write_bytes(b"")
    assert load("--exec-file", path, script="embedded").embedded.exec_file == path
    assert "give one of them" in refused(capsys, "--exec-file", path, "--exec-output-dir", tmp_path, script="embedded")


def test_compile_only_needs_a_place_for_the_executable(tmp_path, capsys):
    assert "--exec-output-dir" in refused(capsys, "--compile-only", script="embedded")
    config = load("--compile-only", "--exec-output-dir", tmp_path / "new", script="embedded")
    assert config.embedded == EmbeddedConfig(compile_only=True, exec_output_dir=tmp_path / "new")


# The environment


PROFILED = {"POPLAR_ENGINE_OPTIONS": '{"autoReport.all": "true", "autoReport.directory": "env_profile"}'}


def test_a_profile_directory_of_the_environment_is_used():
    assert load(environ=PROFILED).output.profile_dir == Path("env_profile")


def test_a_profile_directory_in_two_places_is_an_error(capsys):
    for typed in ("typed_profile", "env_profile"):
        message = refused(capsys, "--profile-dir", typed, environ=PROFILED)
        assert "env_profile" in message and "--profile-dir" in message and "Keep one" in message


def test_the_environment_beats_the_preset_and_the_command_line_both():
    environ = {"POPLAR_ENGINE_OPTIONS": '{"opt.internalExchangeOptimisationTarget": "balanced"}'}
    argv = ("--model-name", "efficientdet-d4")
    assert load(*argv).ipu.opt_internal_exchange_target == "memory"
    assert load(*argv, environ=environ).ipu.opt_internal_exchange_target == "balanced"
    typed = load(*argv, "--opt-internal-exchange-target", "cycles", environ=environ)
    assert typed.ipu.opt_internal_exchange_target == "cycles"


def test_flags_of_the_environment_reach_the_configuration(capsys):
    environ = {"TF_POPLAR_FLAGS": "--use_synthetic_data --executable_cache_path=/tmp/cache"}
    config = load(environ=environ)
    assert config.ipu.synthetic is True and config.device.executable_cache_dir == Path("/tmp/cache")
    config = load("--executable-cache-dir", "mine", environ=environ)
    assert config.device.executable_cache_dir == Path("mine") and "the command line wins" in config.notes[0]
    assert "remove one of them" in refused(capsys, "--synthetic", "false", environ=environ)


def test_the_environment_is_an_ipus_matter():
    broken = {"POPLAR_ENGINE_OPTIONS": "{", "TF_POPLAR_FLAGS": "--use_synthetic_data"}
    assert load(environ=broken, device="cpu").ipu.synthetic is False


def test_a_broken_environment_is_an_error(capsys):
    assert "POPLAR_ENGINE_OPTIONS is not JSON" in refused(capsys, environ={"POPLAR_ENGINE_OPTIONS": "{all: true}"})


def test_the_processes_own_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("POPLAR_ENGINE_OPTIONS", PROFILED["POPLAR_ENGINE_OPTIONS"])
    assert load_config([], choose_device=lambda word: "ipu").output.profile_dir == Path("env_profile")


# The dataclasses by themselves


def test_sections_are_frozen_and_check_themselves():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DataConfig().seed = 3
    for make in (
        lambda: DataConfig(micro_batch_size=0),
        lambda: DataConfig(dataset_type="single-image"),
        lambda: DataConfig(image_size=(4, 640)),
        lambda: ModelConfig(model_name="resnet50"),
        lambda: ModelConfig(partials_precision="uint8"),
        lambda: IpuConfig(opt_use_io_tiles=True),
        lambda: IpuConfig(opt_num_io_tiles=31),
        lambda: dataclasses.replace(BenchmarkConfig(), num_repeats=0),
    ):
        with pytest.raises(ConfigError, match="--"):
            make()


def test_sections_convert_what_python_callers_pass():
    data = DataConfig(dataset_type="single-image", image_path="a.png", image_size="640x480")
    assert data.image_path == Path("a.png") and data.image_size == (480, 640)
    assert DataConfig(image_size=(480, 640)).image_size == (480, 640)
    assert ModelConfig(model_precision="half").model_precision is Precision.HALF
    assert ModelConfig(model_precision=Precision.HALF).model_precision is Precision.HALF
    assert NmsConfig(nms_mode="multi-class").nms_mode is NmsMode.MULTI_CLASS


def test_weights_are_looked_for_in_tmp_unless_a_folder_is_named():
    assert ModelConfig(model_name="efficientdet-d2").weights_path == Path("tmp/efficientdet-d2")
    assert ModelConfig(model_dir="mine").weights_path == Path("mine")


def test_an_enum_is_its_string_everywhere():
    assert f"{Precision.HALF}" == str(Precision.HALF) == "float16" == Precision.HALF
    assert json.dumps(NmsMode.BEST_CLASS) == '"best-class"'


def test_options_that_no_section_has_are_refused():
    with pytest.raises(TypeError, match="batch_size"):
        RunConfig.from_options({"batch_size": 4})
    assert RunConfig.from_options({"seed": 4}).data == DataConfig(seed=4)


# Records


def test_the_record_of_a_run_holds_every_option_as_plain_json():
    config = load("--image-size", "640x480", "--model-precision", "half", "--device", "cpu")
    record = options_dict(config)
    assert json.loads(json.dumps(record)) == record
    assert record["image_size"] == [480, 640] and record["model_precision"] == "float16"
    assert record["device"] == "cpu" and record["script"] == "throughput" and record["config"] == "efficientdet"
    assert record["output_dir"] == "outputs" and record["profile_dir"] is None and "measure" not in record
    assert options_dict(load(script="embedded"))["measure"] == "device"


def test_app_json_holds_arguments_and_model_configuration(tmp_path):
    config = load("--profile-dir", tmp_path / "new" / "profile", "--model-name", "efficientdet-d1")
    hparams = hparams_config.get_efficientdet_config("efficientdet-d1")
    write_app_json(config, hparams, config.output.profile_dir)
    content = json.loads((tmp_path / "new" / "profile" / "app.json").read_text())
    assert content["arguments"] == options_dict(config)
    assert content["config"]["name"] == "efficientdet-d1" and content["config"]["num_classes"] == 90
    assert [path.name for path in (tmp_path / "new" / "profile").iterdir()] == ["app.json"]


def test_app_json_survives_a_failed_write(tmp_path, monkeypatch):
    path = tmp_path / "app.json"
    write_app_json(load(), {"name": "before"}, path)
    before = path.read_text()

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(ConfigError, match="No space left"):
        write_app_json(load(), {"name": "after"}, path)
    assert path.read_text() == before and list(tmp_path.iterdir()) == [path]


def test_app_json_in_a_place_that_is_a_file_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_app_json(load(), {}, tmp_path / "file")


@pytest.mark.parametrize("name", ["notes.json", "profile/app.json"])
@pytest.mark.parametrize("content", ['{"mine": 1}', "[1]", "not JSON", ""])
def test_a_file_that_no_run_has_written_is_not_overwritten_by_app_json(tmp_path, name, content, capsys):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    given = path if path.name == "notes.json" else path.parent
    assert f"{path} is there, and no run has written it" in refused(capsys, "--profile-dir", given)
    write_app_json(load(), {}, given)  # that of a run
    assert load("--profile-dir", given).output.profile_dir == given


# What has no effect


def test_weights_that_are_not_read_and_batches_of_no_call_are_noted(tmp_path):
    assert any("no weights are read" in note for note in load("--model-dir", tmp_path, "--random-weights").notes)
    assert not any("no weights are read" in note for note in load("--model-dir", tmp_path).notes)
    embedded = load("--benchmark-repeats", "7", script="embedded", device="cpu")
    assert any("no effect on this device (cpu): --benchmark-repeats" in note for note in embedded.notes)
    assert not any("--benchmark-repeats" in note for note in load("--benchmark-repeats", "7").notes)


@pytest.mark.parametrize("stronger", ["--exec-output-dir", "--exec-file"])
def test_a_cache_beside_a_place_for_the_executable_is_noted_as_unused(tmp_path, stronger):
    (tmp_path / "x.effdet").write_bytes(b"")
    given = [stronger, tmp_path / "x.effdet" if stronger == "--exec-file" else tmp_path]
    both = load("--executable-cache-dir", tmp_path, *given, script="embedded", device="cpu")
    assert f"--executable-cache-dir is not used, because of {stronger}." in both.notes
    alone = load("--executable-cache-dir", tmp_path, script="embedded", device="cpu")
    assert not any("is not used" in note for note in alone.notes)


def test_annotations_of_generated_images_are_refused_with_what_to_add(capsys, tmp_path):
    assert "add --image-path" in refused(capsys, "--coco-annotations", tmp_path / "a.json")
