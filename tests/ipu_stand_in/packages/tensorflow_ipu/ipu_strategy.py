# SPDX-License-Identifier: Apache-2.0
"""IPUStrategy: runs a tf.function as one program on the IPU; here on the CPU, without XLA."""

import hashlib
import itertools
import os
from pathlib import Path

import tensorflow as tf
from tensorflow.python.ipu import _rules, _state, config, ipu_infeed_queue

_FUNCTION = type(tf.function(lambda: None))


class Program:
    """A function compiled for the device: traced without XLA, checked, and kept for its arguments."""

    def __init__(self, function, args, kwargs):
        self.name = getattr(function.python_function, "__name__", "program")
        self.jit_compile = bool(getattr(function, "_jit_compile", False))
        bound = tf.function(lambda: function.python_function(*args, **kwargs))
        with tf.device(None):  # the caller's device does not count: the strategy places the program on the IPU
            self.concrete = bound.get_concrete_function()
        _rules.check(self.concrete.graph)
        for tensor in list(self.concrete.inputs) + list(self.concrete.outputs):
            if tensor.dtype == tf.float64:
                raise TypeError(f"Unsupported data type for {tensor.name}: float64")
        for variable in self.concrete.graph.variables:
            if not getattr(variable, "_ipu_placed", False):
                raise tf.errors.InvalidArgumentError(
                    None, None, f"Trying to access {variable.name}, located in device CPU:0, from device IPU:0"
                )
        self.loaded_from_cache = self._cache()
        _state.current.compiled.append(self)

    def _cache(self):
        """Write or find the executable where the flags ask for a cache. Return whether it was there."""
        folder = _state.current.flags.get("executable_cache_path")
        if not folder:
            return False
        digest = hashlib.sha256((config.required().to_json() + os.environ.get("POPLAR_ENGINE_OPTIONS", "")).encode())
        graph = self.concrete.graph.as_graph_def()
        # Names are numbered as they come, and with them the order: neither is part of what the program does.
        for text in sorted(
            node.op.encode() + node.attr["value"].SerializeToString(deterministic=True)
            for node in itertools.chain(graph.node, *(function.node_def for function in graph.library.function))
        ):
            digest.update(text)
        file = Path(folder) / (digest.hexdigest()[:16] + ".poplar_exec")
        if file.exists():
            return True
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(graph.SerializeToString())
        return False


class IPUStrategyV1(tf.distribute.OneDeviceStrategy):
    """One IPU, or one replica's IPUs."""

    _synchronises = True  # `run` returns when the device is done

    def __init__(
        self,
        ipu_device="/device:IPU:0",
        cpu_device="/device:CPU:0",
        enable_dataset_iterators=True,
        enable_keras_extensions=True,
    ):
        super().__init__(cpu_device)
        config.required()
        self._iterators = enable_dataset_iterators
        self._programs = {}

    def scope(self):
        """Scope in which variables belong to the IPU."""
        return _Scope(super().scope())

    def run(self, fn, args=(), kwargs=None, options=None):
        """Run a tf.function as one program."""
        if tf.executing_eagerly() and not isinstance(fn, _FUNCTION):
            raise ValueError("IPUStrategyV1.run(fn, ...) does not support eager execution: make fn a tf.function")
        config.check_compilable()
        kwargs = kwargs or {}
        key = (fn, tuple(_identity(arg) for arg in args), tuple((name, _identity(kwargs[name])) for name in kwargs))
        if key not in self._programs:
            self._programs[key] = Program(fn, args, kwargs)
        config.check_executable()
        outputs = self._programs[key].concrete()
        if self._synchronises:
            _state.current.synchronise()
        return outputs

    def experimental_run_v2(self, *args, **kwargs):
        """Gone in the release."""
        raise RuntimeError("`experimental_run_v2` has been deleted. Use `run` instead.")

    @property
    def supports_loss_scaling(self):
        """Whether Keras may scale the loss."""
        return True


IPUStrategy = IPUStrategyV1


def _identity(argument):
    """Tensors are not bound into a program here; everything else is, by identity."""
    if tf.is_tensor(argument):
        raise TypeError("pass iterators and Python values to run(): stream tensors through an infeed")
    try:
        hash(argument)
    except TypeError:
        return id(argument)
    return argument


class _Scope:
    """The strategy's scope, inside which every new variable is marked as the IPU's."""

    def __init__(self, inner):
        self._inner = inner

    def __enter__(self):
        strategy = self._inner.__enter__()
        self._creator = tf.variable_creator_scope(_placed)
        self._creator.__enter__()
        return strategy

    def __exit__(self, *error):
        self._creator.__exit__(*error)
        return self._inner.__exit__(*error)


def _placed(next_creator, **kwargs):
    variable = next_creator(**kwargs)
    variable._ipu_placed = True
    return variable


def _iterate(dataset, stock=tf.data.Dataset.__iter__):
    """`iter(dataset)` as the release patches it: an infeed inside a strategy's scope."""
    strategy = tf.distribute.get_strategy()
    if tf.executing_eagerly() and getattr(strategy, "_iterators", False):
        return ipu_infeed_queue.IPUOwnedIterator(dataset=dataset)
    return stock(dataset)


tf.data.Dataset.__iter__ = _iterate
