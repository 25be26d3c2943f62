# SPDX-License-Identifier: Apache-2.0
"""Choosing a device, and what networks are built for on a host."""

import subprocess
import sys

import numpy as np
import pytest

from ipu_utils.base import hardware
from ipu_utils.base.errors import UserError


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
