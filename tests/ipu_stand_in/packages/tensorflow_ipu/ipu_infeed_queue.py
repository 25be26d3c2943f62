# SPDX-License-Identifier: Apache-2.0
"""Infeeds: the only way data reaches a program on the IPU."""

import tensorflow as tf
from tensorflow.python.ipu import _rules, _state

MAX_PREFETCH_DEPTH = 255
DEFAULT_PREFETCH_DEPTH = 3


class IPUInfeedQueue:
    """A dataset that a program on the IPU reads."""

    def __init__(self, dataset, device_ordinal=None, prefetch_depth=None, optimise_latency=False, **kwargs):
        # As in the release, nothing looks at other keywords: tests/support/ipu_contract.py has to find a misspelt one.
        for spec in tf.nest.flatten(dataset.element_spec):
            if not spec.shape.is_fully_defined():
                raise ValueError(f"shape {spec.shape} is not fully defined: batch with drop_remainder=True")
        prefetch_depth = prefetch_depth or DEFAULT_PREFETCH_DEPTH
        if not 0 < prefetch_depth <= MAX_PREFETCH_DEPTH:
            raise ValueError(f"prefetch_depth must be 1 to {MAX_PREFETCH_DEPTH}, got {prefetch_depth}")
        self.element_spec, self.prefetch_depth = dataset.element_spec, prefetch_depth
        self._graph_mode = not tf.executing_eagerly()
        self._iterator = None if self._graph_mode else _host_iterator(dataset)
        self._initializer_taken = self._dequeued = False

    @property
    def dequeued(self):
        """Whether a program reads this queue."""
        return self._dequeued

    @property
    def number_of_tuple_elements(self):
        """Tensors in one element."""
        return len(tf.nest.flatten(self.element_spec))

    @property
    def initializer(self):
        """Operation that must run once before the queue is used in graph mode."""
        if self._initializer_taken:
            raise ValueError("the initializer can be taken only once")
        self._initializer_taken = True
        return tf.no_op()

    @property
    def deleter(self):
        """Operation that frees the queue."""
        return tf.no_op()

    def get_next(self):
        """Obsolete in the release."""
        raise ValueError("get_next() is obsolete: loops dequeue the infeed")

    def _dequeue(self):
        """The next element, inside a program."""
        self._dequeued = True
        if _state.current.flags.synthetic("infeed"):
            return tf.nest.map_structure(_made_on_device, self.element_spec)
        element = self._iterator.get_next()
        flat = tf.nest.flatten(element)
        flat[0].op._set_attr(_rules.FEED_ATTRIBUTE, tf.compat.v1.AttrValue(b=True))
        return element


def _host_iterator(dataset):
    """An ordinary iterator, made outside any strategy's own kind of iterator."""
    from tensorflow.python.data.ops import iterator_ops

    with tf.device("/CPU:0"):
        return iterator_ops.OwnedIterator(dataset)


def _made_on_device(spec):
    """What the device fills an input with when nothing is streamed to it."""
    initializer = _state.current.flags.get("synthetic_data_initializer", "0")
    if initializer in ("random", "uniform", "normal"):
        if not spec.dtype.is_floating:
            return tf.cast(tf.random.uniform(spec.shape, maxval=256, dtype=tf.int32), spec.dtype)
        made = tf.random.normal if initializer == "normal" else tf.random.uniform
        return tf.cast(made(spec.shape), spec.dtype)
    return tf.cast(tf.fill(spec.shape, int(initializer)), spec.dtype)


class IPUIterator:
    """An iterator backed by an infeed; readable only inside a tf.function."""

    def __init__(self, dataset=None, infeed_spec=None, element_spec=None, **kwargs):
        if dataset is None:
            raise ValueError("either dataset or both infeed_spec and element_spec must be given")
        if infeed_spec is not None or element_spec is not None:
            raise ValueError("infeed_spec and element_spec go without a dataset")
        self._infeed_queue = IPUInfeedQueue(dataset, **kwargs)
        self.initializer_run = self._infeed_queue.initializer

    @property
    def element_spec(self):
        """Specs of one element."""
        return self._infeed_queue.element_spec

    @property
    def infeed_spec(self):
        """The queue behind the iterator."""
        return self._infeed_queue

    def __iter__(self):
        return self

    def __next__(self):
        if tf.executing_eagerly():
            raise RuntimeError("dataset elements can be read only inside a tf.function run by the strategy")
        return self._infeed_queue._dequeue()

    def next(self):
        """The next element."""
        return self.__next__()

    def get_next(self):
        """The next element."""
        return self.__next__()

    def get_next_as_optional(self):
        """Not offered by the release."""
        raise NotImplementedError("the IPU's iterator does not support get_next_as_optional()")


class IPUOwnedIterator(IPUIterator):
    """An iterator that frees its infeed when it goes."""
