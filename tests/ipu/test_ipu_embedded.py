# SPDX-License-Identifier: Apache-2.0
"""Executables for the IPU's embedded application runtime, on the stand-in: compile, start, call."""

import threading

import numpy as np
import pytest
from ipu_device_steps import images, state, step

from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.config.run_config import load_config

pytest_plugins = ("ipu_fixtures",)


def compiled(device, path, dataset=None, iterations=1000, what=step):
    dataset = images() if dataset is None else dataset
    device.compile_executable(what, dataset.element_spec, path, iterations)
    return device.start(path, dataset.element_spec)


def test_an_executable_keeps_the_types_of_its_outputs(open_ipu, tmp_path):
    executable = compiled(open_ipu(script="embedded"), tmp_path / "a.poplar_exec")
    anchors = np.array([49103, 2**31 - 1], np.int32)  # the last anchor of D0 and the padding's class, both lost in half
    ids, sums, scales = executable.call(np.full((2, 4, 4, 3), 2, np.uint8), np.array([1, 2], np.float32), anchors)
    assert ids.tolist() == anchors.tolist()
    assert (ids.dtype, sums.dtype, scales.dtype) == (np.int32, np.float16, np.float32)
    assert sums.tolist() == [96, 96] and scales.tolist() == [3, 6]


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float16, tf.float32])
def test_an_executable_takes_its_images_in_the_io_precision(open_ipu, tmp_path, dtype):
    dataset = images(dtype=dtype)
    executable = compiled(open_ipu(script="embedded"), tmp_path / "a.poplar_exec", dataset)
    batch = [tensor.numpy() for tensor in next(iter(dataset))]
    assert executable.call(*batch)[1].tolist() == [48, 48]


def test_an_executable_neither_restarts_nor_stalls(open_ipu, tmp_path):
    arguments = ["--device", "ipu", "--config", "efficientdet-low-latency"]
    config = load_config(arguments, "embedded", choose_device=lambda requested: "ipu")
    from ipu_utils.backends import ipu

    device = ipu.create(config)
    executable = compiled(device, tmp_path / "a.poplar_exec", iterations=config.benchmark.benchmark_repeats)
    batch = [tensor.numpy() for tensor in next(iter(images()))]
    for _ in range(config.benchmark.num_repeats + config.benchmark.warmup):
        executable.call(*batch)
    (engine,) = state().engines.values()
    assert (engine.restarts, engine.stalls) == (0, 0)


@pytest.mark.parametrize("requests, timeout_us", [("1", 50), ("4", 5000)])
def test_with_io_tiles_the_time_out_suits_the_requests(open_ipu, tmp_path, requests, timeout_us):
    device = open_ipu(
        "--opt-use-io-tiles", "--opt-num-io-tiles", "32", "--requests-in-flight", requests, script="embedded"
    )
    compiled(device, tmp_path / "a.poplar_exec")
    assert [engine.timeout_us for engine in state().engines.values()] == [timeout_us]


@pytest.mark.parametrize("connection, configured", [("always", False), ("on_demand", True)])
def test_the_engine_finds_the_ipu_free(open_ipu, tmp_path, connection, configured):
    compiled(open_ipu("--ipu-connection-type", connection, script="embedded"), tmp_path / "a.poplar_exec")
    assert (state().configuration is not None) == configured


def test_two_executables_in_one_process_are_two_engines(open_ipu, tmp_path):
    device, batch = open_ipu(script="embedded"), [tensor.numpy() for tensor in next(iter(images()))]
    one = compiled(device, tmp_path / "a.poplar_exec")
    two = compiled(device, tmp_path / "a.poplar_exec", what=lambda i, s, n: (n + 7, tf.cast(i, tf.float16), s))
    assert one.call(*batch)[0].tolist() == [0, 0]
    assert two.call(*batch)[0].tolist() == [7, 7]


def test_requests_from_several_threads_get_their_own_answers(open_ipu, tmp_path):
    executable, wrong = compiled(open_ipu(script="embedded"), tmp_path / "a.poplar_exec"), []

    def client(number):
        for _ in range(20):
            scales = np.full(2, number, np.float32)
            outputs = executable.call(np.zeros((2, 4, 4, 3), np.uint8), scales, np.full(2, number, np.int32))
            if outputs[0].tolist() != [number] * 2 or outputs[2].tolist() != [3 * number] * 2:
                wrong.append(number)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_weights_are_in_the_executable(open_ipu, tmp_path):
    device = open_ipu(script="embedded")
    weight = tf.Variable(2.0)
    executable = compiled(
        device, tmp_path / "a.poplar_exec", what=lambda i, s, n: (tf.cast(i, tf.float32), s * weight, n)
    )
    weight.assign(5.0)
    assert executable.call(*[tensor.numpy() for tensor in next(iter(images()))])[1].tolist() == [1, 1]


def test_a_failed_compilation_leaves_nothing_behind(open_ipu, tmp_path):
    device = open_ipu(script="embedded")
    with pytest.raises(tf.errors.InvalidArgumentError):
        device.compile_executable(lambda i, s, n: (i + i, s, n), images().element_spec, tmp_path / "a.poplar_exec", 10)
    assert list(tmp_path.iterdir()) == []


def test_synthetic_requests_are_refused(open_ipu):
    with pytest.raises(UserError, match="carry their data"):
        open_ipu("--synthetic", script="embedded")


def test_an_executable_is_compiled_without_a_device_but_not_run(open_ipu, tmp_path):
    device = open_ipu("--ipu-connection-type", "never", script="embedded")
    path = tmp_path / "new" / "a.poplar_exec"
    device.compile_executable(step, images().element_spec, path, 10)
    assert path.is_file()
    with pytest.raises(UserError, match="--compile-only"):
        device.start(path, images().element_spec)
