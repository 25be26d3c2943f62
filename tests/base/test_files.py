# SPDX-License-Identifier: Apache-2.0
"""The one writer: links, devices, pipes, descriptors, places that cannot be taken, long names, failures half way."""

import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from ipu_utils.base.errors import ConfigError, UserError
from ipu_utils.base.files import NewFile, check_writable, write_atomically
from ipu_utils.base.paths import leads_to_stream, target_of

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="devices, pipes and descriptors as Linux has them")


def write(path, content=b"new"):
    check_writable(path, "--out")
    write_atomically(path, [content[:1], content[1:]], "--out")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_has_the_permissions_of_any_and_nothing_is_left_beside_it(tmp_path):
    write(tmp_path / "deep" / "a.json")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "deep" / "a.json").read_bytes() == b"new"
    assert (tmp_path / "deep" / "a.json").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert names(tmp_path / "deep") == ["a.json"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_file_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    path.chmod(mode)
    write(path)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("keep, owner", [(True, 65534), (False, 0)])
def test_a_file_keeps_its_owner_unless_it_is_to_be_of_who_wrote_it(tmp_path, keep, owner):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    os.chown(str(path), 65534, 65534)
    write_atomically(path, [b"new"], "--out", owner=keep)
    assert (path.stat().st_uid, path.stat().st_gid) == (owner, owner)


@pytest.mark.parametrize("length", [240, 243, 254, 255])
def test_every_name_that_a_file_can_have_works(tmp_path, length):
    for name in ("n" * length, "ä" * (length // 2)):
        for _ in range(2):
            write(tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"new"


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_target_is_written(tmp_path, there):
    (tmp_path / "far").mkdir()
    if there:
        (tmp_path / "far" / "target").write_bytes(b"old")
    (tmp_path / "far" / "second").symlink_to("target")
    (tmp_path / "link").symlink_to(Path("far") / "second")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "far" / "second").is_symlink()
    assert (tmp_path / "far" / "target").read_bytes() == b"new"
    assert names(tmp_path / "far") == ["second", "target"]


def test_a_link_to_itself_is_an_error(tmp_path):
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(UserError, match=r"--out .*link cannot be written"):
        write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()


def test_a_device_is_written_and_stays_one():
    before = os.stat("/dev/null")
    write("/dev/null")
    after = os.stat("/dev/null")
    assert (after.st_ino, after.st_rdev, after.st_mode) == (before.st_ino, before.st_rdev, before.st_mode)
    assert leads_to_stream("/dev/null")


def test_a_device_that_is_full_is_an_error_that_names_the_option():
    with pytest.raises(UserError, match=r"--out /dev/full cannot be written \(No space left on device\): free space"):
        write("/dev/full")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_pipe_gets_the_bytes_and_a_reader_that_comes_late_is_told(tmp_path, caplog):
    os.mkfifo(str(tmp_path / "pipe"))
    check_writable(tmp_path / "pipe", "--out")
    writer = threading.Thread(target=write_atomically, args=(tmp_path / "pipe", [b"x" * 200000], "--out"))
    writer.start()
    deadline = time.monotonic() + 60
    while not caplog.messages and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "waiting for its reader" in caplog.messages[0]
    assert (tmp_path / "pipe").read_bytes() == b"x" * 200000
    writer.join()
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_socket_is_refused_before_there_is_anything_to_write(tmp_path):
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(UserError, match="it is a socket"):
            check_writable(tmp_path / "s", "--out")


WRITE = (
    "import sys; from ipu_utils.base.files import check_writable, write_atomically\n"
    "print('before'); check_writable(sys.argv[1], '--out'); write_atomically(sys.argv[1], [b'new\\n'], '--out')"
)


def shell(command, **more):
    command = command.replace("WRITE", f'"{sys.executable}" -c "$CODE"')
    environ = {**os.environ, "CODE": WRITE, **more}
    return subprocess.run(["bash", "-c", command], cwd=str(ROOT), env=environ, capture_output=True, text=True)


def test_descriptors_that_the_shell_opened_are_written_where_they_stand(tmp_path):
    done = shell(
        f"cd {ROOT}; echo old > $F; WRITE /dev/fd/7 7>> $F; WRITE /proc/self/fd/9 9>> $F", F=str(tmp_path / "f")
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "f").read_text() == "old\nnew\nnew\n"
    assert shell("WRITE /dev/stdout").stdout == "before\nnew\n"
    assert shell("WRITE /dev/stdout > $F; cat $F", F=str(tmp_path / "g")).stdout == "before\nnew\n"
    assert shell("WRITE >(cat >&2) | cat; sleep 0.2; true").stdout == "before\n"
    (tmp_path / "link").symlink_to("/dev/stderr")
    assert shell(f"WRITE {tmp_path}/link 2> $F; cat $F", F=str(tmp_path / "h")).stdout == "before\nnew\n"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("number", [3, 4, 5, 50, 10**12])
def test_a_descriptor_that_nobody_opened_for_us_is_an_error_not_one_of_our_own(number):
    code = (
        "import sys; from ipu_utils.base.console import run_script; from ipu_utils.base.files import check_writable\n"
        f"sys.exit(run_script(lambda: check_writable('/dev/fd/{number}', '--out')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), capture_output=True, text=True)
    assert done.returncode == 2 and f"--out /dev/fd/{number} cannot be written" in done.stderr


def test_a_descriptor_for_reading_is_an_error():
    done = shell("WRITE /dev/fd/7 7< /dev/null")
    assert done.returncode == 1 and "for reading only" in done.stderr


def as_nobody(deed):
    """Do something as a user without root's powers, in a process of its own; returns 0, or 3 when it raised."""
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        try:
            deed()
        except UserError:
            os._exit(3)
        except BaseException:
            os._exit(4)
        os._exit(0)
    return os.waitpid(child, 0)[1] >> 8


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_file_in_a_folder_that_is_not_ours_is_written_in_place():
    folder = Path(tempfile.mkdtemp())  # pytest's own are for their owner alone
    folder.chmod(0o755)
    try:
        (folder / "a").write_bytes(b"an old text that is longer")
        (folder / "a").chmod(0o666)
        before = (folder / "a").stat().st_ino
        assert as_nobody(lambda: write(folder / "a")) == 0
        assert ((folder / "a").read_bytes(), (folder / "a").stat().st_ino) == (b"new", before)
        (folder / "a").chmod(0o644)
        assert as_nobody(lambda: write(folder / "a")) == 3
        assert (folder / "a").read_bytes() == b"new"
        assert as_nobody(lambda: write(folder / "b")) == 3
        folder.chmod(0o777)
        assert as_nobody(lambda: write(folder / "a")) == 3, "a file that is protected is not replaced"
        assert (folder / "a").read_bytes() == b"new" and names(folder) == ["a"]
    finally:
        shutil.rmtree(str(folder))


def can_mount():
    return (
        os.geteuid() == 0
        and not subprocess.run(
            ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True
        ).returncode
    )


@pytest.mark.skipif(not can_mount(), reason="this user may not mount in a namespace")
@pytest.mark.parametrize("size, expected", [("64k", "new\n"), ("8k", "old" * 2000)])
def test_a_file_that_is_mounted_alone_is_written_in_place_and_kept_where_the_disk_is_full(tmp_path, size, expected):
    """As `docker run -v $PWD/out.json:/out.json` does it: the place is busy."""
    script = (
        f"mount -t tmpfs -o size={size} none $D/disk && printf '{'old' * 2000}' > $D/disk/a && touch $D/out &&"
        "mount --bind $D/disk/a $D/out && CONTENT=$C WRITE $D/out; cat $D/out; ls -A $D >&2"
    ).replace("WRITE", f'"{sys.executable}" -c "$CODE"')
    (tmp_path / "disk").mkdir()
    code = (
        "import os, sys; from ipu_utils.base.files import check_writable, write_atomically\n"
        "check_writable(sys.argv[1], '--out'); write_atomically(sys.argv[1], [os.environ['CONTENT'].encode()], '--out')"
    )
    content = "new\n" if expected == "new\n" else "new" * 10000
    environ = {**os.environ, "D": str(tmp_path), "CODE": code, "C": content, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["unshare", "--mount", "bash", "-c", script], env=environ, capture_output=True, text=True)
    assert done.stdout == expected, done.stderr
    assert "is written in place (Device or resource busy)" in done.stderr
    assert done.stderr.splitlines()[-2:] == ["disk", "out"], "nothing is left beside it"


def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a").write_bytes(b"old")

    def pieces():
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", pieces(), "--out")
    assert (tmp_path / "a").read_bytes() == b"old" and names(tmp_path) == ["a"]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(UserError, match=r"--out .*a cannot be written"):
            write(tmp_path / "a", b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "a").read_bytes() == b"old" and names(tmp_path) == ["a"]


def test_a_signal_that_a_library_swallows_leaves_nothing_beside_the_file(tmp_path):
    """Then the thread that watches ends the process, and no `finally` runs."""
    code = (
        "import sys, time; from ipu_utils.base.console import run_script; from ipu_utils.base.files import NewFile\n"
        "def main():\n"
        "    new = NewFile(sys.argv[1], '--out'); new.write(b'new'); print('native', flush=True)\n"
        "    try: time.sleep(60)\n"
        "    except KeyboardInterrupt: time.sleep(60)\n"
        "sys.exit(run_script(main))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    process = subprocess.Popen(command, cwd=str(ROOT), stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"native\n" and len(names(tmp_path)) == 1
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143 and not names(tmp_path)


def test_a_folder_and_a_place_below_a_file_are_errors(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "file" / "a"):
        with pytest.raises(UserError, match=r"is a folder|cannot be written"):
            check_writable(path, "--out")


def test_a_file_where_a_folder_is_needed_is_named(tmp_path):
    (tmp_path / "notes").write_text("mine")
    for below in ("x", "x/y/z"):
        with pytest.raises(ConfigError, match=f"{tmp_path}/notes is a file, not a folder"):
            write_atomically(tmp_path / "notes" / below, (b"1",), "--to")
    assert (tmp_path / "notes").read_text() == "mine"


def test_where_a_path_leads(tmp_path):
    assert target_of("/dev/fd/7") == target_of("/proc/self/fd/7") == 7
    assert target_of("/dev/stdout") == 1 and target_of("/dev/stderr") == 2
    assert target_of(tmp_path / "x" / ".." / "a") == tmp_path.resolve() / "a"
    assert not leads_to_stream(tmp_path) and not leads_to_stream(tmp_path / "new")


def test_a_new_file_can_be_read_before_and_after_it_has_its_place(tmp_path):
    new = NewFile(tmp_path / "a", "--out")
    new.write(b"text")
    for commit in (False, True):
        if commit:
            new.commit()
        new.file.seek(0)
        assert new.file.read() == b"text" and (tmp_path / "a").exists() is commit
    new.discard()
    assert (tmp_path / "a").read_bytes() == b"text"
