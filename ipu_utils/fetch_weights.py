# SPDX-License-Identifier: Apache-2.0
"""Fetch a published checkpoint into tmp/<model name>, where the scripts look for it. No TensorFlow.

    python -m ipu_utils.fetch_weights --model-name efficientdet-d0

A download that breaks off goes on where it stopped, in this call or the next. The folder appears complete or not at
all: the archive is checked and unpacked under another name first.
"""

from ipu_utils.base import program

if __name__ == "__main__":
    program.begin()

import contextlib
import hashlib
import os
import shlex
import tempfile
import time
import urllib.error
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Callable, Dict, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from ipu_utils.base import transport
from ipu_utils.base.archives import unpack
from ipu_utils.base.console import progress_bar, run_script
from ipu_utils.base.errors import UserError
from ipu_utils.base.paths import without_new_folders
from ipu_utils.base.printable import shown
from ipu_utils.base.transport import Broken, number_in
from ipu_utils.config.command_line import Parser, StoreChecked
from ipu_utils.config.model_options import MODEL_NAMES
from ipu_utils.config.sections import all_rules

PUBLISHED = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientdet"
COLLECTIONS = ("coco", "coco2", "coco640", "advprop")
# Size and SHA-256 of published archives, where they are known; for the others the server's word on the size counts.
KNOWN: Dict[str, Tuple[int, str]] = {
    "coco2/efficientdet-d0.tar.gz": (28828936, "74794c937aa1fa2f559c2393d22b251b1f7135a49b108bd0414bc4f4800ca15d"),
    "coco2/efficientdet-d1.tar.gz": (48828228, "31d8741da9840ab8bddfaa041d395d84a8c1e4e54db01cf8d277471afad5d6e0"),
}
ATTEMPTS, PAUSE_SECONDS = 5, 1.0
BARRED = (401, 403, 407, 451)  # answers that may be of a proxy, or of a rule for this place alone
NEWS = 1 << 16  # bytes; fewer do not make an attempt a success, else a server that trickles would never be given up

Progress = Callable[[int, Optional[int]], None]  # bytes so far, bytes in all where that is known


class Source(NamedTuple):
    """Where an archive is and what is known about it."""

    url: str
    size: Optional[int] = None
    sha256: Optional[str] = None


def source_of(model_name: str, collection: Optional[str] = None, base_url: str = PUBLISHED) -> Source:
    """Return where a model's checkpoint is published.

    Args:
      model_name: a published model.
      collection: one of COLLECTIONS; None: the one that the published accuracy is of.
      base_url: of the published folders or a mirror of them.
    """
    lite = "lite" in model_name
    name = f"{collection or ('coco' if lite else 'coco2')}/{model_name}{'.tgz' if lite else '.tar.gz'}"
    return Source(f"{base_url.rstrip('/')}/{name}", *KNOWN.get(name, (None, None)))


def folder_of(model_name: str, collection: Optional[str] = None) -> Path:
    """Where a checkpoint goes: the scripts' default folder, or below the name of a collection that was asked for.

    AdvProp's inputs are known by the name of that folder.
    """
    return Path("tmp", *([collection] if collection else []), model_name)


def fetch(source: Source, folder: Path, progress: Progress = lambda done, total: None) -> bool:
    """Download and unpack a checkpoint.

    Args:
      source: of the archive, which holds one folder with a checkpoint.
      folder: gets what is in that folder; must not exist, or hold a checkpoint already.
      progress: called after each piece.

    Returns:
      False when the checkpoint was there already, and nothing was done.

    Raises:
      UserError: the server cannot be reached or does not have it, what arrives is not what was expected, or the folder
        holds something else.
    """
    if folder.exists():
        if any(folder.glob("*.index")):
            return False
        raise UserError(f"{folder} exists and holds no checkpoint: move it away, or name another place with --output.")
    folder = Path(os.path.realpath(str(folder)))  # of a link that leads nowhere yet, where it leads
    try:
        with without_new_folders([folder]):
            folder.parent.mkdir(parents=True, exist_ok=True)
            # The partial file is named after the address: another mirror's or collection's is never continued.
            # Not after the folder, whose name may have as many bytes as a name can.
            named = f"{source.url}\n{folder.name}".encode("utf-8", "surrogateescape")
            partial = folder.with_name(f".{hashlib.sha256(named).hexdigest()[:24]}.part")
            download(source, partial, progress)
            with tempfile.TemporaryDirectory(dir=str(folder.parent), prefix=".") as room:
                try:
                    unpack(partial, room)
                    inside = _checkpoint_folder(Path(room), source.url)
                except UserError:
                    partial.unlink()  # whole, and not an archive that can be used: to continue it would lead here again
                    raise
                os.chmod(str(inside), 0o755)
                os.rename(str(inside), str(folder))
            partial.unlink()
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror or error}).") from error
    return True


