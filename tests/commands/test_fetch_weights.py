# SPDX-License-Identifier: Apache-2.0
"""Fetching against a server on this machine that breaks off, lies, and serves the wrong file."""

import contextlib
import fcntl
import hashlib
import http.server
import io
import os
import pty
import resource
import select
import shutil
import signal
import ssl
import struct
import subprocess
import sys
import tarfile
import termios
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ipu_utils import fetch_weights
from ipu_utils.base import transport
from ipu_utils.base.errors import UserError
from ipu_utils.config.model_options import MODEL_NAMES
from ipu_utils.config.run_hparams import fetch_command
from ipu_utils.fetch_weights import KNOWN, Source, fetch, folder_of, source_of

ROOT = Path(__file__).resolve().parents[2]
NAME = "coco2/efficientdet-d0.tar.gz"


def archive(*names):
    """A .tar.gz of files with 200 kB of noise each, which does not compress."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = 200_000
            packed.addfile(info, io.BytesIO(np.random.RandomState(number).bytes(info.size)))
    return buffer.getvalue()


FILES = ("checkpoint", "model.index", "model.meta", "model.data-00000-of-00001")
PUBLISHED = archive(*(f"efficientdet-d0/{name}" for name in FILES))


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` at any path; each request consumes one of `faults`.

    Faults: ("stop", n) sends n bytes of what was asked for and hangs up; ("status", n) answers n; ("claim", n) says
    the file is n bytes longer than it is; "no ranges" sends everything whatever was asked for; "no length" does not
    tell the size; ("length", text) tells a wrong one; ("endless no length", n) sends everything n times; "wrong part"
    sends a part that was not asked for; ("redirect", address) leads elsewhere; "trickle" sends a byte now and then,
    "slow headers" does so with the headers.
    """

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.faults, self.requests = content, [], []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        """Not on the tests' standard error."""

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.requests.append((self.path, asked))
        fault = server.faults.pop(0) if server.faults else None
        kind, number = fault if isinstance(fault, tuple) else (fault, 0)
        if kind == "status":
            self.send_error(number)
            return
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", number)
            self.end_headers()
            return
        if kind == "slow headers":
            self.drip(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000)
            return
        size = len(server.content) + (number if kind == "claim" else 0)
        start = int(asked[6:].rstrip("-")) if asked and kind != "no ranges" else 0
        if start >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.end_headers()
            return
        start += 1 if kind == "wrong part" else 0
        self.send_response(206 if asked and kind != "no ranges" else 200)
        if asked and kind != "no ranges":
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if kind == "length":
            self.send_header("Content-Length", number)
        elif "no length" not in (kind or ""):
            self.send_header("Content-Length", str(size - start))
        self.end_headers()
        body = server.content[start:]
        if kind == "trickle":
            self.drip(body)
        elif kind == "endless no length":
            with contextlib.suppress(OSError):  # Nobody listens to the end.
                for _ in range(number):
                    self.wfile.write(body)
        else:
            self.wfile.write(body[:number] if kind == "stop" else body)

    def drip(self, content):
        """Send a byte now and then, until the other side has enough."""
        with contextlib.suppress(OSError):
            for byte in content:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.02)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetch_weights, "PAUSE_SECONDS", 0)
    with Server(PUBLISHED) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def source(server):
    return Source(f"{server.url}/{NAME}", len(PUBLISHED), hashlib.sha256(PUBLISHED).hexdigest())


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def offsets(server):
    return [int(asked[6:].rstrip("-")) if asked else 0 for _, asked in server.requests]


def test_a_checkpoint_arrives_in_its_folder_with_nothing_left_beside_it(server, source, tmp_path):
    seen = []
    assert fetch(source, tmp_path / "tmp" / "efficientdet-d0", lambda done, total: seen.append((done, total)))
    assert names(tmp_path / "tmp") == ["efficientdet-d0"] and names(tmp_path / "tmp" / "efficientdet-d0") == sorted(
        FILES
    )
    assert (tmp_path / "tmp" / "efficientdet-d0" / "checkpoint").read_bytes() == np.random.RandomState(0).bytes(200_000)
    assert seen[-1] == (len(PUBLISHED), len(PUBLISHED)) and seen == sorted(seen) and len(seen) > 5
    assert server.requests == [(f"/{NAME}", None)]


def test_what_is_there_is_not_fetched_again(server, source, tmp_path):
    fetch(source, tmp_path / "d0")
    assert fetch(source, tmp_path / "d0") is False
    assert len(server.requests) == 1


