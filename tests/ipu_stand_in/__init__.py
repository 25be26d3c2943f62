# SPDX-License-Identifier: Apache-2.0
"""A functional stand-in for Graphcore's TensorFlow extensions, PopDist and libpvti, computing on the CPU.

No IPU, Poplar SDK or Graphcore wheel is needed. The modules carry the real names and signatures, refuse what the real
ones refuse (tests/data/ipu/tensorflow_ipu_api.json and docs/IPU.md say what is known of them) and run the step with
stock TensorFlow, so that the unchanged scripts and `ipu_utils.backends.ipu` work end to end:

* in one process: `ipu_stand_in.activate()`, then import `tensorflow.python.ipu`, `popdist` and `libpvti` as usual;
* in another: `subprocess.run([python, "ipu_inference.py", ...], env=ipu_stand_in.environment())`.

It proves that the code speaks the documented interface and computes the right thing through it. It says nothing about
speed, memory or code generation on an IPU.
"""

import contextlib
import importlib
import importlib.abc
import importlib.util
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = HERE / "packages"
PREFIX = "tensorflow.python.ipu"
NAMES = (PREFIX, "popdist", "libpvti")


class _Finder(importlib.abc.MetaPathFinder):
    """Find `tensorflow.python.ipu`, which cannot lie inside a stock TensorFlow, in this folder; likewise the others."""

    def find_spec(self, fullname, path=None, target=None):
        """Return the spec of one of the stand-in's modules, None for any other name."""
        if not _is_ours(fullname):
            return None
        relative = fullname.replace(PREFIX, "tensorflow_ipu", 1).split(".")
        base = PACKAGES.joinpath(*relative)
        if base.is_dir():
            return importlib.util.spec_from_file_location(
                fullname, base / "__init__.py", submodule_search_locations=[str(base)]
            )
        source = base.with_suffix(".py")
        return importlib.util.spec_from_file_location(fullname, source) if source.is_file() else None


_put_away = {}  # modules of the stand-in while it is not active


def activate():
    """Make the stand-in importable in this process; harmless when it already is."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
        sys.modules.update(_put_away)
        _put_away.clear()


def deactivate():
    """Undo `activate`, so that the process again looks like one without an SDK."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    for module in [name for name in sys.modules if _is_ours(name)]:
        _put_away[module] = sys.modules.pop(module)


def _is_ours(module):
    return any(module == name or module.startswith(name + ".") for name in NAMES)


def reset():
    """Forget configuration, engines and parsed flags, as a fresh process would. Modules stay imported."""
    if PREFIX in sys.modules:
        sys.modules[PREFIX + "._state"].reset()


VARIABLES = ("TF_POPLAR_FLAGS", "POPLAR_ENGINE_OPTIONS")


@contextlib.contextmanager
def fresh_process():
    """The stand-in as a process that has just started finds it; environment and modules are as before afterwards."""
    before = {name: os.environ.pop(name, None) for name in VARIABLES}
    activate()
    ipu = importlib.import_module(PREFIX)
    reset()
    try:
        yield ipu
    finally:
        reset()
        deactivate()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def environment(**extra):
    """Environment for a subprocess in which the stand-in is active; `extra` variables on top."""
    path = os.pathsep.join([str(HERE / "subprocess_site")] + [p for p in [os.environ.get("PYTHONPATH")] if p])
    return {**os.environ, "PYTHONPATH": path, **{name: str(value) for name, value in extra.items()}}
