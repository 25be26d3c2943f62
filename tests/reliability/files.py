# SPDX-License-Identifier: Apache-2.0
"""Checkpoints and executables that are missing, damaged, of something else, or of somebody else."""

import hashlib
import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any, Callable, Sequence

import tar_headers

from reliability.case import Case, Stage
from reliability.during import act_during
from reliability.runner import here

FILE = "{folder}/own.effdet"
RUN = ["--exec-file", FILE, "--num-repeats", "2"]
LITE = ["--model-name", "efficientdet-lite0", "--image-size", "64", "--num-repeats", "2", "--benchmark-repeats", "2"]
NOBODY = 65534


def _executable(given: str, change: Callable[[bytes], bytes], *words: str, **more: Any) -> Case:
    """A copy of the small executable with its bytes changed."""

    def run(stage: Stage):
        content = Path(stage.values["executable"]).read_bytes()
        (stage.folder / "own.effdet").write_bytes(change(content))
        return here("embedded", stage.filled(RUN), {})

    return Case(given, RUN, 2, ["own.effdet", *words], "embedded", run=run, needs=["executable"], **more)


def _with_header(**changes: Any) -> Callable[[bytes], bytes]:
    """Change entries of the header, and make its checksum right again."""

    def change(content: bytes) -> bytes:
        from ipu_utils.executable import file

        length = struct.unpack_from("<I", content, 12)[0]
        header = json.loads(content[48 : 48 + length])
        network = content[-header["network"]["size"] :]
        header.update(changes)
        return file.seal(json.dumps(header).encode()) + network

    return change


def _other_network(content: bytes) -> bytes:
    """Noise in the place of the network, with the checksum of the noise."""
    noise = bytes(range(256)) * 16
    described = {"size": len(noise), "sha256": hashlib.sha256(noise).hexdigest()}
    changed = _with_header(network=described)(content)
    return changed[: -_network_size(content)] + noise


def _network_size(content: bytes) -> int:
    length = struct.unpack_from("<I", content, 12)[0]
    return json.loads(content[48 : 48 + length])["network"]["size"]


def _pickle(content: bytes) -> bytes:
    return pickle.dumps({"network": list(range(50))})


def _given_away(stage: Stage):
    path = stage.folder / "own.effdet"
    path.write_bytes(Path(stage.values["executable"]).read_bytes())
    os.chown(str(path), NOBODY, NOBODY)
    return here("embedded", stage.filled(RUN), {})


def _deleted_while_running(stage: Stage):
    """The executable is open by then."""
    path = stage.folder / "own.effdet"
    path.write_bytes(Path(stage.values["executable"]).read_bytes())
    arguments = stage.filled([*RUN, "--num-repeats", "100"])
    return act_during("measuring", "embedded", arguments, lambda run: path.unlink(), 0).outcome


def _checkpoint(given: str, prepare: Callable[[Path], Any], *words: str, arguments: Sequence[str] = (), **more) -> Case:
    arguments = [*LITE, "--model-dir", "{folder}/weights", *arguments]
    more = {"needs": ["tensorflow"], **more}
    return Case(given, arguments, 2, words, prepare=prepare, **more)


def _written(name: str, content: bytes) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / "weights").mkdir()
        (folder / "weights" / name).write_bytes(content)

    return prepare


def _saved(
    model: str, change: Callable[[Any], None] = lambda network: None, cut: bool = False
) -> Callable[[Path], None]:
    """A checkpoint of a model with random weights."""

    def prepare(folder: Path) -> None:
        import hparams_config
        from ipu_utils.model.network import build_network

        network = build_network(hparams_config.get_inference_config(model, "", 64))
        change(network)
        network.save_weights(str(folder / "weights" / "model"))
        if cut:
            data = next((folder / "weights").glob("*.data-*"))
            data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])

    return prepare


def _h5_with_values_elsewhere(folder: Path) -> None:
    import h5py

    (folder / "weights").mkdir()
    with h5py.File(str(folder / "weights" / "model.h5"), "w") as file:
        file.create_dataset("a/a/kernel:0", (3, 2), "f4", external=[("/etc/passwd", 0, 24)])


def _poisoned(network: Any) -> None:
    network.weights[5].assign(network.weights[5] * float("nan"))