def test_a_folder_of_something_else_is_left_alone(source, tmp_path):
    (tmp_path / "d0").mkdir()
    (tmp_path / "d0" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no checkpoint"):
        fetch(source, tmp_path / "d0")
    assert names(tmp_path / "d0") == ["notes.txt"]


def test_a_download_that_breaks_off_goes_on_where_it_stopped(server, source, tmp_path):
    server.faults = [("stop", 100_000), ("stop", 150_000), ("stop", 0)]
    assert fetch(source, tmp_path / "d0")
    assert offsets(server) == [0, 100_000, 250_000, 250_000]
    assert names(tmp_path / "d0") == sorted(FILES)


def test_the_next_call_goes_on_where_the_last_one_gave_up(server, source, tmp_path):
    server.faults = [("stop", 100_000), *[("status", 503)] * fetch_weights.ATTEMPTS]
    with pytest.raises(UserError, match="503"):
        fetch(source, tmp_path / "d0")
    assert not (tmp_path / "d0").exists()
    server.faults, before = [], len(server.requests)
    assert fetch(source, tmp_path / "d0")
    assert offsets(server)[before:] == [100_000]
    assert names(tmp_path) == ["d0"]


def test_another_address_does_not_continue_what_this_one_began(server, source, tmp_path):
    server.faults = [("stop", 100_000), *[("status", 503)] * fetch_weights.ATTEMPTS]
    with pytest.raises(UserError):
        fetch(source, tmp_path / "d0")
    server.faults, before = [], len(server.requests)
    fetch(source._replace(url=f"{server.url}/mirror/{NAME}"), tmp_path / "d0")
    assert offsets(server)[before:] == [0]


def test_a_server_without_ranges_starts_again_from_the_beginning(server, source, tmp_path):
    server.faults = [("stop", 100_000), "no ranges"]
    assert fetch(source, tmp_path / "d0")
    assert offsets(server) == [0, 100_000] and names(tmp_path / "d0") == sorted(FILES)


def test_a_part_that_was_not_asked_for_is_not_used(server, source, tmp_path):
    server.faults = [("stop", 100_000), "wrong part"]
    assert fetch(source, tmp_path / "d0")
    assert offsets(server) == [0, 100_000, 100_000]


def test_a_server_that_claims_more_than_it_has_is_given_up_and_leaves_no_checkpoint(server, source, tmp_path):
    server.faults = [("claim", 1000)] * 20
    with pytest.raises(UserError, match=rf"expected {len(PUBLISHED)}: the server has another file"):
        fetch(source, tmp_path / "d0")
    server.faults, unknown = [("claim", 1000)] * 20, Source(f"{server.url}/other/{NAME}")
    with pytest.raises(UserError, match="cannot be fetched"):
        fetch(unknown, tmp_path / "d0")
    assert not (tmp_path / "d0").exists()
    assert len(server.requests) < 20


def test_an_archive_whose_size_nobody_knows_is_checked_by_unpacking(server, tmp_path):
    unknown = Source(f"{server.url}/{NAME}")
    server.faults = ["no length"]
    assert fetch(unknown, tmp_path / "whole")
    server.faults = ["no length"]
    server.content = PUBLISHED[:-50_000]
    with pytest.raises(UserError, match="cannot be unpacked"):
        fetch(unknown, tmp_path / "cut")
    assert names(tmp_path) == ["whole"]


def test_a_wrong_file_of_the_right_size_is_found_by_its_checksum(server, source, tmp_path):
    server.content = PUBLISHED[:-1] + bytes([PUBLISHED[-1] ^ 1])
    with pytest.raises(UserError, match=r"not the published file: its SHA-256 is .* It was removed"):
        fetch(source, tmp_path / "d0")
    assert names(tmp_path) == []
    server.content = PUBLISHED
    assert fetch(source, tmp_path / "d0")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"<html>Sign in to the network</html>", "cannot be unpacked"),
        (archive("readme.txt"), "holds 0 checkpoints"),
        (archive("a/model.index", "a/model.data-0", "b/model.index", "b/model.data-0"), "holds 2 checkpoints"),
        (archive("a/model.index"), "without its data"),
        (archive("d0/model.index", "../../evil"), "outside of the folder"),
    ],
    # Not the bytes: an archive tells when it was made, and processes that share the tests out must agree on names.
    ids=["no archive", "no checkpoint", "two checkpoints", "no data", "a way out"],
)
def test_a_wrong_file_of_unknown_size_is_refused_and_removed(server, tmp_path, content, message):
    server.content = content
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=message):
        fetch(Source(f"{server.url}/{NAME}"), tmp_path / "in" / "d0")
    assert names(tmp_path / "in") == [] and names(tmp_path) == ["in"]


