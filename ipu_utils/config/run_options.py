# SPDX-License-Identifier: Apache-2.0
"""The configuration of measuring, of what is written, and of the embedded script."""

# ruff: noqa: RUF009 - `option` makes a dataclasses.field, which is what the rule asks for

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

from ipu_utils.base.errors import ConfigError
from ipu_utils.config.facets import (
    APPENDED,
    COMPILED_BY_VALUE_ON_IPU,
    CONTENT,
    FOLDER,
    IMAGES,
    LENGTH,
    ON_IPU,
    RECORD,
    REFUSED,
    TALK,
    WORK,
    Compiled,
    Role,
)
from ipu_utils.config.model_options import DEFAULT_PERCENTILES, MAX_COUNT, MAX_THREADS
from ipu_utils.config.options import (
    Checked,
    flag_of,
    option,
    path,
    percents,
    positive_number,
    rules_of,
    switch,
    whole_number,
    words,
)


@dataclass(frozen=True)
class BenchmarkConfig(Checked):
    """How often to run. The throughput script times `num_repeats` calls of `benchmark_repeats` batches."""

    num_repeats: int = option(
        20,
        whole_number(1, MAX_COUNT),
        "calls, --warmup of which are not counted; ipu_embedded_inference.py: counted requests. With pictures, "
        "detections or accuracy asked for, each photograph is run once, unless this, --benchmark-repeats or "
        "--min-seconds is given",
        "20; the presets have others",
        facets=LENGTH._replace(repeats=True),
        first=9,
    )
    warmup: int = option(
        1,
        whole_number(0, MAX_COUNT),
        "calls, or requests of ipu_embedded_inference.py, that come first and are not counted",
        "1; ipu_embedded_inference.py: 10, or 1 where photographs are run once",
        facets=LENGTH,
    )
    min_seconds: Optional[float] = option(
        None,
        positive_number(1e7),
        "go on after --num-repeats until the counted calls have taken so long",
        facets=LENGTH._replace(repeats=True),
    )
    percentiles: Tuple[float, ...] = option(
        DEFAULT_PERCENTILES, percents(), "percentiles of the latency to report", facets=LENGTH
    )
    benchmark_repeats: int = option(
        100,
        whole_number(1, MAX_COUNT),
        "batches in a call; an IPU's embedded executable: requests between restarts of its loop",
        "100; the presets have others",
        facets=WORK._replace(compiled=COMPILED_BY_VALUE_ON_IPU, repeats=True),
    )
    benchmark_host_postprocessing: bool = switch(
        "time post-processing on the host too; needs --onchip-nms false", facets=WORK
    )
    one_pass: bool = False  # each photograph is run once, and what is found then is written


