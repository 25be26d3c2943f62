# SPDX-License-Identifier: Apache-2.0
"""Random inputs for everything that reads what a user or a stranger wrote. See `fuzz.driver`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))  # for `python -m fuzz`; pytest has it
