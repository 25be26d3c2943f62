# SPDX-License-Identifier: Apache-2.0
"""The command line of both scripts: every option's name, default, accepted and refused values."""

import argparse
import itertools
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from ipu_utils.config.command_line import Parser, StoreBoolean, build_parser
from ipu_utils.config.model_options import MODEL_NAMES, NmsMode, Precision
from ipu_utils.config.options import flag_of
from ipu_utils.config.run_config import load_config, options_dict
from ipu_utils.config.sections import SCRIPTS, all_rules

ROOT = Path(__file__).resolve().parents[2]
TRUE_WORDS = ("true", "t", "1", "yes", "y", "True", "T", "YES", "Y")
FALSE_WORDS = ("false", "f", "0", "no", "n", "False", "F", "NO", "N")

# The command-line table of the original, and this project's own options below it, with defaults that no preset
# changes: (option, default, {accepted text: value}, refused texts). A boolean is (option, default) alone.
COUNT = ({"1": 1, "7": 7, "1000": 1000}, ("0", "-1", "1.5", "many", ""))
TABLE = [
    ("dataset_type", "generated", {"generated": "generated"}, ("noise", "Generated", "image_directory", "")),
    ("calibration_images", None, {"photos": Path("photos"), "8": 8, "./8": Path("8")}, ("0", "65537", "")),
    ("image_path", None, {"a/b.png": Path("a/b.png")}, ("",)),
    (
        "image_size",
        None,
        {"640": (640, 640), "640x480": (480, 640), "8": (8, 8), "1536X8": (8, 1536)},
        ("0", "1", "7", "640x", "x480", "100000", "640x7", "-640", "640x480x3", "640.5", "large", "", "640 x 480"),
    ),
    ("micro_batch_size", 1, *COUNT),
    ("dataset_prefetch_buffer", 0, {"0": 0, "16": 16}, ("-1", "0.5", "auto")),
    (
        "model_name",
        "efficientdet-d0",
        {name: name for name in MODEL_NAMES},
        ("efficientdet-d8", "d9", "d0x", "efficientnet-d0", "-"),
    ),
    ("model_dir", None, {"checkpoints/d0": Path("checkpoints/d0")}, ("",)),
    ("hparams", "", {"a=1,b.c=2": "a=1,b.c=2", "file.yaml": "file.yaml", "": ""}, ()),
    ("partials_precision", None, {"float": Precision.FLOAT, "half": Precision.HALF}, ("uint8", "bfloat16", "double")),
    (
        "model_precision",
        None,
        {"float": Precision.FLOAT, "half": Precision.HALF, "bfloat16": Precision.BFLOAT16, "int8": Precision.INT8},
        ("uint8", "int4", "half float", ""),
    ),
    (
        "io_precision",
        Precision.UINT8,
        {"uint8": Precision.UINT8, "float": Precision.FLOAT, "half": Precision.HALF},
        ("bfloat16", "int8"),
    ),
    (
        "available_memory_proportion",
        0.6,
        {"0.2": 0.2, "1": 1.0, "1e-1": 0.1},
        ("0", "-0.1", "1.01", "nan", "inf", "most"),
    ),
    (
        "ipu_connection_type",
        "on_demand",
        {word: word for word in ("always", "never", "on_demand")},
        ("on-demand", "pre_compile"),
    ),
    ("score_preset", None, {"accuracy": "accuracy", "deployment": "deployment"}, ("fast", "0.4")),
    ("coco_results", None, {"out/results.json": Path("out/results.json")}, ("",)),
    ("contact_sheet", None, {"sheet.jpg": Path("sheet.jpg")}, ("",)),
    ("coco_annotations", None, {"instances_val2017.json": Path("instances_val2017.json")}, ("",)),
    ("opt_num_io_tiles", None, {"32": 32, "96": 96, "192": 192}, ("31", "193", "0", "64.0", "all")),
    ("opt_prefetch_depth", 128, {"1": 1, "4": 4, "255": 255}, ("0", "-1", "256", "deep")),
    (
        "opt_internal_exchange_target",
        None,
        {word: word for word in ("memory", "balanced", "cycles")},
        ("speed", "none"),
    ),
    (
        "opt_liveness_scheduler",
        "best",
        {word: word for word in ("best", "clustering", "post_order", "look_ahead", "shortest_path")},
        ("worst", "look-ahead"),
    ),
    ("opt_scheduler_lookahead_depth", 5, *COUNT),
    ("opt_scheduler_lookahead_search_space", 64, *COUNT),
    (
        "log_level",
        "warning",
        {word: word for word in ("debug", "info", "warning", "error", "fatal")},
        ("WARNING", "trace"),
    ),
    ("profile_dir", None, {"profile": Path("profile")}, ("",)),
    ("num_repeats", 20, *COUNT),
    ("benchmark_repeats", 100, *COUNT),
    ("min_seconds", None, {"0.5": 0.5, "60": 60.0}, ("0", "-3", "nan", "inf", "long")),
    (
        "percentiles",
        (50.0, 90.0, 95.0, 99.0),
        {"50": (50.0,), "99.9,50": (50.0, 99.9), "5,5": (5.0,), "100": (100.0,)},
        ("0", "101", "50;90", "p50", "", "nan"),
    ),
    ("results_json", None, {"a.json": Path("a.json"), "-": Path("-")}, ("",)),
    ("report", None, {"a.html": Path("a.html")}, ("",)),
    ("results_csv", None, {"a.csv": Path("a.csv"), "-": Path("-")}, ("",)),
    ("output_dir", Path("./outputs"), {"elsewhere": Path("elsewhere")}, ("",)),
    ("picture_names", "image", {word: word for word in ("image", "batch")}, ("original", "")),
    # this project's own
    ("device", "auto", {word: word for word in ("auto", "ipu", "cpu", "gpu")}, ("tpu", "cpu0")),
    ("engine", "auto", {word: word for word in ("auto", "tensorflow", "openvino")}, ("torch", "open", " ")),
    ("num_streams", None, {"1": 1, "16": 16}, ("0", "-1", "1.5", "two")),
    ("num_threads", None, *COUNT),
    ("nms_mode", NmsMode.BEST_CLASS, {mode.value: mode for mode in NmsMode}, ("global", "per_class", "best_class")),
    ("random_candidates", 300, {"0": 0, "300": 300}, ("-1", "2.5", "few")),
    ("seed", 0, {"0": 0, "4294967295": 2**32 - 1}, ("-1", "4294967296", "x")),
    ("executable_cache_dir", None, {"cache": Path("cache")}, ("",)),
]
EMBEDDED_TABLE = [
    ("exec_output_dir", None, {"out": Path("out")}, ("",)),
    ("exec_file", None, {"d0.exec": Path("d0.exec")}, ("",)),
    ("measure", "device", {word: word for word in ("network", "device", "end-to-end")}, ("all", "end_to_end")),
    ("requests_in_flight", 1, *COUNT),
    ("arrival_rate", None, {"0.5": 0.5, "200": 200.0}, ("0", "-3", "nan", "inf", "often")),
]
BOOLEANS = [
    ("random_weights", False),
    ("onchip_nms", True),
    ("synthetic", False),
    ("opt_device_rearrange", False),
    ("opt_use_io_tiles", False),
    ("opt_prefetch_data_streams", False),
    ("opt_conv_dithering", False),
    ("debug", False),
    ("skip_execution_report", False),
    ("output_predictions", False),
    ("benchmark_host_postprocessing", False),
    ("no_ema", False),
    ("pin", False),
    ("quiet", False),
    ("print_config", False),
    ("dry_run", False),
    ("force", False),
    ("skip_bad_images", False),
]
EMBEDDED_BOOLEANS = [("compile_only", False)]

