# SPDX-License-Identifier: Apache-2.0
"""Images and folders of images as people have them. Most are read by the embedded script, which starts in no time."""

import io
import os
from pathlib import Path
from typing import Any, Callable

import numpy as np
from odd_images import AVIF, EPS, HEIC, png, tiff
from PIL import Image

from ipu_utils.data.decode import formats
from reliability.case import TINY, Case, Outcome, Stage
from reliability.during import act_during
from reliability.privileges import give_up_root_powers
from reliability.runner import after

RUN = ["--exec-file", "{executable}", "--num-repeats", "3", "--measure", "end-to-end"]
FOLDER = [*RUN, "--dataset-type", "image-directory", "--image-path", "{folder}/in"]
PICTURES = [*FOLDER, "--output-predictions", "--output-dir", "{folder}/out"]


def _jpeg(size=(48, 32), mode: str = "RGB", kind: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    ramp = np.arange(size[0] * size[1] * 3, dtype=np.uint32).astype(np.uint8).reshape(size[1], size[0], 3)
    Image.fromarray(ramp).convert(mode).save(file, kind, **options)
    return file.getvalue()


def _files(**contents: Any) -> Callable[[Path], None]:
    """Puts files into {folder}/in; a double underscore in a name is a dot."""

    def prepare(folder: Path) -> None:
        (folder / "in").mkdir()
        for name, content in contents.items():
            path = folder / "in" / name.replace("__", ".")
            path.write_bytes(content() if callable(content) else content)

    return prepare


def _named(name: Any, content: bytes) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / "in").mkdir()
        with open(os.path.join(os.fsencode(str(folder / "in")), os.fsencode(name)), "wb") as file:
            file.write(content)

    return prepare


def _fine(given: str, prepare: Callable[[Path], Any], **more) -> Case:
    needs = ["executable", *more.get("needs", ())]
    return Case(given, PICTURES, 0, ["throughput"], "embedded", prepare, needs=needs, check=_all_written)


def _all_written(stage: Stage) -> None:
    """Every image has its picture and its entry, and nothing is left half done."""
    out = stage.folder / "out"
    if out.exists():
        names = sorted(path.name for path in out.iterdir())
        assert "detections.json" in names and not [name for name in names if name.startswith(".")], names


def _bad(given: str, prepare: Callable[[Path], Any], *words: str, **more) -> Case:
    more = {"needs": ["executable"], **more}
    return Case(given, FOLDER, 2, words, "embedded", prepare, **more)


def _skipped(
    given: str, prepare: Callable[[Path], Any], *words: str, status: int = 3, arguments=PICTURES, **more
) -> Case:
    words = ("skipped:   1 files", *words)
    return Case(given, arguments, status, words, "embedded", prepare, needs=["executable"], check=_all_written, **more)


def _truncated(kind: str) -> bytes:
    whole = _jpeg((200, 200), kind=kind)
    return whole[: len(whole) // 2]


def _huge() -> bytes:
    file = io.BytesIO()
    Image.new("1", (20000, 20000)).save(file, "PNG")
    return file.getvalue()


def _grey16() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(48 * 32, dtype=np.uint16).reshape(32, 48) * 42).save(file, "PNG")
    return file.getvalue()


def _deep(largest: float, dtype: str) -> bytes:
    return tiff(np.linspace(0, largest, 48 * 32).reshape(32, 48).astype(dtype))


def _grey16_with_a_hole() -> bytes:
    return png(np.arange(48 * 32, dtype=np.uint16).reshape(32, 48) * 42, 16, [42 * 100])


