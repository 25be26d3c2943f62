# SPDX-License-Identifier: Apache-2.0
"""The file format: what is written is read, and nothing else is."""

import dataclasses
import json
import os
import stat
import struct

import numpy as np
import pytest

from ipu_utils.base.errors import UserError
from ipu_utils.executable import file
from ipu_utils.executable.file import MAGIC, ExecutableError, Header, differences, read_executable, write_executable

NETWORK = bytes(range(256)) * 20
HEADER = Header(
    model_name="efficientdet-d0",
    image_size=(64, 96),
    batch_size=1,
    input_type="uint8",
    output_type="float32",
    mean_rgb=(123.675, 116.28, 103.53),
    num_classes=90,
    anchors={"min_level": 3, "max_level": 7, "num_scales": 3, "aspect_ratios": [1.0, 2.0, 0.5], "anchor_scale": 4.0},
    nms_mode="best-class",
    nms_configs={"method": "hard", "iou_thresh": None, "score_thresh": 0.4},
    label_map={1: "person", 90: "toothbrush"},
    precision="float32",
    weights="random, seed 0",
    random_weights=True,
    fingerprint={"weights": "a" * 64, "settings": "b" * 64, "network code": "c" * 64},
    engine="OpenVINO 1.2.3",
    target=("x86_64", "avx2", "fma"),
    versions={"tensorflow": "2.21.0", "keras": "2.21.0", "numpy": "2.4.0"},
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "d0.effdet"
    write_executable(path, HEADER, NETWORK)
    return path


def test_a_file_gives_back_what_was_written(path):
    found = read_executable(path)
    assert found.header == HEADER
    assert bytes(found.network()) == NETWORK
    assert found.offset % file.ALIGNMENT == 0 and found.network().ctypes.data % file.ALIGNMENT == 0


def test_the_layout_is_the_documented_one(path):
    content = path.read_bytes()
    magic, version, length = struct.unpack("<8sII", content[:16])
    assert (magic, version) == (b"EFFDET\r\n", 4)
    header = json.loads(content[48 : 48 + length])
    assert header["model_name"] == "efficientdet-d0" and header["network"]["size"] == len(NETWORK)
    assert content.endswith(NETWORK)


def test_every_cut_is_noticed(path):
    content = path.read_bytes()
    for length in [0, 1, 7, 8, 15, 47, 48, 60, 200, len(content) - len(NETWORK), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ExecutableError, match=str(path)):
            read_executable(path)


def test_every_changed_byte_is_noticed(path):
    content = bytearray(path.read_bytes())
    length = struct.unpack_from("<I", content, 12)[0]
    padding = range(48 + length, len(content) - len(NETWORK))  # zeros that nobody reads
    for position in [*range(0, 60), 48 + length - 1, len(content) - len(NETWORK), len(content) - 1]:
        if position in padding:
            continue
        content[position] ^= 0x40
        path.write_bytes(bytes(content))
        with pytest.raises(ExecutableError):
            read_executable(path)
        content[position] ^= 0x40


def test_more_than_the_header_describes_is_refused(path):
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ExecutableError, match="its header describes"):
        read_executable(path)


def test_another_kind_of_file_is_named_as_such(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff" * 100)
    with pytest.raises(ExecutableError, match="is not an executable of this benchmark"):
        read_executable(path)


def test_a_transfer_as_text_is_noticed(path):
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    with pytest.raises(ExecutableError, match="not an executable"):
        read_executable(path)


@pytest.mark.parametrize("version", [1, 2, 3, 99])
def test_another_format_version_is_refused_with_both_numbers_and_the_way_out(path, version):
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 8, version)
    path.write_bytes(bytes(content))
    told = f"format version {version}, this release reads version 4: compile it again, with --exec-output-dir FOLDER"
    with pytest.raises(ExecutableError, match=told):
        read_executable(path)


def test_a_header_of_absurd_length_is_refused_unread(path):
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 12, 2**31)
    path.write_bytes(bytes(content))
    with pytest.raises(ExecutableError, match="claims a header of 2147483648 bytes"):
        read_executable(path)


def with_header(path, change):
    """Write a file whose header is changed and whose checksums are right."""
    described = json.loads(file.describe(HEADER, len(NETWORK), file.hashlib.sha256(NETWORK).hexdigest()))
    change(described)
    text = json.dumps(described).encode()
    digest = file.hashlib.sha256(text).digest()
    prefix = file.PREFIX.pack(MAGIC, file.FORMAT_VERSION, len(text), digest)
    path.write_bytes(prefix + text + bytes(-(len(prefix) + len(text)) % 64) + NETWORK)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("anchors"),
        lambda header: header.update(image_size=512),
        lambda header: header.update(image_size=[64, "96"]),
        lambda header: header.update(batch_size=0),
        lambda header: header.update(batch_size=True),
        lambda header: header.pop("mean_rgb"),
        lambda header: header.update(mean_rgb=127.0),
        lambda header: header.update(mean_rgb=[127.0, 127.0]),
        lambda header: header.update(mean_rgb=[127.0, None, 127.0]),
        lambda header: header.update(mean_rgb=[127.0, True, 127.0]),
        lambda header: header.update(mean_rgb=[127.0, float("inf"), 127.0]),
        lambda header: header.update(label_map={"one": "person"}),
        lambda header: header.pop("versions"),
        lambda header: header.update(versions=["2.21.0"]),
        lambda header: header.update(versions={"numpy": "2.4.0\n"}),
        lambda header: header.update(surprise=1),
        lambda header: header.update(network=None),
        lambda header: header.update(network={"size": -1, "sha256": "0"}),
        lambda header: header.update(network={"size": "5120", "sha256": "0"}),
    ],
)
def test_a_header_of_the_wrong_form_is_refused(path, change):
    with_header(path, change)
    with pytest.raises(ExecutableError, match="has a header that cannot be used"):
        read_executable(path)


