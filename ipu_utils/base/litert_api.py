# SPDX-License-Identifier: Apache-2.0
"""LiteRT as this project uses it: how it is imported, and what it is called. Imports it on demand."""

from typing import Any

from ipu_utils.base import machine
from ipu_utils.base.errors import UserError
from ipu_utils.base.missing_packages import how_to_install, pip_install
from ipu_utils.base.signals import raise_again

PACKAGE = "ai-edge-litert"


def import_litert() -> Any:
    """Return the module `ai_edge_litert.interpreter`; a UserError says what to install where it is missing."""
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        raise_again()
        raise UserError(
            f"LiteRT cannot be imported ({error}): {pip_install(PACKAGE)} (Python 3.9 or later), or use another "
            "--engine."
        ) from error
    if not hasattr(interpreter, "Interpreter"):
        raise UserError(f"what `import ai_edge_litert` finds is not LiteRT: install it with {how_to_install(PACKAGE)}.")
    return interpreter


def engine_name() -> str:
    """Name and version, as it is kept in executables and printed."""
    import_litert()
    return f"LiteRT {machine.package_version(PACKAGE)}"
