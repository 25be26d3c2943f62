# SPDX-License-Identifier: Apache-2.0
"""The graph-style compiler entry point, which this project does not use."""


def compile(computation, inputs=None):
    """Not modelled."""
    raise ValueError("the stand-in does not model ipu_compiler.compile: use IPUStrategy.run")
