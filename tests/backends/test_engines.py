# SPDX-License-Identifier: Apache-2.0
"""--engine of the throughput script: what executes the network, and what is said when it is not the best one."""

import importlib.machinery
import sys
import types

import pytest

from ipu_utils.backends import litert, onnxruntime, openvino
from ipu_utils.backends.open import choose_engine, own_precision
from ipu_utils.backends.streams import MOST_PIXELS, choose_streams
from ipu_utils.base import hardware, onnx_api
from ipu_utils.base.errors import UserError
from ipu_utils.config.run_config import load_config
from ipu_utils.nms import libraries


def chosen(*arguments, device="cpu"):
    return choose_engine(load_config(arguments, choose_device=lambda requested: device))


@pytest.fixture
def with_openvino(monkeypatch, tmp_path):
    """As if OpenVINO were installed and libdetect built."""
    (tmp_path / "libdetect.so").write_text("")
    for name in ("openvino", "litert", "onnxruntime"):
        monkeypatch.setattr(f"ipu_utils.executable.{name}.engine_name", lambda: "an engine")
    monkeypatch.setattr(libraries, "libdetect_path", lambda: tmp_path / "libdetect.so")


@pytest.mark.parametrize(
    "device, asked, engine",
    [
        ("cpu", "auto", "openvino"),
        ("cpu", "openvino", "openvino"),
        ("cpu", "tensorflow", "tensorflow"),
        ("cpu", "litert", "litert"),
        ("cpu", "onnxruntime", "onnxruntime"),
        ("gpu", "auto", "tensorflow"),
        ("gpu", "tensorflow", "tensorflow"),
        ("ipu", "auto", "tensorflow"),  # Graphcore's, which hands the network to Poplar
    ],
)
def test_auto_takes_openvino_on_a_cpu_alone(with_openvino, device, asked, engine):
    config = chosen("--engine", asked, device=device)
    assert config.device.engine == engine
    assert not [note for note in config.notes if "OpenVINO" in note]


@pytest.mark.parametrize("engine", ["openvino", "litert"])
def test_a_gpu_does_not_run_engines_of_cpus(with_openvino, engine):
    with pytest.raises(UserError, match=f"--engine {engine} computes on a CPU: add --device cpu"):
        chosen("--engine", engine, device="gpu")


def test_without_litert_what_to_install_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(UserError, match=r"LiteRT cannot be imported .*pip install ai-edge-litert"):
        chosen("--engine", "litert")


def test_litert_computes_in_float_and_int8_alone(monkeypatch):
    pytest.importorskip("ai_edge_litert")
    config = load_config(["--engine", "litert", "--model-precision", "half"], choose_device=lambda requested: "cpu")
    with pytest.raises(UserError, match="--engine litert computes in float and int8, not in half"):
        litert.Compiler(config).wanted()


def test_without_onnx_runtime_what_to_install_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"ONNX Runtime cannot be imported .*pip install onnxruntime"):
        chosen("--engine", "onnxruntime")


@pytest.mark.parametrize("module, told", [("numpy", "onnxruntime onnx tf2onnx"), (None, "onnxruntime")])
def test_with_onnx_runtime_comes_what_compiles_for_it_where_that_can_be_done(monkeypatch, module, told):
    for name in ("onnxruntime", "onnx", "tf2onnx"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "tensorflow", sys.modules.get(module))
    with pytest.raises(UserError, match=rf"`pip install {told}`, or use another --engine\.$"):
        chosen("--engine", "onnxruntime")


@pytest.fixture
def onnx_runtime(monkeypatch):
    """As if ONNX Runtime were installed: a function that says which providers it has."""
    module = types.ModuleType("onnxruntime")
    module.__version__, module.InferenceSession = "1.0", None
    monkeypatch.setitem(sys.modules, "onnxruntime", module)

    def write(*providers):
        module.get_available_providers = lambda: [*providers, "CPUExecutionProvider"]

    return write


@pytest.mark.parametrize("asked", ["half", "bfloat16"])
def test_onnx_runtime_computes_in_float_alone(onnx_runtime, asked):
    arguments = ["--engine", "onnxruntime", "--model-precision", asked]
    config = load_config(arguments, choose_device=lambda requested: "cpu")
    with pytest.raises(UserError, match=f"--engine onnxruntime computes in float, not in {asked}"):
        onnxruntime.Compiler(config).wanted()