WARMUP = ({"0": 0, "7": 7}, ("-1", "1.5", "warm"))

ROWS = [("throughput", *row) for row in [*TABLE, ("warmup", 1, *WARMUP)]]
ROWS += [("embedded", *row) for row in [*TABLE, *EMBEDDED_TABLE, ("warmup", 10, *WARMUP)]]
BOOLEAN_ROWS = [("throughput", *row) for row in BOOLEANS] + [("embedded", *row) for row in BOOLEANS + EMBEDDED_BOOLEANS]


def parse(script, *argv):
    return vars(build_parser(script).parse_args(list(argv)))


def error_of(capsys, call, *args, **kwargs):
    """What `call` prints before it exits with status 2."""
    with pytest.raises(SystemExit) as caught:
        call(*args, **kwargs)
    captured = capsys.readouterr()
    assert caught.value.code == 2
    assert captured.err.startswith("error: ") and captured.out == ""
    return captured.err


def row_id(value):
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize("script, name, default, accepted, refused", ROWS, ids=row_id)
def test_an_option_takes_its_values(script, name, default, accepted, refused):
    for text, value in accepted.items():
        for argv in ((flag_of(name), text), (f"{flag_of(name)}={text}",)):
            parsed = parse(script, *argv)
            assert parsed == {name: value} and type(parsed[name]) is type(value)


