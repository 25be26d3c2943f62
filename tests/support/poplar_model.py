# SPDX-License-Identifier: Apache-2.0
"""Run Poplar custom operations on the CPU: a thin wrapper of tests/poplar_model, which builds and runs their graphs.

`run` does what `precompiled_user_op` of TensorFlow for the IPU does with a library, its codelets and a string of
attributes, with NumPy arrays instead of tensors. The library must have been built against the model; `build()` does so
for the NMS operator in both forms. A path such as NMS/tf/build/nms_custom_op.so, where the application looks for the
real one, means the one of that form.
"""

import collections
import ctypes
import functools
import os
import subprocess
import threading
import weakref
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
NMS = ROOT / "NMS"
MODEL = ROOT / "tests" / "poplar_model"
BUILD = MODEL / "build"
TILES = 32  # a small device; a Mk2 has 1472, which makes graphs of thousands of vertices

# Poplar's names of the types that arrays can have.
TYPES = {"float32": "float", "float16": "half", "int32": "int", "uint32": "unsigned int", "bool": "bool"}


class PoplarModelError(RuntimeError):
    """What Poplar, the operator or the plugin refused; if it was Poplar, the text begins with the kind of exception."""


class _Array(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_char_p),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("data", ctypes.c_void_p),
    ]


@functools.lru_cache(maxsize=None)
def build():
    """Build the model and the operator against it, unless that is done already; return the build folder."""
    _make("-C", str(MODEL))
    return BUILD


def build_form(folder, optimise="-O0"):
    """Build the operator in `folder`, NMS/tf or a changed copy of it, against the model; return its build folder."""
    flags = [
        f"POPC={MODEL / 'popc'}",
        f"POPCFLAGS={optimise}",
        f"CXXFLAGS={optimise}",
        f"CPPFLAGS=-I{MODEL / 'include'}",
        f"LDLIBS=-L{build()} -lpoplar_model -Wl,-rpath,{BUILD}",
    ]
    _make("-j2", "-C", str(folder), *flags)
    return Path(folder) / "build"


