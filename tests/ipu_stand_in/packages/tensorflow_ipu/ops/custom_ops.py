# SPDX-License-Identifier: Apache-2.0
"""Custom operations: a library built against the CPU model of Poplar (tests/poplar_model), run inside the program."""

import ctypes
import importlib.util
import json
import os
import sys

import numpy as np
import tensorflow as tf
from tensorflow.python.ipu import _rules, config

API_LEVEL = 5
_kept = []  # TensorFlow holds Python functions of a graph weakly once the graph is exported


def _poplar_model():
    """The module that runs such a library: tests/support/poplar_model.py."""
    if "poplar_model" not in sys.modules:
        path = config.API_FILE.parents[2] / "support" / "poplar_model.py"
        spec = importlib.util.spec_from_file_location("poplar_model", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules["poplar_model"] = module
        spec.loader.exec_module(module)
    return sys.modules["poplar_model"]


def _check_library(library_path, op_name):
    """Load the library, or the one that the model has for it, and look at it as the plugin does."""
    try:
        library = ctypes.CDLL(str(_poplar_model().model_library(library_path)), mode=ctypes.RTLD_LOCAL)
    except OSError as error:
        raise tf.errors.NotFoundError(None, None, f"{library_path}: {error}") from error
    try:
        level = ctypes.c_int32.in_dll(library, "custom_op_api_level").value
    except ValueError:
        level = 0
    if level != API_LEVEL:
        raise tf.errors.InternalError(None, None, f"{library_path}: custom op API level {level}, not {API_LEVEL}")
    if not hasattr(library, op_name):
        raise tf.errors.NotFoundError(None, None, f"{library_path}: no symbol {op_name}")


def host_function(description):
    """The Python function that runs the operation which `description` (JSON) tells of, on NumPy arrays."""
    call = json.loads(description)

    def run(*inputs):
        outs = {"output_types": [np.dtype(name) for name in call["types"]], "output_shapes": call["shapes"]}
        return _poplar_model().run(
            call["library_path"], inputs, call["attributes"], outs, call["gp_path"], op_name=call["op_name"]
        )

    _kept.append(run)
    return run


def precompiled_user_op(
    inputs,
    library_path,
    gp_path="",
    outs=None,
    name="UserOp",
    op_name="Build",
    separate_gradients=False,
    inputs_with_gradients=None,
    attributes=None,
    gradient_attributes=None,
):
    """Add a custom operation from a library; a list of its outputs."""
    if attributes is not None and not isinstance(attributes, str):
        raise ValueError(f"attributes must be a str, got {type(attributes).__name__}")
    outs = outs or {"output_types": [], "output_shapes": []}
    types, shapes = outs["output_types"], outs["output_shapes"]
    if len(types) != len(shapes):
        raise tf.errors.InvalidArgumentError(None, None, f"{len(types)} output types but {len(shapes)} shapes")
    if tf.executing_eagerly():
        raise tf.errors.InvalidArgumentError(None, None, "a custom operation runs only inside a program for the IPU")
    _check_library(library_path, op_name)
    if gp_path and not os.path.exists(gp_path):
        raise tf.errors.NotFoundError(None, None, f"codelets {gp_path} not found")
    shapes = [tf.TensorShape(shape).as_list() for shape in shapes]
    description = json.dumps(
        {
            "library_path": os.path.abspath(library_path),
            "op_name": op_name,
            # Codelets beside the library are those the model has beside its own.
            "gp_path": gp_path if gp_path and os.path.dirname(gp_path) != os.path.dirname(library_path) else None,
            "attributes": attributes or "",
            "types": [tf.as_dtype(dtype).name for dtype in types],
            "shapes": shapes,
        }
    )
    flat = tf.numpy_function(host_function(description), inputs, [tf.as_dtype(dtype) for dtype in types], name=name)
    flat = flat if isinstance(flat, list) else [flat]
    flat[0].op._set_attr(_rules.USER_OP_ATTRIBUTE, tf.compat.v1.AttrValue(s=description.encode()))
    # Unlike set_shape, the operation keeps its shape when the graph is exported.
    return [tf.ensure_shape(tensor, shape) for tensor, shape in zip(flat, shapes)]
