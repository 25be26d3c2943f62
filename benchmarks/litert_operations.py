#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where LiteRT's time goes, by kind of operation, as its own profiler counts it inside of XNNPACK.

    python -m ipu_utils.export --model-name efficientdet-d0 --random-weights --model-precision int8 --to d0.tflite
    python benchmarks/litert_operations.py d0.tflite

The profiler can be reached from C alone, so this calls the C interface of the package's libLiteRt.so. XNNPACK calls an
operation that reads a table, such as int8's swish, "Invalid Unary Op". Counting costs some time itself: compare shares.
"""

import argparse
import ctypes
import re
import sys
from ctypes import byref, c_char_p, c_int32, c_size_t, c_uint32, c_void_p
from pathlib import Path
from typing import List, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    from ipu_utils.base.console import run_script
    from ipu_utils.base.errors import UserError
    from ipu_utils.base.hardware import cpu_name, usable_cores
    from ipu_utils.base.litert_api import engine_name, import_litert
    from ipu_utils.base.start_notices import held_back
    from ipu_utils.config.command_line import count

CPU = 1  # of its bits for accelerators
WARMUP = 5
# kind, parts of the graph (left out), ms of one, three columns of shares and memory (left out), calls in all runs
ROW = re.compile(r"^\s*(\S.*?)\s+\d+\s+([\d.]+)\s+[\d.]+%\s+[\d.]+%\s+[\d.]+\s+(\d+)$", re.MULTILINE)


class RankedType(ctypes.Structure):
    """A tensor's type: element, rank in the lowest bits, sizes, strides."""

    _fields_ = [("element", c_int32), ("rank", c_uint32), ("sizes", c_int32 * 8), ("strides", c_uint32 * 8)]


class Library:
    """libLiteRt.so with one model compiled for the CPU and profiled."""

    def __init__(self, content: bytes, threads: int):
        self._library = ctypes.CDLL(str(Path(import_litert().__file__).with_name("libLiteRt.so")))
        # What the library holds on to; its texts are Python's, so what it calls to free one does nothing.
        self._kept = [ctypes.create_string_buffer(content, len(content)), ctypes.CFUNCTYPE(None, c_void_p)(id)]
        self._environment = self._made("CreateEnvironment", 0, None)
        model = self._made("CreateModelFromBuffer", self._environment, self._kept[0], c_size_t(len(content)))
        options = self._made("CreateOptions")
        self._call("SetOptionsHardwareAccelerators", options, CPU)
        self._add(options, "runtime_options_string", "enable_profiling = true\n")
        self._add(options, "xnnpack", f"num_threads = {threads}\n")
        self._compiled = self._made("CreateCompiledModel", self._environment, model, options)
        signature = self._made("GetModelSignature", model, c_size_t(0))
        self._inputs, self._outputs = (self._buffers(signature, kind) for kind in ("Input", "Output"))

    def profile(self, requests: int) -> List[Tuple[str, int, float]]:
        """Kinds of operations: (name that XNNPACK has for it, number of them, ms of all in a run)."""
        for _ in range(WARMUP):
            self._run()
        profiler = self._made("CompiledModelGetProfiler", self._compiled)
        self._call("StartProfiler", profiler)
        for _ in range(requests):
            self._run()
        self._call("StopProfiler", profiler)
        summary = c_char_p(self._made("GetProfileSummary", profiler, self._compiled).value).value.decode()
        _, _, by_kind = summary.partition("Summary by node type")
        rows = ROW.findall(by_kind.partition("Delegate Statistics")[0])
        if not rows:
            raise UserError(f"{engine_name()} gives no profile that this script can read.")
        return [(kind, int(calls) // requests, float(each) * int(calls) / requests) for kind, each, calls in rows]

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, f"LiteRt{name}")(*arguments)
        if status:
            raise UserError(f"LiteRt{name} gave status {status}: is the file a network of LiteRT's?")

    def _made(self, name: str, *arguments: object) -> c_void_p:
        handle = c_void_p()
        self._call(name, *arguments, byref(handle))
        return handle

    def _add(self, options: c_void_p, name: str, text: str) -> None:
        self._kept.append(ctypes.create_string_buffer(text.encode()))
        made = self._made("CreateOpaqueOptions", c_char_p(name.encode()), self._kept[-1], self._kept[1])
        self._call("AddOpaqueOptions", options, made)

    def _buffers(self, signature: c_void_p, kind: str) -> ctypes.Array:
        count, handles = c_size_t(), []
        self._call(f"GetNumSignature{kind}s", signature, byref(count))
        for number in range(count.value):
            tensor = self._made(f"GetSignature{kind}TensorByIndex", signature, c_size_t(number))
            ranked = RankedType()
            self._call("GetRankedTensorType", tensor, byref(ranked))
            place = (self._compiled, c_size_t(0), c_size_t(number))
            needs = self._made(f"GetCompiledModel{kind}BufferRequirements", *place)
            make = "CreateManagedTensorBufferFromRequirements"
            handles.append(self._made(make, self._environment, byref(ranked), needs).value)
        return (c_void_p * len(handles))(*handles)

    def _run(self) -> None:
        sides = [(c_size_t(len(buffers)), buffers) for buffers in (self._inputs, self._outputs)]
        self._call("RunCompiledModel", self._compiled, c_size_t(0), *sides[0], *sides[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="a .tflite file, as ipu_utils.export writes it")
    parser.add_argument("--threads", type=count, default=usable_cores(), help="default: the cores of this process")
    parser.add_argument("--requests", type=count, default=40, help="runs that are counted (default 40)")
    options = parser.parse_args()
    if not options.file.is_file():
        parser.error(f"{options.file} is not a file: make one with the first command above")
    with held_back():
        library = Library(options.file.read_bytes(), options.threads)
    rows = library.profile(options.requests)
    total = sum(ms for _, _, ms in rows)
    print(f"{options.file.name}, {engine_name()}, {cpu_name()}, {options.threads} threads, {options.requests} runs\n")
    print("| operation | number | ms | share |\n| --- | --- | --- | --- |")
    for kind, number, ms in rows:
        print(f"| {kind} | {number} | {ms:.2f} | {ms / total:.1%} |")
    print(f"| all | {sum(number for _, number, _ in rows)} | {total:.2f} | |")


if __name__ == "__main__":
    sys.exit(run_script(main))
