# SPDX-License-Identifier: Apache-2.0
"""Where the compiled libraries of NMS/ lie, and whether they fit the interpreter that is to load them.

Imports no TensorFlow by itself: `libdetect` is for programs without it.
"""

import functools
import re
import shlex
import sys
from pathlib import Path
from typing import Any, Optional

from ipu_utils.base.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
HOST_BUILD = ROOT / "NMS" / "host" / "build"

# Written into the operator library by NMS/host/build_record.cpp and read from the file, not from the loaded library:
# loading a library made for another TensorFlow crashes or fails with the name of a C++ symbol.
_RECORD = re.compile(rb"NMS_HOST_BUILD tensorflow=(\S+) abi=(\d);")


class CustomOpsNotFoundException(UserError):  # noqa: N818  the published name
    """A library of NMS/ is missing, or was built for another TensorFlow."""


def folder_name(version: str, abi: int) -> str:
    """Name the folder below NMS/host/build of one TensorFlow build: its version and its C++ string ABI (0 or 1)."""
    return f"tf-{version}-abi{abi}"


def missing(path: Path) -> CustomOpsNotFoundException:
    """Return the error for a library that is not there."""
    return _error(f"{path} is missing.")


def unloadable(path: Path, error: Exception) -> CustomOpsNotFoundException:
    """Return the error for a library that the system does not load."""
    return _error(f"{path} cannot be loaded ({error}).")


def outdated(path: Path) -> CustomOpsNotFoundException:
    """Return the error for a library built from other sources than these."""
    return _error(f"{path} is of another version than this program.")


def libdetect_path() -> Path:
    """Where `make` puts the library for programs without TensorFlow."""
    return HOST_BUILD / "libdetect.so"


def libdetect_missing() -> Optional[str]:
    """Say that it is not there, and what to do; None when it is."""
    return None if libdetect_path().is_file() else str(missing(libdetect_path())).rstrip(".")


def operators_path() -> Path:
    """Where `make` puts the operators for the TensorFlow in use."""
    from ipu_utils.base.keras2 import tf

    return HOST_BUILD / folder_name(tf.__version__, tf.sysconfig.CXX11_ABI_FLAG) / "host_nms.so"


def load_operators() -> Any:
    """Return the module with the operators host_nms, host_decode and host_detect for the TensorFlow in use.

    Raises:
      CustomOpsNotFoundException: the library is missing, was built for another TensorFlow, or cannot be loaded.
    """
    return _load(operators_path())


@functools.lru_cache(maxsize=None)
def _load(path: Path) -> Any:
    from ipu_utils.base.keras2 import tf

    if not path.is_file():
        raise missing(path)
    try:
        found = _RECORD.search(path.read_bytes())
    except OSError as error:
        raise _error(f"{path} cannot be read ({error.strerror}).") from error
    built_for = folder_name(found[1].decode(), int(found[2])) if found else "something else than TensorFlow"
    wanted = folder_name(tf.__version__, tf.sysconfig.CXX11_ABI_FLAG)
    if built_for != wanted:
        raise _error(f"{path} was built for {built_for}, this is {wanted}.")
    try:
        return tf.load_op_library(str(path))
    except (tf.errors.OpError, OSError) as error:
        raise unloadable(path, error) from error


def _error(what: str) -> CustomOpsNotFoundException:
    # "make" builds for the interpreter it finds, which need not be this one.
    return CustomOpsNotFoundException(
        f'{what} Run "make" in {ROOT}, or pass --onchip-nms false. '
        f"(For this very interpreter: make BUILD_PYTHON={shlex.quote(sys.executable)})"
    )
