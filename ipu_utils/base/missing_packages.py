# SPDX-License-Identifier: Apache-2.0
"""Python packages that are not there, or do not work: which one it is and what to do, in a line and no traceback.

Imports the standard library alone: programs use it around their first imports.
"""

import contextlib
import importlib.util
import sys
from pathlib import Path
from types import TracebackType
from typing import Iterator, Optional

from ipu_utils.base.errors import MissingPackageError
from ipu_utils.base.printable import one_line

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv"  # the one that `make setup` creates
EXIT_USER_ERROR = 2
LONGEST_REASON = 300  # letters of what a package says; NumPy's advice has two thousand
# Packages whose modules have another name.
PACKAGES = {"PIL": "Pillow", "yaml": "PyYAML", "tf_keras": "tf-keras"}


def how_to_install(module: str = "") -> str:
    """The commands that lead to a Python with the packages of requirements.txt.

    Args:
      module: the missing one; where the project's environment has it, that only has to be activated.
    """
    pip = "`pip install -r requirements.txt`"
    if Path(sys.prefix).resolve() == ENVIRONMENT.resolve():
        return pip
    there = any(ENVIRONMENT.glob(f"lib*/python*/site-packages/{module or 'yaml'}*"))
    commands = "`. .venv/bin/activate`" if there else "`make setup`, then `. .venv/bin/activate`"
    if in_environment() and has_pip():
        commands += f", or {pip} for this Python"
    return commands if Path.cwd() == ROOT else f"{commands}, in {ROOT}"


def in_environment() -> bool:
    """Is this Python's a virtual environment?"""
    return sys.prefix != sys.base_prefix


def has_pip() -> bool:
    """Has this Python a pip of its own?"""
    return importlib.util.find_spec("pip") is not None


def may_use_pip() -> bool:
    """May `pip install` be used with this Python? A system's is often marked as the system's own (PEP 668)."""
    import sysconfig

    marker = Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED"
    return has_pip() and (in_environment() or not marker.exists())


def pip_install(packages: str) -> str:
    """The command that brings packages into this Python, or the commands that lead to one that may get them."""
    return f"`pip install {packages}`" if may_use_pip() else how_to_install(packages)


def describe(error: BaseException) -> Optional[str]:
    """What to tell of an error that importing a package raised; None where it is another kind of error.

    A package that is installed may fail with whatever error it likes: its own code is then on the way to the error.
    """
    named = (error.name or "").split(".")[0] if isinstance(error, ImportError) else ""
    if named and _is_own(named):
        return None
    missing = named if isinstance(error, ModuleNotFoundError) else ""
    if missing and importlib.util.find_spec(missing) is None:
        name = PACKAGES.get(missing, missing)
        return f"the Python package {name} is not installed for {sys.executable}: run {how_to_install(missing)}."
    module = _imported(error.__traceback__) or named
    if not module:
        return None
    name = PACKAGES.get(module, module)
    reason = one_line(error)[:LONGEST_REASON] or type(error).__name__
    if Path(sys.prefix).resolve() == ENVIRONMENT.resolve():
        mend = f"install it anew: `pip uninstall -y {name}`, then {how_to_install(module)}"
    else:
        mend = f"run {how_to_install(module)}"
    return f"the Python package {name} cannot be imported ({type(error).__name__}: {reason}): {mend}."


def _imported(traceback: Optional[TracebackType]) -> Optional[str]:
    """The first module of others that was being imported when the error came; None where none was."""
    while traceback is not None:
        frame = traceback.tb_frame
        module = str(frame.f_globals.get("__name__", "__main__")).split(".")[0]
        if frame.f_code.co_name == "<module>" and not _is_own(module):
            return module
        traceback = traceback.tb_next
    return None


def _is_own(module: str) -> bool:
    return module == "__main__" or (ROOT / module).is_dir() or (ROOT / f"{module}.py").is_file()


@contextlib.contextmanager
def told(importer: str) -> Iterator[None]:
    """Around the imports of a program: one line on standard error and status 2 where a package is missing.

    Args:
      importer: `__name__`. A program that is imported as a module raises MissingPackageError instead of ending.
    """
    try:
        yield
    except Exception as error:
        message = str(error) if isinstance(error, MissingPackageError) else describe(error)
        if message is None:
            raise
        if importer != "__main__":
            raise MissingPackageError(message) from error
        if sys.stderr is not None:
            print(f"error: {one_line(message)}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
