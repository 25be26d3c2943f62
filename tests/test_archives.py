# SPDX-License-Identifier: Apache-2.0
"""Archives from elsewhere: unpacked into their folder and nowhere else."""

import io
import tarfile

import pytest

from ipu_utils import archives
from ipu_utils.archives import unpack
from ipu_utils.errors import UserError


def archive_of(path, *members):
    """Write a .tar.gz of (name, content or a TarInfo type with a link name)."""
    with tarfile.open(str(path), "w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size, info.mode = len(content), 0o4777
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                archive.addfile(info)
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "into").mkdir()
    return tmp_path / "into"


def test_files_and_folders_arrive_where_they_belong_without_special_modes(folder, tmp_path):
    packed = archive_of(tmp_path / "a.tgz", ("./d0/", (tarfile.DIRTYPE, "")), ("./d0/model", b"12"), ("e/f/g", b"3"))
    unpack(packed, folder)
    assert (folder / "d0" / "model").read_bytes() == b"12" and (folder / "e" / "f" / "g").read_bytes() == b"3"
    assert not (folder / "d0" / "model").stat().st_mode & 0o7000


@pytest.mark.parametrize("name", ["../outside", "d0/../../outside", "..", "d0\\..\\..\\outside"])
def test_nothing_is_written_outside_of_the_folder(folder, tmp_path, name):
    with pytest.raises(UserError, match="outside of the folder"):
        unpack(archive_of(tmp_path / "a.tgz", ("d0/model", b"1"), (name, b"evil")), folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tgz", "into"]


def test_an_absolute_name_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match="outside of the folder"):
        unpack(archive_of(tmp_path / "a.tgz", (str(tmp_path / "evil"), b"1")), folder)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(folder, tmp_path, kind):
    with pytest.raises(UserError, match="neither a file nor a folder"):
        unpack(archive_of(tmp_path / "a.tgz", ("d0", (kind, str(tmp_path))), ("d0/evil", b"1")), folder)
    assert not (tmp_path / "evil").exists() and not list(folder.iterdir())


def test_a_link_that_is_there_already_is_not_followed_out_of_the_folder(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "d0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="outside of the folder"):
        unpack(archive_of(tmp_path / "a.tgz", ("d0/model", b"1")), folder)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_damaged_archive_is_named(folder, tmp_path):
    packed = archive_of(tmp_path / "a.tgz", ("d0/model", bytes(range(256)) * 400))
    whole = packed.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no archive", whole[:-9] + b"damaged!!"):
        packed.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.tgz cannot be unpacked .*fetch it again"):
            unpack(packed, folder)


def test_an_archive_that_would_fill_the_disk_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 1 << 20)
    with pytest.raises(UserError, match="unpacks to more than"):
        unpack(archive_of(tmp_path / "a.tgz", ("zeros", bytes(1 << 21))), folder)