@pytest.mark.parametrize("script, name, default, accepted, refused", ROWS, ids=row_id)
def test_an_option_refuses_other_values_and_names_itself(script, name, default, accepted, refused, capsys):
    for text in refused:
        message = error_of(capsys, parse, script, f"{flag_of(name)}={text}")
        assert flag_of(name) in message and repr(text) in message and " must be " in message


@pytest.mark.parametrize("script, name, default, accepted, refused", ROWS, ids=row_id)
def test_an_option_has_its_default(script, name, default, accepted, refused, bare_preset):
    config = load_config(["--config", bare_preset], script, choose_device=lambda word: "cpu")
    (value,) = (getattr(section, name) for section in vars(config).values() if hasattr(section, name))
    assert value == ("cpu" if name == "device" else default)


@pytest.mark.parametrize("script, name, default", BOOLEAN_ROWS, ids=row_id)
def test_a_boolean_takes_every_word_and_none(script, name, default, capsys, bare_preset):
    flag = flag_of(name)
    assert parse(script, flag) == {name: not default}
    assert parse(script, flag, "--seed", "3") == {name: not default, "seed": 3}
    for word in TRUE_WORDS:
        assert parse(script, flag, word) == {name: True} == parse(script, f"{flag}={word}")
    for word in FALSE_WORDS:
        assert parse(script, flag, word) == {name: False} == parse(script, f"{flag}={word}")
    for word in ("maybe", "2", "on", "-1", ""):
        assert flag in error_of(capsys, parse, script, f"{flag}={word}")
    config = load_config(["--config", bare_preset], script, choose_device=lambda word: "cpu")
    assert options_dict(config)[name] is default


def test_the_tables_above_are_complete():
    options = [row[0] for row in TABLE + EMBEDDED_TABLE] + [row[0] for row in BOOLEANS + EMBEDDED_BOOLEANS]
    assert sorted([*options, "warmup"]) == sorted(all_rules())


@pytest.fixture
def bare_preset(tmp_path):
    """A preset that sets nothing, so that defaults show."""
    path = tmp_path / "bare.yml"
    path.write_text("efficientdet-base: {}\n")
    return str(path)


def test_the_parser_holds_only_what_was_typed():
    assert parse("throughput") == {} == parse("embedded")


def test_dataset_types_are_the_four():
    expected = ("generated", "repeated-image", "image-directory", "single-image")
    assert [parse("throughput", "--dataset-type", word)["dataset_type"] for word in expected] == list(expected)


def test_options_of_the_embedded_script_are_unknown_to_the_other(capsys):
    for name in [row[0] for row in EMBEDDED_TABLE + EMBEDDED_BOOLEANS]:
        assert "unrecognized arguments" in error_of(capsys, parse, "throughput", flag_of(name), "1")


def test_an_unknown_script_is_an_error():
    with pytest.raises(ValueError, match="embedded"):
        build_parser("training")


@pytest.mark.parametrize(
    "argv, hint",
    [
        (["--micro-batchsize", "4"], "Did you mean '--micro-batch-size'?"),
        (["--model_name=efficientdet-d0"], "Did you mean '--model-name'?"),
        (["--list-device"], "Did you mean '--list-devices'?"),
        (["--model-name", "efficientdet-lite3y"], "Did you mean 'efficientdet-lite3"),
        (["--model-name", "efficientdet_d11"], "Did you mean 'efficientdet-d1'?"),
        (["--dataset-type", "image-dir"], "Did you mean 'image-directory'?"),
    ],
)
def test_a_mistyped_option_or_word_gets_a_suggestion(argv, hint, capsys):
    assert hint in error_of(capsys, parse, "throughput", *argv)


