# SPDX-License-Identifier: Apache-2.0
"""Stand-in for `tensorflow.python.ipu`; see tests/ipu_stand_in."""

from tensorflow.python.ipu import (  # noqa: F401 - the package's public names
    _state,
    config,
    ipu_compiler,
    ipu_infeed_queue,
    ipu_outfeed_queue,
    ipu_strategy,
    loops,
    scopes,
    utils,
)
from tensorflow.python.ipu.ops import (  # noqa: F401
    application_compile_op,
    custom_ops,
    embedded_runtime,
    nn_ops,
)
