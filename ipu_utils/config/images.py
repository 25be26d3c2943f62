# SPDX-License-Identifier: Apache-2.0
"""What --image-path leads to, and whether --dataset-type reads such a thing."""

import dataclasses
from pathlib import Path
from typing import FrozenSet, List

from ipu_utils.base.errors import ConfigError
from ipu_utils.base.image_folder import EXTENSIONS, is_pattern, list_folder, photographs
from ipu_utils.config.model_options import DataConfig
from ipu_utils.config.options import path_kind

GENERATED = DataConfig.dataset_type
DATASETS = {"file": "single-image", "video": "video"}  # by kind of what the path leads to
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".ogv",
          ".3gp")  # fmt: skip


def _nothing_there(path: Path) -> str:
    return f"--image-path {path}: there is no such file or folder."


def kind_of_images(path: Path, flag: str = "--image-path") -> str:
    """As `path_kind`, but "video" for a file whose name ends as videos' do, and "pattern" for a pattern of names."""
    kind = path_kind(flag, path) or ("pattern" if is_pattern(path) else "")
    return "video" if kind == "file" and path.suffix.lower() in VIDEOS else kind


def is_named_as_images(name: str) -> bool:
    """Does a name, of whatever is there or not, end as those of images or videos do?"""
    return name.lower().endswith((*EXTENSIONS, *VIDEOS))


def check_images(data: DataConfig, typed: FrozenSet[str], notes: List[str]) -> DataConfig:
    """Check that the path is there and of the type that the dataset reads."""
    path = data.image_path
    if data.dataset_type == GENERATED:
        if "image_path" in typed and "dataset_type" in typed:
            notes.append("--image-path is not used: --dataset-type is generated.")
        elif "image_path" in typed:  # alone it says what the dataset is, see `_derive`, if there is something
            raise ConfigError(_nothing_there(path))
        return data
    kind = kind_of_images(path)
    if not kind:
        raise ConfigError(_nothing_there(path))
    reads, problem = f"and --dataset-type {data.dataset_type} reads", ""
    if data.dataset_type == "video":
        if kind not in ("file", "video"):
            problem = f"{reads} one video: name the file, or use --dataset-type image-directory for images."
    elif kind == "video":
        more = "" if data.dataset_type == "image-directory" else ", or name an image"
        raise ConfigError(f"--image-path {path} is a video: use --dataset-type video{more}.")
    elif data.dataset_type == "image-directory":
        if kind == "pattern":
            list_folder(path)  # says so when it matches nothing
        elif kind != "folder":
            problem = f"{reads} a folder: name the folder, or use --dataset-type single-image."
    elif kind != "file" and data.dataset_type == "repeated-image":
        found = list_folder(path)
        first = photographs(found.images, found.root, data.results_dir)[0]
        notes.append(f"--dataset-type repeated-image repeats the first image of the {kind}, {first}.")
        return dataclasses.replace(data, image_path=first)
    elif kind != "file":
        problem = f"{reads} one image: name the image, or use --dataset-type image-directory."
    if problem:
        raise ConfigError(f"--image-path {path} is a {kind}, {problem}")
    return data
