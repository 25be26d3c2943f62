# SPDX-License-Identifier: Apache-2.0
"""The configuration, one frozen dataclass per concern; every field made by `option` is also a flag and a preset key."""

# ruff: noqa: RUF009 - `option` makes a dataclasses.field, which is what the rule asks for

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple, Union

from ipu_utils.base.errors import ConfigError
from ipu_utils.config.facets import (
    COMPILED,
    CONTENT,
    IPU_PROGRAM,
    ON_CPU,
    ON_IPU,
    TALK,
    WORK,
    Compiled,
    axis,
    compiled_as,
)
from ipu_utils.config.options import (
    Checked,
    Word,
    boolean,
    choice,
    count_or_path,
    image_size,
    option,
    path,
    switch,
    text,
    whole_number,
    words,
)
from ipu_utils.config.other_tools import precision_hint
from ipu_utils.nms.nms_settings import SCORE_THRESHOLDS

SIZES = ("d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d7x", "lite0", "lite1", "lite2", "lite3", "lite3x", "lite4")
MODEL_NAMES = tuple(f"efficientdet-{size}" for size in SIZES)
# effdet, PyTorch's EfficientDet, calls them tf_efficientdet_d0.
MODEL_ALIASES = {alias: f"efficientdet-{size}" for size in SIZES for alias in (size, f"tf_efficientdet_{size}")}
DEFAULT_PERCENTILES = (50.0, 90.0, 95.0, 99.0)
MIN_IO_TILES, MAX_IO_TILES = 32, 192
MAX_PREFETCH_DEPTH = 255  # the infeed queue's own limit
# Beyond what anybody runs, below what breaks lists, threads and clocks.
MAX_BATCH, MAX_COUNT, MAX_THREADS = 65536, 10_000_000, 1024
CALIBRATION_IMAGES = 64  # as many as int8 is calibrated on where nobody says how many


class Precision(Word):
    """Number types, by the names NumPy and TensorFlow know them."""

    FLOAT = "float32"
    HALF = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    UINT8 = "uint8"

    @property
    def word(self) -> str:
        """The command line's word: "half" for float16."""
        return next(word for word, precision in PRECISION_WORDS.items() if precision is self)


class NmsMode(Word):
    """Which classes of an anchor are candidates, and which boxes suppress each other."""

    BEST_CLASS = "best-class"
    CLASS_AGNOSTIC = "class-agnostic"
    MULTI_CLASS = "multi-class"


PRECISION_WORDS = {
    "float": Precision.FLOAT,
    "half": Precision.HALF,
    "bfloat16": Precision.BFLOAT16,
    "int8": Precision.INT8,
    "uint8": Precision.UINT8,
}


PRECISION_ALIASES = {
    **dict.fromkeys(("fp32", "f32", "float32", "single"), "float"),
    **dict.fromkeys(("fp16", "f16", "float16"), "half"),
    **{"bf16": "bfloat16", "bfloat": "bfloat16", "i8": "int8", "u8": "uint8"},  # OpenVINO's words, as f32 and f16
}


def _precision(*names: str):
    aliases = {alias: word for alias, word in PRECISION_ALIASES.items() if word in names}
    return choice({name: PRECISION_WORDS[name] for name in names}, aliases=aliases, hint=precision_hint)


STREAMED = ("image-directory", "video")  # datasets of any number of images, which are decoded beside the device's work


