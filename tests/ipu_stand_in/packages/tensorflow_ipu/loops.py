# SPDX-License-Identifier: Apache-2.0
"""Loops on the device, in the graph style."""

from tensorflow.python.ipu import _state


def repeat(n, body, inputs=None, infeed_queue=None, use_while_v1=True):
    """Run `body` n times; its arguments are the elements of the infeed.

    Only what the embedded application runtime needs is modelled: a loop over an infeed without carried tensors.
    """
    if type(n) is not int or n < 1:
        raise ValueError(f"n must be an int of at least 1, got {n!r}")
    program = _state.current.building
    if program is None or inputs or infeed_queue is None:
        raise ValueError("the stand-in runs loops.repeat inside experimental_application_compile_op, over an infeed")
    return program.set_loop(n, body, infeed_queue)


def while_loop(condition, body, inputs=None, infeed_queue=None, maximum_iterations=None, use_while_v1=True):
    """Not modelled."""
    raise ValueError("the stand-in does not model loops.while_loop")
