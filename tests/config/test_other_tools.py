# SPDX-License-Identifier: Apache-2.0
"""What is said to whoever types the options and words of other tools."""

import pytest

from ipu_utils.base.errors import UserError
from ipu_utils.config.command_line import build_parser
from ipu_utils.config.other_tools import names_elsewhere, option_called
from ipu_utils.config.run_config import load_config
from ipu_utils.config.sections import SCRIPTS


def error_of(capsys, *argv, script="throughput"):
    """The first line of what a command line is answered with."""
    with pytest.raises(SystemExit) as caught:
        load_config(list(argv), script, choose_device=lambda word: "cpu")
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[0]


@pytest.mark.parametrize("typed, ours", [
    ("--model d0", "--model-name NAME"), ("-m model.xml", "--model-name NAME"), ("--weights x", "--model-dir PATH"),
    ("--ckpt_path=x", "--model-dir PATH"), ("--source x", "--image-path PATH"), ("-i x", "--image-path PATH"),
    ("-b 4", "--micro-batch-size N"), ("--batch 4", "--micro-batch-size N"), ("--imgsz 512", "--image-size SIZE"),
    ("--half", "--model-precision half"), ("--precision fp16", "--model-precision PRECISION"),
    ("--conf 0.3", "--hparams nms_configs.score_thresh=0.3"), ("--IOU 0.5", "--hparams nms_configs.iou_thresh=0.5"),
    ("--score-threshold 0.3", "--hparams nms_configs.score_thresh=0.3"), ("--no-nms", "--onchip-nms false"),
    ("-niter 3", "--num-repeats N"), ("--gpus 1", "--device gpu"), ("-d CPU", "--device DEVICE"),
    ("--json f", "--results-json FILE"), ("-v", "--log-level info"), ("-q", "--quiet"),
])  # fmt: skip
def test_an_option_of_another_tool_is_answered_with_the_one_here(typed, ours, capsys):
    assert error_of(capsys, *typed.split()) == f"error: unrecognized arguments: {typed}. Here it is {ours}."


def test_where_the_other_script_has_it_that_is_said(capsys):
    assert error_of(capsys, "-nireq", "3").endswith("It is --requests-in-flight N of ipu_embedded_inference.py.")
    assert error_of(capsys, "-nireq", "3", script="embedded").endswith("Here it is --requests-in-flight N.")


def test_what_is_answered_exists_and_is_not_itself_an_option_here():
    flags = {flag for script in SCRIPTS for flag in build_parser(script)._option_string_actions}
    for ours in names_elsewhere():
        flag, *value = ours.split()
        assert flag in flags and option_called(flag) == ""
        if value and value[0] == value[0].lower():  # one that can be typed as it stands
            assert load_config([flag, *value], choose_device=lambda word: word if word == "gpu" else "cpu")


@pytest.mark.parametrize("typed, said", [
    ("--engine tensorrt", "On a GPU it is TensorFlow or onnxruntime"), ("--engine PyTorch", "docs/EXPORT.md"),
    ("--model-precision uint8", "uint8 is how images travel: --io-precision uint8."),
    ("--device cuda:1", "CUDA_VISIBLE_DEVICES=1, and --device gpu."), ("--device 0", "CUDA_VISIBLE_DEVICES=0"),
])  # fmt: skip
def test_a_word_of_another_tool_is_no_slip_of_the_finger(typed, said, capsys):
    message = error_of(capsys, *typed.split())
    assert said in message and "Did you mean" not in message


def test_a_slip_of_the_finger_still_is_one(capsys):
    assert "Did you mean 'tensorflow'?" in error_of(capsys, "--engine", "tensorfow")
    assert "Did you mean 'gpu'?" in error_of(capsys, "--device", "gpuu")


@pytest.mark.parametrize("typed, said", [
    ("-help", "unrecognized arguments: -help. Did you mean '--help'?"),
    ("--image-path -x.jpg", "A value that begins with - follows a =: --image-path=-x.jpg"),
    ("--image-path --engine openvino", "argument --image-path: expected one argument"),
    ("D7x", "Did you mean --model-name efficientdet-d7x?"), ("nothing", "unrecognized arguments: nothing."),
])  # fmt: skip
def test_what_argparse_says_of_dashes_and_stray_words_says_what_to_type(typed, said, capsys):
    assert error_of(capsys, *typed.split()).endswith(said)


@pytest.mark.parametrize("option", ["--image-path", "--model-dir", "--results-json", "--calibration-images"])
@pytest.mark.parametrize("address", ["https://a.b/c.jpg", "S3://bucket/x", "rtsp://camera"])
def test_an_address_is_no_path_and_is_quoted_as_typed(option, address, capsys):
    message = error_of(capsys, option, address)
    assert f"got '{address}'. It is an address" in message


def wish(*argv):
    from ipu_utils.config.run_hparams import check_wishes

    config = load_config(list(argv), choose_device=lambda word: "cpu")
    with pytest.raises(UserError) as caught:
        check_wishes(config)
    return str(caught.value)


def test_a_message_names_the_option_that_was_typed(tmp_path, capsys):
    (tmp_path / "x.png").write_bytes(b"")
    assert wish("--image-path", str(tmp_path)).startswith(f"--image-path {tmp_path} asks for trained weights")
    assert wish("--dataset-type", "image-directory", "--image-path", str(tmp_path)).startswith(
        "--dataset-type image-directory asks for trained weights"
    )


def test_a_model_dir_that_is_not_there_is_called_so(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    assert "there is no such folder or file" in wish("--model-dir", str(tmp_path / "none"))
    assert "that is no file of a checkpoint" in wish("--model-dir", str(tmp_path / "notes.txt"))
    assert f"there is no checkpoint in {tmp_path}" in wish("--model-dir", str(tmp_path))


@pytest.mark.parametrize("option, script, said", [
    ("--config", "throughput", "is a folder: expected efficientdet, efficientdet-low-latency, or a YAML file"),
    ("--exec-file", "embedded", "is a folder: name the file in it."),
])  # fmt: skip
def test_a_folder_for_a_file_is_called_a_folder(option, script, said, tmp_path, capsys):
    assert f"{option} {tmp_path} {said}" in error_of(capsys, option, str(tmp_path), script=script)


def test_a_file_that_is_no_preset_is_called_a_file(tmp_path, capsys):
    (tmp_path / "notes.md").write_text("x")
    assert "notes.md is a file: expected efficientdet" in error_of(capsys, "--config", str(tmp_path / "notes.md"))
