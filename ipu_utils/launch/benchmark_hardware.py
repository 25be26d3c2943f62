# SPDX-License-Identifier: Apache-2.0
"""Which benchmarks are for hardware that this machine does not have."""

from typing import Dict, List, Optional, Sequence, Tuple

from ipu_utils.base import hardware
from ipu_utils.base.errors import UserError
from ipu_utils.launch.benchmark_spec import Benchmark, Variant, command_of, hardware_of, words_of

KINDS = {"ipu": "an IPU", "gpu": "a GPU"}


def find_absent(pairs: Sequence[Tuple[Benchmark, Variant]], asked_for: bool) -> Dict[str, str]:
    """Say which variants are for hardware that the machine lacks, by their names.

    Args:
      pairs: what is to run.
      asked_for: by name. Where Graphcore's software is installed, that then says best what is wrong with an IPU.

    Raises:
      UserError: a benchmark was asked for by name, and the machine lacks what all of its variants are for.
    """
    looked_for: Dict[str, Optional[str]] = {}
    found: Dict[str, str] = {}
    able = set()
    for benchmark, variant in pairs:
        name = hardware_of(words_of(benchmark, command_of(benchmark, variant)))
        if name is not None and name not in looked_for:
            looked_for[name] = None if asked_for and name == "ipu" and hardware.has_ipu_wheel() else _look_for(name)
        absent = looked_for.get(name or "")
        if absent is None:
            able.add(benchmark.name)
        else:
            found[variant.name] = absent
    for benchmark, variant in pairs if asked_for else ():
        if benchmark.name not in able:
            raise UserError(
                f"--benchmark {benchmark.name} cannot run here: {found[variant.name]}. --list prints all, and "
                "python -m ipu_utils.doctor says what this machine can run."
            )
    return found


def _look_for(name: str) -> Optional[str]:
    try:
        there = hardware.PROBES[name]()
        detail = None if there.available else there.detail
    except UserError as error:  # a GPU is looked for with TensorFlow
        detail = error.lines[0]
    return None if detail is None else f"it is for {KINDS[name]}, and there is none: {detail}"


def describe_absent(pairs: Sequence[Tuple[Benchmark, Variant]], absent: Dict[str, str]) -> List[str]:
    """A note for each benchmark that is skipped, wholly or in part."""
    notes = []
    for name in dict.fromkeys(benchmark.name for benchmark, _ in pairs):
        variants = [variant.name for benchmark, variant in pairs if benchmark.name == name]
        reasons = [absent[variant] for variant in variants if variant in absent]
        if reasons:
            part = "" if len(reasons) == len(variants) else f" in {len(reasons)} of {len(variants)} variants"
            notes.append(f"{name} is skipped{part}: {reasons[0]}.")
    return notes
