# SPDX-License-Identifier: Apache-2.0
"""Where the files of a surface are."""

import shutil
import tempfile
from pathlib import Path


class InFolder:
    """A surface that needs files."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-"))

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(str(self.folder))