@pytest.mark.parametrize("missing", ["onnx", "tf2onnx"])
def test_without_the_converter_what_to_install_is_said_before_anything_is_built(onnx_runtime, monkeypatch, missing):
    for name in ("onnx", "tf2onnx"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, None if name == missing else module)
    config = load_config(["--engine", "onnxruntime"], choose_device=lambda requested: "cpu")
    compiler = onnxruntime.Compiler(config)
    for ask in (compiler.build, compiler.preview):
        with pytest.raises(UserError, match=rf"and {missing} is not installed: .*pip install {missing}"):
            ask(compiler.wanted())


@pytest.mark.parametrize(
    "there, taken",
    [
        (["TensorrtExecutionProvider", "CUDAExecutionProvider"], "CUDAExecutionProvider"),
        (["TensorrtExecutionProvider"], "TensorrtExecutionProvider"),
        (["ROCMExecutionProvider"], None),
        ([], None),
    ],
)
def test_onnx_runtime_takes_a_gpu_where_its_package_has_one(with_openvino, onnx_runtime, there, taken):
    onnx_runtime(*there)
    options = ["--device", "gpu", "--engine", "onnxruntime"]
    if taken is None:
        with pytest.raises(UserError, match=r"needs one of CUDAExecutionProvider.*pip install onnxruntime-gpu"):
            chosen(*options, device="gpu")
    else:
        assert chosen(*options, device="gpu").device.engine == "onnxruntime"
        assert onnx_api.providers("gpu") == [taken, "CPUExecutionProvider"]


def test_for_a_gpu_onnx_runtimes_own_package_is_asked_and_not_tensorflow():
    def ask(requested):
        raise AssertionError(requested)

    config = load_config(["--device", "gpu", "--engine", "onnxruntime"], choose_device=ask)
    assert config.device.device == "gpu"
    with pytest.raises(AssertionError, match="gpu"):
        load_config(["--device", "gpu"], choose_device=ask)


def test_without_openvino_auto_takes_tensorflow_and_says_why(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    config = chosen()
    assert config.device.engine == "tensorflow"
    assert "the network runs in TensorFlow" in config.notes[-1] and "pip install openvino" in config.notes[-1]
    with pytest.raises(UserError, match="pip install openvino"):
        chosen("--engine", "openvino")


def test_without_libdetect_auto_takes_tensorflow_and_says_why(with_openvino, monkeypatch, tmp_path):
    monkeypatch.setattr(libraries, "libdetect_path", lambda: tmp_path / "nothing.so")
    config = chosen()
    assert config.device.engine == "tensorflow" and 'Run "make"' in config.notes[-1]
    with pytest.raises(UserError, match=r"nothing\.so is missing"):
        chosen("--engine", "openvino")


def test_what_an_engine_cannot_do_with_an_option_is_noted(with_openvino):
    assert "--debug has no effect" in chosen("--debug").notes[-1]


@pytest.mark.parametrize("threads, pixels, streams", [(2, 512**2, 2), (64, 512**2, 16), (64, 1536**2, 1), (1, 64, 1)])
def test_there_is_a_stream_for_each_core_as_far_as_images_fit(threads, pixels, streams):
    assert choose_streams(threads, pixels) == streams
    assert streams == 1 or streams * pixels <= MOST_PIXELS


@pytest.mark.parametrize("engine", ["auto", "openvino", "litert", "onnxruntime", "tensorflow"])
@pytest.mark.parametrize("flag, precision", [("amx_bf16", "bfloat16"), ("avx2", "float32")])
def test_the_precision_of_an_engine_is_known_before_it_is_imported(monkeypatch, engine, flag, precision):
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({flag}))
    config = load_config(["--engine", engine], choose_device=lambda requested: "cpu")
    assert own_precision(config) == ("float32" if engine in ("litert", "onnxruntime") else precision)
    for device, own in (("gpu", "float32"), ("ipu", "float16")):
        config = load_config([], choose_device=lambda requested, device=device: device)
        assert own_precision(config) == own


@pytest.mark.parametrize("engine, module", [("litert", litert), ("openvino", openvino)])
def test_the_precision_that_is_known_is_the_one_it_is_compiled_in(with_openvino, monkeypatch, engine, module):
    pytest.importorskip("openvino" if engine == "openvino" else "ai_edge_litert")
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    config = load_config(["--engine", engine], choose_device=lambda requested: "cpu")
    wanted = module.wanted(config) if engine == "openvino" else module.Compiler(config).wanted()
    assert wanted.precision == own_precision(config)


def test_bfloat16_is_the_default_only_with_matrix_units(monkeypatch):
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    assert hardware.default_precision() == "float32"
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"avx512_bf16", "amx_bf16"}))
    assert hardware.default_precision() == "bfloat16"
