# SPDX-License-Identifier: Apache-2.0
"""Label maps, archives and checkpoints: inputs and the functions they go into."""

import contextlib
import io
import logging
import random
import shutil
from typing import Any, Tuple

import tar_headers

from fuzz.driver import mutated
from fuzz.in_folder import InFolder
from fuzz.texts import WORDS, word
from ipu_utils.base.errors import ConfigError, UserError

NUMBERS = (
    ("0", "-1", "1", "2147483647", "2147483648", "9223372036854775807", "9" * 30, ".inf", "-.inf", ".nan", "1.5", "1e3")
    + (
        "0x10",
        "0o7",
        "1:30",
        "~",
        "null",
        "true",
        "No",
        "''",
        "'7'",
        "2001-01-01",
        "\u00b2",
        "[1]",
        "{a: b}",
        "?",
        "<<",
    )
    + ("=", "!!binary aGk=", "!!float 1", "!!str 3")
)


class LabelMaps(InFolder):
    """`get_label_map` on damaged and on random YAML, and a label of each map that is accepted drawn."""

    name = "label-maps"
    WHOLE = "1: person\n2: bicycle\n3: 'traffic light'\n90: \"V\u00f6gel\"\n".encode()

    def make(self, rng: random.Random) -> bytes:
        """The bytes of a file."""
        if rng.random() < 0.4:
            return mutated(rng, self.WHOLE)
        lines = []
        for number in range(rng.randint(0, 5)):
            key = rng.choice(NUMBERS) if rng.random() < 0.3 else str(number)
            name = rng.choice(NUMBERS) if rng.random() < 0.3 else word(rng)
            if rng.random() < 0.1:
                name = rng.choice(("m", "\u0301", "\u4e2d", "\\x1b", "W ")) * rng.choice((300, 8000))
            quotes = rng.choice(("", "", "'", '"'))
            lines.append(f"{key}: {quotes}{name}{quotes}")
        content = "\n".join(lines).encode("utf-8", "surrogatepass")
        return mutated(rng, content) if rng.random() < 0.2 else content

    def try_out(self, given: bytes) -> str:
        """Accepted is a map of whole numbers to texts, each of which can be drawn; refused a ConfigError."""
        from tf2.label_util import class_name, get_label_map
        from visualize.labels import fit_text, text_mask

        path = self.folder / "map.yaml"
        path.write_bytes(given)
        try:
            found = get_label_map(str(path))
        except ConfigError as error:
            assert len(str(error)) < 1000, "the message repeats the file"
            return "refused"
        for number, name in found.items():
            assert type(number) is int and type(name) is str
            mask = text_mask(*fit_text(class_name(found, number), "93%", 11, 80))
            assert mask.width * mask.height < 1 << 20
        return "accepted"


