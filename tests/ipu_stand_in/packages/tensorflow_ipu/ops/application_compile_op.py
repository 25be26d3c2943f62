# SPDX-License-Identifier: Apache-2.0
"""Compilation for the embedded application runtime: one loop over an infeed, written to a file."""

import json
import tempfile

import tensorflow as tf
from tensorflow.python.framework import convert_to_constants
from tensorflow.python.ipu import _rules, _state, config

MAGIC = b"stand-in poplar_exec\n"
FEED_TYPES = {tf.int8, tf.uint8, tf.int32, tf.float16, tf.float32}


class _Program:
    """What is being traced: the loop, its body's inputs and its outfeed."""

    def __init__(self):
        self.iterations = self.body = self.infeed = self.outputs = None

    def set_loop(self, iterations, body, infeed):
        if self.body is not None:
            raise ValueError("a program holds one loop")
        self.iterations, self.body, self.infeed = iterations, body, infeed
        return []

    def set_outputs(self, flat):
        if self.outputs is not None:
            raise ValueError("an outfeed can be enqueued only once per graph")
        self.outputs = flat
        return flat[0].op

    def trace(self):
        """Trace one iteration: the infeed's elements in, the outfeed's elements out."""

        def iteration(*elements):
            self.body(*elements)
            if self.outputs is None:
                raise ValueError("the program must write to an outfeed")
            return [tf.identity(tensor) for tensor in self.outputs]

        specs = tf.nest.flatten(self.infeed.element_spec)
        for spec in specs:
            if spec.dtype not in FEED_TYPES:
                raise TypeError(f"a feed of the embedded runtime cannot be {spec.dtype.name}")
        with tf.init_scope():
            concrete = tf.function(iteration).get_concrete_function(*specs)
        for tensor in self.outputs:
            if tensor.dtype not in FEED_TYPES:
                raise TypeError(f"a feed of the embedded runtime cannot be {tensor.dtype.name}")
        _rules.check(concrete.graph)
        return concrete


def _specs(tensors):
    return [[tensor.name, list(tensor.shape), tensor.dtype.name] for tensor in tensors]


def experimental_application_compile_op(func, inputs=None, output_path=None, freeze_variables=False, name=None):
    """Compile `func` when the returned operation runs; its value is the path of the executable."""
    if inputs:
        raise ValueError("the stand-in models programs that read only from an infeed")
    if output_path is None:
        output_path = tempfile.mkstemp(prefix=name or "application_compile", suffix=".poplar_exec")[1]
    if not isinstance(output_path, str):
        raise TypeError(f"output_path must be a str, got {type(output_path).__name__}")
    state = _state.current
    state.building = program = _Program()
    try:
        func()
        if program.body is None:
            raise ValueError("the program must read from an infeed in a loop")
        concrete = program.trace()
    finally:
        state.building = None
    if concrete.graph.variables and not freeze_variables:
        raise ValueError("the stand-in models frozen variables only: pass freeze_variables=True")

    def compile_now():
        config.check_compilable()
        with tf.init_scope():
            frozen = convert_to_constants.convert_variables_to_constants_v2(concrete, lower_control_flow=False)
        header = {
            "iterations": program.iterations,
            "inputs": _specs(frozen.inputs),
            "outputs": _specs(frozen.outputs),
            "can_stall": config.required().io_tiles.num_io_tiles > 0,
            "tensorflow": tf.__version__,
        }
        with open(output_path, "wb") as file:
            file.write(MAGIC + json.dumps(header).encode() + b"\n")
            file.write(frozen.graph.as_graph_def().SerializeToString())
        state.compiled.append(header)
        return output_path.encode()

    return tf.numpy_function(compile_now, [], tf.string, name=name)
