# SPDX-License-Identifier: Apache-2.0
"""Where the files of a surface are."""

import os
import shutil
import tempfile
from pathlib import Path

IN_MEMORY = "/dev/shm"  # a folder whose files cost no disk anything, where there is one


class InFolder:
    """A surface that needs files."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None))

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(str(self.folder))
