# SPDX-License-Identifier: Apache-2.0
"""HDF5 files from elsewhere, and the file `checkpoint`: what is in them is read, and nothing that lies elsewhere."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.model.checkpoint import load_weights
from ipu_utils.model.checkpoint_store import newest_in
from ipu_utils.model.hdf5 import open_hdf5

ROOT = Path(__file__).resolve().parents[2]
h5py = pytest.importorskip("h5py")


@pytest.fixture
def made(tmp_path):
    """Makes a file with one dataset and what a function adds; returns its path."""

    def make(add=lambda file: None):
        path = tmp_path / "model.h5"
        with h5py.File(str(path), "w") as file:
            file.create_dataset("a/a/kernel:0", data=np.ones((3, 2), np.float32))
            add(file)
        return path

    return make


def test_every_dataset_is_found_once_whatever_leads_to_it(made):
    def add(file):
        file["b/again"] = file["a/a/kernel:0"]
        file["b/soft"] = h5py.SoftLink("/a/a/kernel:0")
        file["b/nowhere"] = h5py.SoftLink("/none")
        file["a/a/loop"] = file["/"]
        file.create_dataset("b/empty", data=h5py.Empty("f"))

    with open_hdf5(made(add)) as found:
        assert len(found.datasets) == 2 and "b/empty" in found.datasets
        (path,) = set(found.datasets) - {"b/empty"}
        np.testing.assert_array_equal(found.datasets[path][()], np.ones((3, 2)))
        assert found.shape_of(path) == (3, 2) and found.shape_of("b/empty") == (0,)


def external_storage(file):
    file.create_dataset("b/secret", (3, 2), "f4", external=[("/etc/passwd", 0, 24)])


def virtual(file):
    layout = h5py.VirtualLayout((3, 2), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3, 2))
    file.create_virtual_dataset("b/secret", layout)


def link(file):
    file["b/secret\x1b[2J"] = h5py.ExternalLink("other.h5", "/x")


@pytest.mark.parametrize(
    "add, message",
    [
        (external_storage, "the values of b/secret in it lie in another file"),
        (virtual, "the values of b/secret in it lie in another file"),
        (link, r"b/secret\\x1b\[2J in it is a link to another file"),
    ],
    ids=["storage", "virtual", "link"],
)
def test_what_leads_to_another_file_is_refused(made, add, message):
    with pytest.raises(UserError, match=message), open_hdf5(made(add)):
        pass


@pytest.mark.parametrize("length", [0, 8, 100, 1000, -100])
def test_a_file_that_is_cut_is_the_users_error(made, length):
    path = made()
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"model\.h5 is (not an HDF5 file|damaged)"), open_hdf5(path):
        pass


def with_names_of_any_length(path):
    """A file whose list of names lies in a global heap, as Keras and h5py write it today; place of the heap."""
    with h5py.File(str(path), "w") as file:
        file.create_dataset("a/a/kernel:0", data=np.ones((3, 2), np.float32))
        file.attrs.create("layer_names", ["a", "name" * 40], dtype=h5py.string_dtype())
    return path.read_bytes().index(b"GCOL\x01")


FIRST = 16 + 8  # from the beginning of the heap to the size of its first object, the longer name
REST = 16 + 16 + 160 + 16 + 8 + 8  # and to that of what is free behind the second


@pytest.mark.parametrize(
    "place, size",
    [(FIRST, 2**64 - 16), (FIRST, 2**64 - 1), (FIRST, 2**63), (FIRST, 4096), (REST, 0), (REST, 2**64 - 40), (8, 2**40)],
)
def test_a_heap_in_which_the_library_would_go_in_circles_is_damage(tmp_path, place, size):
    path = tmp_path / "model.h5"
    start = with_names_of_any_length(path)
    content = bytearray(path.read_bytes())
    sizes = [int.from_bytes(content[start + at :][:8], "little") for at in (FIRST, REST)]
    assert sizes == [160, 4096 - (REST - 8)]
    content[start + place : start + place + 8] = size.to_bytes(8, "little")
    path.write_bytes(content)
    code = (
        "import pathlib, sys\nfrom ipu_utils.model.hdf5 import open_hdf5\n"
        "with open_hdf5(pathlib.Path(sys.argv[1])) as found: print(found.file.attrs['layer_names'])"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert "UserError: checkpoint" in run.stderr and "global heap at byte" in run.stderr, run


def long_name(path):
    """Let the first name of the list claim 3.8 GB."""
    start = with_names_of_any_length(path)
    content = bytearray(path.read_bytes())
    place = content.index(start.to_bytes(8, "little")) - 4  # an element is length, address of the heap, number
    assert int.from_bytes(content[place : place + 4], "little") == 1
    content[place : place + 4] = (0xE0000000).to_bytes(4, "little")
    path.write_bytes(content)


def long_text(path):
    """The same of a text in the place of a variable."""
    with h5py.File(str(path), "w") as file:
        file.create_dataset("a/a/kernel:0", data=np.full((3, 2), "text", object), dtype=h5py.string_dtype())
    content = bytearray(path.read_bytes())
    start = content.index(b"GCOL\x01")
    place = content.index(start.to_bytes(8, "little")) - 4
    assert int.from_bytes(content[place : place + 4], "little") == 4
    content[place : place + 4] = (0xE0000000).to_bytes(4, "little")
    path.write_bytes(content)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the system does not tell what a process has")
@pytest.mark.parametrize("make", [long_name, long_text])
def test_a_text_of_a_length_that_no_file_has_takes_no_memory(tmp_path, make):
    make(tmp_path / "model.h5")
    code = """if True:
        import pathlib, resource, sys
        from ipu_utils.model.checkpoint_store import open_store
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        limits = resource.getrlimit(resource.RLIMIT_AS)
        try:
            with open_store(pathlib.Path(sys.argv[1])) as store:
                print([store.read(key) for key in store.shapes])
        except (ValueError, OSError) as error:
            print("refused:", error)
        assert resource.getrlimit(resource.RLIMIT_AS) == limits
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
        """
    # The peak of a process is at first that of the one which it was forked from: a small one.
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", code, str(tmp_path / "model.h5")]
    run = subprocess.run(command, cwd=str(ROOT), capture_output=True, text=True, timeout=120)
    refused, grown = run.stdout.splitlines()
    assert refused.startswith("refused: ") and int(grown) < 500, run


def test_names_of_any_length_are_read(tmp_path):
    with_names_of_any_length(tmp_path / "model.h5")
    with open_hdf5(tmp_path / "model.h5") as found:
        assert list(found.file.attrs["layer_names"]) == ["a", "name" * 40] and list(found.datasets) == ["a/a/kernel:0"]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(str(tmp_path / "model.h5"))
    with pytest.raises(UserError, match="is not an HDF5 file"), open_hdf5(tmp_path / "model.h5"):
        pass


@pytest.fixture
def model():
    """A stand-in for a network with one variable."""
    kernel = tf.Variable(np.zeros((3, 2), np.float32), name="a/kernel")
    return SimpleNamespace(
        weights=[kernel], name="", config=SimpleNamespace(name="efficientdet-d0", backbone_name="b0")
    )


@pytest.mark.parametrize(
    "value",
    [
        np.full((3, 2), "text", object),
        np.full((3, 2), b"text", "S4"),
        np.zeros((3, 2), np.complex64),
        np.zeros((3, 2), bool),
        np.zeros((3, 2), [("a", "f4")]),
    ],
    ids=["text", "bytes", "complex", "boolean", "structure"],
)
def test_values_that_are_no_numbers_are_refused_and_nothing_is_loaded(tmp_path, model, value):
    with h5py.File(str(tmp_path / "model.h5"), "w") as file:
        dtype = h5py.string_dtype() if value.dtype == object else None
        file.create_dataset("a/a/kernel:0", data=value, dtype=dtype)
    with pytest.raises(UserError, match=r"a/kernel holds \S+ values, expected numbers"):
        load_weights(model, tmp_path / "model.h5")
    assert not model.weights[0].numpy().any()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "u1"])
def test_numbers_of_any_type_are_loaded(tmp_path, model, dtype):
    with h5py.File(str(tmp_path / "model.h5"), "w") as file:
        file.create_dataset("a/a/kernel:0", data=np.full((3, 2), 7, dtype))
    assert load_weights(model, tmp_path / "model.h5").matched == 1
    assert (model.weights[0].numpy() == 7).all()


@pytest.mark.parametrize(
    "text, name",
    [
        (b'model_checkpoint_path: "model"', "model"),
        (b'model_checkpoint_path: "/somewhere/else/model"', "model"),
        (b'model_checkpoint_path: "\\303\\251"', "\u00e9"),
        (b'model_checkpoint_path: "absent"', None),
        (b'model_checkpoint_path: ""', None),
        (b'model_checkpoint_path: "/"', None),
        (b'model_checkpoint_path: ".."', None),
        (b'model_checkpoint_path: "a\\000b"', None),
        (b'model_checkpoint_path: "' + b"x" * 5000 + b'"', None),
        (b"model_checkpoint_path: 1", None),
        (b"\xff\xfe", None),
        (b"{", None),
        (b"", None),
    ],
    ids=range(13),
)
def test_the_file_checkpoint_names_a_checkpoint_of_its_own_folder_or_none(tmp_path, text, name):
    for prefix in ("model", "\u00e9"):
        (tmp_path / f"{prefix}.index").write_text("")
    (tmp_path / "checkpoint").write_bytes(text)
    assert newest_in(tmp_path) == (None if name is None else tmp_path / name)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_something_else_of_that_name_is_passed_over(tmp_path, make):
    make(str(tmp_path / "checkpoint"))
    assert newest_in(tmp_path) is None
