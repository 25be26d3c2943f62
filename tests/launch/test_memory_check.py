# SPDX-License-Identifier: Apache-2.0
"""Runs that do not fit into memory are refused before anything is built."""

import dataclasses
import sys
import threading

import pytest

from backbone import efficientnet_builder, efficientnet_lite_builder
from ipu_utils.backends import host, in_flight, openvino
from ipu_utils.backends.contract import Hardware
from ipu_utils.backends.streams import streams_of
from ipu_utils.base import hardware, machine
from ipu_utils.base.errors import UserError
from ipu_utils.config.run_config import load_config
from ipu_utils.config.run_hparams import hparams_of
from ipu_utils.executable.file import write_executable
from ipu_utils.launch import memory_check


def run_of(*arguments, script="throughput"):
    config = load_config(
        ["--device", "cpu", "--num-threads", "2", *arguments], script, choose_device=lambda asked: "cpu"
    )
    return config, hparams_of(config.model, config.data.image_size)


def needed(*arguments, **more):
    return memory_check.estimate(*run_of(*arguments, **more)).needed


def test_the_estimate_is_the_documented_formula():
    config, hparams = run_of("--engine", "tensorflow", "--micro-batch-size", "8")
    heads = 4 / 3 * 9 * 94 / 64
    expected = memory_check.FIXED_BYTES + memory_check.PER_BATCH_BYTE * 3 * 8 * 4 * 512 * 512 * (96 / 4 + heads)
    assert memory_check.estimate(config, hparams) == (int(expected), 3)


def test_the_widths_are_those_of_the_backbones_second_stage():
    for builder in (efficientnet_builder, efficientnet_lite_builder):
        for name in builder.SCALES:
            params = builder.get_model_params(name, builder.STAGES)
            second = params.stages[1]
            assert memory_check.EXPANDED[name.split("-")[1]] == second.expand_ratio * params.round_filters(
                second.input_filters
            )


def test_more_images_pixels_and_streams_need_more_memory():
    engine = ("--engine", "tensorflow")  # with OpenVINO building takes more than small runs
    assert needed(*engine, "--micro-batch-size", "2") > needed(*engine)
    assert needed("--image-size", "640") > needed()
    assert needed(*engine, "--num-streams", "4") > needed(*engine, "--num-streams", "2")
    assert needed("--model-name", "efficientdet-d7") > needed("--model-name", "efficientdet-d0")


def test_an_executable_holds_the_requests_under_way_alone():
    batch = ("--micro-batch-size", "64")  # of which a run takes more than building, whatever the number of requests
    one, four = (needed("--requests-in-flight", count, *batch, script="embedded") for count in ("1", "4"))
    assert four - memory_check.RUNNING_BYTES == pytest.approx(4 * (one - memory_check.RUNNING_BYTES), rel=1e-6)


IMAGE = 4 * 512 * 512 * (96 / 4 + 4 / 3 * 9 * 94 / 64)  # bytes of D0's activations


def test_openvino_needs_what_building_takes_or_what_the_run_takes():
    assert needed("--engine", "openvino") == int(memory_check.BUILDING_BYTES + memory_check.PER_BUILDING_BYTE * IMAGE)
    # 32 images are more pixels than two streams compute at the same time: one stream, two batches under way
    found = memory_check.estimate(*run_of("--engine", "openvino", "--micro-batch-size", "32"))
    assert found == (int(memory_check.RUNNING_BYTES + memory_check.PER_RUNNING_BYTE * 2 * 32 * IMAGE), 2)


def test_making_an_onnx_file_takes_more():
    found = [needed("--engine", engine) for engine in ("openvino", "litert", "onnxruntime")]
    assert found[0] == found[1] == found[2] - memory_check.CONVERTER_BYTES["onnxruntime"]


@pytest.mark.parametrize(
    "options, batches",
    [
        (("--engine", "openvino", "--num-threads", "16"), 17),
        (("--engine", "openvino", "--num-threads", "16", "--model-name", "efficientdet-d7x"), 2),
        (("--engine", "openvino", "--num-threads", "16", "--micro-batch-size", "4"), 5),
        (("--engine", "openvino", "--num-streams", "16"), 17),
        (("--engine", "litert", "--num-threads", "16"), 16),
        (("--engine", "onnxruntime", "--num-threads", "16"), 16),
        (("--engine", "tensorflow", "--num-threads", "16"), 9),
        (("--engine", "tensorflow", "--num-threads", "16", "--model-name", "efficientdet-d7x"), 9),
        (("--engine", "tensorflow", "--num-streams", "16"), 17),
    ],
)
def test_the_estimate_is_for_as_many_batches_as_the_engine_keeps_under_way(options, batches):
    assert memory_check.estimate(*run_of(*options)).batches == batches


def test_sixteen_cores_are_sixteen_threads(monkeypatch):
    config = load_config(["--device", "cpu", "--engine", "openvino"], choose_device=lambda asked: "cpu")
    monkeypatch.setattr(hardware, "usable_cores", lambda: 16)
    assert memory_check.estimate(config, hparams_of(config.model, None)).batches == 17


