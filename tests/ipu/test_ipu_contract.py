# SPDX-License-Identifier: Apache-2.0
"""The IPU code and the stand-in against the recorded interface of the SDK, and proof that departures are noticed."""

import importlib
import importlib.util
import inspect
import linecache
import os
from pathlib import Path

import ipu_contract
import ipu_stand_in
import numpy as np
import pytest

from ipu_utils.backends import ipu_options
from ipu_utils.base.keras2 import tf
from ipu_utils.config.device_options import IpuConfig
from ipu_utils.config.model_options import ModelConfig, Precision
from ipu_utils.config.run_options import EmbeddedConfig

ROOT = Path(__file__).resolve().parents[2]
DEVICE_FILE = ROOT / "ipu_utils" / "backends" / "ipu.py"
SOURCE = DEVICE_FILE.read_text(encoding="utf-8")

# Between them these reach every assignment in `configure`.
CONFIGURATIONS = [
    (IpuConfig(), ModelConfig()),
    (
        IpuConfig(
            opt_use_io_tiles=True, opt_num_io_tiles=33, opt_liveness_scheduler="look_ahead", opt_conv_dithering=True
        ),
        ModelConfig(partials_precision=Precision.FLOAT),
    ),
    (IpuConfig(ipu_connection_type="never"), ModelConfig()),
    (IpuConfig(opt_device_rearrange=True, opt_prefetch_data_streams=True), ModelConfig()),
]


@pytest.fixture
def sdk():
    """The stand-in, as a process that has just started finds the SDK."""
    with ipu_stand_in.fresh_process():
        yield


