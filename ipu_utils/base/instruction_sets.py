# SPDX-License-Identifier: Apache-2.0
"""Instruction sets that this process computes with: those of the processor, below oneDNN's limit. No TensorFlow.

OpenVINO and TensorFlow choose kernels through oneDNN, whose variable ONEDNN_MAX_CPU_ISA (before 2021 DNNL_MAX_CPU_ISA,
which still counts where the new one is unset or empty) hides newer instruction sets from it. The spelling of a value
does not depend on its case, and a value that oneDNN does not know limits nothing.

Source: oneDNN's documentation, "CPU dispatcher control"; what happens with unknown and empty values was tried with
OpenVINO 2026.4.
"""

import os
from typing import FrozenSet, Mapping, NamedTuple, Optional

LIMIT_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # the first that is set wins
# Instruction sets that OpenVINO chooses kernels by, as the kernel spells them on x86 and on ARM.
X86 = frozenset(
    {
        "sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx_vnni_int8", "avx_ne_convert", "avx512f",
        "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8",
        "amx_bf16", "amx_fp16",
    }
)  # fmt: skip
ARM = frozenset({"asimd", "asimddp", "asimdhp", "fphp", "bf16", "i8mm", "sve", "sve2", "sme"})

_SSE41 = frozenset({"sse4_1", "sse4_2"})
_AVX = _SSE41 | {"avx", "f16c"}
_AVX2 = _AVX | {"avx2", "fma"}
_AVX2_VNNI = _AVX2 | {"avx_vnni"}
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
_AVX512_VNNI = _AVX512 | {"avx512_vnni"}
_AVX512_BF16 = _AVX512_VNNI | {"avx512_bf16"}
_AVX512_FP16 = _AVX512_BF16 | {"avx512_fp16", "avx_vnni"}
_AMX = _AVX512_FP16 | {"amx_tile", "amx_int8", "amx_bf16"}
# What each value of the variable leaves of X86.
LIMITS: Mapping[str, FrozenSet[str]] = {
    "SSE41": _SSE41,
    "AVX": _AVX,
    "AVX2": _AVX2,
    "AVX2_VNNI": _AVX2_VNNI,
    "AVX2_VNNI_2": _AVX2_VNNI | {"avx_vnni_int8", "avx_ne_convert"},
    "AVX512_CORE": _AVX512,
    "AVX512_CORE_VNNI": _AVX512_VNNI,
    "AVX512_CORE_BF16": _AVX512_BF16,
    "AVX512_CORE_FP16": _AVX512_FP16,
    "AVX10_1_512": _AVX512_FP16,
    "AVX512_CORE_AMX": _AMX,
    "AVX10_1_512_AMX": _AMX,
    "AVX512_CORE_AMX_FP16": _AMX | {"amx_fp16"},
    "AVX10_1_512_AMX_FP16": _AMX | {"amx_fp16"},
}


class Limit(NamedTuple):
    """What the environment leaves of the processor."""

    setting: str  # as it is to be told: NAME=value
    kept: FrozenSet[str]


def limit(environ: Optional[Mapping[str, str]] = None) -> Optional[Limit]:
    """Return the limit that an environment sets; None where it sets none. None for `environ`: this process's."""
    environ = os.environ if environ is None else environ
    for name in LIMIT_VARIABLES:
        value = environ.get(name, "")
        if value:
            kept = LIMITS.get(value.upper())
            return None if kept is None else Limit(f"{name}={value}", kept)
    return None


def effective(flags: FrozenSet[str], environ: Optional[Mapping[str, str]] = None) -> FrozenSet[str]:
    """Return the instruction sets among a processor's flags that engines choose kernels by, below the limit."""
    found = limit(environ)
    return (flags & ARM) | (flags & X86 if found is None else flags & found.kept)
