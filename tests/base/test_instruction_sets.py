# SPDX-License-Identifier: Apache-2.0
"""What oneDNN's variable leaves of a processor."""

import os
import subprocess
import sys

import pytest

from ipu_utils.base import hardware, openvino_api
from ipu_utils.base.errors import UserError
from ipu_utils.base.instruction_sets import ARM, LIMITS, X86, effective, limit
from ipu_utils.executable import file, fingerprint

SERVER = frozenset({"sse4_1", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni",
                    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "msr", "hypervisor"})  # fmt: skip
AVX2 = {"sse4_1", "avx", "avx2", "fma"}
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}


@pytest.mark.parametrize(
    "environ, left",
    [
        ({}, SERVER & X86),
        ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, AVX2),
        ({"ONEDNN_MAX_CPU_ISA": "avx2"}, AVX2),
        ({"ONEDNN_MAX_CPU_ISA": "SSE41"}, {"sse4_1"}),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, AVX512),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, AVX512 | {"avx512_vnni", "avx512_bf16"}),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, SERVER & X86),
        ({"ONEDNN_MAX_CPU_ISA": "ALL"}, SERVER & X86),
        ({"ONEDNN_MAX_CPU_ISA": "DEFAULT"}, SERVER & X86),
        ({"ONEDNN_MAX_CPU_ISA": "a word it does not know"}, SERVER & X86),
        ({"DNNL_MAX_CPU_ISA": "AVX2"}, AVX2),
        ({"ONEDNN_MAX_CPU_ISA": "", "DNNL_MAX_CPU_ISA": "AVX2"}, AVX2),
        ({"ONEDNN_MAX_CPU_ISA": "ALL", "DNNL_MAX_CPU_ISA": "AVX2"}, SERVER & X86),
        ({"ONEDNN_MAX_CPU_ISA": "nonsense", "DNNL_MAX_CPU_ISA": "AVX2"}, SERVER & X86),
    ],
)
def test_a_limit_leaves_itself_and_what_is_older(environ, left):
    assert effective(SERVER, environ) == left


def test_a_limit_gives_a_processor_nothing_that_it_lacks_and_takes_nothing_from_arm():
    assert effective(frozenset({"avx2"}), {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}) == {"avx2"}
    assert effective(frozenset({"asimd", "sve"}), {"ONEDNN_MAX_CPU_ISA": "AVX2"}) == {"asimd", "sve"}
    assert not X86 & ARM and all(kept <= X86 for kept in LIMITS.values())


def test_every_limit_leaves_what_the_one_before_it_left():
    chain = "SSE41 AVX AVX2 AVX512_CORE AVX512_CORE_VNNI AVX512_CORE_BF16 AVX512_CORE_FP16 AVX512_CORE_AMX"
    kept = [LIMITS[name] for name in [*chain.split(), "AVX512_CORE_AMX_FP16"]]
    assert all(less < more for less, more in zip(kept, kept[1:]))


def test_what_a_limit_hides_is_another_target_and_is_told_with_the_variable(monkeypatch):
    monkeypatch.setattr(hardware, "cpu_flags", lambda: SERVER)
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    whole = fingerprint.cpu_features()
    assert hardware.default_precision() == "bfloat16"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx512_core_bf16")
    assert set(whole) - set(fingerprint.cpu_features()) == {"avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"}
    assert hardware.default_precision() == "float32"
    told = file.target_difference(whole, fingerprint.cpu_features())
    assert "this one below ONEDNN_MAX_CPU_ISA=avx512_core_bf16 has no amx_bf16" in told


def test_bfloat16_below_a_limit_without_it_is_refused_with_the_variable(monkeypatch):
    pytest.importorskip("openvino")
    openvino_api.check_precision("float32")  # oneDNN reads the variable once, and other tests of this process need all
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with pytest.raises(UserError, match="cannot compute in bfloat16 below ONEDNN_MAX_CPU_ISA=AVX2"):
        openvino_api.check_precision("bfloat16")
    openvino_api.check_precision("float32")


CONVOLUTION = """
import numpy as np, openvino
from openvino import opset13 as op
image = op.parameter([1, 32, 32, 32], np.float32)
found = op.convolution(image, op.constant(np.ones((32, 32, 3, 3), np.float32)), [1, 1], [1, 1], [1, 1], [1, 1])
network = openvino.Core().compile_model(openvino.Model([found], [image]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
print([str(node.get_rt_info()["primitiveType"].astype(str)) for node in network.get_runtime_model().get_ops()])
"""


@pytest.mark.skipif("avx512f" not in hardware.cpu_flags(), reason="this processor has nothing to hide")
@pytest.mark.parametrize(
    "environ",
    [
        {"ONEDNN_MAX_CPU_ISA": "avx2"},
        {"ONEDNN_MAX_CPU_ISA": "", "DNNL_MAX_CPU_ISA": "AVX2"},
        {"ONEDNN_MAX_CPU_ISA": "nonsense", "DNNL_MAX_CPU_ISA": "AVX2"},
    ],
    ids=["in lower case", "by the old name", "by an unknown word"],
)
def test_openvino_takes_the_variables_as_this_module_does(environ):
    pytest.importorskip("openvino")
    kept = {name: value for name, value in os.environ.items() if "MAX_CPU_ISA" not in name}
    command = [sys.executable, "-c", CONVOLUTION]
    done = subprocess.run(command, env={**kept, **environ}, stdout=subprocess.PIPE, text=True, check=True)
    assert ("avx512" in done.stdout) == (limit(environ) is None), done.stdout
    assert ("avx2" in done.stdout) == (limit(environ) is not None), done.stdout
