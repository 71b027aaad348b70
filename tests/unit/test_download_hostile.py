"""Servers and URLs that are wrong in every way: one sentence, in time, and nothing left behind."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vovnet.bounded_http import call_within
from vovnet.download import download, download_weights
from vovnet.engine.predicting.sources import find_sources, read_source
from vovnet.urls import check_url, shown_url, without_user
from vovnet.weights.find import find_weights

from .answering import Answer, RawServer, drip, header, reset

BODY = b"x" * 100
GOOD = header("Content-Length: 100") + BODY
CHUNKED = header("Transfer-Encoding: chunked")


def moved(to: str, status: str = "302 Found") -> bytes:
    return header(f"Location: {to}", "Content-Length: 0", status=status)


REFUSED: dict[str, tuple[Answer, str]] = {
    # The header.
    "nothing": (b"", "closed the connection early"),
    "old": (b"just bytes, as in HTTP/0.9", "closed the connection early"),
    "garbage": (bytes(range(256)) * 10, "closed the connection early"),
    "many_headers": (header(*(f"X-{i}: {i}" for i in range(10_000))) + BODY, "more than 100 headers"),
    "long_header": (header("X: " + "y" * 10_000_000), "header line"),
    "long_status": (b"HTTP/1.1 200 " + b"y" * 10_000_000, "status line"),
    "odd_status": (header(status="twenty OK"), "closed the connection early"),
    "escape_reason": (header(status="404 \x1b[31mred\x07" + "y" * 5000), "answered with 404"),
    "dripping_header": (drip(again=b"x"), "no answer: the limit is"),
    "endless_headers": (drip(header()[:-2], again=b"X: y\r\n"), "no answer: the limit is"),
    "continue": (drip(again=b"HTTP/1.1 100 Continue\r\n\r\n", pause_s=0), "no answer: the limit is"),
    # The status.
    "no_content": (header(status="204 No Content"), "answered with 204 No Content instead of the file"),
    "part": (header("Content-Length: 100", status="206 Partial Content") + BODY, "answered with 206 Partial"),
    "unchanged": (header(status="304 Not Modified"), "answered with 304"),
    "unknown": (header(status="999 Denied"), "answered with 999 Denied"),
    "login": (header('WWW-Authenticate: Basic realm="x"', status="401 Unauthorized"), "answered with 401"),
    # The length.
    "too_long": (header("Content-Length: 200") + BODY, "closed the connection after 100 of 200 bytes"),
    "huge": (header("Content-Length: " + "9" * 5000) + BODY, "larger than the limit of 20000 bytes"),
    "negative": (header("Content-Length: -5") + BODY, "no possible size of its file .Content-Length: -5."),
    "scientific": (header("Content-Length: 1e9") + BODY, "no possible size"),
    "two_lengths": (header("Content-Length: 100", "Content-Length: 50") + BODY, "Content-Length: 100, 50"),
    "signed": (header("Content-Length: +100") + BODY, "no possible size"),
    "empty": (header("Content-Length: 0"), "sent an empty file"),
    "empty_chunks": (CHUNKED + b"0\r\n\r\n", "sent an empty file"),
    # The content.
    "page": (header("Content-Type: text/html") + BODY, "sent a page of type text/html"),
    "gzip": (header("Content-Encoding: gzip", "Content-Length: 100") + BODY, "encoded as gzip"),
    "deflate": (header("Content-Encoding: Deflate") + BODY, "encoded as deflate"),
    "gzip_transfer": (header("Transfer-Encoding: gzip, chunked") + BODY, "encoded as gzip, chunked"),
    "endless": (drip(header(), again=b"x" * 4096, pause_s=0), "larger than the limit"),
    "endless_chunks": (drip(CHUNKED, again=b"5\r\nabcde\r\n", pause_s=0), "larger than the"),
    "huge_chunk": (CHUNKED + b"f" * 60_000 + b"\r\nabc", "larger than the limit|closed the connection early"),
    "negative_chunk": (CHUNKED + b"-5\r\nabcde\r\n", "closed the connection early"),
    "odd_chunk": (CHUNKED + b"zz\r\nabcde\r\n", "closed the connection early"),
    "cut_chunk": (CHUNKED + b"64\r\nabc", "closed the connection early"),
    "endless_trailer": (drip(CHUNKED + b"1\r\na\r\n0\r\n", again=b"X: y\r\n", pause_s=0), "slow"),
    "dripping": (drip(header("Content-Length: 9000"), again=b"x"), "is too slow"),
    "dripping_chunks": (drip(CHUNKED, again=b"1\r\nx\r\n"), "is too slow"),
    "silent": (drip(header("Content-Length: 9000"), pause_s=5), "is too slow: the limit is 1.5 s in all and 0.5 s"),
    "reset": (reset, "closed the connection early .Connection reset by peer."),
    # Redirects.
    "circle": (moved("/circle"), "redirects in a circle"),
    "growing": (moved("/growing?x=" + "y" * 50), "redirects in a circle|answered with 302"),
    "to_ftp": (moved("ftp://127.0.0.1/x"), "a redirect to ftp://127.0.0.1/x, which is no URL"),
    "to_file": (moved("file:///etc/passwd"), "a redirect to file:///etc/passwd, which is no URL"),
    "to_data": (moved("data:image/png;base64,AAAA", "301 Moved"), "a redirect to data:image/png;"),
    "to_no_host": (moved("http:///gone", "307 Moved"), "answered with 404"),
    "to_bracket": (moved("http://[", "308 Moved"), r"a redirect to http://\[, which is no URL"),
    "to_port": (moved("http://127.0.0.1:99999/x", "303 Moved"), "a redirect to http://127.0.0.1:99999/x, which"),
    "to_port_0": (moved("http://127.0.0.1:0/x"), "could not reach 127.0.0.1"),
    "to_user": (moved("http://user:secret@127.0.0.1/x"), r"a redirect to http://\*\*\*@127.0.0.1/x, which is"),
    "to_escapes": (moved("http://\x1b[31m\x07.invalid/"), "a redirect to|could not reach"),
    "to_percent": (moved("http://a%40b%2fc/x"), r"a redirect to http://\*\*\*@b%2fc/x, which is"),
    "to_folded": (moved("http://a.invalid/\r\n b"), "a redirect to|could not reach"),
    "to_long_name": (moved(f"http://{'a' * 300}/x"), "a redirect to http://aaa.*, which is no URL"),
    "to_digits": (moved(f"http://{'1' * 5000}/x"), "a redirect to http://111.*, which is no URL"),
    "to_nothing": (header("Content-Length: 0", status="302 Found"), "answered with 302 Found"),
    "to_umlaut": (moved("http://m\xfcnchen.invalid/"), "could not reach|a redirect to"),
    "endless_redirect": (
        drip(header("Location: /circle", status="302 Found"), again=b"x" * 4096, pause_s=0),
        "redirects in a circle",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[RawServer]:
    answers = {name: answer for name, (answer, _) in REFUSED.items()}
    accepted: dict[str, Answer] = {
        "good": GOOD,
        "to_good": moved("good.pth"),
        "to_relative": moved("//{HOST}/good.pth"),
        "short": header("Content-Length: 60") + BODY,
        "twice": header("Content-Length: 100", "Content-Length: 100") + BODY,
        "chunks": CHUNKED + b"32\r\n" + BODY[:50] + b"\r\n32;a=b\r\n" + BODY[50:] + b"\r\n0\r\nX: y\r\n\r\n",
        "until_closed": header() + BODY,
        "plain": header("Content-Encoding: identity", "Content-Length: 100") + BODY,
        "slow": drip(*(GOOD[i : i + 10] for i in range(0, len(GOOD), 10)), pause_s=0.01),
    }
    with RawServer({**answers, **accepted}) as running:
        running.answers["to_relative"] = moved(f"//{running.url.removeprefix('http://')}/good.pth")
        yield running


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VOVNET_LIMITS", raising=False)


def check_sentence(error: BaseException) -> str:
    text = str(error)
    assert isinstance(error, ValueError | OSError)
    assert len(text) <= 500
    assert text.isprintable()
    return text


@pytest.mark.parametrize("name", REFUSED)
def test_an_answer_that_is_refused(server: RawServer, name: str, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises((ValueError, OSError), match=REFUSED[name][1]) as caught:
        download_weights(f"{server.url}/{name}", tmp_path / "a", max_bytes=20_000, timeout_s=1.5, silence_s=0.5)
    assert "127.0.0.1" in check_sentence(caught.value) or "could not reach" in str(caught.value)
    assert time.monotonic() - start < 4
    assert (tmp_path / "a").stat().st_size <= 20_000


@pytest.mark.parametrize("name", ["good", "to_good", "to_relative", "twice", "chunks", "until_closed", "plain", "slow"])
def test_an_answer_that_is_taken(server: RawServer, name: str) -> None:
    assert download(f"{server.url}/{name}") == BODY


def test_a_length_that_is_too_short_ends_the_file(server: RawServer) -> None:
    """What follows belongs to another answer."""
    assert download(f"{server.url}/short") == BODY[:60]


@pytest.mark.parametrize("name", ["dripping_header", "dripping", "endless_chunks", "part", "gzip", "too_long"])
def test_weights_that_fail_leave_no_file_and_no_thread(
    server: RawServer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOVNET_LIMITS", "weights_seconds=1 weights_bytes=20000")
    with pytest.raises((ValueError, OSError), match=REFUSED[name][1].replace("1.5 s", "1 s")) as caught:
        find_weights(f"{server.url}/{name}.pth")
    check_sentence(caught.value)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    assert [thread.name for thread in threading.enumerate() if thread.name == "download"] == []


def test_the_limits_are_named(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOVNET_LIMITS", "download_bytes=99")
    with pytest.raises(ValueError, match="limit of 99 bytes: raise the limit with --limit download_bytes=N"):
        read_source(f"{server.url}/good.png")
    monkeypatch.setenv("VOVNET_LIMITS", "download_seconds=1")
    with pytest.raises(TimeoutError, match="the limit is 1 s in all .* --limit download_seconds=N"):
        read_source(f"{server.url}/dripping.png")


def test_large_weights_go_to_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    size = 200 * 2**20
    piece = b"x" * 2**20
    answer = drip(header(f"Content-Length: {size}"), *[piece] * 200, pause_s=0)
    with RawServer({"large": answer}) as server:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert find_weights(f"{server.url}/large.pth").stat().st_size == size
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_two_processes_download_the_same_file(tmp_path: Path) -> None:
    content = os.urandom(200_000)
    pieces = [content[i : i + 20_000] for i in range(0, len(content), 20_000)]
    program = "import sys; from vovnet.weights.find import find_weights; print(find_weights(sys.argv[1]))"
    with RawServer({"both": drip(header("Content-Length: 200000"), *pieces, pause_s=0.1)}) as server:
        children = [
            subprocess.Popen([sys.executable, "-c", program, f"{server.url}/both.pth"], stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        paths = [Path(child.communicate()[0].decode().strip()) for child in children]
        assert len(server.visits) >= 1
    assert [child.returncode for child in children] == [0, 0]
    assert paths[0] == paths[1]
    assert paths[0].read_bytes() == content
    assert len(list(paths[0].parent.iterdir())) == 1


def test_two_threads_download_the_same_file() -> None:
    content = os.urandom(200_000)
    pieces = [content[i : i + 20_000] for i in range(0, len(content), 20_000)]
    with RawServer({"both": drip(header("Content-Length: 200000"), *pieces, pause_s=0.02)}) as server:
        found: list[Path] = []
        threads = [
            threading.Thread(target=lambda: found.append(find_weights(f"{server.url}/both.pth"))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [path.read_bytes() for path in found] == [content, content]
    assert len(list(found[0].parent.iterdir())) == 1


# --- URLs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://[",
        "http://[::1",
        "http:///x.pth",
        "https://:80/x.pth",
        "http://h:99999/x.pth",
        "http://h:x/x.pth",
        "http://h:-1/x.pth",
        "http://h/a b.pth",
        "http://h/a\nb.pth",
        "http://h/a\0b.pth",
        "http://h /b.pth",
        "http://h%2fb/c.pth",
        "http://h/ü.pth",
        "http://h/\udcff.pth",
        f"http://{'a' * 300}/x.pth",
        f"http://{'1' * 5000}/x.pth",
        "http://a..b/x.pth",
        "http://\u202egnp.exe/\x1b[31m.pth",
        "ftp://127.0.0.1/x.pth",
        "file:///etc/passwd.pth",
        "data://text/x.pth",
    ],
)
@pytest.mark.parametrize("use", [check_url, find_weights, read_source])
def test_a_url_that_cannot_be_asked_for(url: str, use: object) -> None:
    assert callable(use)
    with pytest.raises(ValueError, match=r"is no valid URL \(|only http:// and https://") as caught:
        use(url)
    check_sentence(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@127.0.0.1:9/x.pth",
        "https://secret@127.0.0.1/x.pth",
        "http://user:se/cret@127.0.0.1/x.pth",
        "http://user:p@secret@127.0.0.1/x.pth",
        "http://user:secret@[/x.pth",
        "http://user%3Asecret%40host/x.pth",
        "ftp://user:secret@127.0.0.1/x.pth",
        "rtsp://user:secret@camera/stream",
    ],
)
def test_a_password_is_never_printed(url: str) -> None:
    assert "cret" not in without_user(url)
    for use in (find_weights, read_source):
        with pytest.raises(ValueError, match=r"://\*\*\*@") as caught:
            use(url)
        assert "cret" not in str(caught.value)
    (failure,) = find_sources([url])
    assert "cret" not in f"{failure} {getattr(failure, 'reason', '')}"


def test_what_is_shown_of_other_urls() -> None:
    assert shown_url("https://host/npm/package@1.2/a.pth") == "https://host/npm/package@1.2/a.pth"
    long = shown_url(f"https://host/{'a' * 300}/{'1' * 5000}.pth")
    assert len(long) <= 120
    assert long.startswith("https://host/aaa")
    assert long.endswith("111.pth")


@pytest.mark.parametrize(
    "path", ["a" * 300 + ".pth", "1" * 5000 + ".pth", "..", "%2e%2e", "a%00b.pth", "", "a/.", "=b.pth"]
)
def test_the_name_in_the_cache_is_safe_and_short(server: RawServer, path: str, tmp_path: Path) -> None:
    found = find_weights(f"{server.url}/good/{path}")
    assert found.parent == tmp_path / "cache"
    assert len(found.name) <= 120
    assert found.suffix == ".pth" or not path.endswith(".pth")
    assert found.read_bytes() == BODY
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == [found.name]


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:secret@127.0.0.1:9",
        "http:user:secret",
        "127.0.0.1:secret",
        "http://127.0.0.1:99999",
        "ftp://127.0.0.1:9",
        "socks5://127.0.0.1:9",
        "file:///secret",
        "http://[",
        "http://",
        "http://a b\n:80",
        "http://ü:9/",
    ],
)
def test_a_proxy_that_cannot_be_used(
    server: RawServer, proxy: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(OSError, match=r"could not reach 127\.0\.0\.1: .*; check .*the proxy in \$http_proxy") as caught:
        download(f"{server.url}/good", timeout_s=3)
    assert "secret" not in check_sentence(caught.value)


def test_a_proxy_that_drips(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer({"127": drip(again=b"x"), "host": drip(again=b"x")}) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(TimeoutError, match=r"could not reach host\.invalid: no answer"):
            download("https://host.invalid/x.png", timeout_s=0.5)


def test_a_handshake_that_never_comes(server: RawServer) -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer: the limit is 0.4 s in all"):
        download(server.url.replace("http:", "https:") + "/good", timeout_s=0.4)
    assert time.monotonic() - start < 2


def test_a_look_up_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: waiting.wait(5))
    with pytest.raises(TimeoutError, match=r"could not reach host\.invalid: no answer: the limit is 0\.3 s in all"):
        download("http://host.invalid/x.png", timeout_s=0.3)
    waiting.set()


def test_a_call_that_is_left_behind_keeps_no_process_alive() -> None:
    program = (
        "import time; from vovnet.bounded_http import call_within\n"
        "try: call_within(0.1, lambda: time.sleep(20))\n"
        "except TimeoutError: print('late')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=10)
    assert (done.stdout, done.stderr, done.returncode) == ("late\n", "", 0)
    assert call_within(1, lambda: 3) == 3


# --- the cache ----------------------------------------------------------------------------------------------------


def test_no_home_and_no_cache(server: RawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{server.url}/good.pth"
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none"), Path("~nobody-at-all/x")):
        monkeypatch.setenv("VOVNET_CACHE", str(folder))
        with pytest.raises(OSError, match="; set VOVNET_CACHE to a folder for downloads") as caught:
            find_weights(url)
        check_sentence(caught.value)
    monkeypatch.setenv("VOVNET_CACHE", "")  # as if it were not set
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_weights(url).parent == tmp_path / ".cache" / "vovnet"