@pytest.mark.parametrize(
    "name", ["xefficientdet-d0", "efficientdet-d0x", "efficientdet-d00", "efficientdet-d0 ", "efficientdet-d"]
)
def test_model_names_are_matched_whole(name, capsys):
    error_of(capsys, parse, "throughput", "--model-name", name)


def test_options_are_not_abbreviated(capsys):
    assert "unrecognized" in error_of(capsys, parse, "throughput", "--num-rep", "3")


def test_a_stray_word_is_an_error(capsys):
    assert "unrecognized arguments: efficientdet-d0" in error_of(capsys, parse, "throughput", "efficientdet-d0")


def boolean_cases():
    return itertools.product(
        ([], ["--on"], ["--on", "True"], ["--on", "False"], ["--off"], ["--off", "t"], ["--off", "NO", "--on", "no"]),
        (None, False, True),
        (None, False, True),
    )


@pytest.mark.parametrize("argv, preset_on, preset_off", boolean_cases())
def test_a_boolean_without_a_value_is_the_opposite_of_its_default_over_any_preset(argv, preset_on, preset_off):
    parser = Parser(argument_default=argparse.SUPPRESS)
    parser.add_argument("--on", action=StoreBoolean, rule=all_rules()["debug"])
    parser.add_argument("--off", action=StoreBoolean, rule=all_rules()["onchip_nms"])
    presets = {"on": preset_on, "off": preset_off}
    expected = {name: value for name, value in presets.items() if value is not None}
    parser.set_defaults(**expected)
    parsed = vars(parser.parse_args(argv))

    words = {"True": True, "t": True, "False": False, "NO": False, "no": False}
    for i, argument in enumerate(argv):
        if argument.startswith("--"):
            bare = i + 1 == len(argv) or argv[i + 1].startswith("--")
            expected[argument[2:]] = argument == "--on" if bare else words[argv[i + 1]]
    assert parsed == expected


def test_a_boolean_prints_nothing(capsys):
    parse("throughput", "--debug", "--onchip-nms", "false", "--synthetic", "true")
    assert capsys.readouterr() == ("", "")


def test_a_boolean_action_refuses_nargs():
    with pytest.raises(TypeError, match="nargs"):
        Parser().add_argument("--x", action=StoreBoolean, rule=all_rules()["debug"], nargs=2)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_documents_every_option_with_its_default(script, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "2000")
    with pytest.raises(SystemExit) as caught:
        parse(script, "--help")
    assert caught.value.code == 0
    entries = re.sub(r"\n {4,}", " ", capsys.readouterr().out).splitlines()
    for name in {row[1] for row in ROWS + BOOLEAN_ROWS if row[0] == script}:
        (entry,) = (line for line in entries if line.startswith(f"  {flag_of(name)} "))
        description, default = re.search(r"^ +--\S+ \S+ +(.*) \(default: (.+)\)$", entry).groups()
        assert len(description) > 10
        value = all_rules()[name].default
        if isinstance(value, bool):
            assert default == str(value).lower()
        elif isinstance(value, (int, float)):
            assert default.split(";")[0] == str(value)
    for line in ("--list-devices", "--config", "--io-precision uint8|float|half", "--onchip-nms [true|false]"):
        assert any(entry.startswith("  " + line) for entry in entries)
    assert any(entry.startswith("  --io-precision") and entry.endswith("(default: uint8)") for entry in entries)