def _make(*args):
    made = subprocess.run(["make", *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if made.returncode:
        raise PoplarModelError(f"make {' '.join(args)} failed:\n" + made.stdout.decode())


@functools.lru_cache(maxsize=None)
def _library():
    library = ctypes.CDLL(str(build() / "libpoplar_model.so"))
    arrays, text = ctypes.POINTER(_Array), ctypes.c_char_p
    library.poplar_model_compile.restype = ctypes.c_void_p
    library.poplar_model_compile.argtypes = [
        *[text] * 4, ctypes.c_uint32, arrays, ctypes.c_uint32, arrays, ctypes.c_uint32, text, ctypes.c_size_t
    ]  # fmt: skip
    library.poplar_model_execute.argtypes = [ctypes.c_void_p, arrays, arrays, text, ctypes.c_size_t]
    library.poplar_model_statistics.argtypes = [ctypes.c_void_p] + [ctypes.POINTER(ctypes.c_uint64)] * 2
    library.poplar_model_statistics.restype = None
    library.poplar_model_release.argtypes = [ctypes.c_void_p]
    library.poplar_model_release.restype = None
    return library


def _arrays(specs, data=None):
    """Return C descriptions of arrays with these (type name, shape), and their memory if there is any."""
    result = (_Array * max(1, len(specs)))()
    for i, (name, shape) in enumerate(specs):
        if name not in TYPES:
            raise PoplarModelError(f"arrays cannot be {name}: possible are {', '.join(TYPES)}")
        extents = (ctypes.c_int64 * max(1, len(shape)))(*shape)
        result[i] = _Array(TYPES[name].encode(), len(shape), extents, data[i].ctypes.data if data else None)
    return result


class CustomOp:
    """A custom operation compiled for inputs and outputs of fixed types and shapes.

    Args:
      library_path: the operation, see `model_library`.
      input_specs, output_specs: lists of (type name such as "float16", shape).
      attributes: str, handed to the operation unchanged.
      gp_path: codelets; by default codelet.gp beside the library.
      tiles: of the device.
      op_name: the symbol that builds the operation.

    Raises:
      PoplarModelError: whatever the operation or the graph compiler refuses.
    """

    def __init__(self, library_path, input_specs, attributes, output_specs, gp_path=None, tiles=TILES, op_name="Build"):
        library_path = model_library(library_path)
        gp_path = library_path.parent / "codelet.gp" if gp_path is None else gp_path
        self.input_specs = [(str(name), tuple(shape)) for name, shape in input_specs]
        self.output_specs = [(str(name), tuple(shape)) for name, shape in output_specs]
        self._lock = threading.Lock()
        error = ctypes.create_string_buffer(4096)
        self._handle = _library().poplar_model_compile(
            os.fsencode(str(library_path)),
            os.fsencode(str(gp_path)),
            op_name.encode(),
            attributes.encode(),
            tiles,
            _arrays(self.input_specs),
            len(self.input_specs),
            _arrays(self.output_specs),
            len(self.output_specs),
            error,
            len(error),
        )
        if not self._handle:
            raise PoplarModelError(error.value.decode(errors="replace"))
        weakref.finalize(self, _library().poplar_model_release, self._handle)

    def __call__(self, inputs):
        """Run on arrays that match `input_specs`; return new arrays that match `output_specs`."""
        given = [(array.dtype.name, array.shape) for array in map(np.asarray, inputs)]
        if given != self.input_specs:
            raise PoplarModelError(f"inputs are {given}, the operation was compiled for {self.input_specs}")
        arrays = [np.ascontiguousarray(array) for array in inputs]
        outputs = [np.empty(shape, name) for name, shape in self.output_specs]
        error = ctypes.create_string_buffer(4096)
        with self._lock:
            failed = _library().poplar_model_execute(
                self._handle, _arrays(self.input_specs, arrays), _arrays(self.output_specs, outputs), error, len(error)
            )
        if failed:
            raise PoplarModelError(error.value.decode(errors="replace"))
        return outputs

    def statistics(self):
        """Return (compute sets executed by the last run, bytes on the fullest tile)."""
        numbers = [ctypes.c_uint64(), ctypes.c_uint64()]
        _library().poplar_model_statistics(self._handle, *map(ctypes.byref, numbers))
        return tuple(number.value for number in numbers)


def model_library(path):
    """Return the library built against the model for `path`: NMS/<form>/build/<name> stands for the real one."""
    path = Path(path)
    parts = path.resolve().parts
    if len(parts) > 3 and parts[-4] == "NMS" and parts[-2] == "build":
        return build() / parts[-3] / parts[-1]
    return path


_CACHE = collections.OrderedDict()  # compiled operations, the last used at the end
_CACHE_SIZE = 16
_CACHE_LOCK = threading.Lock()


def run(library_path, inputs, attributes, outs, gp_path=None, tiles=TILES, op_name="Build"):
    """Build a custom operation (once for each set of types, shapes and attributes), run it, return its outputs.

    Args:
      library_path: the operation, see `model_library`.
      inputs: arrays of float32, float16, int32, uint32 or bool.
      attributes: str, handed to the operation unchanged.
      outs: {"output_types": [...], "output_shapes": [...]} as `precompiled_user_op` takes it, with NumPy's or
        TensorFlow's types and with tuples, lists or TensorShapes; or None for no outputs.
      gp_path, tiles, op_name: as in `CustomOp`.

    Returns:
      A list of arrays.
    """
    inputs = [np.asarray(array) for array in inputs]
    outs = outs or {"output_types": [], "output_shapes": []}
    types, shapes = outs["output_types"], outs["output_shapes"]
    if len(types) != len(shapes):
        raise PoplarModelError(f"{len(types)} output types, but {len(shapes)} output shapes")
    output_specs = tuple(
        (np.dtype(getattr(kind, "as_numpy_dtype", kind)).name, tuple(int(extent) for extent in shape))
        for kind, shape in zip(types, shapes)
    )
    input_specs = tuple((array.dtype.name, array.shape) for array in inputs)
    library = model_library(library_path)
    codelets = library.parent / "codelet.gp" if gp_path is None else Path(gp_path)
    stamps = tuple(path.stat().st_mtime_ns if path.exists() else None for path in (library, codelets))
    key = (str(library), str(codelets), stamps, input_specs, attributes, output_specs, tiles, op_name)
    with _CACHE_LOCK:
        op = _CACHE.pop(key, None) or CustomOp(library, input_specs, attributes, output_specs, codelets, tiles, op_name)
        _CACHE[key] = op
        while len(_CACHE) > _CACHE_SIZE:
            _CACHE.popitem(last=False)
    return op(inputs)
