# SPDX-License-Identifier: Apache-2.0
"""Options, presets and hparams that cannot be meant."""

from pathlib import Path
from typing import Any, Callable, List
from unittest import mock

from reliability.case import MODEL, TINY, Case, Outcome, Stage
from reliability.runner import here

SIZELESS = [word for word in TINY if word not in ("--image-size", "64")]  # it would hide the one in hparams
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi")
)


def _with_a_megabyte_free(stage: Stage) -> Outcome:
    with mock.patch("ipu_utils.launch.memory_check.available", return_value=1 << 20):
        return here(stage.case.script, stage.filled(stage.case.arguments), {})


def _file(name: str, content: str):
    return lambda folder: Path(folder, name).write_text(content)


def _refused(given: str, *arguments: str, words: List[str], **more) -> Case:
    return Case(given, arguments, 2, words, **more)


def _preset(given: str, content: str, *words: str) -> Case:
    return Case(given, ["--config", "{folder}/own.yml"], 2, ["own.yml", *words], prepare=_file("own.yml", content))


def _hparams(given: str, text: str, *words: str, **more) -> Case:
    return Case(given, [*SIZELESS, "--hparams", text], 2, words, **more)


CONFLICTS = [
    _refused("record and table both on standard output", "--results-json", "-", "--results-csv", "-", words=["both"]),
    _refused("a page on standard output", "--report", "-", words=["--report -", "no file"]),
    _refused(
        "a sweep whose cells would write over each other's file",
        "--micro-batch-size",
        "1,2",
        "--coco-results",
        "{folder}/a.json",
        words=["every combination would write --coco-results", "leave it out"],
    ),
    _refused("a sweep with a wrong value in its list", "--micro-batch-size", "1,x", words=["whole number", "'x'"]),
    _refused("a sweep with an empty value in its list", "--micro-batch-size", "1,,2", words=["--micro-batch-size"]),
    _refused(
        "a sweep under mpirun",
        "--micro-batch-size",
        "1,2",
        words=["one combination at a time"],
        environ={"OMPI_COMM_WORLD_SIZE": "2"},
    ),
]


def _names(text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / "names.yaml").write_text(text)