@dataclass(frozen=True)
class DataConfig(Checked):
    """Where images come from and how many travel together."""

    dataset_type: str = option(
        "generated",
        words("generated", "repeated-image", "image-directory", "single-image", "video"),
        "generated: uint8 noise from --seed; repeated-image: one image over and over; image-directory: every image of "
        "a folder, or that a pattern matches; single-image: one image in batches of one; sets --micro-batch-size and "
        "--benchmark-repeats to 1; video: every frame of a video (needs PyAV)",
        facets=WORK,
    )
    image_path: Optional[Path] = option(
        None,
        path("PATH"),
        "the image, the folder of images, a quoted pattern such as 'photos/*.jpg', or the video; decides on "
        "--dataset-type where that is not given",
        facets=CONTENT,
        first=2,
    )
    image_size: Optional[Tuple[int, int]] = option(  # (height, width) in pixels
        None,
        image_size(),
        "size of the network's input in pixels: one number, or WIDTHxHEIGHT",
        "the model's own",
        facets=CONTENT._replace(compiled=compiled_as("image_size")),
    )
    micro_batch_size: int = option(
        1,
        whole_number(1, MAX_BATCH),
        "images in a batch on one replica",
        facets=WORK._replace(compiled=compiled_as("batch_size"), sweep=axis(2)),
        first=8,
    )
    dataset_prefetch_buffer: int = option(
        0,
        whole_number(0, MAX_BATCH),
        "batches that the host prepares ahead, 0 for two; apart from the IPU's --opt-prefetch-depth",
        facets=WORK,
    )
    skip_bad_images: bool = switch(
        "exit with status 0 although files of the folder could not be read and were skipped, not 3", facets=TALK
    )
    seed: int = option(
        0,
        whole_number(0, 2**32 - 1),
        "seed of generated images and random weights",
        facets=CONTENT._replace(compiled=COMPILED._replace(fixed=False)),
    )
    share: Tuple[int, int] = (0, 1)  # (index, count): of so many instances this one, which takes every count-th image
    results_dir: Optional[Path] = None  # where this run writes pictures, which are no photographs

    @property
    def has_photographs(self) -> bool:
        """Are there images of somebody's, each of which is to be read?"""
        return self.dataset_type in ("single-image", *STREAMED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset_type != "generated" and self.image_path is None:
            raise ConfigError(f"--dataset-type {self.dataset_type} reads images: add --image-path FILE_OR_FOLDER.")


@dataclass(frozen=True)
class ModelConfig(Checked):
    """The network, its weights and the number types it computes with."""

    model_name: str = option(
        "efficientdet-d0",
        words(*MODEL_NAMES, metavar="NAME", aliases=MODEL_ALIASES),
        "network to run, d0 for short; like --micro-batch-size, --model-precision, --nms-mode and --engine it takes "
        "a comma list, every combination of which is measured: " + ", ".join(MODEL_NAMES),
        facets=CONTENT._replace(compiled=compiled_as("model_name"), in_presets=False, sweep=axis(1), printed=False),
        first=1,
    )
    model_dir: Optional[Path] = option(
        None, path("PATH"), "checkpoint: folder, also of a SavedModel, prefix or file, .h5, .tar.gz or .tgz; must be "
        "there when named", "tmp/<model-name>", facets=CONTENT._replace(compiled=COMPILED), first=3)  # fmt: skip
    hparams: str = option(
        "",
        text("TEXT|FILE"),
        'changes to the model configuration, as "a=1,b.c=2" or a YAML file',
        "the config.yaml of AutoML's trainer beside the weights, where there is one",
        facets=CONTENT._replace(compiled=COMPILED),
    )
    random_weights: bool = switch(
        "use random weights, with a class head that gives about --random-candidates candidates",
        facets=CONTENT._replace(compiled=COMPILED),
        first=4,
    )
    random_candidates: int = option(
        300,
        whole_number(0, MAX_COUNT),
        "candidates above the score threshold that random weights give an image",
        facets=CONTENT._replace(compiled=COMPILED),
    )
    no_ema: bool = switch(
        "load a checkpoint's raw weights, not the averaged copies that the published accuracy is of",
        facets=CONTENT._replace(compiled=COMPILED),
    )
    model_precision: Optional[Precision] = option(
        None,
        _precision("float", "half", "bfloat16", "int8"),
        "number type of the network; int8 is calibrated on --calibration-images",
        "what suits the device: half on an IPU, bfloat16 on a CPU with AMX, float elsewhere",
        facets=CONTENT._replace(compiled=compiled_as("precision"), sweep=axis(3)),
        first=7,
    )
    calibration_images: Union[int, Path, None] = option(
        None,
        count_or_path(MAX_BATCH, "PATH|N"),
        "images that the ranges of int8 are taken from, like those that it is going to see: a folder, an image, a "
        "quoted pattern, or how many of the run's own",
        f"{CALIBRATION_IMAGES} of the run's own; for random weights on generated data, of the images that those are "
        "made from",
        facets=CONTENT._replace(read_by=ON_CPU, compiled=COMPILED._replace(devices=ON_CPU)),
    )
    partials_precision: Optional[Precision] = option(
        None,
        _precision("float", "half"),
        "IPU: number type of partial sums",
        "as --model-precision",
        facets=IPU_PROGRAM,
    )
    io_precision: Precision = option(
        Precision.UINT8,
        _precision("uint8", "float", "half"),
        "number type in which images travel to the device",
        facets=CONTENT._replace(compiled=compiled_as("input_type")),
    )

    @property
    def weights_path(self) -> Path:
        """Folder in which the checkpoint is looked for."""
        return Path("tmp") / self.model_name if self.model_dir is None else self.model_dir


@dataclass(frozen=True)
class NmsConfig(Checked):
    """Post-processing; the thresholds are hyper-parameters (`nms_configs`)."""

    onchip_nms: bool = option(
        True,
        boolean(),
        "post-process on the device; given without a value, the flag switches it off",
        facets=WORK._replace(compiled=Compiled(ON_IPU, by_value=False)),
    )
    nms_mode: NmsMode = option(
        NmsMode.BEST_CLASS,
        choice({mode.value: mode for mode in NmsMode}),
        "best-class: an anchor keeps its best class, boxes of one class suppress each other; class-agnostic: its best "
        "class, boxes of every class suppress each other; multi-class: every class of an anchor is a candidate",
        facets=WORK._replace(compiled=compiled_as("nms_mode"), sweep=axis(4)),
    )
    score_preset: Optional[str] = option(
        None,
        words(*SCORE_THRESHOLDS),
        f"score threshold: accuracy keeps what scores above {SCORE_THRESHOLDS['accuracy']}, as measuring AP needs, "
        f"deployment above {SCORE_THRESHOLDS['deployment']}; --hparams wins",
        "deployment",
        facets=CONTENT._replace(compiled=COMPILED),
    )
