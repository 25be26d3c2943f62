# SPDX-License-Identifier: Apache-2.0
"""The file that a compiled model is kept in: everything that is needed to run it, and to know whether it still fits.

    offset  size  content
    0       8     magic, with a line end that a transfer as text would change
    8       4     format version, little endian
    12      4     length H of the header, little endian
    16      32    SHA-256 of the header
    48      H     header: JSON, UTF-8
    ...           zeros up to a multiple of 64
    ...           the network, as OpenVINO exports it; its size and SHA-256 are in the header

Nothing in it is executed by reading it, and sizes and checksums are checked before OpenVINO sees a byte. Checksums find
damage, not malice: the network is code for OpenVINO, so run files from people you trust. A file that belongs to another
user than this one and root is refused. Owner, checksums and network are those of one file, which is opened once: a name
that leads elsewhere a moment later changes nothing.
"""

import dataclasses
import hashlib
import json
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from ipu_utils.base import instruction_sets
from ipu_utils.base.errors import UserError
from ipu_utils.base.files import write_atomically
from ipu_utils.base.paths import PathLike
from ipu_utils.base.printable import shown
from ipu_utils.executable.header_rules import check_header

MAGIC = b"EFFDET\r\n"
FORMAT_VERSION = 4  # 1 did not say what surrounds an image in the input, 2 what made the network, 3 knew no int8
MAX_HEADER_BYTES = 1 << 20
ROOT = 0  # number of the user root
ALIGNMENT = 64  # of the network inside the file, so that it can be used where it is mapped
PREFIX = struct.Struct("<8sII32s")
AGAIN = "Compile it again, or copy it again from where it came."


class ExecutableError(UserError):
    """A file is no executable, is damaged, or was made for something else."""


@dataclass(frozen=True)
class Header:
    """What an executable says about itself."""

    model_name: str
    image_size: Tuple[int, int]  # (height, width) in pixels
    batch_size: int
    input_type: str  # type name of the images that the network takes: "uint8", "float16" or "float32"
    output_type: str  # type name of all outputs; what int8 stands for is told by the network itself
    mean_rgb: Tuple[float, float, float]  # the model's mean colour, 0..255: what surrounds an image in the input
    num_classes: int
    anchors: Dict[str, Any]  # arguments of ipu_utils.nms.anchors.Anchors, but the image size
    nms_mode: str
    nms_configs: Dict[str, Any]  # as in the hparams
    label_map: Dict[int, str]  # names of classes by one-based id
    precision: str  # type name that the network computes in
    weights: str  # where they come from, for people
    random_weights: bool
    fingerprint: Dict[str, str]  # SHA-256 of weights, configuration and code: see ipu_utils.executable.fingerprint
    engine: str  # what compiled the network, with its version
    target: Tuple[str, ...]  # architecture and instruction sets that it was compiled for
    calibration: str = ""  # of int8: on which images, for people; else empty
    versions: Dict[str, str] = dataclasses.field(default_factory=dict)  # of the packages that made the network


def with_weights(header: Header, weights: str, random: bool) -> Header:
    """The header of what was compiled: weights are told when they are there."""
    return dataclasses.replace(header, weights=shown(weights), random_weights=random)


def origin(header: Header) -> Dict[str, Any]:
    """Which sources, engine and versions an executable comes from, for the record; None is what nobody knows."""
    return {
        "engine": header.engine,
        "sources_sha256": header.fingerprint.get("network code"),
        "nms_operator_sha256": header.fingerprint.get("NMS operator"),
        "versions": dict(header.versions),
    }


def weights_identity(header: Header) -> Tuple[str, str]:
    """SHA-256 of the weights, and of what it is."""
    return header.fingerprint.get("weights", ""), "the checkpoint's files, or the recipe of random weights"


def calibration_in(header: Header) -> Optional[Dict[str, str]]:
    """What an int8 network was calibrated on: in words, and its SHA-256; None of others."""
    if not header.calibration:
        return None
    return {"images": header.calibration, "sha256": header.fingerprint.get("calibration images", "")}


# Types as JSON has them; tuples and class ids are brought back by `_header_from`.
_JSON_TYPES = {str: str, int: int, bool: bool}
_JSON_TYPES.update(dict.fromkeys((Tuple[int, int], Tuple[float, float, float], Tuple[str, ...]), list))


