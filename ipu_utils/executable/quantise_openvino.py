# SPDX-License-Identifier: Apache-2.0
"""OpenVINO's network in int8: calibrated by NNCF, which is imported on demand."""

import contextlib
import io
import logging
from typing import Any, Iterable

import numpy as np

from ipu_utils.base.errors import NotSupportedError
from ipu_utils.base.missing_packages import pip_install
from ipu_utils.base.openvino_api import import_openvino, without_reporting
from ipu_utils.base.signals import raise_again

PACKAGE = "nncf"


def import_nncf() -> Any:
    """Return the module `nncf`; a NotSupportedError says what to install where it is missing."""
    try:
        with without_reporting():
            import nncf
    except ImportError as error:
        raise_again()
        raise NotSupportedError(
            f"OpenVINO's int8 is made by NNCF, which cannot be imported ({error}): {pip_install(PACKAGE)}, or use "
            "--engine litert."
        ) from error
    nncf.set_log_level(logging.ERROR)
    return nncf


def fuse_swish(model: Any) -> int:
    """Make each x * sigmoid(x) one Swish operation; returns how many there were.

    NNCF quantises between x and sigmoid(x) otherwise, and the activation is no longer part of the convolution.
    """
    import_openvino()
    from openvino import opset4

    count = 0
    for product in model.get_ordered_ops():
        if product.get_type_name() != "Multiply":
            continue
        for factor, other in ((0, 1), (1, 0)):
            gate, value = product.input_value(factor).get_node(), product.input_value(other)
            if gate.get_type_name() == "Sigmoid" and gate.input_value(0) == value:
                swish = opset4.swish(value)
                swish.set_friendly_name(product.get_friendly_name())
                product.output(0).replace(swish.output(0))
                count += 1
                break
    return count


def quantise(model: Any, batches: Iterable[np.ndarray]) -> Any:
    """Quantise weights and activations of a converted network.

    Args:
      model: an `openvino.Model` in float32 that takes images. batches: what it is calibrated on, in its input's shape.
    """
    nncf = import_nncf()
    fuse_swish(model)
    images = list(batches)
    with contextlib.redirect_stdout(io.StringIO()):  # its progress
        return nncf.quantize(
            model,
            nncf.Dataset(images),
            preset=nncf.QuantizationPreset.MIXED,  # activations may be lopsided, as swish makes them
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(images),
        )
