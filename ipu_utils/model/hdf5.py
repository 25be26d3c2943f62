# SPDX-License-Identifier: Apache-2.0
"""Files in HDF5 as they come from elsewhere: datasets that lie in the file itself, and nothing else. No TensorFlow."""

import contextlib
import mmap
import os
import stat
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Tuple

from ipu_utils.base.errors import UserError
from ipu_utils.base.printable import one_line, shown

TEXT_MIB = 64  # more than the names of any network take; a damaged length asks libhdf5 for up to 4 GiB a text
# What a collection begins with: signature, version, nothing. Weights could hold the first five bytes by chance.
HEAP = b"GCOL\x01\0\0\0"
MOST_OBJECTS = 100_000  # a network of the largest size has some 3,000


class Hdf5(NamedTuple):
    """An open file."""

    file: Any  # h5py.File
    datasets: Dict[str, Any]  # h5py.Dataset by path; of several paths to one dataset the first

    def shape_of(self, path: str) -> Tuple[int, ...]:
        """Shape of a dataset; (0,) for one that has none because it holds nothing."""
        shape = self.datasets[path].shape
        return (0,) if shape is None else tuple(shape)


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Hdf5]:
    """Open a file for reading.

    Raises:
      UserError: it is no HDF5 file, is damaged, or leads to other files: by an external link, or by a dataset whose
        values lie elsewhere.
    """
    import h5py  # Comes with TensorFlow, and is needed for this form alone.

    with _told(path):
        if not stat.S_ISREG(os.stat(str(path)).st_mode) or not h5py.is_hdf5(str(path)):
            raise UserError(f"{path} is not an HDF5 file; `.keras` files of Keras 3 are not read, save as .h5.")
        file = h5py.File(str(path), "r")
    with file:
        with _told(path):
            _check_heaps(path, file.id.get_create_plist().get_sizes()[1])
            datasets = dict(_datasets(h5py, file, path))
        yield Hdf5(file, datasets)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # h5py raises what its C library reports, as OSError, RuntimeError, ValueError, ...
        raise UserError(f"checkpoint {path} is damaged: {one_line(error) or type(error).__name__}") from error


def _check_heaps(path: Path, length_bytes: int) -> None:
    """Walk through the collections that texts of variable length lie in, such as Keras's lists of names.

    libhdf5 walks through them as well, and trusts the sizes in them: with a damaged one it never comes to an end, or
    reads beyond the collection. Their form: HDF5 File Format Specification 3.0, III.E, Global Heap.

    Raises:
      ValueError: a size in one is wrong.
    """
    with open(str(path), "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(HEAP)
        while start >= 0:
            _check_heap(content, start, length_bytes)
            start = content.find(HEAP, start + 1)


def _check_heap(content: mmap.mmap, start: int, length_bytes: int) -> None:
    header = _aligned(8 + length_bytes)  # of the collection, and of each object in it

    def length_at(place: int) -> int:
        return int.from_bytes(content[place : place + length_bytes], "little")

    place, end = start + header, start + length_at(start + 8)
    if end > len(content):
        raise ValueError(f"the global heap at byte {start} ends behind the file")
    while end - place >= header:
        number, size = int.from_bytes(content[place : place + 2], "little"), length_at(place + 8)
        size = header + _aligned(size) if number else size  # object 0 is the rest, its own header included
        if not 0 < size <= end - place:
            raise ValueError(f"an object of the global heap at byte {start} has a size that it cannot have")
        place += size


def _aligned(size: int) -> int:
    return (size + 7) // 8 * 8


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Let the process take TEXT_MIB more than it has and no more, while texts of variable length are read.

    libhdf5 makes room for a text by a length that it cannot check before. Where the system does not tell how much the
    process has, or has no such limit, the block runs without one.
    """
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError, ValueError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    least = pages * resource.getpagesize() + (TEXT_MIB << 20)
    if soft != resource.RLIM_INFINITY and soft < least:
        yield  # it is as narrow already
        return
    resource.setrlimit(resource.RLIMIT_AS, (least, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _datasets(h5py: Any, file: Any, path: Path) -> Iterator[Tuple[str, Any]]:
    """Walk through all groups; a group or dataset with several paths is visited once."""
    pending, seen, count = [("", file)], set(), 0
    while pending:
        prefix, group = pending.pop()
        for name in group:
            count += 1
            if count > MOST_OBJECTS:
                raise UserError(f"{path} holds more than {MOST_OBJECTS} objects: it is no checkpoint of a network.")
            inside = f"{prefix}{name}"
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise UserError(f"{path} is refused: {shown(inside)} in it is a link to another file.")
            if not isinstance(link, h5py.HardLink):
                continue  # Within the file; where it leads is found by another path.
            item = group[name]
            place = h5py.h5o.get_info(item.id).addr
            if place in seen:
                continue
            seen.add(place)
            if isinstance(item, h5py.Group):
                pending.append((f"{inside}/", item))
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise UserError(f"{path} is refused: the values of {shown(inside)} in it lie in another file.")
                yield inside, item