@dataclass(frozen=True)
class Executable:
    """A file that was found to be whole."""

    path: Path
    header: Header
    offset: int  # of the network in the file
    size: int
    mapped: np.ndarray  # see `network`

    def network(self) -> np.ndarray:
        """The exported network, uint8 [size], mapped from the file that was checked: no copy, and none other."""
        return self.mapped


def write_executable(path: PathLike, header: Header, network: bytes) -> None:
    """Write a file that appears complete or not at all; missing folders are made.

    Raises:
      UserError: it cannot be written there.
    """
    text = describe(header, len(network), hashlib.sha256(network).hexdigest())
    # Its owner is who compiled it, whoever had the file before: see `_check_owner`.
    write_atomically(path, (seal(text), network), "--exec-output-dir or --executable-cache-dir", owner=False)


def seal(text: bytes) -> bytes:
    """What precedes the network in a file: prefix, the header's JSON, and zeros."""
    start = PREFIX.pack(MAGIC, FORMAT_VERSION, len(text), hashlib.sha256(text).digest()) + text
    return start + bytes(-len(start) % ALIGNMENT)


def read_executable(path: PathLike) -> Executable:
    """Read the header of an executable and check the whole file against it.

    Raises:
      ExecutableError: the file cannot be read, is not an executable, is of another format version, or is damaged.
    """
    return _opened(Path(path), _read)


def read_header(path: PathLike) -> Header:
    """Read the header of an executable and leave the network alone, which is not checked; raises as the above."""
    return _opened(Path(path), _read_header).header


def _opened(path: Path, read: Callable[[Path, BinaryIO, int], Any]) -> Any:
    """What `read` makes of a path, the file that is open, and its size."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ExecutableError(f"{path} is a pipe or a device: expected a file, which is mapped into memory.")
            _check_owner(path, status.st_uid)
            return read(path, file, status.st_size)
    except OSError as error:
        raise ExecutableError(f"{path} cannot be read ({error.strerror}).") from error


def _open_at_once(name: str, flags: int) -> int:
    """Open a file; a pipe, too, without waiting for somebody to write into it."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def _check_owner(path: Path, owner: int) -> None:
    """A compiled network is code: it is taken from whoever could run code here anyway, this user and root."""
    if hasattr(os, "geteuid") and owner not in (os.geteuid(), ROOT):
        raise ExecutableError(
            f"{path} belongs to {_user(owner)}, and an executable holds code that OpenVINO runs: expected a file of "
            "your own or of root. If you trust where it comes from, copy it: a copy is yours."
        )


def _user(number: int) -> str:
    try:
        import pwd

        return f"user {pwd.getpwuid(number).pw_name}"
    except (ImportError, KeyError):
        return f"user number {number}"


class _Described(NamedTuple):
    """The start of a file."""

    header: Header
    offset: int  # of the network
    size: int
    checksum: str


def _read_header(path: Path, file: BinaryIO, file_size: int) -> _Described:
    prefix = file.read(PREFIX.size)
    if prefix[: len(MAGIC)] != MAGIC:
        raise ExecutableError(
            f"{path} is not an executable of this benchmark: expected a file that --exec-output-dir left on a host."
        )
    if len(prefix) < PREFIX.size:
        raise ExecutableError(f"{path} is cut off after {file_size} bytes. {AGAIN}")
    _, version, length, digest = PREFIX.unpack(prefix)
    if version != FORMAT_VERSION:
        raise ExecutableError(
            f"{path} has format version {version}, this release reads version {FORMAT_VERSION}: compile it again, with "
            "--exec-output-dir FOLDER and the model's options."
        )
    if length > MAX_HEADER_BYTES:
        raise ExecutableError(f"{path} claims a header of {length} bytes, which none has. {AGAIN}")
    text = file.read(length)
    if len(text) < length or hashlib.sha256(text).digest() != digest:
        raise ExecutableError(f"{path} is damaged: its header does not match its checksum. {AGAIN}")
    try:
        header, size, checksum = parse(text)
    except ValueError as error:
        raise ExecutableError(f"{path} has a header that cannot be used ({error}). {AGAIN}") from error
    offset = PREFIX.size + length
    offset += -offset % ALIGNMENT
    if file_size != offset + size:
        raise ExecutableError(f"{path} has {file_size} bytes, its header describes {offset} + {size}. {AGAIN}")
    return _Described(header, offset, size, checksum)


