"""The HTTP service: answers, errors, bounds, and its end."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vovnet.limits import VARIABLE
from vovnet.runtime import load, service
from vovnet.runtime.detections import Detections, Masks
from vovnet.runtime.service import MOST_WAITING, Service

from .tiny_detector import write_tiny

OPTIONS = {"score_threshold": 0.1, "top_k": 5, "classes": None}


def picture(grey: int = 51, side: int = 20) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (2 * side, side), (grey,) * 3).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(service, "SILENCE_S", 0.3)
    monkeypatch.setattr(service._Handler, "timeout", 0.3)
    with Service(load(write_tiny(tmp_path / "tiny.onnx"), threads=1), ("127.0.0.1", 0), OPTIONS) as started:
        thread = threading.Thread(target=started.serve_forever, args=(0.01,))
        thread.start()
        yield started
        started.shutdown()
        thread.join()


def ask(running: Service, method: str, body: bytes | None = None, path: str = "/", **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(*running.server_address[:2], timeout=10)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        assert answer.getheader("Content-Type") == "application/json"
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def talk(running: Service, request: bytes) -> bytes:
    with socket.create_connection(running.server_address[:2], timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


def test_an_image_gets_its_detections(running: Service) -> None:
    assert ask(running, "POST", picture()) == (
        200,
        {
            "width": 40,
            "height": 20,
            "detections": [
                {"class": "dark", "score": 0.8, "box": [20, 0, 40, 20]},
                {"class": "light", "score": 0.2, "box": [0, 0, 20, 20]},
            ],
        },
    )


def test_it_says_what_runs(running: Service) -> None:
    status, content = ask(running, "GET")
    assert status == 200
    assert (content["detector"], content["runtime"], content["class_names"]) == (
        "tiny",
        "onnxruntime",
        ["dark", "light"],
    )
    assert (content["input_size"], content["score_threshold"]) == ([8, 8], 0.1)


def test_many_clients_at_once(running: Service) -> None:
    answers: dict[int, tuple[int, Any]] = {}

    def post(grey: int) -> None:
        answers[grey] = ask(running, "POST", picture(grey))

    threads = [threading.Thread(target=post, args=(grey,)) for grey in range(30, 30 + MOST_WAITING)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for grey, (status, content) in answers.items():
        assert status == 200
        scores = {item["class"]: item["score"] for item in content["detections"]}
        assert scores["light"] == pytest.approx(grey / 255, abs=1e-5)


def test_a_load_leaves_nothing_behind(running: Service) -> None:
    """As many clients as may wait, image after image: each gets its own answer, and no thread or place is lost."""
    wrong: list[int] = []

    def post(number: int) -> None:
        for turn in range(6):
            grey = 30 + (7 * number + turn) % 40
            status, content = ask(running, "POST", picture(grey))
            scores = {item["class"]: item["score"] for item in content.get("detections", ())}
            if status != 200 or abs(scores["light"] - grey / 255) > 1e-5:
                wrong.append(grey)

    def wait_for_end(threads: int) -> None:  # a connection ends after its answer
        end = time.monotonic() + 60
        while running.connections._value < service.MOST_CONNECTIONS or threading.active_count() > threads:
            assert time.monotonic() < end
            time.sleep(0.01)

    before = threading.active_count()
    ask(running, "POST", picture())
    wait_for_end(before)
    clients = [threading.Thread(target=post, args=(number,)) for number in range(MOST_WAITING)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert wrong == []
    wait_for_end(before)
    assert running.waiting._value == MOST_WAITING


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"nonsense", "the image is not an image in a known format (JPEG, PNG, TIFF, WebP, …): convert or remove it"),
        (b"", "the image is empty: fetch it again or remove it"),
        (picture()[:-40], "the image is damaged or cut short"),
        (b"<svg onload='x'/>", "the image is not an image"),
    ],
)
def test_a_bad_image_is_one_sentence(running: Service, body: bytes, reason: str) -> None:
    status, content = ask(running, "POST", body)
    assert status == 400
    assert reason in content["error"]
    assert "\n" not in content["error"]
    assert ask(running, "POST", picture())[0] == 200


def test_limits_hold(running: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "image_pixels=100 download_bytes=1000")
    status, content = ask(running, "POST", picture())
    assert (status, "raise the limit with --limit image_pixels=N" in content["error"]) == (400, True)
    status, content = ask(running, "POST", bytes(100_000))
    assert (status, content["error"]) == (413, "an image may have at most 1,000 bytes")


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"POST / HTTP/1.1\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: -3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 3e9\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: " + 5000 * b"9" + b"\r\n\r\nabc", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc", 400),
        (b"POST /../../etc/passwd HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 404),
        (b"GET /?image=/etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"DELETE / HTTP/1.1\r\n\r\n", 501),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + 200 * b"X: y\r\n" + b"\r\n", 431),
        (b"GET /" + 70_000 * b"x" + b" HTTP/1.1\r\n\r\n", 414),
    ],
)
def test_odd_requests_get_an_error(running: Service, request_text: bytes, status: int) -> None:
    if b"10\r\n\r\nabc" in request_text:  # the client ends in the middle
        with socket.create_connection(running.server_address[:2], timeout=10) as connection:
            connection.sendall(request_text)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536) + connection.recv(65536)
    else:
        answer = talk(running, request_text)
    old = request_text.startswith(b"nonsense")  # HTTP 0.9 has no status
    assert old or answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert "error" in json.loads(answer.rpartition(b"\r\n\r\n")[2])
    assert ask(running, "GET")[0] == 200


def test_a_client_may_ask_before_it_sends(running: Service) -> None:
    """As curl does with a large image, which it would hold back for a second without an answer."""
    with socket.create_connection(running.server_address[:2], timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(picture()))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(picture())
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_connection_without_a_thread_is_counted_no_longer(running: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(service.ThreadingMixIn, "process_request", no_thread)
        for _ in range(service.MOST_CONNECTIONS + 1):
            with pytest.raises(RuntimeError):
                running.process_request(None, None)
    assert ask(running, "GET")[0] == 200


def test_a_silent_client_is_let_go(running: Service) -> None:
    with socket.create_connection(running.server_address[:2], timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")
        start = time.monotonic()
        while connection.recv(65536):
            pass
        assert time.monotonic() - start < 8


def test_a_client_that_drips_is_let_go(running: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "LONGEST_S", 0.5)
    with socket.create_connection(running.server_address[:2], timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(200):
                connection.sendall(b"x")
                time.sleep(0.05)
    assert ask(running, "GET")[0] == 200


def test_the_queue_is_bounded(running: Service) -> None:
    with running.network:  # the network is busy
        waiting = [socket.create_connection(running.server_address[:2], timeout=10) for _ in range(MOST_WAITING)]
        for connection in waiting:
            connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(picture()) + picture())
        end = time.monotonic() + 60
        while running.waiting._value:
            assert time.monotonic() < end
            time.sleep(0.01)
        status, content = ask(running, "POST", picture())
        assert (status, content["error"]) == (503, f"{MOST_WAITING} images are waiting already: try again later")
        assert ask(running, "GET")[0] == 200  # the health check still gets through
    for connection in waiting:
        assert b" 200 " in connection.recv(65536)
        connection.close()


def test_a_fault_of_the_detector_is_no_answer_about_it(
    running: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(content: bytes) -> None:
        raise RuntimeError("secret\nof ours")

    monkeypatch.setattr(running, "detect", fail)
    assert ask(running, "POST", picture()) == (500, {"error": "the detector failed; see the log of the service"})
    assert "RuntimeError: secret of ours (in a request)" in capsys.readouterr().err


def test_masks_are_in_the_answer() -> None:
    found = Detections(
        boxes=np.zeros((1, 4), np.float32),
        labels=np.zeros(1, np.int64),
        scores=np.ones(1, np.float32),
        image_size=(2, 3),
        class_names=("a",),
        category_ids=(1,),
        source="0",
        masks=Masks((b"06",), (2, 3)),
    )
    (item,) = service._content(found)["detections"]  # type: ignore[misc]
    assert item["segmentation"] == {"size": [2, 3], "counts": "06"}


def test_tiles_are_an_option_of_the_service(tmp_path: Path) -> None:
    """In each of the halves of this image that the tiles show, the tiny detector finds another brightness."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 40:] = 255
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    detector = load(write_tiny(tmp_path / "tiny.onnx"), threads=1)
    for tiles in (None, 40):
        options = {**OPTIONS, "tiles": tiles, "overlap": None if tiles is None else 0.0}
        expected = detector.predict(pixels, **options)
        with Service(detector, ("127.0.0.1", 0), options) as started:
            thread = threading.Thread(target=started.serve_forever, args=(0.01,))
            thread.start()
            status, found = ask(started, "POST", content.getvalue())
            assert ask(started, "GET")[1]["tiles"] == tiles
            started.shutdown()
            thread.join()
        assert status == 200
        assert [item["box"] for item in found["detections"]] == expected.boxes.tolist()
        assert len(expected) == (2 if tiles is None else 4)


@pytest.mark.skipif(os.name != "posix", reason="sends SIGTERM")
def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.onnx")
    code = "from vovnet.runtime.command import main; main()"
    arguments = ["serve", str(tmp_path / "tiny.onnx"), "--port", "0", "--threads", "1", "--classes", "light"]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().rpartition("http://")[2].strip()
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("POST", "/", picture(255))
        content = json.loads(connection.getresponse().read())
        assert [item["class"] for item in content["detections"]] == ["light"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