CASES = [
    *CONFLICTS,
    *(
        _refused(given, "--hparams", "label_map={folder}/names.yaml", words=["label map", told], prepare=_names(text))
        for given, text, told in (
            ("a label map whose key is infinite", ".inf: person", "as a class id"),
            ("a label map whose name is nothing", "1: ~", "class 1 is called None"),
            ("a label map that is empty", "", "expected names by class id"),
        )
    ),
    _refused("an unknown model", "--model-name", "efficientdet-d9", words=["--model-name", "Did you mean"]),
    _refused("a model of another family", "--model-name", "EfficientNet-B0", words=["one of efficientdet-d0"]),
    _refused("an empty model name", "--model-name", "", words=["--model-name must be one of"]),
    _refused(
        "a mistyped option", "--micro-batchsize", "2", words=["unrecognized", "Did you mean '--micro-batch-size'"]
    ),
    _refused("a word without an option", "efficientdet-d0", words=["unrecognized arguments: efficientdet-d0"]),
    _refused("an option without its value", "--num-repeats", words=["--num-repeats", "expected one argument"]),
    _refused("a batch of 0", "--micro-batch-size", "0", words=["--micro-batch-size", "from 1 to 65536", "'0'"]),
    _refused("a batch of -1", "--micro-batch-size", "-1", words=["--micro-batch-size"]),
    _refused("a batch of 1.5", "--micro-batch-size", "1.5", words=["a whole number", "'1.5'"]),
    _refused("a batch of 10^20", "--micro-batch-size", "100000000000000000000", words=["--micro-batch-size"]),
    _refused(
        "10^20 repeats", "--num-repeats", "100000000000000000000", words=["--num-repeats", "whole number from 1 to"]
    ),
    _refused("a thousand times a thousand threads", "--num-threads", "1000000", words=["--num-threads", "from 1 to"]),
    _refused("a number of repeats with a unit", "--num-repeats", "20x", words=["a whole number", "'20x'"]),
    _refused("a share of memory in percent", "--available-memory-proportion", "60%", words=["a number above 0"]),
    _refused("a share of memory above one", "--available-memory-proportion", "60", words=["up to 1"]),
    _refused("a share that is not a number", "--available-memory-proportion", "nan", words=["a number above 0"]),
    _refused("a seed below zero", "--seed", "-1", words=["--seed"]),
    _refused("a boolean that is neither", "--onchip-nms", "maybe", words=["one of true", "'maybe'"]),
    _refused("an unknown device", "--device", "tpu", words=["one of auto, ipu, cpu, gpu"]),
    _refused("a GPU where there is none", "--device", "gpu", words=["--device gpu"], needs=["no gpu"]),
    _refused("an IPU where there is none", "--device", "ipu", words=["--device ipu"], needs=["no ipu"]),
    _refused("a precision that does not exist", "--model-precision", "int4", words=["one of float, half, bfloat16"]),
    _refused("an NMS mode that does not exist", "--nms-mode", "best", words=["best-class"]),
    _refused("an image size of 0", "--image-size", "0", words=["each side from 8 to 8192"]),
    _refused("an image size of 1", "--image-size", "1", words=["each side from 8 to 8192"]),
    _refused("an image size of 7", "--image-size", "7", words=["each side from 8 to 8192"]),
    _refused("an image size of 100000", "--image-size", "100000", words=["each side from 8 to 8192"]),
    _refused("an image size of 640x", "--image-size", "640x", words=["WIDTHxHEIGHT", "'640x'"]),
    _refused("an image size of x480", "--image-size", "x480", words=["WIDTHxHEIGHT"]),
    _refused("an image size in three dimensions", "--image-size", "640x480x3", words=["WIDTHxHEIGHT"]),
    _refused("an image size with a unit", "--image-size", "512px", words=["'512px'"]),
    _refused("an empty path", "--output-dir", "", words=["--output-dir must be a path"]),
    _refused(
        "the home of a user who does not exist", "--output-dir", "~nobody-of-that-name/x", words=["There is no user"]
    ),
    _refused(
        "a path of 5000 letters",
        "--dataset-type",
        "single-image",
        "--image-path",
        "a" * 5000,
        words=["longer than 255 bytes"],
    ),
    _refused(
        "a model too large for memory",
        *TINY,
        "--image-size",
        "8192",
        "--micro-batch-size",
        "65536",
        words=["needs about", "are free", "smaller --micro-batch-size", "--force"],
    ),
    Case(
        "an executable too large for memory",
        [*MODEL, "--image-size", "8192", "--micro-batch-size", "65536"],
        2,
        ["needs about", "--force"],
        "embedded",
    ),
    _refused("a megabyte of free memory", *TINY, words=["0.0 GiB are free", "--force"], run=_with_a_megabyte_free),
    Case(
        "a megabyte of free memory, and --force",
        [*TINY, "--force"],
        0,
        ["throughput"],
        run=_with_a_megabyte_free,
        slow=True,
    ),
    _refused("a preset that does not exist", "--config", "efficientdett", words=["Did you mean 'efficientdet'"]),
    _refused("a preset file that does not exist", "--config", "{folder}/none.yml", words=["there is no such file"]),
    _refused("a preset that is a folder", "--config", "{folder}", words=["--config must be one of"]),
    _preset("a preset that is a list", "- 1\n- 2\n", "must be a mapping", "a list"),
    _preset("a preset that is empty", "", "must be a mapping", "found nothing"),
    _preset(
        "a preset with an unknown key", "efficientdet-d0:\n  micro-batchsize: 1\n", "Did you mean 'micro_batch_size'"
    ),
    _preset("a preset with an unknown model", "efficientdet-d9:\n  num-repeats: 1\n", "is not a model"),
    _preset("a preset with a wrong value", "efficientdet-d0:\n  num-repeats: many\n", "--num-repeats", "'many'"),
    _preset("a preset with a list for a value", "efficientdet-d0:\n  seed: [1, 2]\n", "needs one value"),
    _preset("a preset that is no YAML", "efficientdet-d0: [\n", "cannot be used as YAML"),
    _preset(
        "a preset that would run Python", "a: !!python/object/apply:os.system ['touch x']\n", "cannot be used as YAML"
    ),
    _preset("a preset that is a YAML bomb", BOMB, "more than"),
    _preset("a preset nested a thousand deep", "[" * 3000, "nested too deeply"),
    _preset("a preset of a megabyte", "#" * 2**20, "larger than 65536 bytes"),
    Case(
        "a preset that is binary",
        ["--config", "{folder}/own.yml"],
        2,
        ["cannot be used as YAML"],
        prepare=lambda folder: Path(folder, "own.yml").write_bytes(bytes(range(256))),
    ),
    _refused("a single image with no path", "--dataset-type", "single-image", words=["add --image-path"]),
    _refused(
        "hparams without a value", *TINY, "--hparams", "num_classes", words=["expected pairs such as num_classes=20"]
    ),
    _hparams("hparams with an unknown key", "num_clases=20", "Did you mean num_classes"),
    _hparams("hparams with an unknown key in a group", "nms_configs.iou=0.5", "nms_configs"),
    _hparams("hparams with a word for a number", "num_classes=many", "num_classes must be a number", "'many'"),
    _hparams("hparams with no class at all", "num_classes=0", "num_classes", "from 1 to 100000"),
    _hparams("hparams with an image size of 0", "image_size=0", "image_size 0", "WIDTHxHEIGHT"),
    _hparams("hparams with an image size of 1", "image_size=1", "image_size must be sides of 8 to 8192 pixels"),
    _hparams("hparams with an image size of 7", "image_size=7", "image_size must be sides of 8 to 8192 pixels"),
    _hparams("hparams with an image size of 100000", "image_size=100000", "sides of 8 to 8192 pixels", "100000x100000"),
    _hparams("hparams with an image size of 640x", "image_size=640x", "image_size '640x'", "WIDTHxHEIGHT"),
    _hparams("hparams with an image size of x480", "image_size=x480", "image_size 'x480'", "WIDTHxHEIGHT"),
    _hparams("hparams with an image size of 64.5", "image_size=64.5", "image_size 64.5", "whole number"),
    _hparams("hparams with an unknown activation", "act_type=swich", "act_type", "Did you mean 'swish'"),
    _hparams("hparams with an unknown NMS method", "nms_configs.method=fast", "expected hard or gaussian"),
    _hparams("hparams with an IoU above one", "nms_configs.iou_thresh=50", "expected 0 to 1"),
    _hparams("hparams with a text for an IoU", "nms_configs.iou_thresh=half", "expected a number"),
    _hparams("hparams with no detections", "nms_configs.max_output_size=0", "at least 1"),
    _hparams("hparams with levels upside down", "min_level=7,max_level=3", "max_level"),
    _hparams("hparams with a level too coarse", "max_level=40", "max_level", "from 3 to 12"),
    _hparams("hparams with no aspect ratio", "aspect_ratios=[]", "aspect_ratios"),
    _hparams("hparams with a deviation of zero", "stddev_rgb=0", "stddev_rgb", "above 0"),
    _hparams("hparams with two means for three channels", "mean_rgb=[1.0, 2.0]", "red, green and blue"),
    _hparams("hparams with an unknown label map", "label_map=imagenet", "expected coco, voc, waymo"),
    _hparams("hparams with an unknown backbone", "backbone_name=resnet50", "backbone_name", needs=["tensorflow"]),
    _hparams("hparams with an unknown pyramid", "fpn_name=pan", "fpn_name", needs=["tensorflow"]),
    _hparams("hparams with a set for a number", "num_classes={1}", "set"),
    _hparams("hparams with a bracket a thousand deep", "num_classes=" + "(" * 3000, "num_classes must be a number"),
    _hparams("hparams of another model", "name=efficientdet-d1", "add --model-name efficientdet-d1"),
    _refused(
        "weights beside the config.yaml of another model",
        *["--model-name", "efficientdet-lite0", "--model-dir", "{folder}"],
        words=["config.yaml is of efficientdet-d1", "add --model-name efficientdet-d1"],
        prepare=_file("config.yaml", "name: efficientdet-d1\nimage_size: !!python/tuple [64, 64]\n"),
    ),
    _refused(
        "weights beside a config.yaml that would run Python",
        *["--model-name", "efficientdet-lite0", "--model-dir", "{folder}"],
        words=["cannot be used as YAML", "give --hparams"],
        prepare=_file("config.yaml", "image_size: !!python/object/apply:os.system ['touch x']\n"),
    ),
    _hparams("an hparams file that does not exist", "{folder}/none.yaml", "cannot be read"),
    _hparams(
        "an hparams file that is a YAML bomb", "{folder}/bomb.yaml", "more than", prepare=_file("bomb.yaml", BOMB)
    ),
    _hparams(
        "an hparams file that is a list", "{folder}/list.yaml", "`key: value`", prepare=_file("list.yaml", "- 1\n")
    ),
    Case(
        "--exec-file together with --exec-output-dir",
        ["--exec-file", "a", "--exec-output-dir", "b"],
        2,
        ["give one of them"],
        "embedded",
    ),
    Case("--compile-only without a place for the file", ["--compile-only"], 2, ["add --exec-output-dir"], "embedded"),
    Case(
        "a million requests in flight",
        ["--requests-in-flight", "1000000"],
        2,
        ["--requests-in-flight", "to"],
        "embedded",
    ),
    Case("no request a second", ["--arrival-rate", "0"], 2, ["--arrival-rate", "a number"], "embedded"),
    Case("one request in the age of the universe", ["--arrival-rate", "1e-300"], 2, ["--arrival-rate"], "embedded"),
    Case("an endless rate of requests", ["--arrival-rate", "inf"], 2, ["--arrival-rate"], "embedded"),
    Case("--measure of something else", ["--measure", "everything"], 2, ["one of network, device"], "embedded"),
]
