# SPDX-License-Identifier: Apache-2.0
"""The IPU device on the stand-in: what the options do, and that batches come back right. See DEFECTS below."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from ipu_device_steps import images, state, step

from ipu_utils.backends import ipu_options
from ipu_utils.base.errors import CompiledOnly, ConfigError, UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.config.device_options import IpuConfig
from ipu_utils.config.model_options import ModelConfig, Precision
from ipu_utils.report.instances import open_instances

pytest_plugins = ("ipu_fixtures",)

# Defects of the original on the Python side, by their number in the published list, and the tests that fail when one is
# put back. Those of the operator itself (1 to 14) are put back one by one in test_poplar_nms_defects.py.
DEFECTS = {
    "15 the class of unused rows wraps": "test_nms_ipu_call.py::test_unused_rows_have_class_zero_and_do_not_wrap",
    "16 chip and host suppress differently": "test_ipu_end_to_end.py::test_ipu_equals_host",
    "17 operator outputs always declared half": "test_nms_ipu_call.py::test_declared_types_are_those_of_the_inputs",
    "18 sigma lost": "test_nms_ipu_call.py::test_every_mode_has_its_library_and_attributes",
    "21 scales baked into the program": "test_ipu_device.py::test_every_batch_is_computed_with_its_own_scales",
    "22 detections of a path dropped": "test_ipu_inference.py::test_both_nms_paths_give_the_same_detections",
    "23 overwritten": "test_ipu_inference.py::test_every_photograph_of_a_folder_is_annotated_once_at_its_own_size",
    "24 np.int": "test_ipu_inference.py::test_every_photograph_of_a_folder_is_annotated_once_at_its_own_size",
    "25 lists of images": "test_preprocess.py::test_a_list_may_hold_images_of_different_sizes",
    "25 feed runs dry": "test_tf_batches.py::test_rounds_through_a_folder_follow_each_other_without_padding",
    "26 noise is zeros": "test_tf_batches.py::test_generated_images_are_noise_over_all_of_0_to_255_and_all_different",
    "27 TF_POPLAR_FLAGS in quotes": "test_ipu_device.py::test_flags_survive_the_real_parser",
    "28 --opt-prefetch-depth without effect": "test_ipu_device.py::test_the_prefetch_depth_reaches_the_infeed",
    "29 a clash of settings raises NameError": "test_ipu_device.py::test_a_clash_with_the_environment_is_a_warning",
    "30 I/O tiles without a number": "test_ipu_device.py::test_io_tiles_are_an_even_number_within_range",
    "31 model names matched in part": "test_command_line.py::test_model_names_are_matched_whole",
    "33 connection type never always fails": "test_ipu_device.py::test_never_compiles_and_says_where",
    "34 streams not as asked": "test_ipu_device.py::test_each_option_reaches_the_configuration",
    "35 one repeat": "test_ipu_inference.py::test_a_single_repeat_is_measured",
    "37 poprun: no device and data of one's own": "test_ipu_device.py::test_poprun_gives_each_instance_its_share",
    "39 every output cast to half": "test_ipu_embedded.py::test_an_executable_keeps_the_types_of_its_outputs",
    "40 input always uint8": "test_ipu_embedded.py::test_an_executable_takes_its_images_in_the_io_precision",
    "41 engine restarts and stalls": "test_ipu_embedded.py::test_an_executable_neither_restarts_nor_stalls",
    "42 temporary folder left behind": "test_ipu_embedded.py::test_a_failed_compilation_leaves_nothing_behind",
    "43 engine name fixed": "test_ipu_embedded.py::test_two_executables_in_one_process_are_two_engines",
}


# Options


@pytest.mark.parametrize(
    "arguments, attribute, expected",
    [
        ([], "device_connection.type", "ON_DEMAND"),
        (["--ipu-connection-type", "always"], "device_connection.type", "ALWAYS"),
        ([], "auto_select_ipus", 1),
        (["--opt-prefetch-data-streams", "false"], "optimizations.prefetch_data_streams", False),
        (["--opt-prefetch-data-streams", "true"], "optimizations.prefetch_data_streams", True),
        (["--opt-device-rearrange"], "experimental.always_rearrange_copies_on_the_host", False),
        ([], "experimental.always_rearrange_copies_on_the_host", True),
        (["--opt-use-io-tiles", "--opt-num-io-tiles", "64"], "io_tiles.num_io_tiles", 64),
        (["--opt-use-io-tiles", "--opt-num-io-tiles", "64"], "io_tiles.place_ops_on_io_tiles", True),
        (["--opt-use-io-tiles", "false"], "io_tiles.num_io_tiles", 0),
        ([], "scheduling.algorithm", "CHOOSE_BEST"),
        (["--opt-liveness-scheduler", "shortest_path"], "scheduling.algorithm", "SHORTEST_PATH"),
        (["--opt-liveness-scheduler", "look_ahead"], "scheduling.algorithm", "LOOK_AHEAD"),
        (
            ["--opt-liveness-scheduler", "look_ahead", "--opt-scheduler-lookahead-depth", "7"],
            "scheduling.maximum_scheduler_lookahead_depth",
            7,
        ),
        (
            ["--opt-liveness-scheduler", "look_ahead", "--opt-scheduler-lookahead-search-space", "9"],
            "scheduling.maximum_scheduler_search_space_size",
            9,
        ),
        ([], "floating_point_behaviour.nanoo", False),
        ([], "floating_point_behaviour.inv", False),
        (["--debug"], "floating_point_behaviour.inv", True),
        ([], "floating_point_behaviour.esr", "OFF"),
        (
            ["--model-precision", "float"],
            "matmuls.poplar_options",
            {"partialsType": "float", "availableMemoryProportion": "0.6"},
        ),
        (
            ["--partials-precision", "half", "--available-memory-proportion", "0.25", "--opt-conv-dithering"],
            "convolutions.poplar_options",
            {"partialsType": "half", "availableMemoryProportion": "0.25", "enableConvDithering": "true"},
        ),
    ],
)
def test_each_option_reaches_the_configuration(open_ipu, arguments, attribute, expected):
    open_ipu(*arguments)
    value = state().configuration.to_dict()[attribute]
    assert getattr(value, "name", value) == expected


@pytest.mark.parametrize("model", ["efficientdet-d0", "efficientdet-d4"])
@pytest.mark.parametrize("preset", ["efficientdet", "efficientdet-low-latency"])
def test_presets_configure_an_ipu(open_ipu, model, preset):
    open_ipu("--model-name", model, "--config", preset)
    configuration = state().configuration
    assert configuration.io_tiles.num_io_tiles == (96 if (model, preset) == ("efficientdet-d0", "efficientdet") else 0)
    proportion = {"efficientdet-d0": "0.6", "efficientdet-d4": "0.2"}[model]
    assert configuration.convolutions.poplar_options["availableMemoryProportion"] == proportion


@pytest.mark.parametrize("asked, used", [(32, 32), (33, 34), (191, 192), (192, 192)])
def test_io_tiles_are_an_even_number_within_range(asked, used):
    assert ipu_options.io_tiles(IpuConfig(opt_use_io_tiles=True, opt_num_io_tiles=asked)) == used


def test_io_tiles_need_the_option_that_asks_for_them():
    assert ipu_options.io_tiles(IpuConfig(opt_num_io_tiles=64)) == 0
    with pytest.raises(ConfigError, match="--opt-num-io-tiles"):
        IpuConfig(opt_use_io_tiles=True)


@pytest.mark.parametrize(
    "model, partials",
    [
        (ModelConfig(), "half"),
        (ModelConfig(model_precision=Precision.FLOAT), "float"),
        (ModelConfig(partials_precision=Precision.FLOAT), "float"),
        (ModelConfig(model_precision=Precision.FLOAT, partials_precision=Precision.HALF), "half"),
    ],
)
def test_partial_sums_have_the_model_precision_unless_asked(model, partials):
    assert ipu_options.partials_type(model) == partials


def test_bfloat16_is_refused_with_what_works(open_ipu):
    with pytest.raises(UserError, match="--model-precision half or float"):
        open_ipu().check_precision("bfloat16")


# Environment


def test_engine_options_join_those_of_the_environment(open_ipu, tmp_path):
    os.environ["POPLAR_ENGINE_OPTIONS"] = '{"opt.maxCompilationThreads": "4", "streamCallbacks.numWorkerThreads": "2"}'
    folder = tmp_path / "new" / "profile"
    open_ipu("--profile-dir", str(folder), "--skip-execution-report", "--opt-internal-exchange-target", "cycles")
    assert json.loads(os.environ["POPLAR_ENGINE_OPTIONS"]) == {
        "opt.maxCompilationThreads": "4",
        "streamCallbacks.numWorkerThreads": "2",  # ours is only a default
        "streamCallbacks.multiThreadMode": "collaborative",
        "streamCallbacks.maxLookahead": "unlimited",
        "autoReport.all": "true",
        "autoReport.directory": str(folder),
        "debug.instrument": "false",
        "opt.internalExchangeOptimisationTarget": "cycles",
    }
    assert folder.is_dir()


def test_a_clash_with_the_environment_is_a_warning(open_ipu, caplog):
    os.environ["POPLAR_ENGINE_OPTIONS"] = '{"opt.internalExchangeOptimisationTarget": "memory"}'
    open_ipu("--opt-internal-exchange-target", "cycles")
    assert "the command line wins" in caplog.text
    assert json.loads(os.environ["POPLAR_ENGINE_OPTIONS"])["opt.internalExchangeOptimisationTarget"] == "cycles"


def test_without_anything_to_say_the_flags_stay_unset(open_ipu):
    open_ipu()
    assert "TF_POPLAR_FLAGS" not in os.environ


@pytest.mark.parametrize("before", [None, "", "--use_ipu_model"])
def test_flags_survive_the_real_parser(open_ipu, tmp_path, before):
    if before is not None:
        os.environ["TF_POPLAR_FLAGS"] = before
    open_ipu("--synthetic", "--executable-cache-dir", str(tmp_path / "cache"))
    flags = state().flags  # parsing anything else would have ended the process
    assert flags.synthetic("infeed") and flags.synthetic("outfeed")
    assert flags["executable_cache_path"] == str(tmp_path / "cache")
    assert bool(flags.get("use_ipu_model")) == bool(before)


def test_synthetic_data_of_the_environment_keeps_its_own_initializer(open_ipu):
    os.environ["TF_POPLAR_FLAGS"] = "--use_synthetic_data --synthetic_data_initializer=5"
    open_ipu("--synthetic")
    assert state().flags["synthetic_data_initializer"] == "5"


def test_the_ipu_model_is_named(open_ipu):
    os.environ["TF_POPLAR_FLAGS"] = "--use_ipu_model"
    assert open_ipu().name == "IPU model"


# Programs


def test_batches_come_back_in_order_with_the_types_of_the_step(open_ipu):
    call = open_ipu().compile(step, images(), batches=3)
    first, second = call(), call()
    assert [outputs[0].tolist() for outputs in first + second] == [[i, i] for i in (0, 1, 2, 3, 4, 0)]
    assert [output.dtype.name for output in first[0]] == ["int32", "float16", "float32"]
    assert isinstance(first[0], tuple)


def test_every_batch_is_computed_with_its_own_scales(open_ipu):
    call = open_ipu().compile(step, images(), batches=5)
    assert [outputs[2].tolist() for outputs in call()] == [[1.5 * (i + 1)] * 2 for i in range(5)]


def test_the_loop_is_one_jit_compiled_program(open_ipu):
    call = open_ipu().compile(step, images(), batches=4)
    call()
    call()
    (program,) = state().compiled
    assert program.jit_compile
    assert "While" in "".join(operation.type for operation in program.concrete.graph.get_operations())


def test_a_program_holds_constants_and_no_variable(open_ipu):
    device = open_ipu()
    with device.scope():
        weight = tf.Variable(3.0)
    call = device.compile(lambda pixels: (tf.cast(pixels, tf.float32) * weight,), images().map(lambda i, s, n: (i,)), 1)
    assert call()[0][0].max() == 3
    assert not state().compiled[0].concrete.graph.variables


@pytest.mark.parametrize("depth", [4, 255])
def test_the_prefetch_depth_reaches_the_infeed(open_ipu, sdk, monkeypatch, depth):
    made = []
    real = sdk.ipu_infeed_queue.IPUInfeedQueue

    def remember(*arguments, **keywords):
        made.append(real(*arguments, **keywords))
        return made[-1]

    monkeypatch.setattr(sdk.ipu_infeed_queue, "IPUInfeedQueue", remember)
    open_ipu("--opt-prefetch-depth", str(depth)).compile(step, images(), 1)
    assert [queue.prefetch_depth for queue in made] == [depth]


def test_synthetic_data_returns_no_outputs(open_ipu):
    assert open_ipu("--synthetic").compile(step, images(), 3)() == []


def test_compiled_programs_are_kept_in_the_cache(open_ipu, tmp_path):
    folder = tmp_path / "cache"
    for _ in range(2):
        open_ipu("--executable-cache-dir", str(folder)).compile(step, images(), 3)()
    assert [program.loaded_from_cache for program in state().compiled] == [False, True]
    assert len(list(folder.glob("*.poplar_exec"))) == 1


def test_never_compiles_and_says_where(open_ipu, tmp_path):
    folder = tmp_path / "cache"
    device = open_ipu("--ipu-connection-type", "never", "--executable-cache-dir", str(folder))
    with pytest.raises(CompiledOnly, match=re.escape(str(folder))):
        device.compile(step, images(), 3)()
    assert len(list(folder.glob("*.poplar_exec"))) == 1


def test_never_without_a_place_to_keep_the_result_is_refused(open_ipu):
    with pytest.raises(UserError, match="--executable-cache-dir FOLDER"):
        open_ipu("--ipu-connection-type", "never")


def test_a_mistake_in_the_step_is_not_taken_for_compile_only(open_ipu):
    with pytest.raises(tf.errors.InvalidArgumentError):
        open_ipu().compile(lambda i, s, n: (i + i, s, n), images(), 1)()


def test_spans_show_in_the_trace(open_ipu):
    import libpvti

    device = open_ipu()
    with device.span("call 3"):
        pass
    assert libpvti.recorded[-2:] == [("EfficientDet", "call 3", "begin"), ("EfficientDet", "call 3", "end")]


def test_swish_is_poplibs_own_only_inside_a_program(open_ipu, sdk, monkeypatch):
    calls = []
    swish = sdk.nn_ops.swish
    monkeypatch.setattr(sdk.nn_ops, "swish", lambda features: calls.append(features) or swish(features))
    device = open_ipu()
    x = np.linspace(-4, 4, 9).astype(np.float32)
    np.testing.assert_allclose(device.swish(x), x / (1 + np.exp(-x)), rtol=1e-5)
    assert not calls, "calibration runs on the host, where the IPU's operation has no kernel"
    call = device.compile(lambda value: (device.swish(value),), tf.data.Dataset.from_tensors((x,)), 1)
    np.testing.assert_allclose(call()[0][0], x / (1 + np.exp(-x)), rtol=1e-5)
    assert len(calls) == 1


# PopRun


@pytest.fixture
def poprun(monkeypatch):
    """Be one instance of several."""

    def launch(index, instances=2, local_replicas=1):
        variables = {
            "NUM_TOTAL_REPLICAS": instances * local_replicas,
            "NUM_LOCAL_REPLICAS": local_replicas,
            "REPLICA_INDEX_OFFSET": index * local_replicas,
            "LOCAL_INSTANCE_INDEX": index,
            "NUM_IPUS_PER_REPLICA": 1,
        }
        for name, value in variables.items():
            monkeypatch.setenv("POPDIST_" + name, str(value))

    return launch


@pytest.mark.parametrize("index", [0, 1])
def test_poprun_gives_each_instance_its_share(open_ipu, poprun, index):
    poprun(index)
    device = open_ipu()
    configuration = state().configuration
    assert configuration.select_ipus == [index] and configuration.auto_select_ipus == []
    assert configuration.experimental.multi_replica_distribution.process_count == 2
    assert configuration.experimental.multi_replica_distribution.process_index == index
    outputs = device.compile(step, images(5), batches=4)()
    assert [output[0][0] for output in outputs] == [(2 * i + index) % 5 for i in range(4)]
    assert device.name == "ipu (2 instances)"


def test_several_replicas_in_an_instance_are_refused(open_ipu, poprun):
    poprun(0, instances=1, local_replicas=2)
    with pytest.raises(ConfigError, match="--num-instances equal to --num-replicas"):
        open_ipu()


def test_gathering_gives_one_list_an_instance(open_ipu, poprun, sdk, monkeypatch):
    from ipu_utils.backends import ipu

    open_ipu()
    assert (ipu.instance(), ipu.gather([1.0, 2.5])) == ((0, 1), [[1.0, 2.5]])
    poprun(1)
    open_ipu()
    from tensorflow.python.ipu.distributed import host_collective_ops

    monkeypatch.setattr(host_collective_ops, "_exchange", lambda value: [np.asarray(value), np.asarray(value) + 1])
    assert (ipu.instance(), ipu.gather([1.0, 2.5])) == ((1, 2), [[1.0, 2.5], [2.0, 3.5]])


def test_the_table_of_defects_names_tests_that_exist():
    folder = Path(__file__).resolve().parents[1]
    for place in DEFECTS.values():
        file, _, name = place.partition("::")
        assert f"def {name}" in next(folder.rglob(file)).read_text(encoding="utf-8")


def test_without_poprun_the_instances_of_an_ipu_are_those_of_mpirun(sdk, monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(UserError, match="2 instances were started"):
        open_instances("ipu", {"OMPI_COMM_WORLD_SIZE": "2"})
    assert open_instances("ipu", {}).count == 1


@pytest.mark.parametrize(
    "popc, folder, version",
    [
        ("echo 'POPLAR version 3.0.0 (1e179b3b85)'; echo clang version 15", "", "3.0.0 (1e179b3b85)"),
        ("echo 'POPLAR version 3.0.0 (1e179b3b85)'", "/opt/poplar-ubuntu_20_04-2.6.0+1", "3.0.0 (1e179b3b85)"),
        ("exit 1", "/opt/poplar-ubuntu_20_04-3.0.0+5691-1e179b3b85/", "3.0.0+5691-1e179b3b85"),
        ("echo something else", "/opt/poplar", None),
    ],
)
def test_the_version_of_poplar_is_asked_of_its_compiler(tmp_path, monkeypatch, popc, folder, version):
    (tmp_path / "popc").write_text(f"#!/bin/sh\n{popc}\n")
    (tmp_path / "popc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert ipu_options.poplar_version({"POPLAR_SDK_ENABLED": folder}) == version
