# SPDX-License-Identifier: Apache-2.0
"""Runs that do not fit into memory are refused before anything is built."""

import dataclasses

import pytest

from backbone import efficientnet_builder, efficientnet_lite_builder
from ipu_utils import memory
from ipu_utils.config import load_config
from ipu_utils.errors import UserError
from ipu_utils.run_hparams import hparams_of


def run_of(*arguments, script="throughput"):
    config = load_config(
        ["--device", "cpu", "--num-threads", "2", *arguments], script, choose_device=lambda asked: "cpu"
    )
    return config, hparams_of(config.model, config.data.image_size)


def needed(*arguments, **more):
    return memory.estimate(*run_of(*arguments, **more)).needed


def test_the_estimate_is_the_documented_formula():
    config, hparams = run_of("--micro-batch-size", "8")
    heads = 4 / 3 * 9 * 94 / 64
    expected = memory.FIXED_BYTES + memory.PER_BATCH_BYTE * 3 * 8 * 4 * 512 * 512 * (96 / 4 + heads)
    assert memory.estimate(config, hparams) == (int(expected), 3)


def test_the_widths_are_those_of_the_backbones_second_stage():
    for builder in (efficientnet_builder, efficientnet_lite_builder):
        for name in builder.SCALES:
            params = builder.get_model_params(name, builder.STAGES)
            second = params.stages[1]
            assert memory.EXPANDED[name.split("-")[1]] == second.expand_ratio * params.round_filters(
                second.input_filters
            )


def test_more_images_pixels_and_streams_need_more_memory():
    assert needed("--micro-batch-size", "2") > needed()
    assert needed("--image-size", "640") > needed()
    assert needed("--num-streams", "4") > needed("--num-streams", "2")
    assert needed("--model-name", "efficientdet-d7") > needed("--model-name", "efficientdet-d0")


def test_an_executable_holds_the_requests_under_way_alone():
    batch = ("--micro-batch-size", "64")  # of which a run takes more than building, whatever the number of requests
    one, four = (needed("--requests-in-flight", count, *batch, script="embedded") for count in ("1", "4"))
    assert four - memory.RUNNING_BYTES == pytest.approx(4 * (one - memory.RUNNING_BYTES), rel=1e-6)


def test_openvino_needs_what_building_takes_or_what_the_run_takes():
    image = 4 * 512 * 512 * (96 / 4 + 4 / 3 * 9 * 94 / 64)
    config, hparams = run_of("--engine", "openvino")
    assert memory.estimate(config, hparams).needed == int(memory.BUILDING_BYTES + memory.PER_BUILDING_BYTE * image)
    config, hparams = run_of("--engine", "openvino", "--micro-batch-size", "32")
    assert memory.estimate(config, hparams).needed == int(
        memory.RUNNING_BYTES + memory.PER_RUNNING_BYTE * 3 * 32 * image
    )


def test_a_run_is_refused_just_above_what_is_free_and_not_below(monkeypatch):
    config, hparams = run_of()
    bytes_needed = memory.estimate(config, hparams).needed
    monkeypatch.setattr(memory, "available", lambda: bytes_needed)
    memory.check_memory(config, hparams)
    monkeypatch.setattr(memory, "available", lambda: bytes_needed - 1)
    with pytest.raises(UserError, match=r"needs about 1\.\d GiB .* are free: take a smaller --micro-batch-size"):
        memory.check_memory(config, hparams)
    monkeypatch.setattr(memory, "available", lambda: None)  # a system that does not tell
    memory.check_memory(config, hparams)


def test_force_tries(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 0)
    config, hparams = run_of("--force")
    memory.check_memory(config, hparams)
    with pytest.raises(UserError):
        memory.check_memory(
            dataclasses.replace(config, device=dataclasses.replace(config.device, force=False)), hparams
        )


def test_what_is_free_is_the_least_of_machine_and_container(tmp_path):
    assert memory.available(tmp_path) is None, "a system that does not tell"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:    2048 kB\n")
    assert memory.available(tmp_path) == 2048 << 10
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("1000\n")
    (group / "memory.current").write_text("400\n")
    assert memory.available(tmp_path) == 600
    (group / "memory.max").write_text("max\n")
    assert memory.available(tmp_path) == 2048 << 10