def _read(path: Path, file: BinaryIO, file_size: int) -> Executable:
    header, offset, size, checksum = _read_header(path, file, file_size)
    file.seek(offset)
    found = hashlib.sha256()
    for piece in _pieces(file):
        found.update(piece)
    if found.hexdigest() != checksum:
        raise ExecutableError(f"{path} is damaged: the network does not match its checksum. {AGAIN}")
    try:
        # Copy-on-write: OpenVINO takes no memory that is marked read-only, though it does not write to it.
        mapped = np.memmap(file, np.uint8, "c", offset, (size,))
    except ValueError as error:
        raise ExecutableError(f"{path} has become shorter while it was read. {AGAIN}") from error
    return Executable(path, header, offset, size, mapped)


def _pieces(file: Any, size: int = 1 << 20) -> Iterator[bytes]:
    return iter(lambda: file.read(size), b"")


def describe(header: Header, size: int, sha256: str) -> bytes:
    """Put a header and what is known of the network into JSON."""
    described = dataclasses.asdict(header)
    described["network"] = {"size": size, "sha256": sha256}
    return json.dumps(described, sort_keys=True, allow_nan=False).encode()


def parse(text: bytes) -> Tuple[Header, int, str]:
    """Read what `describe` wrote: header, size and SHA-256 of the network; ValueError where anything is wrong."""
    described = json.loads(text.decode())
    if not isinstance(described, dict) or not isinstance(described.get("network"), dict):
        raise ValueError("it does not describe a network")
    network = described.pop("network")
    size, checksum = network.get("size"), network.get("sha256")
    if type(size) is not int or size < 1 or type(checksum) is not str:
        raise ValueError(f"the network cannot be of {size} bytes with checksum {checksum}")
    return _header_from(described), size, checksum


def _header_from(described: Dict[str, Any]) -> Header:
    """Build a Header from its JSON; ValueError where a value has the wrong type."""
    values: Dict[str, Any] = {}
    for field in dataclasses.fields(Header):
        value = described.get(field.name)
        wanted = _JSON_TYPES.get(field.type, dict)
        if type(value) is not wanted:
            raise ValueError(f"{field.name} should be a {wanted.__name__}, got {value!r}")
        values[field.name] = tuple(value) if wanted is list else value
    unknown = set(described) - set(values)
    if unknown:
        raise ValueError(f"unknown entries {sorted(unknown)}")
    values["label_map"] = {int(number): str(name) for number, name in values["label_map"].items()}
    values["versions"] = {str(key): str(value) for key, value in values["versions"].items()}
    values["fingerprint"] = {str(key): str(value) for key, value in values["fingerprint"].items()}
    header = Header(**values)
    check_header(header)
    return header


def differences(header: Header, wanted: Header) -> List[str]:
    """Say in which respects an executable is not the one that is wanted; empty when it is."""
    found = []
    for field in dataclasses.fields(Header):
        has, wants = getattr(header, field.name), getattr(wanted, field.name)
        if field.name in ("weights", "random_weights", "calibration") or has == wants:
            continue  # what the fingerprint identifies, told to people
        if field.name == "fingerprint":
            found += [f"it was made from other {part}" for part in wants if has.get(part) != wants[part]]
        elif field.name == "versions":
            found += [f"it was made with {name} {has.get(name)}, not {wants[name]}" for name in wants
                      if has.get(name) != wants[name]]  # fmt: skip
        elif field.name == "target":
            found.append(target_difference(has, wants))
        elif isinstance(has, dict):
            found.append(f"it has other {field.name}")
        else:
            found.append(f"its {field.name} is {_text(has)}, not {_text(wants)}")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    return "x".join(map(str, value[::-1])) if len(value) == 2 else ", ".join(f"{number:g}" for number in value)


def target_difference(has: Tuple[str, ...], wants: Tuple[str, ...]) -> str:
    """Say how the processor that an executable was compiled for differs from this one."""
    missing, new = sorted(set(has) - set(wants)), sorted(set(wants) - set(has))
    parts = [f"has no {' '.join(missing)}"] if missing else []
    parts += [f"also has {' '.join(new)}"] if new else []
    limit = instruction_sets.limit()
    below = "" if limit is None else f" below {limit.setting}"
    return f"it was compiled for another processor: this one{below} " + " and ".join(parts or ["is different"])
