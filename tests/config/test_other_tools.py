# SPDX-License-Identifier: Apache-2.0
"""What is said to whoever types the options and words of other tools."""

import re

import pytest

from ipu_utils.base.errors import UserError
from ipu_utils.config.command_line import build_parser
from ipu_utils.config.other_tools import names_elsewhere
from ipu_utils.config.run_config import load_config
from ipu_utils.config.run_hparams import check_wishes
from ipu_utils.config.sections import SCRIPTS


def error_of(capsys, *argv, script="throughput"):
    """The first line of what a command line is answered with."""
    with pytest.raises(SystemExit) as caught:
        load_config(list(argv), script, choose_device=lambda word: "cpu")
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[0]


# Command lines of other tools, each as its documentation shows it.
@pytest.mark.parametrize("typed, answers", [
    # OpenVINO's benchmark_app
    ("-b 2 -niter 50 -d CPU", ["-b is --micro-batch-size 2 here.", "-niter is --num-repeats 50 here.",
                               "-d is --device CPU here."]),
    ("-t 15 -nireq 4", ["-t is --min-seconds 15 here.", "-nireq is --requests-in-flight 4 of ipu_embedded_inference"]),
    ("-infer_precision f16", ["-infer_precision is --model-precision f16 here."]),
    ("-hint latency", ["ipu_embedded_inference.py for latency."]),
    ("-cdir cache", ["-cdir is --executable-cache-dir cache here."]),
    # Ultralytics' yolo
    ("--weights best.pt --source cat.jpg --imgsz 640", [
        "--weights is --model-dir best.pt here.", "--source is --image-path cat.jpg here.",
        "--imgsz is --image-size 640 here."]),
    ("imgsz=640 conf=0.25 half=True", ["imgsz is --image-size 640 here.", "half is --model-precision half here.",
                                       "conf is --hparams nms_configs.score_thresh=0.25 here."]),
    ("--iou 0.7", ["--iou is --hparams nms_configs.iou_thresh=0.7 here."]),
    ("--agnostic-nms", ["--agnostic-nms is --nms-mode class-agnostic here."]),
    # TensorRT's trtexec
    ("--fp16 --iterations=10", ["--fp16 is --model-precision half here.", "--iterations is --num-repeats 10 here."]),
    ("--onnx=model.onnx", ["Networks are built here, from --model-name"]),
    # LiteRT's benchmark_model
    ("--num_runs=30 --use_gpu=false", ["--num_runs is --num-repeats 30 here."]),
    ("--use_gpu=true", ["--use_gpu is --device gpu here."]),
    # effdet's validate.py
    ("--model tf_efficientdet_d1 -b4", ["--model is --model-name tf_efficientdet_d1 here.",
                                        "-b is --micro-batch-size 4 here."]),
    ("--pretrained", ["python -m ipu_utils.fetch_weights brings the published weights"]),
    # google/automl's model_inspect.py
    ("--ckpt_path=d0 --input_image=x.png", ["--ckpt_path is --model-dir d0 here.",
                                            "--input_image is --image-path x.png here."]),
    ("--min_score_thresh=0.35 --bm_runs=10", ["score_thresh=0.35 here.", "--bm_runs is --num-repeats 10 here."]),
    ("--enable_ema=false", ["--enable_ema is --no-ema here."]),
])  # fmt: skip
def test_an_option_of_another_tool_is_answered_with_the_one_here(typed, answers, capsys):
    message = error_of(capsys, *typed.split())
    start = f"error: unrecognized arguments: {typed}."
    assert message.startswith(start) and "Did you mean" not in message
    for answer in answers:
        assert answer in message[len(start) :]
    assert len(re.findall(r" is --", message)) == sum(" is --" in answer or "_thresh" in answer for answer in answers)


@pytest.mark.parametrize("typed", ["--use_gpu=false", "--half=False", "--enable_ema=true", "--source-map x"])
def test_a_switch_that_was_switched_off_or_is_unknown_gets_no_answer(typed, capsys):
    message = error_of(capsys, *typed.split())
    assert " here." not in message and "Did you mean" not in message


def test_a_value_that_the_option_here_does_not_take_is_not_put_into_its_mouth(capsys):
    assert error_of(capsys, "--model", "yolo11n.pt").endswith("--model is --model-name NAME here.")
    assert error_of(capsys, "--batch", "-1").endswith("--batch is --micro-batch-size N here.")
    assert error_of(capsys, "--precision").endswith("--precision is --model-precision PRECISION here.")


def test_the_script_itself_has_what_is_answered(capsys):
    assert error_of(capsys, "-nireq", "3", script="embedded").endswith("-nireq is --requests-in-flight 3 here.")


def test_every_name_has_one_answer_which_exists_and_is_no_option_here():
    flags = {flag for script in SCRIPTS for flag in build_parser(script)._option_string_actions}
    names = [name for found in names_elsewhere().values() for name in found]
    assert len(names) == len({*names}) and not {f"--{name}" for name in names} & flags
    for ours in names_elsewhere():
        flag, *value = ours.split()
        assert flag in flags
        if not re.search("[A-Z]+$", ours) and flag in build_parser()._option_string_actions:  # as it stands
            load_config([flag, *value], choose_device=lambda word: word if word == "gpu" else "cpu")