def test_a_missing_file_and_a_missing_server_are_errors(server, source, tmp_path):
    server.faults = [("status", 404)]
    with pytest.raises(UserError, match="the server answers 404"):
        fetch(source, tmp_path / "d0")
    assert len(server.requests) == 1, "404 will not change in a second"
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=r"cannot be fetched: .*[Rr]efused"):
        fetch(source, tmp_path / "d0")


def test_only_what_has_arrived_is_said_to_be_kept(server, source, tmp_path):
    server.faults = [("stop", 0)] * 20
    with pytest.raises(UserError, match="cannot be fetched") as nothing:
        fetch(source, tmp_path / "d0")
    assert "Nothing has arrived." in str(nothing.value) and "kept" not in str(nothing.value)
    assert names(tmp_path) == []
    server.faults = [("stop", 1000), *[("stop", 0)] * 20]
    with pytest.raises(UserError, match=r"What has arrived is kept \(1000 bytes\): the next call goes on from there"):
        fetch(source, tmp_path / "d0")
    with pytest.raises(UserError, match=r"What has arrived is kept \(1000 bytes\)"):  # by the call before
        fetch(source, tmp_path / "d0")
    server.faults.clear()
    assert fetch(source, tmp_path / "d0") and offsets(server)[-1] == 1000


@pytest.mark.parametrize(
    "path, name",
    [(NAME, "efficientdet-d0.tar.gz"), ("advprop/efficientdet-d0.tar.gz", "advprop/efficientdet-d0.tar.gz")],
)
@pytest.mark.parametrize("status", [503, 403, 407])
def test_without_a_way_to_the_server_another_one_is_told(server, tmp_path, path, name, status):
    url = f"{server.url}/{path}"
    server.faults = [("status", status)] * 20
    with pytest.raises(UserError) as error:
        fetch(Source(url), tmp_path / "d0")
    last = error.value.lines[-1]
    assert f"`curl -L -o {name} {url}`" in last and f"--model-dir {name}" in last
    server.faults = [("status", 404)]  # it is nowhere
    with pytest.raises(UserError) as error:
        fetch(Source(url), tmp_path / "d0")
    assert "--model-dir" not in str(error.value)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_that_are_told_work_in_an_empty_folder(server, tmp_path):
    server.faults = [("status", 403)]
    with pytest.raises(UserError) as error:
        fetch(Source(f"{server.url}/advprop/efficientdet-d0.tar.gz"), tmp_path / "d0")
    commands = error.value.lines[-1].split("`")[1::2]
    assert subprocess.run(["sh", "-ec", "\n".join(commands)], cwd=str(tmp_path), capture_output=True).returncode == 0
    assert (tmp_path / "advprop" / "efficientdet-d0.tar.gz").read_bytes() == PUBLISHED


@pytest.mark.parametrize("collection", ["advprop", "coco640"])
def test_a_fetch_without_result_leaves_no_folders_of_its_own(server, tmp_path, monkeypatch, collection):
    monkeypatch.chdir(tmp_path)
    command = ["--model-name", "d0", "--collection", collection, "--base-url", server.url]
    (tmp_path / "tmp").mkdir()  # not its own
    server.faults = [("stop", 0)] * 20
    with pytest.raises(UserError, match="Nothing has arrived"):
        fetch_weights.main(command)
    assert names(tmp_path) == ["tmp"] and names(tmp_path / "tmp") == []
    server.faults = [("stop", 1000), *[("stop", 0)] * 20]
    with pytest.raises(UserError, match="What has arrived is kept"):
        fetch_weights.main(command)
    assert names(tmp_path / "tmp") == [collection]
    server.faults.clear()
    fetch_weights.main(command)
    assert names(tmp_path / "tmp" / collection) == ["efficientdet-d0"]


def test_an_archive_that_was_fetched_elsewhere_is_found_by_its_path(server, tmp_path, monkeypatch):
    server.faults = [("status", 503)] * 20
    with pytest.raises(UserError) as error:
        fetch(Source(f"{server.url}/{NAME}"), tmp_path / "d0")
    name = error.value.lines[-1].rpartition("--model-dir ")[2].rstrip(".")
    server.faults.clear()
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(PUBLISHED)
    from ipu_utils.model.checkpoint import find_checkpoint

    assert find_checkpoint(name) == Path(name)


