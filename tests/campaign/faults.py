"""A server on loopback that misbehaves: each download ends within its deadline with one sentence."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import socketserver
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .commands import Check, forked
from .harm import POWER
from .seeds import image

SECTION = "bad servers"
_TIMEOUT_S = 2.0
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"


def _drip(sock: socket.socket, head: bytes, data: bytes) -> None:
    sock.sendall(head)
    for byte in data:
        sock.sendall(bytes([byte]))
        time.sleep(0.1)


def _reset(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def _endless(sock: socket.socket) -> None:
    sock.sendall(_OK + b"\r\n")
    while True:
        sock.sendall(bytes(2**20))


def _redirect(place: str) -> Callable[[socket.socket], None]:
    return lambda sock: sock.sendall(f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode())


def _answer(data: bytes, more: bytes = b"") -> Callable[[socket.socket], None]:
    return lambda sock: sock.sendall(_OK + more + b"Content-Length: %d\r\n\r\n" % len(data) + data)


_JPEG = image("jpeg")
_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n(owned) (w) file closefile\nshowpage\n"
# Path → what the server does.
ANSWERS: dict[str, Callable[[socket.socket], object]] = {
    "dripping-header.jpg": lambda sock: _drip(sock, b"", _OK * 20),
    "dripping-body.jpg": lambda sock: _drip(sock, _OK + b"Content-Length: 4000\r\n\r\n", bytes(4000)),
    "silent.jpg": lambda sock: time.sleep(60),
    "too-short.jpg": lambda sock: sock.sendall(_OK + b"Content-Length: 99999\r\n\r\n" + _JPEG),
    "too-long.jpg": lambda sock: sock.sendall(_OK + b"Content-Length: 10\r\n\r\n" + _JPEG),
    "huge-length.jpg": lambda sock: sock.sendall(_OK + b"Content-Length: 99999999999999999999\r\n\r\nx"),
    "negative-length.jpg": lambda sock: sock.sendall(_OK + b"Content-Length: -5\r\n\r\n" + _JPEG[:99]),
    "no-number-length.jpg": lambda sock: sock.sendall(_OK + b"Content-Length: abc\r\n\r\n" + _JPEG[:99]),
    "endless.jpg": _endless,
    "endless-header.jpg": lambda sock: [sock.sendall(b"X: " + b"y" * 60_000 + b"\r\n") for _ in range(3000)],
    "bad-chunks.jpg": lambda sock: sock.sendall(_OK + b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\nxx\r\n"),
    "circle.jpg": _redirect("/circle.jpg"),
    "to-ftp.jpg": _redirect("ftp://127.0.0.1/x.jpg"),
    "to-file.jpg": _redirect("file:///etc/passwd"),
    "to-nothing.jpg": _redirect(""),
    "to-terminal.jpg": _redirect("http://127.0.0.1:1/\x1b[2J" + "x" * 3000),
    "reset-at-once.jpg": lambda sock: _reset(sock, b""),
    "reset-in-body.jpg": lambda sock: _reset(sock, _OK + b"Content-Length: 9999\r\n\r\nabc"),
    "no-http.jpg": lambda sock: sock.sendall(b"\x00\x01\x02 nonsense\r\n\r\n"),
    "status.jpg": lambda sock: sock.sendall(b"HTTP/1.1 999 \x1b[2J" + b"x" * 5000 + b"\r\nContent-Length: 0\r\n\r\n"),
    "gzip-bomb.jpg": _answer(gzip.compress(bytes(2 * 10**8)), b"Content-Encoding: gzip\r\n"),
    "postscript.jpg": _answer(_EPS),
    "page.jpg": _answer(b"<html>x</html>"),
    "empty.jpg": _answer(b""),
    "n" * 300 + ".jpg": _answer(b"no image"),
    "9" * 5000 + ".jpg": _answer(b"no image"),
    "a%1b[2J%0avovnet: ok.jpg": _answer(b"no image"),
}
QUICK = (
    "too-short.jpg",
    "huge-length.jpg",
    "circle.jpg",
    "to-file.jpg",
    "reset-in-body.jpg",
    "status.jpg",
    "9" * 5000 + ".jpg",
)


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        try:
            request = self.request.recv(2**16).split(b" ")
            path = request[1].decode(errors="replace").lstrip("/") if len(request) > 1 else ""
            ANSWERS.get(path, lambda sock: None)(self.request)
        except OSError:  # the client has left
            pass


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads, allow_reuse_address = True, True
    request_queue_size = 64


def bad_servers(*, only: Sequence[str] | None = None) -> Iterator[Check]:
    """Downloads each path in a process of its own, as `vovnet predict URL` does."""
    server = _Server(("127.0.0.1", 0), _Handler)
    child = os.fork()
    if child == 0:
        os.setsid()
        try:
            server.serve_forever()
        finally:
            os._exit(0)
    port = server.server_address[1]
    server.socket.close()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for path in ANSWERS:
                if only is None or path in only:
                    yield Check(SECTION, path[:30], _visit(f"http://127.0.0.1:{port}/{path}", Path(folder)))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _visit(url: str, folder: Path) -> str:
    """What is wrong with the end of a download and of the reading of what came, or ""."""

    def work() -> None:
        from vovnet.data.images import read_image
        from vovnet.download import download

        try:
            data = download(url, timeout_s=_TIMEOUT_S)
            Path("began").touch()
            read_image(data)
        except (ValueError, OSError) as error:
            text = str(error)
            print(text)
            good = (
                not POWER.search(text)
                and "\n" not in text
                and len(text) <= 500
                and (url[:60] in text or "127.0.0.1" in text or Path("began").exists())
            )
            raise SystemExit(0 if good else 3) from None
        raise SystemExit(4)

    (folder / "began").unlink(missing_ok=True)
    finished = forked(work, folder, kill_after_s=_TIMEOUT_S + 8)
    late = "" if finished.seconds < _TIMEOUT_S + 3 else f"{finished.seconds:.1f} s"
    reasons = {
        0: "",
        3: f"no good sentence: {finished.stdout[:300]!r}",
        4: "" if url.endswith("too-long.jpg") else "accepted",
    }
    return late or reasons.get(finished.status, f"status {finished.status}: {finished.stderr[-300:]!r}")