@pytest.mark.parametrize("typed, said", [
    ("--engine tensorrt", "On a GPU, tensorflow or onnxruntime computes"), ("--engine tensor-rt", "add --device gpu."),
    ("--engine PyTorch", "python -m ipu_utils.export writes the network"), ("--engine oneDNN", "ipu_utils.export"),
    ("--model-precision uint8", "uint8 is how images travel: --io-precision uint8."),
    ("--device cuda:1", "CUDA_VISIBLE_DEVICES=1, and --device gpu."), ("--device 0", "CUDA_VISIBLE_DEVICES=0"),
    ("--device 0,1", "CUDA_VISIBLE_DEVICES=0"), ("--device /gpu:0", "CUDA_VISIBLE_DEVICES=0"),
])  # fmt: skip
def test_a_word_of_another_tool_is_no_slip_of_the_finger(typed, said, capsys):
    message = error_of(capsys, *typed.split())
    assert said in message and "Did you mean" not in message


def test_a_slip_of_the_finger_still_is_one(capsys):
    assert "Did you mean 'tensorflow'?" in error_of(capsys, "--engine", "tensorfow")
    assert "Did you mean 'gpu'?" in error_of(capsys, "--device", "gpuu")
    assert "CUDA" not in error_of(capsys, "--device", "\u0663")  # a digit of another script


@pytest.mark.parametrize("typed, said", [
    ("-help", "unrecognized arguments: -help. Did you mean '--help'?"),
    ("--image-path -x.jpg", "A value that begins with - follows a =: --image-path=-x.jpg"),
    ("--image-path -h.jpg", "A value that begins with - follows a =: --image-path=-h.jpg"),
    ("--image-path a.jpg --image-path -x.jpg", "follows a =: --image-path=-x.jpg"),
    ("--preset -x", "A value that begins with - follows a =: --preset=-x"),
    ("--image-path --engine openvino", "argument --image-path: expected one argument"),
    ("--image-path --engine=openvino", "argument --image-path: expected one argument"),
    ("D7x", "Did you mean --model-name efficientdet-d7x?"), ("nothing", "unrecognized arguments: nothing."),
    ("--image-size 640 480", "Did you mean --image-size 640x480?"), ("-V", "-V is --version here."),
    ("d0,lite0", "Did you mean --model-name efficientdet-d0,efficientdet-lite0?"),
    ("image_path=x.jpg", "Did you mean --image-path x.jpg?"),
    ("photo.jpg", "Did you mean --image-path photo.jpg? For several images name their folder."),
    ("CLIP.MP4", "Did you mean --image-path CLIP.MP4? For several images name their folder."),
    ("a.jpg b.jpg", "For several images name their folder, or quote a pattern: --image-path 'FOLDER/*.jpg'."),
])  # fmt: skip
def test_what_argparse_says_of_dashes_and_stray_words_says_what_to_type(typed, said, capsys):
    assert error_of(capsys, *typed.split()).endswith(said)


def test_a_path_that_is_there_may_be_one_image_or_a_folder_of_several(tmp_path, capsys):
    (tmp_path / "my photo").write_bytes(b"")
    assert f"Did you mean --image-path '{tmp_path}/my photo'?" in error_of(capsys, str(tmp_path / "my photo"))
    assert f"Did you mean --image-path {tmp_path}? For several" in error_of(capsys, str(tmp_path))


@pytest.mark.parametrize("option", ["--image-path", "--model-dir", "--results-json", "--calibration-images"])
@pytest.mark.parametrize("address", ["https://a.b/c.jpg", "S3://bucket/x", "rtsps://camera"])
def test_an_address_is_no_path_and_is_quoted_as_typed(option, address, capsys):
    message = error_of(capsys, option, address)
    assert f"got '{address}'. It is an address, and only files of this machine are read and written." in message


def test_a_path_with_a_colon_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    (tmp_path / "s3:" / "x.png").write_bytes(b"")
    assert load_config(["--image-path", "s3:/x.png"], choose_device=lambda word: "cpu").data.image_path.exists()


def wish(*argv):
    config = load_config(list(argv), choose_device=lambda word: "cpu")
    with pytest.raises(UserError) as caught:
        check_wishes(config)
    return str(caught.value)


def test_a_message_names_the_option_that_was_typed(tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    assert wish("--image-path", str(tmp_path)).startswith(f"--image-path {tmp_path} asks for trained weights")
    assert wish("--dataset-type", "image-directory", "--image-path", str(tmp_path)).startswith(
        "--dataset-type image-directory asks for trained weights"
    )


def test_a_model_dir_that_is_not_there_is_called_so(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    assert f"no checkpoint in {tmp_path}/none, which is not there." in wish("--model-dir", str(tmp_path / "none"))
    assert "notes.txt, which is no folder, prefix, .h5" in wish("--model-dir", str(tmp_path / "notes.txt"))
    assert f"there is no checkpoint in {tmp_path}." in wish("--model-dir", str(tmp_path))


def test_a_folder_for_a_file_is_called_a_folder(tmp_path, capsys):
    assert f"; '{tmp_path}' is a folder." in error_of(capsys, "--config", str(tmp_path))
    assert f"; '{tmp_path}/x.yml' is a folder." not in error_of(capsys, "--config", str(tmp_path / "x.yml"))
    said = error_of(capsys, "--exec-file", str(tmp_path), script="embedded")
    assert f"--exec-file {tmp_path}: there is no such file, it is a folder." in said


def test_a_file_or_an_address_that_is_no_preset_is_called_so(tmp_path, capsys):
    (tmp_path / "notes.md").write_text("x")
    assert "notes.md' is a file." in error_of(capsys, "--config", str(tmp_path / "notes.md"))
    assert "--config https://a/b.yml is an address" in error_of(capsys, "--config", "https://a/b.yml")
