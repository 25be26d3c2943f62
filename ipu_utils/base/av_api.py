# SPDX-License-Identifier: Apache-2.0
"""PyAV, FFmpeg's libraries for Python, as this project uses it: imported on demand, its errors those of a user."""

from typing import Any

from ipu_utils.base.errors import UserError
from ipu_utils.base.missing_packages import pip_install
from ipu_utils.base.signals import raise_again

PACKAGE = "av"


def import_av() -> Any:
    """Return the package `av`; a UserError says what to install where it is missing."""
    try:
        import av
    except ImportError as error:
        raise_again()
        raise UserError(
            f"PyAV cannot be imported ({error}), which reads and writes videos: {pip_install(PACKAGE)}."
        ) from error
    return av


def reason_of(error: Exception) -> str:
    """What FFmpeg says is wrong, without numbers and names."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