class Runtime:
    """Sessions that pass only when all batches that were estimated are under way at the same time."""

    def __init__(self, engine, streams):
        self.hardware = Hardware("cpu", "a cpu", engine, streams_of(engine, 2, streams, 64 * 64), "none")

    def sessions(self, count):
        self.together = threading.Barrier(count)
        return [self] * count

    def load(self, images, scales):
        pass

    def run(self):
        self.together.wait(timeout=60)

    def detections(self):
        return "found"


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
@pytest.mark.parametrize("streams, batches", [(1, 2), (2, 3), (5, 6)])
def test_a_run_has_as_many_batches_under_way_as_were_estimated(engine, streams, batches):
    runtime, feed = Runtime(engine, streams), [(None, None, number) for number in range(2 * batches)]
    assert runtime.hardware.streams == (2, streams, batches)
    assert in_flight.Loop(runtime, feed, 2 * batches, True).call() == [(number, "found") for _, _, number in feed]


def kept(folder, *arguments, script="throughput", change=None):
    """A run with an executable in a folder that fits it, but for a change; its network is nonsense."""
    folder_option = ("--executable-cache-dir", "--exec-output-dir")[script == "embedded"]
    config, hparams = run_of("--engine", "openvino", "--random-weights", folder_option, str(folder), *arguments,
                             script=script)  # fmt: skip
    header = openvino.wanted(config)
    written = header if change is None else dataclasses.replace(header, **change)
    write_executable(host.place_of(config, header), written, b"network")
    return config, hparams


@pytest.mark.parametrize("script", ["throughput", "embedded"])
def test_nothing_is_counted_for_building_where_a_kept_executable_is_used(tmp_path, monkeypatch, script):
    pytest.importorskip("openvino")
    config, hparams = kept(tmp_path, script=script)
    batches = {"throughput": 3, "embedded": 1}[script]
    (path,) = tmp_path.iterdir()
    running = int(
        memory_check.RUNNING_BYTES
        + memory_check.PER_RUNNING_BYTE * batches * IMAGE
        + memory_check.PER_FILE_BYTE * path.stat().st_size
    )
    assert memory_check.estimate(config, hparams).needed == running
    monkeypatch.setattr(memory_check, "available", lambda: running)
    memory_check.check_memory(config, hparams)
    path.unlink()
    assert memory_check.estimate(config, hparams).needed > running
    with pytest.raises(UserError, match=r"needs about 1\.2 GiB"):
        memory_check.check_memory(config, hparams)


@pytest.mark.parametrize("change", [{"engine": "OpenVINO 1.2.3"}, {"fingerprint": {}}, {"target": ("sparc",)}])
def test_building_counts_where_the_kept_executable_does_not_fit(tmp_path, change):
    pytest.importorskip("openvino")
    config, hparams = kept(tmp_path, change=change)
    assert memory_check.estimate(config, hparams).needed == memory_check.estimate(config, hparams, look=False).needed


def test_building_counts_where_the_kept_executable_is_cut_off(tmp_path):
    pytest.importorskip("openvino")
    config, hparams = kept(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert memory_check.estimate(config, hparams).needed == memory_check.estimate(config, hparams, look=False).needed


def test_a_kept_executable_is_found_where_tensorflow_is_not_installed(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    installed = {"tensorflow": "2.21.0", "tf-keras": "2.21.0"}
    monkeypatch.setattr(machine, "package_version", installed.get)
    config, _ = kept(tmp_path)
    (path,) = tmp_path.iterdir()
    installed.clear()
    header = openvino.wanted(config)
    assert "tensorflow" not in header.versions
    assert (
        host.place_of(config, header) == path and host.kept_size(config, openvino.wanted(config)) == path.stat().st_size
    )
    installed["tensorflow"] = "2.20.0"  # another than the one that made it
    assert (
        host.place_of(config, openvino.wanted(config)) != path
        and host.kept_size(config, openvino.wanted(config)) is None
    )


def test_nothing_is_looked_for_where_memory_suffices_for_building(tmp_path, monkeypatch):
    """A start from a kept executable waits for nothing that it need not know."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    config, hparams = run_of("--engine", "openvino", "--executable-cache-dir", str(tmp_path))
    monkeypatch.setattr(memory_check, "available", lambda: 64 << 30)
    memory_check.check_memory(config, hparams)


def test_a_run_is_refused_just_above_what_is_free_and_not_below(monkeypatch):
    config, hparams = run_of()
    bytes_needed = memory_check.estimate(config, hparams).needed
    monkeypatch.setattr(memory_check, "available", lambda: bytes_needed)
    memory_check.check_memory(config, hparams)
    monkeypatch.setattr(memory_check, "available", lambda: bytes_needed - 1)
    with pytest.raises(UserError, match=r"needs about 1\.\d GiB .* are free: take a smaller --micro-batch-size"):
        memory_check.check_memory(config, hparams)
    monkeypatch.setattr(memory_check, "available", lambda: None)  # a system that does not tell
    memory_check.check_memory(config, hparams)


def test_force_tries(monkeypatch):
    monkeypatch.setattr(memory_check, "available", lambda: 0)
    config, hparams = run_of("--force")
    memory_check.check_memory(config, hparams)
    with pytest.raises(UserError):
        memory_check.check_memory(
            dataclasses.replace(config, device=dataclasses.replace(config.device, force=False)), hparams
        )


def test_what_is_free_is_the_least_of_machine_and_container(tmp_path):
    assert memory_check.available(tmp_path) is None, "a system that does not tell"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:    2048 kB\n")
    assert memory_check.available(tmp_path) == 2048 << 10
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("1000\n")
    (group / "memory.current").write_text("400\n")
    assert memory_check.available(tmp_path) == 600
    (group / "memory.max").write_text("max\n")
    assert memory_check.available(tmp_path) == 2048 << 10