def _checkpoint_folder(room: Path, url: str) -> Path:
    found = sorted({path.parent for path in room.rglob("*.index") if not path.name.startswith(".")})
    if len(found) != 1:
        raise UserError(f"{url} holds {len(found)} checkpoints, expected one: it is another file.")
    lacking = [index for index in found[0].glob("*.index") if not list(found[0].glob(f"{index.stem}.data-*"))]
    if lacking:
        raise UserError(f"{url} holds {lacking[0].name} without its data: it is another file.")
    return found[0]


def download(source: Source, partial: Path, progress: Progress) -> None:
    """Bring the file at an address to disk, going on with what is there of it.

    Raises:
      UserError: it cannot be had after ATTEMPTS tries without NEWS, is larger than a checkpoint can be, or has another
        size or checksum than known; the wrong file is removed. Or it cannot be written.
    """
    attempts = 0
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            total = _continue(source, partial, before, progress)
        except urllib.error.HTTPError as error:
            problem = f"{error.code} {shown(error.reason)[:200]}"
            if error.code < 500:  # What the server denies today it denies in a second, too.
                lines = elsewhere(source.url) if error.code in BARRED else ()
                raise UserError(f"{source.url}: the server answers {problem}.", *lines) from error
        except Broken as error:
            problem = str(error)
        else:
            if total is None or partial.stat().st_size >= total:
                break
            problem = f"it ended after {partial.stat().st_size} of {total} bytes"
        grown = partial.exists() and partial.stat().st_size >= before + NEWS
        attempts = 1 if grown else attempts + 1
        if attempts >= ATTEMPTS:
            raise UserError(
                f"{source.url} cannot be fetched: {problem}. {_kept(partial)} Try again later.", *elsewhere(source.url)
            )
        time.sleep(PAUSE_SECONDS * attempts)
    _check(source, partial, total)


def _kept(partial: Path) -> str:
    """What to say of a part of a file; one without a byte is removed."""
    size = partial.stat().st_size if partial.exists() else 0
    if size:
        return f"What has arrived is kept ({size} bytes): the next call goes on from there."
    with contextlib.suppress(OSError):
        partial.unlink()
    return "Nothing has arrived."


def elsewhere(url: str) -> Tuple[str, ...]:
    """How to do without a way from here to the server, as lines of a message."""
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not PurePosixPath(address.path).name:
        return ()
    path = PurePosixPath(address.path)
    is_advprop = path.parent.name == "advprop"  # whose inputs are known by the name of a folder
    name = f"advprop/{path.name}" if is_advprop else path.name
    first = "`mkdir -p advprop` and " if is_advprop else ""
    return (
        f"Or fetch it on a machine that reaches the server, with a browser or {first}`curl -L -o {shlex.quote(name)} "
        f"{shlex.quote(url)}`, copy the file here, and load it as it is: --model-dir {shlex.quote(name)}.",
    )


