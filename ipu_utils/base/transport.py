# SPDX-License-Identifier: Apache-2.0
"""Reading from an address within bounds: of where it leads, how much it sends and how slowly. No TensorFlow."""

import contextlib
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any, Dict, Iterator, Optional
from urllib.parse import urlsplit

from ipu_utils.base.errors import UserError
from ipu_utils.base.printable import shown

SCHEMES = ("http", "https", "file")
PIECE = 1 << 16
TIMEOUT_SECONDS = 30.0  # without a byte
HEADER_SECONDS = 60.0  # for a whole answer's headers, which may come byte by byte
SLOWEST, WINDOW_SECONDS = 1024, 60.0  # bytes a second, as a mean over so many seconds
MAX_BYTES = 4 << 30  # the largest published checkpoint has under 1 GiB


class Broken(Exception):  # noqa: N818 - the other side's doing, which a second try may mend
    """An answer did not come, broke off, or made no sense."""


@contextlib.contextmanager
def told_as_broken() -> Iterator[None]:
    """Turn what reading from an address raises into Broken; errors of the program's own files are raised elsewhere."""
    try:
        yield
    except (UserError, urllib.error.HTTPError, Broken):
        raise
    except (OSError, ValueError, HTTPException) as error:  # A broken answer is no OSError.
        raise Broken(shown(getattr(error, "reason", error)) or type(error).__name__) from error


def open_address(url: str, headers: Dict[str, str]) -> Any:
    """Ask for an address; redirections lead to http and https alone, and from https to https.

    Raises:
      UserError: the address, or where it leads, is of another kind.
      urllib.error.HTTPError: the server refuses.
      Broken: there is no answer.
    """
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        raise UserError(f"{shown(url)} is no address of {', '.join(SCHEMES[:-1])} or {SCHEMES[-1]}.")
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.FileHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        _Http,
        _Https,
        _Redirects,
    ):
        opener.add_handler(handler())
    with told_as_broken():
        return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows what stays on the web, and encrypted where it was."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in ("http", "https") or (before, after) == ("https", "http"):
            raise UserError(
                f"{shown(req.full_url)} leads to {shown(newurl)[:300]}, which is not followed: expected "
                f"{'https' if before == 'https' else 'http or https'}."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Bounded:
    """A handler whose connections give the server HEADER_SECONDS for all headers of an answer."""

    def do_open(self, http_class: Any, req: Any, **more: Any) -> Any:
        class Connection(http_class):
            def getresponse(self) -> Any:
                timer = threading.Timer(HEADER_SECONDS, self.give_up)
                timer.daemon = True
                timer.start()
                try:
                    return super().getresponse()
                finally:
                    timer.cancel()

            def give_up(self) -> None:
                with contextlib.suppress(OSError, AttributeError):  # it may be closed by now
                    self.sock.shutdown(socket.SHUT_RDWR)

        return super().do_open(Connection, req, **more)


class _Http(_Bounded, urllib.request.HTTPHandler):
    """http."""


class _Https(_Bounded, urllib.request.HTTPSHandler):
    """https."""


def pieces(answer: Any) -> Iterator[bytes]:
    """Read an answer to its end; Broken when it breaks off, or stands still, or nearly so."""
    start, got = time.monotonic(), 0
    while True:
        with told_as_broken():
            piece = answer.read1(PIECE)
        if not piece:
            return
        yield piece
        got += len(piece)
        seconds = time.monotonic() - start
        if seconds >= WINDOW_SECONDS:
            if got < SLOWEST * seconds:
                raise Broken(f"only {got} bytes came in {seconds:.0f} s")
            start, got = time.monotonic(), 0


def number_in(text: Optional[str], pattern: str = r"(\d+)") -> Optional[int]:
    """The number that a header holds; None where it holds none of a size that a file can have."""
    match = re.fullmatch(pattern, (text or "").strip(), re.ASCII)
    return int(match.group(1)) if match and len(match.group(1)) <= 18 else None