def test_a_missing_file_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_executable(tmp_path / "none.effdet")


def test_writing_replaces_the_file_at_once_and_leaves_nothing_beside_it(path):
    before = read_executable(path)
    kept = before.network()
    write_executable(path, dataclasses.replace(HEADER, batch_size=2), NETWORK[::-1])
    assert bytes(kept) == NETWORK  # whoever reads the old file goes on reading the old file
    assert read_executable(path).header.batch_size == 2
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file.os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_executable(path, HEADER, NETWORK[::-1])
    monkeypatch.undo()
    assert bytes(read_executable(path).network()) == NETWORK
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(file.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_executable(tmp_path / "a.effdet", HEADER, NETWORK)
    assert list(tmp_path.iterdir()) == []


def test_folders_are_made_and_permissions_are_those_of_new_files(tmp_path):
    path = tmp_path / "new" / "folder" / "a.effdet"
    umask = os.umask(0o022)
    try:
        write_executable(path, HEADER, NETWORK)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_place_that_cannot_be_written_is_the_users_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another --exec-output-dir"):
        write_executable(tmp_path / "file" / "a.effdet", HEADER, NETWORK)


def test_an_executable_that_fits_has_no_differences():
    assert differences(HEADER, dataclasses.replace(HEADER, weights="told otherwise")) == []


def test_a_package_that_is_not_installed_here_is_not_another_version_of_it():
    """An executable is run where TensorFlow, which made it, need not be."""
    assert differences(HEADER, dataclasses.replace(HEADER, versions={"numpy": "2.4.0"})) == []


def test_the_origin_is_told_by_the_header():
    assert file.origin(HEADER) == {
        "engine": "OpenVINO 1.2.3",
        "sources_sha256": "c" * 64,
        "nms_operator_sha256": None,
        "versions": HEADER.versions,
    }


@pytest.mark.parametrize(
    "change, text",
    [
        ({"image_size": (512, 640)}, "its image_size is 96x64, not 640x512"),
        (
            {"mean_rgb": (127.0, 127.0, 127.5)},
            "its mean_rgb is 123.675, 116.28, 103.53, not 127, 127, 127.5",
        ),
        ({"precision": "bfloat16"}, "its precision is float32, not bfloat16"),
        ({"fingerprint": {**HEADER.fingerprint, "weights": "d" * 64}}, "it was made from other weights"),
        ({"nms_configs": {"method": "gaussian"}}, "it has other nms_configs"),
        (
            {"versions": {**HEADER.versions, "tensorflow": "2.20.0"}},
            "it was made with tensorflow 2.21.0, not 2.20.0",
        ),
        ({"engine": "OpenVINO 2.0.0"}, "its engine is OpenVINO 1.2.3, not OpenVINO 2.0.0"),
        (
            {"target": ("x86_64", "avx2", "avx512f")},
            "it was compiled for another processor: this one has no fma and also has avx512f",
        ),
    ],
)
def test_a_difference_is_named(change, text):
    assert differences(HEADER, dataclasses.replace(HEADER, **change)) == [text]


def test_what_a_name_leads_to_later_is_not_what_is_run(path, tmp_path):
    other, link = tmp_path / "other.effdet", tmp_path / "link.effdet"
    write_executable(other, dataclasses.replace(HEADER, batch_size=2), NETWORK[::-1])
    link.symlink_to(path)
    found = read_executable(link)
    link.unlink()
    link.symlink_to(other)
    assert found.header == HEADER and bytes(found.network()) == NETWORK
    other.unlink()
    assert bytes(found.network()) == NETWORK


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_refused_at_once(tmp_path, make):
    make(str(tmp_path / "a.effdet"))  # Nobody ever writes into the pipe.
    with pytest.raises(ExecutableError, match=r"a\.effdet (is a pipe or a device|cannot be read \(Is a directory)"):
        read_executable(tmp_path / "a.effdet")


def test_a_device_is_refused():
    with pytest.raises(ExecutableError, match="is a pipe or a device: expected a file"):
        read_executable("/dev/zero")


@pytest.mark.parametrize("weights", ["\x1b]0;owned\x07", "a\nthroughput: 1", "\udcff", "x" * 60000], ids=range(4))
def test_words_about_weights_that_a_terminal_would_obey_are_refused(path, weights):
    with_header(path, lambda header: header.update(weights=weights))
    with pytest.raises(ExecutableError, match="cannot be printed"):
        read_executable(path)


def test_words_about_weights_of_any_path_can_be_kept_and_read_again(path):
    from ipu_utils.executable.cache import with_weights

    header = with_weights(HEADER, "5 of 5 variables from a\nb\x1b\udcff/\u00e9 (h5 file, as saved)", False)
    write_executable(path, header, NETWORK)
    assert read_executable(path).header.weights == (
        "5 of 5 variables from a\\nb\\x1b\\udcff/\u00e9 (h5 file, as saved)"
    )


def test_the_network_costs_no_memory_until_it_is_read(path):
    assert isinstance(read_executable(path).network(), np.memmap)