def _continue(source: Source, partial: Path, before: int, progress: Progress) -> Optional[int]:
    """Ask for what is missing and append it; returns the size of the whole where it is known."""
    if source.size is not None and before >= source.size:
        return source.size
    headers = {"User-Agent": "efficientdet-benchmark"}
    if before:
        headers["Range"] = f"bytes={before}-"
    try:
        answer = transport.open_address(source.url, headers)
    except urllib.error.HTTPError as error:
        if error.code == 416 and before:  # Nothing beyond what is there: complete, or not a part of this file.
            total = _total_of(error.headers.get("Content-Range", ""))
            if total == before:
                return total
            partial.unlink()
            raise Broken("what had arrived was not a part of this file") from error
        raise
    with answer:
        start, total = _range_of(answer)
        if start not in (0, before):
            raise Broken(f"the server sent bytes from {start} on, asked for were those from {before} on")
        if source.size is not None and total is not None and total != source.size:
            raise UserError(f"{source.url} has {total} bytes, expected {source.size}: the server has another file.")
        limit = next(size for size in (source.size, total, transport.MAX_BYTES) if size is not None)
        if limit > transport.MAX_BYTES:
            raise UserError(f"{source.url} has {limit} bytes, more than any checkpoint: it is another file.")
        try:
            with open(str(partial), "ab" if start else "wb") as file:
                _copy(source, answer, file, limit, lambda done: progress(done, total))
        except UserError:
            partial.unlink()  # too much of something else
            raise
        except OSError as error:  # of the file: those of the server are told as Broken
            raise UserError(
                f"{partial} cannot be written ({error.strerror or error}): free space, or name another place with "
                f"--output. {_kept(partial)}"
            ) from error
    return total


def _range_of(answer: Any) -> Tuple[int, Optional[int]]:
    """(first byte that an answer holds, size of the whole file or None)."""
    if getattr(answer, "status", None) == 206:  # a file:// address has none before Python 3.9
        start = number_in(answer.headers.get("Content-Range"), r"bytes (\d+)-.*")
        if start is None:
            raise Broken("the server sent a part and does not say which")
        return start, _total_of(answer.headers["Content-Range"])
    return 0, number_in(answer.headers.get("Content-Length"))


def _total_of(content_range: str) -> Optional[int]:
    return number_in(content_range, r".*/(\d+)")


def _copy(source: Source, answer: Any, file: BinaryIO, limit: int, progress: Callable[[int], None]) -> None:
    for piece in transport.pieces(answer):
        if file.tell() + len(piece) > limit:
            raise UserError(f"{source.url} sends more than the {limit} bytes that it should have: it is another file.")
        file.write(piece)
        file.flush()  # an error belongs here, not to a later piece
        progress(file.tell())


def _check(source: Source, partial: Path, total: Optional[int]) -> None:
    """Compare the file with what is known about it; a wrong one is removed."""
    size, expected = partial.stat().st_size, source.size if source.size is not None else total
    problem = None
    if expected is not None and size != expected:
        problem = f"{size} bytes arrived, expected {expected}"
    elif source.sha256 is not None:
        digest = hashlib.sha256()
        with open(str(partial), "rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                digest.update(piece)
        if digest.hexdigest() != source.sha256:
            problem = f"its SHA-256 is {digest.hexdigest()}, expected {source.sha256}"
    if problem is not None:
        partial.unlink()
        raise UserError(f"{source.url} is not the published file: {problem}. It was removed.")


def main(argv: Optional[Sequence[str]] = None) -> None:
    description = "Fetch a published checkpoint of EfficientDet."
    parser = Parser(
        prog="python -m ipu_utils.fetch_weights", description=description, stray=" Name a model by --model-name."
    )
    rule = all_rules()["model_name"]
    parser.add_argument("--model-name", default=rule.default, action=StoreChecked, rule=rule, metavar="NAME",
                        help=f"d0 for short: {', '.join(MODEL_NAMES)} (default: {rule.default})")  # fmt: skip
    parser.add_argument("--collection", choices=COLLECTIONS, help="another one than the published accuracy is of; "
                        "goes to tmp/<collection>/<model-name>, a name that tells AdvProp's inputs")  # fmt: skip
    parser.add_argument("--base-url", default=PUBLISHED, metavar="URL", help=f"a mirror (default: {PUBLISHED})")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="the folder to make (default: tmp/<model-name>)")
    options = parser.parse_args(argv)
    source = source_of(options.model_name, options.collection, options.base_url)
    folder = options.output or folder_of(options.model_name, options.collection)
    with progress_bar(None, options.model_name, unit="B", unit_scale=True) as bar:

        def show(done: int, total: Optional[int]) -> None:
            bar.total = total
            bar.update(done - bar.n)

        fetched = fetch(source, folder, show)
    checked = "size and SHA-256" if source.sha256 else "size"
    print(shown(f"{folder}: {f'fetched from {source.url}, {checked} checked' if fetched else 'there already'}"))


if __name__ == "__main__":
    program.run(lambda: run_script(main))
