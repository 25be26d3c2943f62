# SPDX-License-Identifier: Apache-2.0
"""The configuration, one frozen dataclass per concern; every field made by `option` is also a flag and a preset key."""

# ruff: noqa: RUF009 - `option` makes a dataclasses.field, which is what the rule asks for

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

from ipu_utils.errors import ConfigError
from ipu_utils.options import (
    Checked,
    Word,
    boolean,
    choice,
    flag_of,
    image_size,
    option,
    path,
    percents,
    positive_number,
    text,
    whole_number,
    words,
)

SIZES = ("d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d7x", "lite0", "lite1", "lite2", "lite3", "lite3x", "lite4")
MODEL_NAMES = tuple(f"efficientdet-{size}" for size in SIZES)
DEFAULT_PERCENTILES = (50.0, 90.0, 95.0, 99.0)
MIN_IO_TILES, MAX_IO_TILES = 32, 192
MAX_PREFETCH_DEPTH = 255  # the infeed queue's own limit
# Beyond what anybody runs, below what breaks lists, threads and clocks.
MAX_BATCH, MAX_COUNT, MAX_THREADS = 65536, 10_000_000, 1024


class Precision(Word):
    """Number types, by the names NumPy and TensorFlow know them."""

    FLOAT = "float32"
    HALF = "float16"
    BFLOAT16 = "bfloat16"
    UINT8 = "uint8"


class NmsMode(Word):
    """Which classes of an anchor are candidates, and which boxes suppress each other."""

    BEST_CLASS = "best-class"
    CLASS_AGNOSTIC = "class-agnostic"
    MULTI_CLASS = "multi-class"


PRECISION_WORDS = {
    "float": Precision.FLOAT,
    "half": Precision.HALF,
    "bfloat16": Precision.BFLOAT16,
    "uint8": Precision.UINT8,
}


def _precision(*names: str):
    return choice({name: PRECISION_WORDS[name] for name in names})


@dataclass(frozen=True)
class DataConfig(Checked):
    """Where images come from and how many travel together."""

    dataset_type: str = option(
        "generated",
        words("generated", "repeated-image", "image-directory", "single-image"),
        "generated: uint8 noise from --seed; repeated-image: one image over and over; image-directory: every image of "
        "a folder; single-image: one image in batches of one; sets --micro-batch-size and --benchmark-repeats to 1",
    )
    image_path: Optional[Path] = option(
        None, path("PATH"), "the image, or the folder of images, that --dataset-type asks for", "none"
    )
    image_size: Optional[Tuple[int, int]] = option(  # (height, width) in pixels
        None, image_size(), "size of the network's input in pixels: one number, or WIDTHxHEIGHT", "the model's own"
    )
    micro_batch_size: int = option(1, whole_number(1, MAX_BATCH), "images in a batch on one replica")
    dataset_prefetch_buffer: int = option(
        0,
        whole_number(0, MAX_BATCH),
        "batches that the host prepares ahead, 0 for two; apart from the IPU's --opt-prefetch-depth",
    )
    skip_bad_images: bool = option(
        False, boolean(), "exit with status 0 although files of the folder could not be read and were skipped, not 3"
    )
    seed: int = option(0, whole_number(0, 2**32 - 1), "seed of generated images and random weights")
    share: Tuple[int, int] = (0, 1)  # (index, count): of so many instances this one, which takes every count-th image

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset_type != "generated" and self.image_path is None:
            raise ConfigError(f"--dataset-type {self.dataset_type} reads images: add --image-path FILE_OR_FOLDER.")