class Archives(InFolder):
    """`unpack` on archives whose headers are made by hand, and on damaged ones."""

    name = "archives"
    NAMES = (
        *b"a d0/model.index ../a /etc/a . .. a/ a/b a\\..\\..\\b \xff a\n ././@LongLink CON \x1b[2J".split(b" "),
        b"",
        b"x" * 100,
    )
    KINDS = tuple(bytes([kind]) for kind in b"0005\x0012346" + b"7xgXLKSNVMDz")
    SIZES = (0, 1, 511, 512, 513, -1, -512, -10240, 1 << 20, 1 << 33, 1 << 62, -(1 << 62))
    RECORDS = (
        (b"path", b"a\0b"),
        (b"path", b"/".join([b"d"] * 1500)),
        (b"path", b"../a"),
        (b"path", b"x" * 5000),
        (b"size", b"-512"),
        (b"size", b"x"),
        (b"size", b"9" * 30),
        (b"size", b"5"),
        (b"GNU.sparse.map", b"x,y"),
        (b"GNU.sparse.map", b"0,1"),
        (b"GNU.sparse.size", b"7"),
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.realsize", b"99999999999"),
        (b"GNU.sparse.numblocks", b"-1"),
        (b"hdrcharset", b"BINARY"),
        (b"mtime", b"inf"),
        (b"linkpath", b"/etc/passwd"),
        (b"path", b"\x1b]0;owned\x07"),
    )

    def make(self, rng: random.Random) -> bytes:
        """The bytes of a .tar.gz."""
        parts = []
        for _ in range(rng.choice((1, 1, 2, 2, 3, 6))):
            if rng.random() < 0.3:
                records = rng.sample(self.RECORDS, rng.choice((1, 1, 1, 2, 4)))
                extension = tar_headers.pax(*records, kind=rng.choice((b"x", b"x", b"g")))
                parts += [extension] * (1200 if rng.random() < 0.02 else rng.choice((1, 1, 1, 2)))
            name, kind = rng.choice(self.NAMES), rng.choice(self.KINDS) if rng.random() < 0.4 else b"0"
            content = bytes(rng.choice((0, 1, 1, 300, 600)))
            if rng.random() < 0.3:
                size = rng.choice(self.SIZES)
                field = (
                    tar_headers.base256(size) if rng.random() < 0.8 else rng.choice(WORDS).encode("utf-8", "replace")
                )
                parts.append(tar_headers.header(name, 0, kind, field) + tar_headers.padded(content))
            else:
                parts.append(tar_headers.member(name, content, kind))
        content = b"".join(parts) + tar_headers.END[: rng.choice((0, 512, 1024, 1024))]
        content = mutated(rng, content) if rng.random() < 0.3 else content
        packed = tar_headers.compressed(content)
        return mutated(rng, packed) if rng.random() < 0.1 else packed

    def try_out(self, given: bytes) -> str:
        """Accepted is what lies in the folder and nowhere else; refused a UserError."""
        from ipu_utils.base.archives import unpack

        archive, into = self.folder / "a.tar.gz", self.folder / "into"
        archive.write_bytes(given)
        into.mkdir()
        try:
            unpack(archive, into)
            return "accepted"
        except UserError as error:
            assert str(error).isprintable() and len(str(error)) < 1000, str(error)
            return "refused"
        finally:
            assert sorted(path.name for path in self.folder.iterdir()) == ["a.tar.gz", "into"]
            assert not any(path.is_symlink() for path in into.rglob("*"))
            shutil.rmtree(str(into))