@dataclass(frozen=True)
class OutputConfig(Checked):
    """What is written and how much is said."""

    output_predictions: bool = switch(
        "write every image once, annotated, and detections.json into --output-dir",
        facets=IMAGES._replace(sweep=REFUSED),
        first=10,
    )
    output_dir: Path = option(
        Path("./outputs"), path("FOLDER"), "folder of annotated images", "./outputs", facets=FOLDER, first=11
    )
    picture_names: str = option(
        "image",
        words("image", "batch"),
        "names of annotated images. image: that of the image, coffee.png becomes coffee.jpg; batch: as the original "
        "program has them, <model>_<size>_output_b<batch>_img<row>.jpg",
        facets=TALK,
    )
    results_json: Optional[Path] = option(
        None,
        path("FILE", written_file=True),
        "write a record of the run as JSON: samples, configuration, machine (docs/RESULTS.md); "
        "- is standard output, and the report then goes to standard error",
        facets=RECORD,
        first=12,
    )
    results_csv: Optional[Path] = option(
        None,
        path("FILE", written_file=True),
        "append a row about the run to a table; - as with --results-json",
        facets=RECORD._replace(sweep=APPENDED),
    )
    coco_results: Optional[Path] = option(
        None,
        path("FILE", written_file=True),
        "write all detections in COCO's results format; ids are the numbers in the file names, or "
        "those of --coco-annotations",
        facets=IMAGES._replace(sweep=REFUSED),
    )
    coco_annotations: Optional[Path] = option(
        None, path("FILE"), "compare with these annotations: COCO's twelve numbers, by pycocotools", facets=IMAGES
    )
    contact_sheet: Optional[Path] = option(
        None,
        path("FILE", written_file=True),
        "write the first images, annotated, into one picture, .jpg or .png",
        facets=IMAGES._replace(sweep=REFUSED),
    )
    report: Optional[Path] = option(
        None,
        path("FILE", written_file=True),
        "write a self-contained HTML page with charts of the run or sweep",
        facets=RECORD,
    )
    profile_dir: Optional[Path] = option(
        None,
        path("FOLDER"),
        "write app.json with arguments and configuration there, and on an IPU the compiler's profile",
        facets=FOLDER._replace(role=Role.WORK_ON_IPU, compiled=COMPILED_BY_VALUE_ON_IPU, sweep=REFUSED),
    )
    quiet: bool = switch("no progress, notes or warnings on standard error; the report and errors remain", facets=TALK)
    print_config: bool = switch(
        "print every option's value as a preset for --config, and what follows from it, and stop",
        facets=TALK._replace(printed=False),
    )
    dry_run: bool = switch("check options and files, say what would run, and stop", facets=TALK._replace(printed=False))
    debug: bool = switch(
        "log where every operation is placed",
        facets=TALK._replace(role=Role.WORK_ON_IPU, compiled=COMPILED_BY_VALUE_ON_IPU),
    )
    log_level: str = option(
        "warning",
        words("debug", "info", "warning", "error", "fatal"),
        "least important message shown on standard error",
        facets=TALK,
    )

    @property
    def about_images(self) -> Optional[str]:
        """The flag of something to be written about images, None when there is nothing."""
        asked = (name for name, rule in rules_of(self).items() if rule.facets.role is Role.IMAGES)
        return next((flag_of(name) for name in asked if getattr(self, name)), None)


@dataclass(frozen=True)
class EmbeddedConfig(Checked):
    """Options of `ipu_embedded_inference.py` alone."""

    exec_output_dir: Optional[Path] = option(
        None,
        path("FOLDER"),
        "keep the compiled executable there and start from it next time",
        "a temporary folder, removed at the end",
        facets=FOLDER,
    )
    exec_file: Optional[Path] = option(
        None, path("FILE"), "run this executable, without compiling and without TensorFlow on a host", facets=CONTENT
    )
    compile_only: bool = switch("stop once the executable is written to --exec-output-dir", facets=TALK)
    measure: str = option(
        "device",
        words("network", "device", "end-to-end"),
        "span that is timed: network (the network alone), device (uint8 image in memory to detections in memory), "
        "end-to-end (decoding and resizing included)",
        facets=WORK._replace(compiled=Compiled(ON_IPU, by_value=False)),
    )
    requests_in_flight: int = option(
        1, whole_number(1, MAX_THREADS), "requests that are under way at the same time", facets=WORK
    )
    arrival_rate: Optional[float] = option(
        None,
        positive_number(1e6, at_least=1e-3),
        "requests a second of a Poisson process; latency then counts from the planned arrival, so waiting shows",
        "none: a request starts when one ends",
        facets=WORK,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.exec_file is not None and self.exec_output_dir is not None:
            raise ConfigError(
                "--exec-file runs a given executable, --exec-output-dir keeps a new one: give one of them."
            )
        if self.compile_only and self.exec_output_dir is None:
            raise ConfigError(
                "--compile-only: without a folder the executable would be a temporary file, which is gone when the run "
                "ends: add --exec-output-dir FOLDER to keep it."
            )
