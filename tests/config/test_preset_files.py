# SPDX-License-Identifier: Apache-2.0
"""Presets: those of the project on every device, and those that are wrong."""

import pytest
from config_loading import load, refused

import hparams_config
from ipu_utils.config.model_options import MODEL_NAMES, DataConfig
from ipu_utils.config.preset_files import CONFIG_DIR, load_yaml, read_preset
from ipu_utils.config.run_options import BenchmarkConfig

pytest_plugins = ("preset_fixtures",)

# Presets of the project


@pytest.mark.parametrize(
    "model, batch, io_tiles, target, memory",
    [
        ("d0", 4, 96, None, 0.6),
        ("d1", 3, 96, None, 0.6),
        ("d2", 2, 96, None, 0.6),
        ("d3", 1, 0, "memory", 0.6),
        ("d4", 1, 0, "memory", 0.2),
    ],
)
def test_the_throughput_preset_on_an_ipu_is_the_originals(model, batch, io_tiles, target, memory):
    config = load("--model-name", f"efficientdet-{model}")
    assert config.data.micro_batch_size == batch
    assert (config.ipu.opt_num_io_tiles if config.ipu.opt_use_io_tiles else 0) == io_tiles
    assert config.ipu.opt_prefetch_data_streams is True and config.ipu.opt_prefetch_depth == 4
    assert config.ipu.opt_internal_exchange_target == target
    assert config.ipu.available_memory_proportion == memory
    assert config.benchmark == BenchmarkConfig(num_repeats=20, benchmark_repeats=100)
    assert config.notes == ()


@pytest.mark.parametrize("model, memory", [("d0", 0.6), ("d3", 0.6), ("d4", 0.2)])
def test_the_low_latency_preset_on_an_ipu_cannot_stall(model, memory):
    config = load("--config", "efficientdet-low-latency", "--model-name", f"efficientdet-{model}", script="embedded")
    assert config.data.micro_batch_size == 1 and config.ipu.opt_use_io_tiles is False
    assert config.ipu.available_memory_proportion == memory
    assert config.ipu.opt_prefetch_depth == 3  # the SDK's own
    assert config.benchmark.benchmark_repeats >= config.benchmark.num_repeats + config.benchmark.warmup > 100


@pytest.mark.parametrize("config_name", ["efficientdet", "efficientdet-low-latency"])
@pytest.mark.parametrize("model", MODEL_NAMES)
@pytest.mark.parametrize("script", ["throughput", "embedded"])
def test_every_preset_works_for_every_model_everywhere(config_name, model, script):
    for device in ("ipu", "cpu", "gpu"):
        config = load("--config", config_name, "--model-name", model, device=device, script=script)
        assert config.model.model_name == model
        # What the infeed buffers is host memory: at the option's default of 128, 403 MB of D4's images.
        assert config.ipu.opt_prefetch_depth <= 4
        if config_name == "efficientdet-low-latency":
            assert config.data.micro_batch_size == 1


IMAGES_PER_SECOND = {"d0": 20, "d1": 8, "d2": 5, "d3": 2, "d4": 1, "d5": 0.4, "d6": 0.25, "d7": 0.15, "d7x": 0.12,
                     "lite0": 50, "lite1": 30, "lite2": 18, "lite3": 10, "lite3x": 6, "lite4": 4}  # fmt: skip


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_a_default_run_on_two_cores_measures_for_less_than_a_minute_with_at_least_five_samples(model):
    config = load("--model-name", model, device="cpu")
    images = config.data.micro_batch_size * config.benchmark.benchmark_repeats * config.benchmark.num_repeats
    assert images / IMAGES_PER_SECOND[model.split("-")[1]] < 60
    assert config.benchmark.num_repeats >= 5


def test_models_without_a_section_take_the_base_section(preset):
    path = preset("efficientdet-base: &base {num_repeats: 4}\nefficientdet-d1: {<<: *base, micro_batch_size: 3}\n")
    assert load("--config", path, "--model-name", "efficientdet-d5").benchmark.num_repeats == 4
    assert load("--config", path, "--model-name", "efficientdet-d1").data.micro_batch_size == 3
    assert load("--config", path, "--model-name", "efficientdet-d1").benchmark.num_repeats == 4
    assert read_preset(preset("efficientdet-d1: {num_repeats: 2}"), "efficientdet-d0") == ({}, {})


def test_model_names_are_those_of_the_model_configurations():
    for name in MODEL_NAMES:
        assert hparams_config.get_efficientdet_config(name).name == name


# Presets that are wrong


