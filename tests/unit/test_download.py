from __future__ import annotations

import io
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from vovnet.download import download, download_weights
from vovnet.engine.predicting.sources import read_source
from vovnet.urls import is_url
from vovnet.weights.find import find_weights


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (200, 30, 40)).save(buffer, "PNG")
    return buffer.getvalue()


def certificate_error() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:1006)")
    error.verify_message = "self-signed certificate"
    return error


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        getattr(self, re.split("[?/]", self.path.strip("/"))[0])()

    def answer(self, content: bytes, kind: str = "image/png", length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def redirect(self, where: str) -> None:
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def image(self) -> None:
        self.answer(png(), length=len(png()))

    def announced(self) -> None:
        self.answer(b"", length=10**9)

    def endless(self) -> None:
        self.drip(b"x" * 4096, pause_s=0)

    def page(self) -> None:
        self.answer(b"<html>", "text/html; charset=utf-8")

    def cut(self) -> None:
        self.answer(png()[:30], length=len(png()))

    def missing(self) -> None:
        self.send_error(404)

    def forbidden(self) -> None:
        self.send_error(403)

    def failing(self) -> None:
        self.send_error(500)

    def empty(self) -> None:
        self.answer(b"", length=0)

    def hung_up(self) -> None:
        pass

    def to_nowhere(self) -> None:
        self.redirect("http://127.0.0.1:9/image")

    def moved(self) -> None:
        self.redirect("/image")

    def to_file(self) -> None:
        self.redirect(f"file://{__file__}")

    def to_ftp(self) -> None:
        self.redirect("ftp://127.0.0.1/image.png")

    def loop(self) -> None:
        self.redirect(f"/loop?{time.monotonic_ns()}")

    def drip(self, piece: bytes = b"x", pause_s: float = 0.05) -> None:
        try:
            self.answer(b"")
            for _ in range(100):
                self.wfile.write(piece)
                time.sleep(pause_s)
        except OSError:
            pass  # the client went away, as it should

    def silent(self) -> None:
        time.sleep(1)

    def slow_header(self) -> None:
        try:
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
            self.drip()
        except OSError:
            pass

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def test_names_that_are_urls() -> None:
    assert is_url("HTTPS://example.org/a.png")
    assert is_url("ftp://example.org/a.png")
    assert not is_url("folder/a.png")


def test_download(server: str) -> None:
    assert download(f"{server}/image") == png()
    assert download(f"{server}/moved") == png()
    assert download(f"{server}/image", max_bytes=len(png())) == png()


def test_download_to_a_file(server: str, tmp_path: Path) -> None:
    download_weights(f"{server}/image", tmp_path / "a.png", max_bytes=len(png()), timeout_s=10)
    assert (tmp_path / "a.png").read_bytes() == png()
    with pytest.raises(ValueError, match=f"larger than the limit of {len(png()) - 1} bytes"):
        download_weights(f"{server}/image", tmp_path / "b.png", max_bytes=len(png()) - 1, timeout_s=10)


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("announced", ValueError, "larger than the limit of 20000 bytes"),
        ("endless", ValueError, "larger than the limit of 20000 bytes"),
        ("page", ValueError, "sent a page of type text/html"),
        ("cut", OSError, "closed the connection after 30 of"),
        ("missing", OSError, "answered with 404 Not Found"),
        ("to_file", OSError, "answered with 302 .*file://"),
        ("to_ftp", OSError, "answered with 302 a redirect to ftp://127"),
        ("loop", OSError, "answered with 302 more than 4 times: it redirects in a circle; check the URL"),
        ("forbidden", OSError, "answered with 403 Forbidden; check the URL"),
        ("failing", OSError, "answered with 500 Internal Server Error; try again later"),
        ("empty", OSError, "/empty sent an empty file; check the URL"),
        ("to_nowhere", OSError, "could not reach 127.0.0.1: Connection refused; check .*/to_nowhere"),
        ("hung_up", OSError, r"closed the connection early \(Remote end closed connection without response\); try"),
        ("nothing_like_it", OSError, "closed the connection early"),
    ],
)
def test_answers_that_are_refused(server: str, path: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        download(f"{server}/{path}", max_bytes=20_000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["drip", "slow_header"])
def test_the_time_limit_holds_for_everything_together(server: str, path: str) -> None:
    # Each byte comes well within the limit, the whole does not.
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"limit is 0\.3 s in all"):
        download(f"{server}/{path}", timeout_s=0.3)
    assert time.monotonic() - start < 1.5


def test_silence_ends_a_long_wait(server: str) -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"3600 s in all and 0\.2 s of silence"):
        download(f"{server}/silent", timeout_s=3600, silence_s=0.2)
    assert time.monotonic() - start < 1


def raw(text: str) -> bool:
    """Whether a message shows Python's own form of an error."""
    return any(part in text for part in ("urlopen", "<", "Errno", "Error(", "\n"))


def test_no_server() -> None:
    with pytest.raises(OSError, match=r"could not reach 127\.0\.0\.1: Connection refused; check the network") as caught:
        download("http://127.0.0.1:9/image")
    assert not raw(str(caught.value))
    with pytest.raises(ValueError, match="only http:// and https:// URLs"):
        download(f"file://{__file__}")
    for url in ("http://[::1/image", "https:///image", "http://localhost:99999/image"):
        with pytest.raises(ValueError, match=f"{re.escape(url)} is no valid URL"):
            download(url)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (OSError(113, "No route to host"), "No route to host"),
        (OSError("Tunnel connection failed: 403 Forbidden"), "Tunnel connection failed: 403 Forbidden"),
        (certificate_error(), r"its certificate is not trusted \(self-signed certificate\)"),
    ],
)
def test_a_connection_that_fails(error: OSError, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("socket.create_connection", connect)
    with pytest.raises(OSError, match=rf"could not reach example\.org: {reason}; check the network") as caught:
        download("https://example.org/image")
    assert not raw(str(caught.value))


def test_a_server_without_tls(server: str) -> None:
    with pytest.raises(OSError, match=r"could not reach 127\.0\.0\.1: no secure connection \(.*\); check") as caught:
        download(f"{server}/image".replace("http:", "https:"))
    assert not raw(str(caught.value))


def test_a_host_that_does_not_answer(server: str) -> None:
    with pytest.raises(TimeoutError, match=r"could not reach 127\.0\.0\.1: no answer: the limit is 0\.2 s in all"):
        download(f"{server}/silent", timeout_s=0.2)


@pytest.mark.parametrize("use", [find_weights, read_source])
@pytest.mark.parametrize("name", ["a.pth", "a.jpg", "a.mp4"])
def test_weights_images_and_videos_give_the_same_reason(
    use: Callable[[str], object], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path))
    with pytest.raises(OSError, match=r"could not reach 127\.0\.0\.1: Connection refused"):
        use(f"http://127.0.0.1:9/{name}")


def test_a_video_is_not_read_from_a_url(server: str) -> None:
    with pytest.raises(ValueError, match=r"clip\.mp4 is a video; videos are read from files: download"):
        read_source(f"{server}/page/clip.mp4")