def _broken(kind: str, mode: str = "RGBA") -> Callable[[], bytes]:
    """A file that Pillow writes, with its second half spoilt."""

    def content() -> bytes:
        file = io.BytesIO()
        Image.new(mode, (48, 32)).save(file, kind)
        whole = file.getvalue()
        return whole[: len(whole) // 2] + b"\xff" * (len(whole) // 4)

    return content


def _postscript_with_ghostscript(folder: Path) -> None:
    """A PostScript file named .jpg, and a Ghostscript that leaves a mark when it is started."""
    _files(a__jpg=EPS, b__jpg=_jpeg())(folder)
    program = folder / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {folder}/started\n")
    program.chmod(0o755)


def _no_mark(stage: Stage) -> None:
    assert not (stage.folder / "started").exists(), "a program was started"


def _gif() -> bytes:
    frames = [Image.new("P", (40, 30), colour) for colour in (1, 2, 3)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=50)
    return file.getvalue()


def _links(folder: Path) -> None:
    _files(good__jpg=_jpeg())(folder)
    os.symlink("..", str(folder / "in" / "around"))
    os.symlink("loop.jpg", str(folder / "in" / "loop.jpg"))


def _deleted_while_running(stage: Stage) -> Outcome:
    """Start on two files, and remove one when requests are measured."""
    arguments = stage.filled([*FOLDER, "--num-repeats", "1000000"])
    return act_during(
        "measuring", "embedded", arguments, lambda run: (stage.folder / "in" / "b.jpg").unlink(), 0
    ).outcome


def _lock(path: str, mode: int) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        _files(a__jpg=_jpeg(), b__jpg=_jpeg())(folder)
        os.chmod(str(folder / path), mode)

    return prepare


def _nothing(folder: Path) -> None:
    (folder / "in").mkdir()


CASES = [
    _bad("an empty folder", _nothing, "holds no image", ".jpg", ".png"),
    _bad("no folder", lambda folder: None, "there is no such file or folder"),
    Case(
        "a pattern that matches nothing",
        [*RUN, "--image-path", "{folder}/in/*.png"],
        2,
        ["in/*.png matches no image file", "It matches nothing"],
        "embedded",
        _files(a__jpg=_jpeg()),
        needs=["executable"],
    ),
    Case(
        "a pattern without quotes",
        [*RUN, "--image-path", "{folder}/in/a.jpg", "{folder}/in/b.jpg"],
        2,
        ["unrecognized arguments", "quote a pattern: --image-path 'FOLDER/*.jpg'"],
        "embedded",
        _files(a__jpg=_jpeg(), b__jpg=_jpeg()),
        needs=["executable"],
    ),
    _bad("a file for a folder", lambda folder: Path(folder, "in").write_bytes(_jpeg()), "name the folder"),
    _bad("a folder of texts only", _files(a__txt=b"text"), "holds no image"),
    _bad("a text named .jpg, alone", _files(a__jpg=b"text"), "a.jpg", "convert or remove the file"),
    Case(
        "a text named .jpg for a single image",
        [*RUN, "--dataset-type", "single-image", "--image-path", "{folder}/in/a.jpg"],
        2,
        ["a.jpg is not an image"],
        "embedded",
        _files(a__jpg=b"text"),
        needs=["executable"],
    ),
    Case(
        "a folder for a single image",
        [*RUN, "--dataset-type", "single-image", "--image-path", "{folder}/in"],
        2,
        ["is a folder", "image-directory"],
        "embedded",
        _nothing,
        needs=["executable"],
    ),
    Case(
        "a pipe for a single image, into which nobody writes",
        [*RUN, "--image-path", "{folder}/a.jpg"],
        2,
        ["a.jpg is a pipe or a device: expected a file"],
        "embedded",
        lambda folder: os.mkfifo(str(folder / "a.jpg")),
        needs=["executable"],
        own_process=True,
    ),
    _skipped("a text named .jpg among others", _files(a__jpg=b"text", b__jpg=_jpeg()), "a.jpg: "),
    _skipped(
        "the same with --skip-bad-images",
        _files(a__jpg=b"text", b__jpg=_jpeg()),
        "a.jpg: ",
        status=0,
        arguments=[*PICTURES, "--skip-bad-images"],
    ),
    _skipped("a truncated JPEG", _files(a__jpg=_truncated("JPEG"), b__jpg=_jpeg()), "a.jpg"),
    _skipped("a truncated PNG", _files(a__png=_truncated("PNG"), b__jpg=_jpeg()), "a.png"),
    _skipped("a file of zero bytes", _files(a__jpg=b"", b__jpg=_jpeg()), "a.jpg"),
    _skipped("20000 x 20000 pixels in 50 kB", _files(a__png=_huge, b__jpg=_jpeg()), "a.png is too large"),
    _bad("every image truncated", _files(a__jpg=_truncated("JPEG"), b__png=_truncated("PNG")), "none of 2 images"),
    _fine("an image of 1 x 1", _files(a__jpg=_jpeg((1, 1)))),
    _fine("an image of 1 x 10000", _files(a__png=lambda: _jpeg((1, 10000), kind="PNG"))),
    _fine("an image of 10000 x 1", _files(a__png=lambda: _jpeg((10000, 1), kind="PNG"))),
    _fine("a CMYK JPEG", _files(a__jpg=_jpeg(mode="CMYK"))),
    _fine("a grey JPEG", _files(a__jpg=_jpeg(mode="L"))),
    _fine("a 16-bit PNG", _files(a__png=_grey16)),
    _fine("an animated GIF", _files(a__gif=_gif)),
    _fine("a PNG named .jpg", _files(a__jpg=_jpeg(kind="PNG"))),
    _fine("a 32-bit TIFF of small values", _files(a__tif=lambda: _deep(255, "int32"))),
    _fine("a floating point TIFF of large values", _files(a__tif=lambda: _deep(65535, "float32"))),
    _fine("a 16-bit PNG with a transparent colour", _files(a__png=_grey16_with_a_hole)),
    _fine("a name that ends in .jfif", _files(a__jfif=_jpeg())),
    (_fine if "AVIF" in formats() else _skipped)("an AVIF file", _files(a__avif=AVIF, b__jpg=_jpeg())),
    Case(
        "HEIC files, notes and a hidden file among images",
        PICTURES,
        0,
        ["left out:  4 files", "2 .heic: IMG_1.HEIC, IMG_2.heic", "1 .json: notes.json", "1 hidden: .DS_Store"],
        "embedded",
        _files(a__jpg=_jpeg(), IMG_1__HEIC=HEIC, IMG_2__heic=HEIC, notes__json=b"{}", __DS_Store=b"x"),
        needs=["executable"],
        check=_all_written,
    ),
    _bad("a folder of HEIC files only", _files(a__heic=HEIC, b__heic=HEIC), "holds no image", "2 .heic"),
    _skipped("an HEIC file named .jpg", _files(a__jpg=HEIC, b__jpg=_jpeg()), "a.jpg is not an image", "it is HEIC"),
    Case(
        "a PostScript file named .jpg",
        PICTURES,
        3,
        ["skipped:   1 files", "a.jpg is not an image"],
        "embedded",
        _postscript_with_ghostscript,
        environ={"PATH": "{folder}/bin" + os.pathsep + os.environ.get("PATH", os.defpath)},
        own_process=True,
        needs=["executable", "linux"],
        check=_no_mark,
    ),
    *(
        _skipped(f"a damaged {kind} file named .png", _files(a__png=content, b__jpg=_jpeg()), "a.png")
        for kind, content in {
            "DDS": _broken("DDS"),
            "BLP": _broken("BLP", "P"),
            "SPIDER": _broken("SPIDER", "F"),
            "AVIF": AVIF[:300],
        }.items()
    ),
    _fine("a name with spaces and brackets", _named("a b (1) [2] {folder}.jpg", _jpeg())),
    _fine("a name with a new line", _named("a\nb.jpg", _jpeg()), needs=["linux"]),
    _fine("a name that is not UTF-8", _named(b"caf\xe9.jpg", _jpeg()), needs=["linux"]),
    Case(
        "a damaged file whose name is not UTF-8",
        FOLDER,
        2,
        ["cannot be decoded", "caf"],
        "embedded",
        _named(b"caf\xe9.jpg", _truncated("JPEG")),
        own_process=True,
        needs=["executable", "linux"],
    ),
    Case(
        "the same in the throughput script",
        [*TINY, "--dataset-type", "image-directory", "--image-path", "{folder}/in"],
        2,
        ["cannot be decoded", "caf"],
        prepare=_named(b"caf\xe9.jpg", _truncated("JPEG")),
        slow=True,
        needs=["tensorflow", "linux"],
    ),
    _skipped("links that lead round in a circle", _links, "loop.jpg"),
    _skipped("a file without permission", _lock("in/b.jpg", 0), "b.jpg", "ermission", run=after(give_up_root_powers)),
    Case(
        "a folder without permission",
        FOLDER,
        2,
        ["cannot be read", "ermission"],
        "embedded",
        _lock("in", 0),
        run=after(give_up_root_powers),
        needs=["executable", "linux"],
    ),
    Case(
        "a file that is deleted while the run lasts",
        FOLDER,
        2,
        ["b.jpg does not exist", "Benchmark interrupted: partial results"],
        "embedded",
        _files(a__jpg=_jpeg(), b__jpg=_jpeg()),
        run=_deleted_while_running,
        needs=["executable"],
    ),
    Case(
        "a batch larger than the folder",
        [
            *TINY,
            "--micro-batch-size",
            "5",
            "--dataset-type",
            "image-directory",
            "--image-path",
            "{folder}/in",
            "--output-predictions",
            "--output-dir",
            "{folder}/out",
        ],
        0,
        ["throughput"],
        prepare=_files(a__jpg=_jpeg(), b__jpg=_jpeg()),
        slow=True,
        needs=["tensorflow"],
        check=_all_written,
    ),
]
