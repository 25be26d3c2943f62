# SPDX-License-Identifier: Apache-2.0
"""Archives from elsewhere: unpacked into their folder and nowhere else."""

import io
import os
import resource
import signal
import tarfile

import pytest
import tar_headers

from ipu_utils.base import archives
from ipu_utils.base.archives import unpack
from ipu_utils.base.errors import UserError


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


ODD = {
    "a size below zero": tar_headers.header(b"a") + tar_headers.header(b"m", size_field=tar_headers.base256(-512)),
    "a size below zero in an extension": tar_headers.pax((b"size", b"-1024")) + tar_headers.header(b"a"),
    "a size below zero for all": tar_headers.pax((b"size", b"-1024"), kind=b"g") + tar_headers.header(b"a"),
    "a long name of a size below zero": tar_headers.header(b"L", kind=b"L", size_field=tar_headers.base256(-512)),
    "a header of 8 GiB": tar_headers.header(b"x", kind=b"x", size_field=tar_headers.base256(8 << 30)),
    "a long name of 8 GiB": tar_headers.header(b"L", kind=b"L", size_field=tar_headers.base256(8 << 30)),
    "more than there is": tar_headers.header(b"a", size_field=tar_headers.base256(1 << 40)),
    "no character": tar_headers.pax((b"path", b"a\0b")) + tar_headers.header(),
    "a map that is none": tar_headers.pax((b"GNU.sparse.map", b"x,y")) + tar_headers.header(),
    "a map without end": tar_headers.pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"))
    + tar_headers.member(b"a", b"9999999\n1\n"),
    "a sparse file": tar_headers.pax((b"GNU.sparse.map", b"0,1")) + tar_headers.member(b"a", b"1"),
    "an old sparse file": tar_headers.member(b"a", b"1", kind=b"S"),
    "depth": tar_headers.pax((b"path", b"/".join([b"d"] * 1500))) + tar_headers.header(kind=b"5"),
    "a long name": tar_headers.pax((b"path", b"n" * 300)) + tar_headers.header(),
    "headers of headers": tar_headers.pax((b"mtime", b"1")) * 3000 + tar_headers.header(),
    "an escape sequence": tar_headers.pax((b"path", b"../\x1b]0;owned\x07")) + tar_headers.header(),
    "a damaged header": tar_headers.header(b"a") + b"\xff" * 512,
    "half a header": tar_headers.header(b"a") + tar_headers.header(b"b")[:300],
    "a folder's place": tar_headers.header(b"a") + tar_headers.header(b"a/b"),
    "no name": tar_headers.header(b""),
}  # fmt: skip


@pytest.mark.parametrize("what", sorted(ODD))
def test_a_header_that_no_program_writes_is_refused_in_one_printable_line(folder, tmp_path, what):
    end = b"" if what == "half a header" else tar_headers.END
    (tmp_path / "a.tgz").write_bytes(tar_headers.compressed(ODD[what] + end))
    with pytest.raises(UserError, match=r"a\.tgz|cannot be written") as refused:
        unpack(tmp_path / "a.tgz", folder)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tgz", "into"]


def test_extensions_that_programs_write_are_read(folder, tmp_path):
    long_name = "d" * 90 + "/" + "f" * 150  # more than a header of its own has room for
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(str(tmp_path / "a.tgz"), "w:gz", format=form) as archive:
            info = tarfile.TarInfo(long_name)
            info.size, info.mtime = 3 << 20, 1.5
            archive.addfile(info, io.BytesIO(bytes(range(256)) * (3 << 12)))
            archive.addfile(tarfile.TarInfo("last"))
        unpack(tmp_path / "a.tgz", folder)
        assert (folder / long_name).read_bytes() == bytes(range(256)) * (3 << 12) and (folder / "last").exists()
        (folder / long_name).unlink()


def test_an_archive_without_blocks_of_zeros_behind_it_is_whole(folder, tmp_path):
    (tmp_path / "a.tgz").write_bytes(tar_headers.compressed(tar_headers.member(b"a", b"12")))
    unpack(tmp_path / "a.tgz", folder)
    assert (folder / "a").read_bytes() == b"12"


def test_too_many_files_are_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    with pytest.raises(UserError, match="or 5 files"):
        unpack(archive_of(tmp_path / "a.tgz", *((f"a{number}", b"") for number in range(6))), folder)


def test_a_bomb_behind_the_end_is_not_read_to_its_end(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 1 << 20)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    content = tar_headers.member(b"a", b"1") + tar_headers.END + bytes(8 << 20)
    (tmp_path / "a.tgz").write_bytes(tar_headers.compressed(content))
    with pytest.raises(UserError, match="it holds more than"):
        unpack(tmp_path / "a.tgz", folder)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_a_full_disk_is_told_as_such_and_not_as_a_damaged_archive(folder, tmp_path, monkeypatch):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    packed = archive_of(tmp_path / "a.tgz", ("model", bytes(range(256)) * 800))
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(UserError, match=r"model cannot be written \(File too large\)"):
            unpack(packed, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)


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


def test_a_message_repeats_no_long_name_however_it_is_spelled(folder, tmp_path):
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(
        tar_headers.compressed(tar_headers.pax((b"path", b"../" + b"\xff" * 3000)) + tar_headers.header())
    )
    with pytest.raises(UserError, match="outside of the folder") as caught:
        unpack(packed, folder)
    assert "\\udcff" in str(caught.value) and len(str(caught.value)) < len(str(packed)) + 300
