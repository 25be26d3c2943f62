# SPDX-License-Identifier: Apache-2.0
"""Is a compiled network the one that an executable's header describes? Asked before a buffer is made for it.

Buffers are made by the header and written by the network: where the two disagree, the network writes past their end.
"""

from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ipu_utils.base.image_size import get_feat_sizes
from ipu_utils.executable.file import Executable, ExecutableError, Header

INPUT = "images"  # what the network's input is called, where it has a name
ALIGNMENT = 64  # bytes: a vector, and a line of the cache


class Port(NamedTuple):
    """An input or output of a network."""

    names: Tuple[str, ...]
    shape: Optional[Tuple[int, ...]]  # None where it is not fixed
    type_name: str


def output_names(header: Header) -> Tuple[List[str], List[str]]:
    """Names of the class outputs and of the box outputs in the exported network, finest level first."""
    levels = range(header.anchors["min_level"], header.anchors["max_level"] + 1)
    return [f"class_{level}" for level in levels], [f"box_{level}" for level in levels]


def described(header: Header) -> Tuple[Port, List[Port]]:
    """The input and the outputs that a header describes."""
    batch, anchors = header.batch_size, header.anchors
    per_cell = anchors["num_scales"] * len(anchors["aspect_ratios"])
    sizes = get_feat_sizes(header.image_size, anchors["max_level"])[anchors["min_level"] :]
    outputs = [
        Port((name,), (batch, size["height"], size["width"], per_cell * values), header.output_type)
        for names, values in zip(output_names(header), (header.num_classes, 4))
        for name, size in zip(names, sizes)
    ]
    return Port((INPUT,), (batch, *header.image_size, 3), header.input_type), outputs


def aligned_zeros(shape: Sequence[int], type_name: str) -> np.ndarray:
    """An array that starts at a multiple of ALIGNMENT; bfloat16, which NumPy lacks, is held as uint16."""
    dtype = np.dtype("uint16" if type_name == "bfloat16" else type_name)
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def check_ports(executable: Executable, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Raise ExecutableError where a loaded network is not the one that its header describes."""
    problem = mismatch(executable.header, inputs, outputs)
    if problem is not None:
        raise ExecutableError(
            f"{executable.path} is not what it says it is: {problem}. Compile it again, and take executables only from "
            "people you trust."
        )


def mismatch(header: Header, inputs: Sequence[Port], outputs: Sequence[Port]) -> Optional[str]:
    """Say in which respect a network is not what a header describes; None when it is.

    Args:
      inputs, outputs: of the network.
    """
    return next(_mismatches(header, inputs, outputs), None)


def _mismatches(header: Header, inputs: Sequence[Port], outputs: Sequence[Port]) -> Iterator[str]:
    image, wanted = described(header)
    if len(inputs) != 1:
        yield f"its network has {len(inputs)} inputs, expected one"
        return
    yield from _differences("input", inputs[0], image)
    if len(outputs) != len(wanted):
        yield f"its network has {len(outputs)} outputs, its header describes {len(wanted)}"
    for port in wanted:
        found = [output for output in outputs if port.names[0] in output.names]
        if len(found) != 1:
            yield f"its network has no output {port.names[0]}, which its header describes"
        else:
            yield from _differences(f"output {port.names[0]}", found[0], port)
    taken = [set(output.names) & {port.names[0] for port in wanted} for output in outputs]
    if any(len(names) != 1 for names in taken):
        yield "its network has several names for one output"


def _differences(what: str, found: Port, wanted: Port) -> Iterator[str]:
    if found.type_name != wanted.type_name:
        yield f"the {what} of its network is {found.type_name}, its header says {wanted.type_name}"
    if found.shape != wanted.shape:
        shape = "of no fixed shape" if found.shape is None else list(found.shape)
        yield f"the {what} of its network is {shape}, its header says {list(wanted.shape)}"