def test_a_file_that_is_complete_already_is_only_unpacked(server, source, tmp_path):
    server.faults = [("stop", 100_000), *[("status", 503)] * fetch_weights.ATTEMPTS]
    with pytest.raises(UserError):
        fetch(source, tmp_path / "d0")
    (partial,) = tmp_path.iterdir()
    partial.write_bytes(PUBLISHED)
    before = len(server.requests)
    assert fetch(source, tmp_path / "d0") and len(server.requests) == before
    for content, expected in ((PUBLISHED, "416 says it is complete"), (PUBLISHED + b"longer", "not a part of it")):
        partial.write_bytes(content)
        assert fetch(Source(source.url), tmp_path / expected.replace(" ", "-")) is True
        partial.exists() and partial.unlink()


@pytest.mark.parametrize(
    "where", ["ftp://127.0.0.1/a.tar.gz", "file:///etc/passwd", "data:,x", "gopher://x", "ftp://127.0.0.1/\x1b[2J"]
)
def test_a_redirection_to_another_kind_of_address_is_not_followed(server, source, tmp_path, where):
    server.faults = [("redirect", where)] * 20
    with pytest.raises(UserError, match=r"is not followed|answers 302") as refused:
        fetch(source, tmp_path / "d0")
    assert str(refused.value).isprintable() and len(server.requests) == 1 and names(tmp_path) == []


