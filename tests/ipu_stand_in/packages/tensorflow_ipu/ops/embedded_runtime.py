# SPDX-License-Identifier: Apache-2.0
"""The embedded application runtime: start an executable by name, call it one batch at a time."""

import json
import threading
import time

import tensorflow as tf
from tensorflow.python.ipu import _rules, _state
from tensorflow.python.ipu.ops import application_compile_op, custom_ops
from tensorflow.python.ops import script_ops

DEFAULT_TIMEOUT_US = 5000


class _Engine:
    """Runs in the background on the IPU; here on the caller's thread. Counts what would cost time there."""

    def __init__(self, file, timeout_us):
        with open(file, "rb") as opened:
            if opened.readline() != application_compile_op.MAGIC:
                raise Exception(f"{file} is not an executable of this runtime")
            self.header = json.loads(opened.readline())
            graph_def = tf.compat.v1.GraphDef.FromString(opened.read())
        if self.header["tensorflow"] != tf.__version__ and not _state.current.flags.get("disable_poplar_version_check"):
            raise tf.errors.InvalidArgumentError(
                None, None, f"{file} was compiled by TensorFlow {self.header['tensorflow']}, this is {tf.__version__}"
            )
        for node in graph_def.node:
            if _rules.USER_OP_ATTRIBUTE in node.attr:
                function = custom_ops.host_function(node.attr[_rules.USER_OP_ATTRIBUTE].s.decode())
                node.attr["token"].s = script_ops._py_funcs.insert(function).encode()
        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
        # Its own threads: the outer session waits in one of the shared ones while this one runs.
        options = tf.compat.v1.ConfigProto(use_per_session_threads=True)
        session = tf.compat.v1.Session(graph=graph, config=options)
        self._run = session.make_callable(
            [name for name, _, _ in self.header["outputs"]], [name for name, _, _ in self.header["inputs"]]
        )
        self.timeout_us, self.calls, self.restarts, self.stalls = timeout_us, 0, 0, 0
        self._waiting, self._lock = 0, threading.Lock()

    def call(self, *values):
        """Outputs of one iteration."""
        with self._lock:
            self._waiting += 1
            self.calls += 1
            if self.calls > 1 and (self.calls - 1) % self.header["iterations"] == 0:
                self.restarts += 1  # the compiled loop has run out
        try:
            results = self._run(*values)
            if self.header["can_stall"] and self._waiting == 1:
                self.stalls += 1  # nobody else pushes the batch through: a dummy one does, after the time-out
                time.sleep(self.timeout_us * 1e-6)
        finally:
            with self._lock:
                self._waiting -= 1
        return results


class RuntimeContext:
    """A started executable."""

    def __init__(self, name, executable_file, executable_proto, start_output):
        self._name, self._engine, self._start_output = name, executable_proto, start_output

    def start_output(self):
        """What a call must wait for."""
        return self._start_output

    def name(self):
        """The engine's name."""
        return self._name

    def signature(self):
        """Inputs and outputs as [name, shape, dtype]."""
        return self._engine.header

    def output_types(self):
        """Types of the outputs."""
        return [tf.as_dtype(dtype) for _, _, dtype in self._engine.header["outputs"]]


def embedded_runtime_start(executable_file, inputs, name, timeout=None):
    """Start an executable under a name that is the engine's for the life of the process."""
    if not isinstance(inputs, (list, tuple, dict)):
        raise Exception("Expected the inputs to be a list.")
    if len(inputs):
        raise Exception(f"Embedded application runtime expects 0 inputs, but {len(inputs)} were provided.")
    engines = _state.current.engines
    if name not in engines:  # a known name silently gives the first engine, whatever the file
        engines[name] = _Engine(executable_file, timeout or DEFAULT_TIMEOUT_US)
    return RuntimeContext(name, executable_file, engines[name], tf.constant(0))


def embedded_runtime_call(inputs, context):
    """Outputs for one iteration's worth of the infeed's elements."""
    header = context.signature()
    if len(inputs) != len(header["inputs"]):
        raise Exception(f"Embedded application call expects {len(header['inputs'])} inputs, but got {len(inputs)}.")
    for (tensor_name, shape, dtype), tensor in zip(header["inputs"], inputs):
        if list(tensor.shape) != shape:
            raise Exception(f"Mismatched input shape for {tensor_name}: expected {shape}, got {list(tensor.shape)}")
        if tf.as_dtype(dtype) != tensor.dtype:
            raise TypeError(f"Mismatched input dtype for {tensor_name}: expected {dtype}, got {tensor.dtype}")
    engine = _state.current.engines[context.name()]
    outputs = tf.numpy_function(engine.call, list(inputs), context.output_types())
    return outputs if isinstance(outputs, list) else [outputs]


def embedded_runtime_stop(context):
    """The release cannot stop an engine."""
    raise NotImplementedError("the embedded runtime cannot stop an engine")


def embedded_runtime_start_and_call(executable_file, startup_inputs, call_inputs, name):
    """Start, then call."""
    context = embedded_runtime_start(executable_file, startup_inputs, name)
    return embedded_runtime_call(call_inputs, context), context