def run_everything(source, folder):
    """Execute `source` in place of ipu_utils/backends/ipu.py and use all of it. Raises what the stand-in raises."""
    file = folder / "mutant.py"  # a file, because tf.function reads the source of what it traces
    file.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("mutant", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for options, model in CONFIGURATIONS:
        module.configure(options, model)
    ipu_stand_in.reset()
    linecache.clearcache()
    module.configure(*CONFIGURATIONS[0])
    device = module.IpuDevice(CONFIGURATIONS[0][0], EmbeddedConfig())

    def step(images, ids):
        return device.swish(tf.cast(images, tf.float16)), ids

    dataset = tf.data.Dataset.from_tensors((tf.ones([1, 2], tf.uint8), tf.zeros([1], tf.int32)))
    with device.span("test"):
        device.compile(step, dataset, batches=2)()
    path = folder / "application.poplar_exec"
    device.compile_executable(step, dataset.element_spec, path, iterations=10)
    with device.start(path, dataset.element_spec) as executable:
        executable.call(np.ones([1, 2], np.uint8), np.zeros([1], np.int32))


def problems(source, folder):
    """What reading finds, else what running finds."""
    found = ipu_contract.problems_in(source)
    if not found:
        try:
            run_everything(source, folder)
        except Exception as error:
            found = [f"{type(error).__name__}: {error}"]
    return found


def test_the_device_module_keeps_to_the_interface(sdk, tmp_path):
    assert problems(SOURCE, tmp_path) == []


MUTATIONS = {
    "misspelt attribute": ("config.io_tiles.num_io_tiles =", "config.io_tiles.num_io_tile ="),
    "misspelt category": ("config.optimizations.", "config.optimisations."),
    "category assigned": ("config.scheduling.algorithm =", "config.scheduling ="),
    "int for a bool": ("= not options.opt_device_rearrange", "= int(not options.opt_device_rearrange)"),
    "int for an enum": ("= ipu.config.SchedulingAlgorithm[algorithm]", "= 3"),
    "word for an enum": ("= ipu.config.DeviceConnectionType[connection]", "= connection"),
    "str for an int": ("config.auto_select_ipus = IPUS_PER_REPLICA", "config.auto_select_ipus = '1'"),
    "float in Poplar options": (
        "= ipu_options.matmul_options(options, model)",
        "= {'availableMemoryProportion': options.available_memory_proportion}",
    ),
    "None for an int (defect 30)": (
        "config.io_tiles.num_io_tiles = tiles",
        "config.io_tiles.num_io_tiles = None",
    ),
    "no such enum member": ("StochasticRoundingBehaviour.OFF", "StochasticRoundingBehaviour.NONE"),
    "no such module": ("ipu.config.DeviceConnectionType", "ipu.configuration.DeviceConnectionType"),
    "no such function": ("popdist.getNumInstances()", "popdist.getInstances()"),
    "no such class": ("popdist_strategy.PopDistStrategy()", "popdist_strategy.PopDistributedStrategy()"),
    "no such method": ("config.configure_ipu_system()", "config.configure()"),
    "no such method of a base class": ("self._strategy.scope()", "self._strategy.scopes()"),
    "no such property": ("session.run(infeed.initializer)", "session.run(infeed.initialiser)"),
    "extra argument": ("createTraceChannel(TRACE_CHANNEL)", "createTraceChannel(TRACE_CHANNEL, True)"),
    "extra keyword": ("IPUOutfeedQueue()", "IPUOutfeedQueue(outfeed_all=True)"),
    "extra argument of a method": ("next(feed)))", "next(feed)), None)"),
    "misspelt keyword": ("timeout=timeout_us)", "timeout_us=timeout_us)"),
    "misspelt keyword that is passed on": ("(dataset=dataset, prefetch_depth=", "(dataset=dataset, prefetch="),
    "argument left out": ("(str(path), [], name, timeout", "(str(path), name, timeout"),
    "dict for a JSON text": ("attributes=attributes,", "attribute=attributes,"),
    "a prefetch depth out of range": ("prefetch_depth=self._options.opt_prefetch_depth", "prefetch_depth=1000"),
    "not configured": ("    config.configure_ipu_system()\n", ""),
    "not a tf.function": ("        @tf.function(jit_compile=True)\n", ""),
    "an iterator read eagerly": (
        "_strategy.run(loop, args=(feed,))",
        "_strategy.run(loop, args=(next(feed),))",
    ),
    "float64 on the device": ("_inline(frozen, next(feed))", "[tf.cast(x, tf.float64) for x in next(feed)]"),
    "arithmetic on uint8": ("_inline(frozen, next(feed))", "[x + x for x in next(feed)]"),
    "an engine's input of another type": (
        "tf.compat.v1.placeholder(spec.dtype, spec.shape)",
        "tf.compat.v1.placeholder(tf.float32, spec.shape)",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_departure_is_noticed(sdk, tmp_path, name):
    before, after = MUTATIONS[name]
    assert before in SOURCE, "the mutation must change something"
    assert problems(SOURCE.replace(before, after), tmp_path)


def test_the_sdk_is_imported_in_one_module_only():
    importers = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if path.relative_to(ROOT).parts[0] not in ("tests", "tmp", "outputs") and ".venv" not in str(path)
        if ipu_contract.imports_of(path.read_text(encoding="utf-8"))
    }
    assert importers == {str(DEVICE_FILE.relative_to(ROOT))}


@pytest.mark.parametrize(
    "words, enum",
    [(ipu_options.SCHEDULERS, "SchedulingAlgorithm"), (ipu_options.CONNECTION_TYPES, "DeviceConnectionType")],
)
def test_words_of_the_command_line_name_enum_members(words, enum):
    assert set(words.values()) <= set(ipu_contract.API["tensorflow.python.ipu.config"][enum]["members"])


# The stand-in may be narrower than the SDK, never wider or different.


def signatures():
    for module, names in ipu_contract.API.items():
        for name, entry in names.items():
            if entry["kind"] in ("function", "class"):
                yield module, name, entry


@pytest.mark.parametrize("module, name, entry", [pytest.param(*s, id=f"{s[0]}.{s[1]}") for s in signatures()])
def test_the_stand_in_takes_the_arguments_of_the_real_one(sdk, module, name, entry):
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        found = None
    if found is None:
        assert module not in ("popdist", "popdist.tensorflow", "libpvti"), "these are complete"
        return
    pairs = [(name, found, entry)] + [
        (member, getattr(found, member), what)
        for member, what in (entry.get("members") or {}).items()
        if what.get("kind") == "method" and hasattr(found, member)
    ]
    for label, function, recorded in pairs:
        real = [(p["name"], p["kind"]) for p in recorded.get("params") or []]
        ours = [(p.name, p.kind) for p in inspect.signature(function).parameters.values() if p.name != "self"]
        if function is found and inspect.isclass(found) and not real:
            continue  # without a recorded constructor
        assert ours == [(n, ipu_contract.KINDS[k]) for n, k in real], label


def test_a_configuration_starts_from_the_recorded_defaults(sdk):
    from tensorflow.python.ipu import config

    assert config.IPUConfig().to_dict()["optimizations.prefetch_data_streams"] is True
    assert config.IPUConfig().io_tiles.available_memory_proportion == 0.9
    assert config.IPUConfig().scheduling.maximum_scheduler_lookahead_depth == 5


def test_nothing_of_the_stand_in_is_left_behind():
    ipu_stand_in.activate()
    importlib.import_module("tensorflow.python.ipu")
    ipu_stand_in.deactivate()
    with pytest.raises(ImportError):
        importlib.import_module("libpvti")
    assert "POPLAR_ENGINE_OPTIONS" not in os.environ
