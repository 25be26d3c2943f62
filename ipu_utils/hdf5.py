# SPDX-License-Identifier: Apache-2.0
"""Files in HDF5 as they come from elsewhere: datasets that lie in the file itself, and nothing else. No TensorFlow."""

import contextlib
import os
import stat
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Tuple

from ipu_utils.errors import UserError
from ipu_utils.names import one_line, shown

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

    try:
        if not stat.S_ISREG(os.stat(str(path)).st_mode) or not h5py.is_hdf5(str(path)):
            raise UserError(f"{path} is not an HDF5 file; `.keras` files of Keras 3 are not read, save as .h5.")
        file = h5py.File(str(path), "r")
    except UserError:
        raise
    except Exception as error:  # h5py raises what its C library reports, as OSError, RuntimeError, ValueError, ...
        raise _damaged(path, error) from error
    with file:
        try:
            datasets = dict(_datasets(h5py, file, path))
        except UserError:
            raise
        except Exception as error:
            raise _damaged(path, error) from error
        yield Hdf5(file, datasets)


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"checkpoint {path} is damaged: {one_line(error) or type(error).__name__}")


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
