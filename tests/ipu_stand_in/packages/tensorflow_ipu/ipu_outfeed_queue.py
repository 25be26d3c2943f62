# SPDX-License-Identifier: Apache-2.0
"""Outfeeds: the only way data leaves a program on the IPU."""

import collections
import enum
import threading

import tensorflow as tf
from tensorflow.python.ipu import _rules, _state


class IPUOutfeedMode(enum.Enum):
    """Keep every element or only the last."""

    ALL = "all"
    LAST = "get_last"


class IPUOutfeedQueue:
    """Elements in the order in which the program enqueued them."""

    def __init__(self, outfeed_mode=None, device_ordinal=None, buffer_depth=3, optimise_latency=False):
        self._mode = outfeed_mode or IPUOutfeedMode.ALL
        if not isinstance(self._mode, IPUOutfeedMode):
            raise ValueError(f"outfeed_mode must be an IPUOutfeedMode, got {outfeed_mode!r}")
        if device_ordinal is not None and (type(device_ordinal) is not int or device_ordinal < 0):
            raise ValueError(f"device_ordinal must be an int of at least 0, got {device_ordinal!r}")
        if buffer_depth < 1:
            raise ValueError(f"buffer_depth must be at least 1, got {buffer_depth}")
        self._graphs, self._structure, self._elements = [], None, collections.deque()
        self._receive_lock = threading.Lock()

    @property
    def enqueued(self):
        """Whether a program writes to this queue."""
        return bool(self._graphs) or self._structure is not None

    def enqueue(self, tensors):
        """Add one element from inside a program; once per graph."""
        flat = tf.nest.flatten(tensors)
        if not flat or not all(tf.is_tensor(tensor) for tensor in flat):
            raise ValueError("an element must be a tensor or a list, tuple or dict of tensors")
        if _state.current.building is not None:
            return _state.current.building.set_outputs(flat)
        if tf.executing_eagerly():
            raise ValueError("enqueue works only inside a program for the IPU")
        graph = flat[0].graph
        if any(graph is known for known in self._graphs):
            raise ValueError("an outfeed can be enqueued only once per graph")
        self._graphs.append(graph)
        self._structure = tensors
        if _state.current.flags.synthetic("outfeed"):
            return tf.no_op()
        received = tf.numpy_function(self._receive, flat, tf.int64)
        received.op._set_attr(_rules.FEED_ATTRIBUTE, tf.compat.v1.AttrValue(b=True))
        return received.op

    def _receive(self, *values):
        element = [value.copy() for value in values]

        def arrive():
            with self._receive_lock:
                if self._mode is IPUOutfeedMode.LAST:
                    self._elements.clear()
                self._elements.append(element)

        _state.current.in_flight.append(arrive)
        return 0

    def dequeue(self, wait_for_completion=False):
        """Every element since the last call, stacked; or the last one. An empty list before any program wrote one."""
        if not self.enqueued:
            return []
        _state.current.synchronise()  # as in eager mode, on the thread that enqueued
        with self._receive_lock:
            elements, self._elements = list(self._elements), collections.deque()
        if self._mode is IPUOutfeedMode.LAST:
            flat = [tf.constant(value) for value in elements[-1]]
        else:
            specs = tf.nest.flatten(self._structure)
            flat = [
                tf.stack(values) if elements else tf.zeros([0] + list(spec.shape), spec.dtype)
                for spec, values in zip(specs, zip(*elements) if elements else [()] * len(specs))
            ]
        return tf.nest.pack_sequence_as(self._structure, flat)

    @property
    def deleter(self):
        """Operation that frees the queue."""
        return tf.no_op()

    def __iter__(self):
        if not tf.executing_eagerly() or self._mode is not IPUOutfeedMode.ALL:
            raise ValueError("only an eager outfeed in mode ALL can be iterated")
        return IPUOutfeedQueueIterator(self)


class IPUOutfeedQueueIterator:
    """Yields one enqueued element at a time; ends when the queue is empty."""

    def __init__(self, outfeed_queue):
        self._queue = outfeed_queue

    def __iter__(self):
        return self

    def __next__(self):
        queue = self._queue
        if not queue.enqueued:
            raise ValueError("nothing was enqueued yet")
        with queue._receive_lock:
            if not queue._elements:
                raise StopIteration
            values = queue._elements.popleft()
        return tf.nest.pack_sequence_as(queue._structure, [tf.constant(value) for value in values])


class ScopedIPUOutfeedQueue(IPUOutfeedQueue):
    """An outfeed that frees itself."""

    def __init__(self, outfeed_mode=None, device_ordinal=None):
        super().__init__(outfeed_mode, device_ordinal)