@dataclass(frozen=True)
class ModelConfig(Checked):
    """The network, its weights and the number types it computes with."""

    model_name: str = option(
        "efficientdet-d0",
        words(*MODEL_NAMES, metavar="NAME"),
        "network to run; like --micro-batch-size, --model-precision and --nms-mode it takes a comma list, every "
        "combination of which is measured: " + ", ".join(MODEL_NAMES),
    )
    model_dir: Optional[Path] = option(
        None, path("PATH"), "checkpoint: folder, also of a SavedModel, prefix or file, .h5, .tar.gz or .tgz; must be "
        "there when named", "tmp/<model-name>",
    )  # fmt: skip
    hparams: str = option(
        "",
        text("TEXT|FILE"),
        'changes to the model configuration, as "a=1,b.c=2" or a YAML file',
        "the config.yaml of AutoML's trainer beside the weights, where there is one",
    )
    random_weights: bool = option(
        False, boolean(), "use random weights, with a class head that gives about --random-candidates candidates"
    )
    random_candidates: int = option(
        300, whole_number(0, MAX_COUNT), "candidates above the score threshold that random weights give an image"
    )
    no_ema: bool = option(
        False, boolean(), "load a checkpoint's raw weights, not the averaged copies that the published accuracy is of"
    )
    model_precision: Optional[Precision] = option(
        None,
        _precision("float", "half", "bfloat16"),
        "number type of the network",
        "what suits the device: half on an IPU, bfloat16 on a CPU with AMX, float elsewhere",
    )
    partials_precision: Optional[Precision] = option(
        None, _precision("float", "half"), "IPU: number type of partial sums", "as --model-precision"
    )
    io_precision: Precision = option(
        Precision.UINT8, _precision("uint8", "float", "half"), "number type in which images travel to the device"
    )

    @property
    def weights_path(self) -> Path:
        """Folder in which the checkpoint is looked for."""
        return Path("tmp") / self.model_name if self.model_dir is None else self.model_dir


@dataclass(frozen=True)
class NmsConfig(Checked):
    """Post-processing; the thresholds are hyper-parameters (`nms_configs`)."""

    onchip_nms: bool = option(
        True, boolean(), "post-process on the device; given without a value, the flag switches it off"
    )
    nms_mode: NmsMode = option(
        NmsMode.BEST_CLASS,
        choice({mode.value: mode for mode in NmsMode}),
        "best-class: an anchor keeps its best class, boxes of one class suppress each other; class-agnostic: its best "
        "class, boxes of every class suppress each other; multi-class: every class of an anchor is a candidate",
    )
    preset: Optional[str] = option(
        None, words("accuracy", "deployment"), "score threshold: accuracy keeps what scores above 0.001, as measuring "
        "AP needs, deployment above 0.4; --hparams wins", "deployment",
    )  # fmt: skip


@dataclass(frozen=True)
class DeviceConfig(Checked):
    """The hardware. `load_config` resolves `auto`, so that `device` is then ipu, cpu or gpu."""

    device: str = option(
        "auto", words("auto", "ipu", "cpu", "gpu"), "where to run; auto takes an attached IPU, else a GPU, else the CPU"
    )
    engine: str = option(
        "auto",
        words("auto", "tensorflow", "openvino"),
        "host: what executes the network; auto takes OpenVINO on a CPU where it is installed, TensorFlow on a GPU; "
        "executables are OpenVINO's",
    )
    num_threads: Optional[int] = option(
        None, whole_number(1, MAX_THREADS), "host: threads of the engine", "the cores this process may use"
    )
    force: bool = option(False, boolean(), "CPU: run although the memory is estimated not to suffice")
    num_streams: Optional[int] = option(
        None,
        whole_number(1, MAX_THREADS),
        "host: batches that are computed side by side, each on its share of the threads",
        "one a core, fewer for large images; ipu_embedded_inference.py: one",
    )
    pin: bool = option(
        False, boolean(), "host: bind each instance that mpirun starts to a share of the cores of its own"
    )


