# SPDX-License-Identifier: Apache-2.0
"""Choosing a device, and what networks are built for on a host."""

import subprocess
import sys

import numpy as np
import pytest

from ipu_utils.base import hardware
from ipu_utils.base.errors import UserError
from ipu_utils.executable import file, fingerprint


def probes(**available):
    return {
        name: (lambda name=name: hardware.Availability(name, available.get(name, False), "as told"))
        for name in hardware.DEVICES
    }


@pytest.mark.parametrize(
    "available, chosen",
    [
        ({"ipu": True, "gpu": True, "cpu": True}, "ipu"),
        ({"gpu": True, "cpu": True}, "gpu"),
        ({"cpu": True}, "cpu"),
    ],
)
def test_auto_prefers_ipu_then_gpu_then_cpu(monkeypatch, available, chosen):
    monkeypatch.setattr(hardware, "PROBES", probes(**available))
    assert hardware.choose_device("auto") == chosen


@pytest.mark.parametrize("device", ["ipu", "gpu"])
def test_a_device_that_is_not_there_is_refused_by_name(monkeypatch, device):
    monkeypatch.setattr(hardware, "PROBES", probes(cpu=True))
    monkeypatch.setattr(hardware, "_has_ipu_module", lambda: False)
    with pytest.raises(UserError, match=f"--device {device} cannot be used: as told.*--device auto"):
        hardware.choose_device(device)


def test_an_ipu_is_left_to_the_sdk_once_it_is_installed(monkeypatch):
    monkeypatch.setattr(hardware, "PROBES", probes(cpu=True))
    monkeypatch.setattr(hardware, "_has_ipu_module", lambda: True)
    assert hardware.choose_device("ipu") == "ipu"


def test_list_names_every_device_and_what_auto_takes(monkeypatch):
    monkeypatch.setattr(hardware, "PROBES", probes(cpu=True))
    assert hardware.list_devices().splitlines() == [
        "ipu  no  as told",
        "gpu  no  as told",
        "cpu  yes as told (auto takes this one)",
    ]


# A server's core and a board's, as their kernels tell of them.
SERVER_CORE = """processor	: 0
BogoMIPS	: 243.75
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs paca pacg dcpodp svei8mm svebf16 i8mm bf16 dgh rng
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x1
CPU part	: 0xd40
CPU revision	: 1

"""  # noqa: E501
BOARD_CORE = """processor	: 0
BogoMIPS	: 108.00
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd08
CPU revision	: 3

Revision	: d03114
Model		: Raspberry Pi 4 Model B Rev 1.4
"""


def test_an_arm_processor_is_known_by_what_its_kernel_tells(tmp_path, monkeypatch):
    for folder, text in (("server", SERVER_CORE), ("board", 4 * BOARD_CORE)):
        (tmp_path / folder / "proc" / "device-tree").mkdir(parents=True)
        (tmp_path / folder / "proc" / "cpuinfo").write_text(text)
    (tmp_path / "board" / "proc" / "device-tree" / "model").write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("platform.processor", lambda: "")
    assert hardware.cpu_name(tmp_path / "server") == "aarch64 (implementer 0x41, part 0xd40)"
    assert hardware.cpu_name(tmp_path / "board") == "Raspberry Pi 4 Model B Rev 1.4 (implementer 0x41, part 0xd08)"
    server, board = (hardware.cpu_flags(tmp_path / name) for name in ("server", "board"))
    assert "svebf16" in server and "aes" not in board and board == {"fp", "asimd", "evtstrm", "crc32", "cpuid"}
    for flags, expected in (
        (server, ("aarch64", "asimd", "asimddp", "asimdhp", "bf16", "fphp", "i8mm", "sve")),
        (board, ("aarch64", "asimd")),
    ):
        monkeypatch.setattr(hardware, "cpu_flags", lambda flags=flags: flags)
        assert fingerprint.cpu_features() == expected and hardware.default_precision() == "float32"
        extras = [flag for flag in ("asimdhp", "asimddp", "i8mm", "bf16") if flag in flags]
        assert hardware.PROBES["cpu"]().detail.endswith(" ".join(["cores", *extras]))
    told = file.target_difference(("aarch64", "asimd", "bf16"), ("aarch64", "asimd"))
    assert told.endswith("has no bf16")


def test_looking_for_devices_on_a_machine_without_gpu_imports_no_tensorflow():
    code = (
        "import os, sys; exists = os.path.exists; os.path.exists = lambda p: p[:5] != '/dev/' and exists(p);"
        "from ipu_utils.base import hardware; hardware.choose_device('auto'); sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def cpu():
    from ipu_utils.model.host import Host

    return Host("cpu", 2)


def test_swish_is_x_times_sigmoid_of_x(cpu):
    x = np.linspace(-6, 6, 25).astype(np.float32)
    np.testing.assert_allclose(cpu.swish(x), x / (1 + np.exp(-x)), rtol=1e-5)


@pytest.mark.parametrize("flags, precision", [({"avx512f", "amx_bf16"}, "bfloat16"), ({"avx512_bf16"}, "float32")])
def test_bfloat16_is_the_default_only_where_matrix_units_compute_it(cpu, monkeypatch, flags, precision):
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset(flags))
    assert cpu.default_precision() == precision


def test_the_name_tells_kind_and_threads(cpu):
    assert cpu.name.startswith("cpu (") and "threads)" in cpu.name


KERAS = "from ipu_utils.base.keras2 import tf; import sys; print(tf.keras.layers.Layer.__module__)"


@pytest.mark.skipif(sys.version_info < (3, 9), reason="TensorFlow 2.6 knows no Keras 3")
@pytest.mark.slow
def test_keras_3_imported_first_is_refused_with_the_way_out():
    code = "import os; os.environ['TF_USE_LEGACY_KERAS'] = '0'; import tensorflow as tf; tf.keras.layers; " + KERAS
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "the network needs Keras 2. Set TF_USE_LEGACY_KERAS=1 before anything imports TensorFlow" in run.stderr


def test_keras_2_is_used_without_any_setting():
    import os

    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    run = subprocess.run([sys.executable, "-c", KERAS], capture_output=True, text=True, check=True, env=environment)
    assert run.stdout.split(".")[0] in ("tf_keras", "keras")
