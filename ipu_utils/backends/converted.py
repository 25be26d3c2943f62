# SPDX-License-Identifier: Apache-2.0
"""What engines have in common that load the converted network as it is: LiteRT and ONNX Runtime."""

from pathlib import Path
from typing import Tuple

from ipu_utils.backends.host import Make
from ipu_utils.base.signals import temporary_folder
from ipu_utils.config.run_config import RunConfig
from ipu_utils.executable.build_process import build, preview_weights
from ipu_utils.executable.file import Header, write_executable


class Converted:
    """All of `ipu_utils.backends.host.Compiler` but `wanted`."""

    def __init__(self, config: RunConfig):
        self._config = config

    def build(self, header: Header) -> Tuple[Header, Make]:
        header, freeze = build(self._config, header)

        def make(path: Path) -> None:
            with temporary_folder("efficientdet-") as folder:
                write_executable(path, header, freeze(folder).path.read_bytes())

        return header, make

    def preview(self, header: Header) -> str:
        return preview_weights(self._config, header)

    def detector(self, header: Header) -> Tuple[None, str]:
        return None, "libdetect"