@dataclass(frozen=True)
class IpuConfig(Checked):
    """What only an IPU reads."""

    synthetic: bool = option(
        False, boolean(), "make the input on the device, so that nothing travels between host and device"
    )
    available_memory_proportion: float = option(
        0.6, positive_number(at_most=1.0), "share of tile memory that convolutions may use for temporary data"
    )
    ipu_connection_type: str = option(
        "on_demand",
        words("always", "never", "on_demand"),
        "when to attach: always (before compiling), on_demand (when the first program runs), never (compile only)",
    )
    executable_cache_dir: Optional[Path] = option(
        None,
        path("FOLDER"),
        "folder in which compiled programs are kept for the next run; on a host OpenVINO's, or TensorFlow's graph",
        "none",
    )
    opt_device_rearrange: bool = option(
        False, boolean(), "rearrange streamed tensors on the device instead of the host; takes device memory"
    )
    opt_use_io_tiles: bool = option(
        False, boolean(), "set tiles apart for streaming, so that it overlaps with computing"
    )
    opt_num_io_tiles: Optional[int] = option(
        None, whole_number(MIN_IO_TILES, MAX_IO_TILES), "tiles that --opt-use-io-tiles sets apart, 32 to 192",
        "none; 96 when --opt-use-io-tiles is given without it",
    )  # fmt: skip
    opt_prefetch_data_streams: bool = option(False, boolean(), "let Poplar fetch input ahead of the program's need")
    opt_prefetch_depth: int = option(
        128, whole_number(1, MAX_PREFETCH_DEPTH), "batches that the infeed buffers, 1 to 255"
    )
    opt_conv_dithering: bool = option(False, boolean(), "spread convolutions more evenly over the tiles")
    opt_internal_exchange_target: Optional[str] = option(
        None, words("memory", "balanced", "cycles"), "what the exchange code between tiles is made small or fast for",
        "none; memory for efficientdet-d4 and larger",
    )  # fmt: skip
    opt_liveness_scheduler: str = option(
        "best",
        words("best", "clustering", "post_order", "look_ahead", "shortest_path"),
        "order of operations that keeps the fewest tensors alive; best tries them all",
    )
    opt_scheduler_lookahead_depth: int = option(
        5, whole_number(1, MAX_COUNT), "look_ahead scheduler: steps looked ahead"
    )
    opt_scheduler_lookahead_search_space: int = option(
        64, whole_number(1, MAX_COUNT), "look_ahead scheduler: nodes considered"
    )
    profile_dir: Optional[Path] = option(
        None,
        path("FOLDER"),
        "write app.json with arguments and configuration there, and on an IPU the compiler's profile",
        "none",
    )
    skip_execution_report: bool = option(
        False, boolean(), "profile the compiled graph only, without instrumenting the program"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.opt_use_io_tiles and self.opt_num_io_tiles is None:
            raise ConfigError(
                f"--opt-use-io-tiles needs a number: add --opt-num-io-tiles {MIN_IO_TILES} to {MAX_IO_TILES}."
            )


@dataclass(frozen=True)
class BenchmarkConfig(Checked):
    """How often to run. The throughput script times `num_repeats` calls of `benchmark_repeats` batches."""

    num_repeats: int = option(
        20,
        whole_number(1, MAX_COUNT),
        "calls, --warmup of which are not counted; ipu_embedded_inference.py: counted requests",
    )
    warmup: int = option(
        1,
        whole_number(0, MAX_COUNT),
        "calls, or requests of ipu_embedded_inference.py, that come first and are not counted",
        "1; ipu_embedded_inference.py: 10",
    )
    min_seconds: Optional[float] = option(
        None, positive_number(1e7), "go on after --num-repeats until the counted calls have taken so long", "none"
    )
    percentiles: Tuple[float, ...] = option(
        DEFAULT_PERCENTILES, percents(), "percentiles of the latency to report", "50,90,95,99"
    )
    benchmark_repeats: int = option(
        100,
        whole_number(1, MAX_COUNT),
        "batches in a call; an IPU's embedded executable: requests between restarts of its loop",
    )
    benchmark_host_postprocessing: bool = option(
        False, boolean(), "time post-processing on the host too; needs --onchip-nms false"
    )


@dataclass(frozen=True)
class OutputConfig(Checked):
    """What is written and how much is said."""

    output_predictions: bool = option(
        False, boolean(), "write every image once, annotated, and detections.json into --output-dir"
    )
    output_dir: Path = option(Path("./outputs"), path("FOLDER"), "folder of annotated images", "./outputs")
    results_json: Optional[Path] = option(
        None, path("FILE"), "write a record of the run as JSON: samples, configuration, machine (docs/RESULTS.md); "
        "- is standard output, and the report then goes to standard error", "none",
    )  # fmt: skip
    results_csv: Optional[Path] = option(
        None, path("FILE"), "append a row about the run to a table; - as with --results-json", "none"
    )
    coco_results: Optional[Path] = option(
        None, path("FILE"), "write all detections in COCO's results format; ids are the numbers in the file names, or "
        "those of --coco-annotations", "none",
    )  # fmt: skip
    coco_annotations: Optional[Path] = option(
        None, path("FILE"), "compare with these annotations: COCO's twelve numbers, by pycocotools", "none"
    )
    contact_sheet: Optional[Path] = option(
        None, path("FILE"), "write the first images, annotated, into one picture, .jpg or .png", "none"
    )
    report: Optional[Path] = option(
        None, path("FILE"), "write a self-contained HTML page with charts of the run or sweep", "none"
    )
    quiet: bool = option(
        False, boolean(), "no progress, notes or warnings on standard error; the report and errors remain"
    )
    print_config: bool = option(
        False, boolean(), "print every option's value as a preset for --config, and what follows from it, and stop"
    )
    dry_run: bool = option(False, boolean(), "check options and files, say what would run, and stop")
    debug: bool = option(False, boolean(), "log where every operation is placed")
    log_level: str = option(
        "warning",
        words("debug", "info", "warning", "error", "fatal"),
        "least important message shown on standard error",
    )

    @property
    def about_images(self) -> Optional[str]:
        """The flag of something to be written about images, None when there is nothing."""
        flags = [flag_of(name) for name in ("output_predictions", "coco_results", "coco_annotations", "contact_sheet")
                 if getattr(self, name)]  # fmt: skip
        return flags[0] if flags else None


@dataclass(frozen=True)
class EmbeddedConfig(Checked):
    """Options of `ipu_embedded_inference.py` alone."""

    exec_output_dir: Optional[Path] = option(
        None, path("FOLDER"), "keep the compiled executable there and start from it next time",
        "a temporary folder, removed at the end",
    )  # fmt: skip
    exec_file: Optional[Path] = option(
        None, path("FILE"), "run this executable, without compiling and without TensorFlow on a host", "none"
    )
    compile_only: bool = option(False, boolean(), "stop once the executable is written to --exec-output-dir")
    measure: str = option(
        "device",
        words("network", "device", "end-to-end"),
        "span that is timed: network (the network alone), device (uint8 image in memory to detections in memory), "
        "end-to-end (decoding and resizing included)",
    )
    requests_in_flight: int = option(1, whole_number(1, MAX_THREADS), "requests that are under way at the same time")
    arrival_rate: Optional[float] = option(
        None,
        positive_number(1e6, at_least=1e-3),
        "requests a second of a Poisson process; latency then counts from the planned arrival, so waiting shows",
        "none: a request starts when one ends",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.exec_file is not None and self.exec_output_dir is not None:
            raise ConfigError(
                "--exec-file runs a given executable, --exec-output-dir keeps a new one: give one of them."
            )
        if self.compile_only and self.exec_output_dir is None:
            raise ConfigError("--compile-only leaves an executable behind: add --exec-output-dir FOLDER to say where.")


IPU_ONLY = ("synthetic", "partials_precision", "available_memory_proportion", "ipu_connection_type",
            "opt_device_rearrange", "opt_use_io_tiles", "opt_num_io_tiles",
            "opt_prefetch_data_streams", "opt_prefetch_depth", "opt_conv_dithering", "opt_internal_exchange_target",
            "opt_liveness_scheduler", "opt_scheduler_lookahead_depth", "opt_scheduler_lookahead_search_space",
            "skip_execution_report")  # fmt: skip
HOST_ONLY = ("engine", "num_threads", "num_streams", "pin", "force")
