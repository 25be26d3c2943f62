# SPDX-License-Identifier: Apache-2.0
"""The configuration of the hardware: what every device reads, and what only an IPU does."""

# ruff: noqa: RUF009 - `option` makes a dataclasses.field, which is what the rule asks for

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ipu_utils.base.errors import ConfigError
from ipu_utils.config.facets import CONTENT, FOLDER, IPU_PROGRAM, NOT_COMPILED, ON_CPU, ON_HOST, TALK, WORK, axis
from ipu_utils.config.model_options import MAX_COUNT, MAX_IO_TILES, MAX_PREFETCH_DEPTH, MAX_THREADS, MIN_IO_TILES
from ipu_utils.config.options import Checked, option, path, positive_number, switch, whole_number, words
from ipu_utils.config.other_tools import device_hint, engine_hint

ENGINE_WORDS = ("openvino", "litert", "onnxruntime", "tensorflow")  # as in `ipu_utils.executable.engines`
ENGINE_ALIASES = {"ov": "openvino", "tflite": "litert", "onnx": "onnxruntime", "ort": "onnxruntime", "tf": "tensorflow"}
ALL = "all"  # of them, those that can be used: a sweep
_option, _switch = (functools.partial(made, facets=IPU_PROGRAM) for made in (option, switch))  # of an IPU's program


@dataclass(frozen=True)
class DeviceConfig(Checked):
    """The hardware. `load_config` resolves `auto`, so that `device` is then ipu, cpu or gpu."""

    device: str = option(
        "auto",
        words("auto", "ipu", "cpu", "gpu", aliases={"cuda": "gpu"}, hint=device_hint),
        "where to run; auto takes an attached IPU, else a GPU, else the CPU",
        facets=CONTENT._replace(in_presets=False, printed=False),
        first=5,
    )
    engine: str = option(
        "auto",
        words("auto", ALL, *ENGINE_WORDS, aliases=ENGINE_ALIASES, hint=engine_hint),
        "host: what executes the network; auto takes OpenVINO on a CPU where it is installed, LiteRT for int8, else "
        "TensorFlow; on a GPU TensorFlow, or onnxruntime if it is named; of a given executable, what compiled it; all "
        "measures each one that is installed, as a comma list does",
        facets=WORK._replace(read_by=ON_HOST, sweep=axis(5)),
        first=6,
    )
    num_threads: Optional[int] = option(
        None,
        whole_number(1, MAX_THREADS),
        "host: threads of the engine",
        "the cores this process may use",
        facets=WORK._replace(read_by=ON_HOST),
    )
    force: bool = switch(
        "CPU: run although the memory is estimated not to suffice", facets=TALK._replace(read_by=ON_CPU)
    )
    num_streams: Optional[int] = option(
        None,
        whole_number(1, MAX_THREADS),
        "host: batches that are computed side by side, each on its share of the threads",
        "one a core, fewer for large images; ipu_embedded_inference.py: one",
        facets=WORK._replace(read_by=ON_HOST),
    )
    pin: bool = switch(
        "host: bind each instance that mpirun starts to a share of the cores of its own",
        facets=WORK._replace(read_by=ON_HOST),
    )
    executable_cache_dir: Optional[Path] = option(
        None,
        path("FOLDER"),
        "folder in which compiled programs are kept for the next run; on a host OpenVINO's, or TensorFlow's graph",
        facets=FOLDER,
    )


@dataclass(frozen=True)
class IpuConfig(Checked):
    """What only an IPU reads."""

    synthetic: bool = _switch("make the input on the device, so that nothing travels between host and device")
    available_memory_proportion: float = _option(
        0.6, positive_number(at_most=1.0), "share of tile memory that convolutions may use for temporary data"
    )
    ipu_connection_type: str = _option(
        "on_demand",
        words("always", "never", "on_demand"),
        "when to attach: always (before compiling), on_demand (when the first program runs), never (compile only)",
        facets=IPU_PROGRAM._replace(compiled=NOT_COMPILED),
    )
    opt_device_rearrange: bool = _switch(
        "rearrange streamed tensors on the device instead of the host; takes device memory"
    )
    opt_use_io_tiles: bool = _switch("set tiles apart for streaming, so that it overlaps with computing")
    opt_num_io_tiles: Optional[int] = _option(
        None, whole_number(MIN_IO_TILES, MAX_IO_TILES), "tiles that --opt-use-io-tiles sets apart, 32 to 192",
        "none; 96 when --opt-use-io-tiles is given without it",
    )  # fmt: skip
    opt_prefetch_data_streams: bool = _switch("let Poplar fetch input ahead of the program's need")
    opt_prefetch_depth: int = _option(
        128, whole_number(1, MAX_PREFETCH_DEPTH), "batches that the infeed buffers, 1 to 255; the presets take 3 or 4"
    )
    opt_conv_dithering: bool = _switch("spread convolutions more evenly over the tiles")
    opt_internal_exchange_target: Optional[str] = _option(
        None, words("memory", "balanced", "cycles"), "what the exchange code between tiles is made small or fast for",
        "none; memory for efficientdet-d4 and larger",
    )  # fmt: skip
    opt_liveness_scheduler: str = _option(
        "best",
        words("best", "clustering", "post_order", "look_ahead", "shortest_path"),
        "order of operations that keeps the fewest tensors alive; best tries them all",
    )
    opt_scheduler_lookahead_depth: int = _option(
        5, whole_number(1, MAX_COUNT), "look_ahead scheduler: steps looked ahead"
    )
    opt_scheduler_lookahead_search_space: int = _option(
        64, whole_number(1, MAX_COUNT), "look_ahead scheduler: nodes considered"
    )
    skip_execution_report: bool = _switch("profile the compiled graph only, without instrumenting the program")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.opt_use_io_tiles and self.opt_num_io_tiles is None:
            raise ConfigError(
                f"--opt-use-io-tiles needs a number: add --opt-num-io-tiles {MIN_IO_TILES} to {MAX_IO_TILES}."
            )