def test_help_and_errors_need_neither_tensorflow_nor_numpy():
    code = (
        "import sys\n"
        "from ipu_utils.config.run_config import load_config\n"
        "try:\n"
        "    load_config(['--help'])\n"
        "except SystemExit:\n"
        "    print(sorted({'tensorflow', 'numpy', 'PIL', 'ipu_utils.base.keras2'} & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), stdout=subprocess.PIPE, text=True)
    assert run.returncode == 0 and run.stdout.rstrip().endswith("[]")


def test_list_devices_prints_them_and_exits(monkeypatch, capsys):
    monkeypatch.setattr("ipu_utils.config.command_line.list_devices", lambda: "cpu  yes  a processor")
    with pytest.raises(SystemExit) as caught:
        load_config(["--list-devices"], choose_device=lambda word: pytest.fail("a device was chosen"))
    assert caught.value.code == 0
    assert capsys.readouterr().out == "cpu  yes  a processor\n"


@pytest.mark.parametrize("typed, name", [("d0", "efficientdet-d0"), ("D7X", "efficientdet-d7x"),
                                         ("lite0", "efficientdet-lite0"), ("Lite3x", "efficientdet-lite3x"),
                                         ("efficientdetd4", "efficientdet-d4"), ("EfficientDet-D0", "efficientdet-d0"),
                                         ("efficientdet_lite3x", "efficientdet-lite3x"),
                                         ("Lite-0", "efficientdet-lite0"),
                                         ("tf_efficientdet_d7x", "efficientdet-d7x")])  # fmt: skip
def test_a_model_may_be_called_by_its_size(typed, name):
    assert parse("throughput", "--model-name", typed)["model_name"] == name


@pytest.mark.parametrize("typed, word", [("fp16", "half"), ("FP32", "float"), ("float16", "half"), ("float32", "float"),
                                         ("bf16", "bfloat16"), ("f32", "float"), ("F16", "half"), ("i8", "int8"),
                                         ("INT8", "int8"), ("Half", "half")])  # fmt: skip
def test_a_precision_may_be_called_as_others_call_it(typed, word):
    known = parse("throughput", "--model-precision", word)["model_precision"]
    assert parse("throughput", "--model-precision", typed)["model_precision"] is known


def test_cuda_is_a_gpu():
    assert parse("throughput", "--device", "cuda")["device"] == "gpu"


@pytest.mark.parametrize("option, typed, word", [
    ("--device", "CPU", "cpu"), ("--engine", "OpenVINO", "openvino"), ("--engine", "ONNX Runtime", "onnxruntime"),
    ("--engine", "ort", "onnxruntime"), ("--engine", "tflite", "litert"), ("--engine", "TF", "tensorflow"),
])  # fmt: skip
def test_devices_and_engines_may_be_called_as_others_call_them(option, typed, word):
    assert parse("throughput", option, typed) == parse("throughput", option, word)


@pytest.mark.parametrize("option", ["--source", "--verbose", "--weights", "--input", "--gpus"])
def test_a_word_that_is_far_from_every_option_gets_no_suggestion(option, capsys):
    assert "Did you mean" not in error_of(capsys, parse, "throughput", option, "x")


@pytest.mark.parametrize("option, hint", [("--batch-size", "--micro-batch-size"), ("--threads", "--num-threads"),
                                          ("--image", "--image-path"), ("--cofnig", "--config"),
                                          ("--Model-Name", "--model-name")])  # fmt: skip
def test_a_part_of_an_option_gets_one(option, hint, capsys):
    assert f"Did you mean '{hint}'?" in error_of(capsys, parse, "throughput", option, "x")


def test_an_option_of_the_other_script_is_named_as_such(capsys):
    found = error_of(capsys, parse, "throughput", "--arrival-rate", "3")
    assert "unrecognized arguments: --arrival-rate 3. It is an option of ipu_embedded_inference.py." in found


@pytest.mark.parametrize("script", SCRIPTS)
def test_version_says_what_this_is_and_what_it_runs_on(script, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(script, "--version")
    assert caught.value.code == 0
    own, engines = capsys.readouterr().out.splitlines()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=str(ROOT), stdout=subprocess.PIPE, text=True).stdout
    assert own.startswith("EfficientDet inference benchmark 1.") and commit[:12] in own
    for package in ("tensorflow", "numpy"):
        assert f"{package} {metadata.version(package)}" in engines


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_begins_with_what_whoever_begins_needs(script, capsys):
    with pytest.raises(SystemExit):
        parse(script, "--help")
    shown = capsys.readouterr().out
    first = shown.split("what most runs need:")[1].split("\n\n")[0]
    flags = re.findall(r"^  (--\S+)", first, re.MULTILINE)
    assert flags[:2] == ["--model-name", "--image-path"] and 8 <= len(flags) <= 14
    assert "--device" in flags and "--opt-prefetch-depth" not in flags
    assert len(shown.split("\n\n")[0].splitlines()) == 1, "a usage line, not a screen of it"
    for flag in flags:  # once, not in its section again
        assert len(re.findall(rf"^  {flag} ", shown, re.MULTILINE)) == 1
