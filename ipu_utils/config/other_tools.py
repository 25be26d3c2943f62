# SPDX-License-Identifier: Apache-2.0
"""What other benchmarks and detectors call an option or a value: what is said to whoever types that.

The names are those of OpenVINO's benchmark_app, LiteRT's benchmark_model, TensorRT's trtexec, Ultralytics' yolo,
effdet and google/automl.
"""

import re
from typing import Iterable

# By how it is typed here, the names elsewhere: without the dashes in front, `_` as `-`, in small letters.
_OPTIONS = {
    "--model-name NAME": "model m arch network graph onnx",
    "--model-dir PATH": "weights w checkpoint ckpt ckpt-path initial-checkpoint pretrained saved-model-dir load",
    "--image-path PATH": "source input inputs i images img imgs input-image input-images data data-dir video",
    "--image-size SIZE": "imgsz img-size input-size input-image-size size shape shapes resolution",
    "--micro-batch-size N": "batch b bs",
    "--num-repeats N": "niter n iterations iters num-iterations runs num-runs bm-runs repeat repeats",
    "--min-seconds X": "time t duration seconds min-secs max-secs max-time",
    "--warmup N": "warmup-runs num-warmup warmup-iterations warm-up",
    "--num-threads N": "j cpu-threads intra-op-num-threads",
    "--num-streams N": "streams infer-streams",
    "--requests-in-flight N": "nireq concurrency",
    "--hparams nms_configs.score_thresh=0.3": "conf conf-thres conf-threshold confidence score-thresh score-threshold "
    "min-score-thresh min-score threshold",
    "--hparams nms_configs.iou_thresh=0.5": "iou iou-thres iou-thresh iou-threshold nms-thres nms-threshold",
    "--hparams nms_configs.max_output_size=100": "max-det max-detections max-boxes-to-draw",
    "--hparams FILE": "cfg yaml config-file",
    "--onchip-nms false": "no-nms",
    "--device DEVICE": "d target-device",
    "--device gpu": "gpu gpus cuda use-gpu",
    "--device cpu": "cpu no-cuda",
    "--engine ENGINE": "backend framework runtime provider delegate",
    "--model-precision PRECISION": "precision dtype data-type infer-precision",
    "--model-precision half": "half fp16",
    "--model-precision bfloat16": "bf16",
    "--model-precision int8": "int8 quantize quantise",
    "--io-precision PRECISION": "input-precision ip",
    "--output-predictions": "save save-img visualize visualise show draw",
    "--output-dir FOLDER": "output o out outdir output-image-dir save-dir project",
    "--results-json FILE": "json output-json export-json exporttimes results-file",
    "--results-csv FILE": "csv export-csv",
    "--config NAME": "c preset-file",
    "--log-level info": "verbose v",
    "--quiet": "q silent",
    "--exec-file FILE": "loadengine engine-file",
    "--exec-output-dir FOLDER": "saveengine",
}
_BY_NAME = {name: ours for ours, names in _OPTIONS.items() for name in names.split()}


def option_called(typed: str) -> str:
    """What is typed here for an option of another tool, such as `--num-repeats N` for `-niter`; else nothing."""
    return _BY_NAME.get(typed.lstrip("-").replace("_", "-").lower(), "")


def names_elsewhere() -> Iterable[str]:
    """All of the texts that `option_called` returns."""
    return _OPTIONS


def engine_hint(typed: str) -> str:
    """What is said of an engine that this program does not have."""
    if re.fullmatch(r"(tensorrt|trt|cuda|pytorch|torch|jax|tvm|ncnn|coreml|onednn)\w*", typed.lower()):
        return " On a GPU it is TensorFlow or onnxruntime that runs; docs/EXPORT.md writes the network for other tools."
    return ""


def device_hint(typed: str) -> str:
    """What is said of a device that is called by its number."""
    numbered = re.fullmatch(r"(?:(?:cuda|gpu)[:.]?)?(\d{1,3})", typed.lower())
    if numbered is None:
        return ""
    return f" One of several GPUs is chosen from outside: CUDA_VISIBLE_DEVICES={int(numbered[1])}, and --device gpu."


def precision_hint(typed: str) -> str:
    """What is said of a number type that a network does not have, but images do."""
    return " uint8 is how images travel: --io-precision uint8." if typed.lower() in ("uint8", "u8") else ""