@pytest.mark.parametrize(
    "text, parts",
    [
        ("efficientdet-d0: {micro_batchsize: 4}", ["'micro_batchsize' is not an option", "'micro_batch_size'"]),
        ("efficientdet-d0: {host: {num_repeat: 4}}", ["efficientdet-d0, host", "'num_repeat'", "'num_repeats'"]),
        (
            "efficientdet-d0: {opt_num_io_tiles: 20}",
            ["efficientdet-d0", "--opt-num-io-tiles must be", "32 to 192", "20"],
        ),
        ("efficientdet-d0: {opt_num_io_tiles: 96.5}", ["--opt-num-io-tiles must be a whole number"]),
        ("efficientdet-d0: {micro_batch_size: true}", ["--micro-batch-size must be a whole number", "True"]),
        ("efficientdet-d0: {synthetic: 2}", ["--synthetic must be one of true"]),
        ("efficientdet-d0: {num_repeats: [1, 2]}", ["'num_repeats' needs one value, found a list"]),
        ("efficientdet-d0: {num_repeats: }", ["'num_repeats' needs one value, found nothing"]),
        ("efficientdet-d0: {model_precision: halve}", ["--model-precision must be", "Did you mean 'half'?"]),
        ("efficientdet-d0: {device: cpu}", ["'device' can only be given on the command line"]),
        ("efficientdet-d0: {model_name: efficientdet-d1}", ["only be given on the command line"]),
        ("efficientdet-d9: {}", ["'efficientdet-d9' is not a model", "Did you mean"]),
        ("d0: {}", ["'d0' is not a model. Did you mean 'efficientdet-d0'?"]),
        ("micro-batch-size: 4", ["is not a model. Options stand below a model, as in efficientdet-d0: {"]),
        ("model-name: d0", ["'model-name' is not a model. It is an option of the command line alone."]),
        ("efficientdet-d1: {seed: -1}", ["efficientdet-d1", "--seed must be"]),  # not this run's section
        ("efficientdet-d0: 4", ["efficientdet-d0: must be a mapping", "found 4"]),
        ("efficientdet-d0: {host: fast}", ["efficientdet-d0, host: must be a mapping"]),
        ("- efficientdet-d0", ["must be a mapping", "found a list"]),
        ("", ["must be a mapping", "found nothing"]),
        ("efficientdet-d0: {num_repeats: 3", ["cannot be used", "line"]),
        ("efficientdet-d0: !!python/object/apply:os.getcwd []", ["cannot be used", "python/object"]),
        ("efficientdet-d0: {seed: 2001-99-99}", ["cannot be used"]),
        ("[" * 5000, ["cannot be used"]),
        ("# " + "x" * 70000, ["larger than 65536 bytes"]),
    ],
)
def test_a_wrong_preset_is_refused_with_its_place(preset, text, parts, capsys):
    path = preset(text)
    message = refused(capsys, "--config", path)
    assert path in message
    for part in parts:
        assert part in message


def test_broken_yaml_is_told_by_line_and_column_without_the_parsers_own_words(preset, capsys):
    message = refused(capsys, "--config", preset("efficientdet-d0: {seed: 1\n  warmup: [2"))
    assert "byte string" not in message and "^" not in message
    assert "while parsing a flow mapping in line 1, column 18, expected ',' or '}'" in message


def test_nested_merges_of_aliases_do_not_explode(preset, capsys):
    lines = ["a-base: &a0 {" + ", ".join(f"k{i}: 1" for i in range(9)) + "}"]
    lines += [f"b{i}-base: &a{i + 1} {{<<: [{', '.join([f'*a{i}'] * 9)}]}}" for i in range(12)]
    message = refused(capsys, "--config", preset("\n".join(lines)))
    # From 6.0.4 on PyYAML merges each key once, and what is left is a file like any other with unknown options.
    assert "merged keys" in message or "'k0' is not an option" in message
    assert "aliases" in refused(capsys, "--config", preset("a-base: &a {}\nb-base: [" + "*a, " * 1000 + "]"))


def test_unknown_presets_are_refused_with_a_suggestion(capsys, tmp_path):
    message = refused(capsys, "--config", "efficientdet-low-latancy")
    assert "efficientdet, efficientdet-low-latency" in message and "Did you mean 'efficientdet-low-latency'?" in message
    assert "no such file" in refused(capsys, "--config", tmp_path / "missing.yml")
    assert "--config must be" in refused(capsys, "--config", "../ipu_configs/efficientdet")
    assert "--config must be" in refused(capsys, "--config", "")


def test_preset_keys_are_accepted_with_underscores_and_with_hyphens(preset):
    path = preset("efficientdet-d0: {micro-batch-size: 2, num_repeats: 3, image-size: 640x480, seed: '5'}")
    config = load("--config", path)
    assert config.data == DataConfig(micro_batch_size=2, image_size=(480, 640), seed=5)


def test_a_preset_may_hold_options_of_the_embedded_script(preset):
    path = preset("efficientdet-d0: {measure: network}")
    assert load("--config", path, script="embedded").embedded.measure == "network"
    assert load("--config", path).embedded is None


@pytest.mark.parametrize("path", sorted(CONFIG_DIR.glob("*.yml")), ids=lambda path: path.stem)
def test_the_projects_presets_name_every_model_they_hold_and_a_base(path):
    sections = load_yaml(path)
    assert "efficientdet-base" in sections
    assert {name for name in sections if not name.endswith("-base")} <= set(MODEL_NAMES)


def test_a_former_name_of_an_option_still_works(tmp_path):
    path = tmp_path / "own.yml"
    path.write_text("efficientdet-d0: {preset: accuracy}\n")
    assert load("--config", str(path)).nms.score_preset == "accuracy"
    assert load("--preset", "accuracy").nms.score_preset == "accuracy"
    assert load("--config", str(path), "--score-preset", "deployment").nms.score_preset == "deployment"