CASES = [
    Case("an executable that does not exist", RUN, 2, ["there is no such file", "--compile-only"], "embedded"),
    Case("a folder for an executable", ["--exec-file", "{folder}"], 2, ["there is no such file"], "embedded"),
    _executable("an executable of no bytes", lambda content: b"", "not an executable of this benchmark"),
    _executable("an executable that is a text", lambda content: b"text" * 100, "not an executable of this benchmark"),
    _executable("an executable that is a pickle", _pickle, "not an executable of this benchmark"),
    _executable("an executable cut off in its header", lambda content: content[:300], "damaged"),
    _executable("an executable cut off in its network", lambda content: content[:-1000], "its header describes"),
    _executable("an executable with bytes behind its end", lambda content: content + b"more", "its header describes"),
    _executable("an executable with one bit changed", lambda content: content[:-9] + b"\x55" + content[-8:], "damaged"),
    _executable("an executable copied as text", lambda content: content.replace(b"\r\n", b"\n"), "not an executable"),
    _executable(
        "an executable of the former format",
        lambda content: content[:8] + struct.pack("<I", 1) + content[12:],
        "format version 1, this release reads version",
        "--exec-output-dir",
    ),
    _executable(
        "an executable of a later format",
        lambda content: content[:8] + struct.pack("<I", 99) + content[12:],
        "format version 99, this release reads version",
    ),
    _executable(
        "an executable that claims a header of 4 GB",
        lambda content: content[:12] + b"\xff\xff\xff\xff" + content[16:],
        "claims a header of 4294967295 bytes",
    ),
    _executable(
        "an executable of another OpenVINO", _with_header(engine="OpenVINO 2019.1"), "compiled by OpenVINO 2019.1"
    ),
    _executable("an executable for another processor", _with_header(target=["x86_64", "avx1024"]), "another processor"),
    _executable(
        "an executable that says its outputs are half as large as they are",
        _with_header(output_type="float16"),
        "is not what it says it is: the output class_3 of its network is float32, its header says float16",
    ),
    _executable(
        "an executable that says it takes batches of two", _with_header(batch_size=2), "its header says [2, 64"
    ),
    _executable(
        "an executable that says it takes larger images", _with_header(image_size=[128, 128]), "says [1, 128, 128, 3]"
    ),
    _executable("an executable that says it has more classes", _with_header(num_classes=91), "not what it says it is"),
    _executable(
        "an executable whose words on its weights are escape sequences",
        _with_header(weights="\x1b]0;owned\x07 trusted"),
        "what it says of its weights cannot be printed",
    ),
    Case(
        "a pipe for an executable, into which nobody writes",
        RUN,
        2,
        ["own.effdet is a pipe or a device"],
        "embedded",
        prepare=lambda folder: os.mkfifo(str(folder / "own.effdet")),
        needs=["openvino"],
        own_process=True,
    ),
    Case(
        "an executable for more instruction sets than ONEDNN_MAX_CPU_ISA leaves",
        ["--exec-file", "{executable}"],
        2,
        ["this one below ONEDNN_MAX_CPU_ISA=SSE41 has no"],
        "embedded",
        environ={"ONEDNN_MAX_CPU_ISA": "SSE41"},
        needs=["executable"],
    ),
    _executable(
        "an executable for images of a billion pixels", _with_header(image_size=[10**9, 8]), "image_size should be"
    ),
    _executable(
        "an executable whose anchors are nonsense", _with_header(anchors={"min_level": 3}), "anchors should have"
    ),
    _executable(
        "an executable whose network is something else",
        _other_network,
        "cannot be loaded by OpenVINO",
    ),
    Case(
        "an executable of another user",
        RUN,
        2,
        ["belongs to", "copy it"],
        "embedded",
        run=_given_away,
        needs=["executable", "root"],
    ),
    Case(
        "an executable that is deleted while the run lasts",
        RUN,
        0,
        ["throughput", "over 100 runs"],
        "embedded",
        run=_deleted_while_running,
        needs=["executable"],
    ),
    Case(
        "an executable and another model's name",
        ["--exec-file", "{executable}", "--model-name", "efficientdet-d0"],
        2,
        ["was compiled for --model-name efficientdet-lite0"],
        "embedded",
        needs=["executable"],
    ),
    Case(
        "an executable and another image size",
        ["--exec-file", "{executable}", "--image-size", "128"],
        2,
        ["was compiled for --image-size 64x64"],
        "embedded",
        needs=["executable"],
    ),
    Case(
        "an executable and hparams",
        ["--exec-file", "{executable}", "--hparams", "num_classes=3"],
        2,
        ["takes part in compiling"],
        "embedded",
        needs=["executable"],
    ),
    _checkpoint("a checkpoint that does not exist", lambda folder: None, "there is no checkpoint in", "fetch_weights"),
    _checkpoint("a folder without a checkpoint", _written("readme.txt", b"x"), "there is no checkpoint in"),
    _checkpoint("a checkpoint that is a text", _written("model.index", b"text"), "cannot be read"),
    _checkpoint(
        "a checkpoint that is a truncated .h5", _written("model.h5", b"\x89HDF\r\n\x1a\n" + bytes(50)), "model.h5"
    ),
    _checkpoint(
        "a checkpoint that is a pickle named .h5", _written("model.h5", pickle.dumps({"a": 1})), "not an HDF5 file"
    ),
    _checkpoint(
        "an archive that is a text",
        _written("model.tar.gz", b"text"),
        "cannot be unpacked",
        arguments=["--model-dir", "{folder}/weights/model.tar.gz"],
    ),
    _checkpoint(
        "an archive whose second header has a size below zero",
        _written(
            "model.tar.gz",
            tar_headers.compressed(
                tar_headers.member(b"d0/model.index", b"1")
                + tar_headers.header(b"d0/model.data-0", size_field=tar_headers.base256(-1024))
                + tar_headers.END
            ),
        ),
        "model.tar.gz cannot be unpacked",
        "of negative size",
        arguments=["--model-dir", "{folder}/weights/model.tar.gz"],
    ),
    _checkpoint(
        "an archive with a name that a terminal would obey",
        _written(
            "model.tar.gz",
            tar_headers.compressed(tar_headers.pax((b"path", b"../\x1b]0;owned\x07")) + tar_headers.header()),
        ),
        r"../\x1b]0;owned\x07 in it would be written outside",
        arguments=["--model-dir", "{folder}/weights/model.tar.gz"],
    ),
    _checkpoint("an .h5 whose values lie in another file", _h5_with_values_elsewhere, "lie in another file"),
    _checkpoint("a file checkpoint that is no text", _written("checkpoint", b"\xff\xfe{"), "there is no checkpoint in"),
    _checkpoint("a checkpoint cut in half", _saved("efficientdet-lite0", cut=True), "checkpoint", slow=True),
    _checkpoint(
        "a checkpoint of another model", _saved("efficientdet-lite1"), "does not fit efficientdet-lite0", slow=True
    ),
    _checkpoint("a checkpoint with NaN in it", _saved("efficientdet-lite0", _poisoned), "not finite", slow=True),
]