def test_a_redirection_on_the_web_is_followed_and_one_in_circles_is_not(server, source, tmp_path):
    server.faults = [("redirect", "/elsewhere")]
    assert fetch(source, tmp_path / "d0") and [path for path, _ in server.requests] == [f"/{NAME}", "/elsewhere"]
    server.faults = [("redirect", f"/{NAME}")] * 100
    with pytest.raises(UserError, match="answers 302"):
        fetch(source, tmp_path / "d1")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_redirection_from_https_to_http_is_not_followed(server, tmp_path, monkeypatch):
    key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    key += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(key, cwd=str(tmp_path), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    with Server(PUBLISHED) as secure:
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        thread = threading.Thread(target=secure.serve_forever, args=(0.02,))
        thread.start()
        address = f"https://localhost:{secure.server_address[1]}/{NAME}"
        assert fetch(Source(address), tmp_path / "d0")
        secure.faults = [("redirect", f"{server.url}/{NAME}")]
        with pytest.raises(UserError, match="is not followed: expected https"):
            fetch(Source(address), tmp_path / "d1")
        secure.shutdown()
        thread.join()
    assert server.requests == []


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a", "data:,x", "nonsense", "", "http:/\x1b[2J"])
def test_an_address_of_another_kind_is_refused(tmp_path, monkeypatch, url):
    monkeypatch.setattr(fetch_weights, "PAUSE_SECONDS", 0)
    with pytest.raises(UserError, match=r"is no address of http, https or file|cannot be fetched") as refused:
        fetch(Source(url), tmp_path / "d0")
    assert url == "http:/\x1b[2J" or "is no address" in str(refused.value)


def test_a_server_that_stands_almost_still_is_given_up(server, source, tmp_path, monkeypatch):
    monkeypatch.setattr(transport, "WINDOW_SECONDS", 0.1)
    server.faults = ["trickle"] * 20
    with pytest.raises(UserError, match=r"cannot be fetched: only \d+ bytes came in .* What has arrived is kept"):
        fetch(source, tmp_path / "d0")
    assert len(server.requests) == fetch_weights.ATTEMPTS


def test_headers_that_come_byte_by_byte_are_given_up(server, source, tmp_path, monkeypatch):
    monkeypatch.setattr(transport, "HEADER_SECONDS", 0.1)
    server.faults = ["slow headers"] * 20
    with pytest.raises(UserError, match="cannot be fetched"):
        fetch(source, tmp_path / "d0")
    assert len(server.requests) == fetch_weights.ATTEMPTS


def test_a_server_that_sends_without_end_is_stopped_at_the_known_size_or_at_a_limit(
    server, source, tmp_path, monkeypatch
):
    monkeypatch.setattr(transport, "MAX_BYTES", 2 * len(PUBLISHED))
    for known in (source, Source(source.url)):
        server.faults = [("endless no length", 9)]
        with pytest.raises(UserError, match="sends more than the"):
            fetch(known, tmp_path / "d0")
        assert names(tmp_path) == []
    server.faults = [("claim", 3 * len(PUBLISHED))]
    with pytest.raises(UserError, match="more than any checkpoint"):
        fetch(Source(source.url), tmp_path / "d0")


def test_a_disk_that_is_full_ends_it_at_once(server, source, tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limit[1]))
    try:
        with pytest.raises(UserError, match=r"cannot be written \(File too large\): free space"):
            fetch(source, tmp_path / "d0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert len(server.requests) == 1
    (partial,) = tmp_path.iterdir()
    assert partial.stat().st_size == 200_000, "what had arrived is kept"
    assert fetch(source, tmp_path / "d0") and offsets(server) == [0, 200_000]


@pytest.mark.parametrize("length", ["-5", "x", "9" * 5000, ""])
def test_a_length_that_is_none_counts_as_unknown(server, tmp_path, length):
    server.faults = [("length", length)]
    assert fetch(Source(f"{server.url}/{NAME}"), tmp_path / "d0")


def test_every_model_has_an_address_and_known_archives_are_among_them():
    addresses = {source_of(name).url for name in MODEL_NAMES}
    assert len(addresses) == 15
    base = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientdet"
    assert f"{base}/coco2/efficientdet-d7x.tar.gz" in addresses and f"{base}/coco/efficientdet-lite3x.tgz" in addresses
    assert {f"{base}/{name}" for name in KNOWN} <= addresses
    assert source_of("efficientdet-d0").sha256.startswith("74794c93") and source_of("efficientdet-d0").size == 28828936
    advprop = source_of("efficientdet-d0", "advprop", "http://mirror/x/")
    assert advprop == Source("http://mirror/x/advprop/efficientdet-d0.tar.gz")
    assert folder_of("efficientdet-d0", "advprop") == Path("tmp/advprop/efficientdet-d0")


@pytest.mark.parametrize("typed", ["d2", "D2", "efficientdet_d2"])
def test_a_model_is_called_as_in_the_scripts(server, tmp_path, monkeypatch, typed, capsys):
    monkeypatch.chdir(tmp_path)
    fetch_weights.main(["--model-name", typed, "--base-url", server.url])
    assert names(tmp_path / "tmp" / "efficientdet-d2") == sorted(FILES)


@pytest.mark.parametrize("argv, said", [
    (["d2"], "Name a model by --model-name."),
    (["--model-name", "efficientdet-d11"], "Did you mean 'efficientdet-d1'?"),
])  # fmt: skip
def test_a_model_that_is_typed_wrongly_gets_a_suggestion(argv, said, capsys):
    with pytest.raises(SystemExit) as caught:
        fetch_weights.main(argv)
    assert caught.value.code == 2 and said in capsys.readouterr().err


def test_the_command_works_as_it_is_told_and_is_silent_off_a_terminal(server, tmp_path):
    command = [sys.executable, *fetch_command("efficientdet-d2").split()[1:], "--base-url", server.url]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}

    def run(*more):
        return subprocess.run([*command, *more], cwd=str(tmp_path), env=environment, capture_output=True, timeout=120)

    first, again = run(), run()
    assert (first.returncode, first.stderr) == (0, b"")
    assert b"tmp/efficientdet-d2: fetched from http://127.0.0.1" in first.stdout and b"size checked" in first.stdout
    assert names(tmp_path / "tmp" / "efficientdet-d2") == sorted(FILES)
    assert again.returncode == 0 and b"there already" in again.stdout
    server.content = b"nothing"
    refused = run("--output", "other")
    assert refused.returncode == 2 and refused.stderr.startswith(b"error: ") and refused.stderr.count(b"\n") == 1


def test_a_terminal_sees_a_bar(server, tmp_path):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))  # A bar in no columns is empty.
    command = [sys.executable, *fetch_command("efficientdet-d2").split()[1:], "--base-url", server.url]
    with subprocess.Popen(command, cwd=str(tmp_path), env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
                          stdout=subprocess.DEVNULL, stderr=theirs) as process:  # fmt: skip
        assert process.wait(120) == 0
    assert select.select([ours], [], [], 0)[0], "the terminal got nothing"
    assert b"efficientdet-d2: " in os.read(ours, 65536)  # Before the other end is closed, which drops what is unread.
    os.close(theirs)
    os.close(ours)