class Checkpoints(InFolder):
    """`load_weights` on .h5 files of odd content, on damaged ones, and on folders with an odd file `checkpoint`."""

    name = "checkpoints"
    STATES = (
        'model_checkpoint_path: "model"',
        'all_model_checkpoint_paths: "model"',
        'model_checkpoint_path: ""',
        'model_checkpoint_path: "/"',
        'model_checkpoint_path: ".."',
        'model_checkpoint_path: "../../etc/model"',
        'model_checkpoint_path: "a\\000b"',
        f'model_checkpoint_path: "{"x" * 5000}"',
        "model_checkpoint_path: 1",
        'model_checkpoint_path: "\\303\\251/model"',
        "last_preserved_timestamp: inf",
        "\udcff",
        "{",
        "#",
        "",
    )

    def __init__(self) -> None:
        super().__init__()
        import h5py
        import numpy as np

        import hparams_config
        from ipu_utils.base.keras2 import tf
        from ipu_utils.model.checkpoint import variable_names

        logging.getLogger("tensorflow").setLevel(logging.CRITICAL)
        logging.getLogger("absl").setLevel(logging.CRITICAL)

        class Net(tf.keras.Model):
            """As many layers as it takes."""

            def __init__(self) -> None:
                super().__init__(name="efficientdet-d0")
                self.config = hparams_config.get_efficientdet_config("efficientdet-d0")
                self.first = tf.keras.layers.Dense(2, name="first")
                self.second = tf.keras.layers.Dense(1, name="second")

            def call(self, inputs: Any) -> Any:
                return self.second(self.first(inputs))

        self._h5py, self._numpy, self._model = h5py, np, Net()
        self._model(tf.zeros((1, 3)))
        whole = io.BytesIO()
        with h5py.File(whole, "w") as file:  # as Keras writes them
            names = variable_names(self._model)
            self._paths = [f"{name.split('/')[0]}/{name}:0" for name in names]
            for path, weight in zip(self._paths, self._model.weights):
                file.create_dataset(path, data=weight.numpy())
            file.attrs["layer_names"] = [b"first", b"second"]
            for layer in ("first", "second"):
                file[layer].attrs["weight_names"] = [f"{name}:0".encode() for name in names if name.startswith(layer)]
        self._whole = whole.getvalue()
        self._place = self.folder / "weights"

    def make(self, rng: random.Random) -> Tuple[str, Any]:
        """("bytes", of a damaged .h5), ("odd", a seed for a changed one) or ("state", a file `checkpoint`)."""
        kind = rng.choice(("bytes", "bytes", "odd", "odd", "state"))
        if kind == "bytes":
            return kind, mutated(rng, self._whole)
        if kind == "odd":
            return kind, rng.random()
        lines = [rng.choice(self.STATES) for _ in range(rng.randint(1, 3))]
        text = "\n".join(lines).encode("utf-8", "surrogateescape")
        return kind, mutated(rng, text) if rng.random() < 0.5 else text

    def try_out(self, given: Tuple[str, Any]) -> str:
        """Accepted is a model with finite weights, refused a UserError."""
        from ipu_utils.model.checkpoint import load_weights

        kind, content = given
        self._place.mkdir()
        try:
            if kind == "state":
                (self._place / "checkpoint").write_bytes(content)
                (self._place / "model.h5").write_bytes(self._whole)
            else:
                (self._place / "model.h5").write_bytes(self._whole if kind == "odd" else content)
            if kind == "odd":
                self._change(random.Random(content))
            path = self._place if kind == "state" else self._place / "model.h5"
            try:
                load_weights(self._model, path)
            except UserError:
                return "refused"
            assert all(self._numpy.isfinite(weight).all() for weight in self._model.get_weights())
            return "accepted"
        finally:
            shutil.rmtree(str(self._place))

    def _change(self, rng: random.Random) -> None:
        """Put something else into the place of a dataset, or something beside it."""
        h5py, np = self._h5py, self._numpy
        values = [
            np.array(["a", "b"], dtype=object),
            "text",
            b"bytes",
            h5py.Empty("f"),
            h5py.Empty("S10"),
            np.zeros((0, 3)),
            np.float32(1),
            np.zeros((3, 2), "complex64"),
            np.zeros((3, 2), "i8"),
            np.zeros((3, 2), "?"),
            np.full((3, 2), np.nan),
            np.zeros((3, 2), [("a", "f4")]),
            np.zeros((3, 2), "f2"),
            np.zeros(2, "V3"),
        ]
        with h5py.File(str(self._place / "model.h5"), "r+") as file:
            for _ in range(rng.randint(1, 3)):
                path = rng.choice(self._paths)
                kind = rng.randrange(7)
                if kind < 6 and path in file and rng.random() < 0.8:
                    del file[path]
                with contextlib.suppress(ValueError, TypeError, OSError, RuntimeError, KeyError):
                    if kind < 2:
                        file.create_dataset(path, data=rng.choice(values))
                    elif kind == 2:
                        elsewhere = h5py.ExternalLink(rng.choice(("/etc/passwd", "model.h5", "none.h5")), path)
                        file[path] = rng.choice(
                            (elsewhere, h5py.SoftLink("/" + rng.choice(self._paths)), h5py.SoftLink("/x"))
                        )
                    elif kind == 3:
                        file.create_dataset(path, (3, 2), "f4", external=[("/etc/passwd", 0, 24)])
                    elif kind == 4:
                        layout = h5py.VirtualLayout((3, 2), "f4")
                        layout[:] = h5py.VirtualSource("other.h5", "x", (3, 2))
                        file.create_virtual_dataset(path, layout)
                    elif kind == 5:
                        file.create_group(path)
                    else:
                        file[f"{path.rpartition('/')[0]}/loop"] = file["/"]


KINDS = (LabelMaps, Archives, Checkpoints)
