# SPDX-License-Identifier: Apache-2.0
"""What other benchmarks and detectors call an option or a value: what is said to whoever types that.

The names are those of OpenVINO's benchmark_app, LiteRT's benchmark_model, TensorRT's trtexec, Ultralytics' yolo,
effdet and google/automl, where they mean what an option here does.
"""

import re
from typing import Dict, Iterable, NamedTuple, Optional

# By the option here, the names elsewhere: without the dashes in front, `_` as `-`, in small letters. The value that was
# typed comes in the place of the word in capitals; where there is none, the answer is to a switch.
_OPTIONS = {
    "--model-name NAME": "model models m arch network",
    "--model-dir PATH": "weights w checkpoint ckpt ckpt-path checkpoint-path checkpoint-dir initial-checkpoint "
    "saved-model-dir model-path model-file weights-path weights-dir",
    "--image-path PATH": "source input inputs i images imgs input-image input-images input-video paths-to-input "
    "path-to-images data-dir data-path dataset dataset-path dataset-dir image-dir image-folder image-file images-dir "
    "video",
    "--image-size SIZE": "imgsz img img-size input-size input-image-size size shape shapes resolution",
    "--micro-batch-size N": "batch b bs",
    "--num-repeats N": "niter number-iterations n iterations iters num-iterations runs num-runs bm-runs repeat repeats",
    "--min-seconds X": "time t duration seconds min-secs",
    "--num-threads N": "cpu-threads intra-op-num-threads",
    "--num-streams N": "streams infstreams",
    "--requests-in-flight N": "nireq number-infer-requests concurrency",
    "--arrival-rate X": "max-irate maximum-inference-rate rate",
    "--seed N": "random-seed rng-seed rand-seed",
    "--percentiles P": "percentile latency-percentile",
    "--hparams nms_configs.score_thresh=X": "conf conf-thres conf-threshold confidence score-thr score-thresh "
    "score-threshold min-score-thresh min-score threshold",
    "--hparams nms_configs.iou_thresh=X": "iou iou-thres iou-thresh iou-threshold nms-thres nms-threshold",
    "--hparams nms_configs.max_output_size=N": "max-det max-detections max-boxes-to-draw",
    "--hparams nms_configs.method=METHOD": "nms-method",
    "--nms-mode class-agnostic": "agnostic-nms",
    "--onchip-nms false": "no-nms",
    "--config NAME": "cfg config-file yaml preset-file",
    "--device DEVICE": "d target-device",
    "--device gpu": "gpu gpus cuda use-gpu",
    "--device cpu": "cpu no-cuda",
    "--engine ENGINE": "backend framework runtime provider",
    "--model-precision PRECISION": "precision precisions dtype data-type infer-precision",
    "--model-precision half": "half fp16",
    "--model-precision bfloat16": "bf16",
    "--model-precision int8": "int8 quantize quantise",
    "--io-precision PRECISION": "input-precision ip",
    "--output-predictions": "save save-img show view-img draw output-video",
    "--output-dir FOLDER": "output o out outdir output-image-dir save-dir project",
    "--report FILE": "html report-html results-html output-html",
    "--results-json FILE": "json output-json report-json export-json exporttimes results-file",
    "--results-csv FILE": "csv export-csv report-csv output-csv",
    "--log-level info": "verbose v",
    "--quiet": "q silent",
    "--executable-cache-dir FOLDER": "cache-dir cdir",
    "--exec-file FILE": "loadengine engine-file",
    "--exec-output-dir FOLDER": "saveengine",
}
# What has no option here.
_TEXTS = {
    "hint perf-hint": "ipu_inference.py is made for throughput, ipu_embedded_inference.py for latency.",
    "graph onnx path-to-model": "Networks are built here, from --model-name; python -m ipu_utils.export writes files.",
    "pretrained": "python -m ipu_utils.fetch_weights brings the published weights; --model-dir names others.",
}
_BY_NAME = {name: ours for ours, names in _OPTIONS.items() for name in names.split()}
_TOLD = {name: text for names, text in _TEXTS.items() for name in names.split()}
_PLACE = re.compile(r"\b[A-Z]+$")  # of the value
_PLAIN = re.compile(r"[\w./:+@%-]+")  # a value that a shell takes as it is
FALSE = ("false", "0", "no", "off")


class Answer(NamedTuple):
    """What is typed here for something that was typed as elsewhere."""

    name: str  # what was typed, without its value
    ours: str  # the option here, with a word in capitals for its value; empty where there is none
    filled: str  # the same with the value that was typed, where there was one
    text: str = ""  # a sentence, where there is no option


def option_called(typed: str, following: Optional[str] = None) -> Optional[Answer]:
    """The answer to an option of another tool; None where it is known from none.

    Args:
      typed: a word such as `-niter`, `--imgsz=640`, `-b4`, or `conf=0.25`, as Ultralytics has it.
      following: the word behind it, if that may be its value.
    """
    name, is_joined, value = typed.partition("=")
    attached = re.fullmatch(r"(-[a-z])(\d+)", typed, re.ASCII)
    if attached:
        name, value = attached.groups()
    if name == "-V":  # of most programs; `-v` is not their version
        return Answer(name, "--version", "--version")
    known = name.lstrip("-").replace("_", "-").lower()
    if known in _TOLD:
        return Answer(name, "", "", _TOLD[known])
    given = value if is_joined or attached else following or ""
    if known == "enable-ema":  # of google/automl, which has it on as well
        return Answer(name, "--no-ema", "--no-ema") if given.lower() in FALSE else None
    ours = _BY_NAME.get(known)
    if ours is None:
        return None
    if _PLACE.search(ours):
        return Answer(name, ours, _PLACE.sub(given, ours) if _PLAIN.fullmatch(given) else ours)
    return None if given.lower() in FALSE else Answer(name, ours, ours)


def names_elsewhere() -> Dict[str, Iterable[str]]:
    """The names of other tools by the option here that answers them."""
    return {ours: names.split() for ours, names in _OPTIONS.items()}


_ON_A_GPU = ("tensorrt", "trt", "torchtensorrt", "torchtrt", "cuda", "cudnn")
_ELSEWHERE = ("pytorch", "torch", "torchscript", "jax", "keras", "xla", "tvm", "ncnn", "mnn", "coreml", "onednn",
              "mkldnn", "rknn", "snpe", "paddle", "deepsparse")  # fmt: skip


def _letters(typed: str) -> str:
    return re.sub(r"[-_. \d]", "", typed).lower()


def engine_hint(typed: str) -> str:
    """What is said of an engine that this program does not have."""
    if _letters(typed) in _ON_A_GPU:
        return " On a GPU, tensorflow or onnxruntime computes: add --device gpu."
    if _letters(typed) in _ELSEWHERE:
        return " For other engines, python -m ipu_utils.export writes the network as a file."
    return ""


def device_hint(typed: str) -> str:
    """What is said of a GPU that is called by its number."""
    numbered = re.fullmatch(r"(?:/?(?:cuda|gpu):)?(\d{1,3})(?:,\d{1,3})*", typed.lower(), re.ASCII)
    if numbered is None:
        return ""
    return f" One of several GPUs is chosen from outside: CUDA_VISIBLE_DEVICES={int(numbered[1])}, and --device gpu."


def precision_hint(typed: str) -> str:
    """What is said of a number type that a network does not have, but images do."""
    return " uint8 is how images travel: --io-precision uint8." if typed.lower() in ("uint8", "u8") else ""
