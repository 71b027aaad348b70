from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from vovnet.data.sources import expand_sources, fetch, is_url, is_video


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (200, 30, 40)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ["b.JPG", "a.png", "notes.txt", ".hidden.png", "sub/c.webp", "sub/clip.mp4", ".cache/d.png", "odd.dat"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_a_folder_gives_its_media_sorted(tree: Path) -> None:
    assert expand_sources([tree]) == [str(tree / name) for name in ["a.png", "b.JPG", "sub/c.webp", "sub/clip.mp4"]]


def test_a_hidden_folder_that_is_named_is_read(tree: Path) -> None:
    assert expand_sources([tree / ".cache"]) == [str(tree / ".cache/d.png")]


def test_a_broken_link_stays_for_the_reader_to_report(tree: Path) -> None:
    (tree / "empty/link.png").symlink_to(tree / "gone.png")
    assert expand_sources([tree / "empty"]) == [str(tree / "empty/link.png")]


def test_globs(tree: Path) -> None:
    assert expand_sources([f"{tree}/*"]) == [str(tree / "a.png"), str(tree / "b.JPG")]
    assert expand_sources([f"{tree}/**/*.[wm]*"]) == [str(tree / "sub/c.webp"), str(tree / "sub/clip.mp4")]
    with pytest.raises(FileNotFoundError, match=r"\*\.bmp matches no image or video"):
        expand_sources([f"{tree}/*.bmp"])


def test_the_given_order_is_kept(tree: Path) -> None:
    given = [str(tree / "sub/c.webp"), "https://example.org/x", str(tree / "odd.dat"), str(tree / "a.png")]
    assert expand_sources(given) == given
    assert expand_sources([given[3], tree / "sub", given[3]])[::3] == [given[3], given[3]]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tree: Path) -> None:
    (tree / "x[1].png").touch()
    assert expand_sources([f"{tree}/x[1].png"]) == [f"{tree}/x[1].png"]


def test_nothing_there(tree: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg' does not exist"):
        expand_sources([tree / "gone.jpg"])
    with pytest.raises(FileNotFoundError, match="empty holds no image or video"):
        expand_sources([tree / "empty"])
    with pytest.raises(ValueError, match="http:// and https:// addresses only, got ftp://host/a"):
        expand_sources(["ftp://host/a.png"])


def test_kinds_of_names() -> None:
    assert is_url("HTTPS://example.org/a.png")
    assert not is_url("folder/a.png")
    assert is_video("a/b.MOV")
    assert not is_video("a/b.png")
    assert not is_video("https://example.org/a.mp4")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        getattr(self, self.path.strip("/").split("?")[0])()

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


def test_fetch(server: str) -> None:
    assert fetch(f"{server}/image") == png()
    assert fetch(f"{server}/moved") == png()
    assert fetch(f"{server}/image", max_bytes=len(png())) == png()


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("announced", ValueError, "larger than the limit of 20000 bytes"),
        ("endless", ValueError, "larger than the limit of 20000 bytes"),
        ("page", ValueError, "answers with text/html, a page"),
        ("cut", OSError, "broke off its answer after 30 of"),
        ("missing", OSError, "answered with 404 Not Found"),
        ("to_file", OSError, "answered with 302 .*file://"),
        ("to_ftp", OSError, "answered with 302 a redirect to ftp://127"),
        ("loop", OSError, "answered with 302"),
        ("nothing_like_it", OSError, "broke off its answer"),
    ],
)
def test_answers_that_are_refused(server: str, path: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        fetch(f"{server}/{path}", max_bytes=20_000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["drip", "slow_header"])
def test_the_time_limit_holds_for_everything_together(server: str, path: str) -> None:
    # Each byte comes well within the limit, the whole does not.
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"limit is 0\.3 s in all"):
        fetch(f"{server}/{path}", timeout_s=0.3)
    assert time.monotonic() - start < 1.5


def test_silence_ends_a_long_wait(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vovnet.data.sources.MAX_SILENCE_S", 0.2)
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"3600 s in all and 0\.2 s of silence"):
        fetch(f"{server}/silent", timeout_s=3600)
    assert time.monotonic() - start < 1


def test_no_server() -> None:
    with pytest.raises(OSError, match="cannot be reached"):
        fetch("http://127.0.0.1:9/image")
    with pytest.raises(ValueError, match="addresses only"):
        fetch(f"file://{__file__}")
