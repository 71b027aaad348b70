"""A small HTTP service: POST an image, get its detections as JSON. For a private network: it has no access control."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from vovnet import __version__
from vovnet.console import complain
from vovnet.errors import describe, is_out_of_memory, typed
from vovnet.files import json_text
from vovnet.limits import counted_with_commas, limits
from vovnet.printing import SENTENCE, line
from vovnet.runtime.detections import Detections
from vovnet.runtime.detector import Detector

MOST_CONNECTIONS, MOST_WAITING = 32, 8  # images that are uploaded or wait for the network count as waiting
SILENCE_S, LONGEST_S = 5.0, 60.0  # of a connection: between two bytes, and altogether
_CHUNK = 2**16
_Address = tuple[str, int]


class _RefusedError(Exception):
    """A request that is not answered with detections."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class Service(ThreadingMixIn, TCPServer):
    """Answers requests with the detections of one detector, one image at a time.

    options: of `Detector.predict`: score_threshold, top_k, classes, tiles, overlap.
    """

    allow_reuse_address = True
    daemon_threads = False  # so that `server_close` waits for the answers
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, detector: Detector, address: _Address, options: Mapping[str, Any]) -> None:
        self.detector, self.options = detector, options
        self.network = threading.Lock()
        self.connections = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self.waiting = threading.BoundedSemaphore(MOST_WAITING)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def detect(self, content: bytes) -> Detections:
        with self.network:
            return self.detector.predict(content, **self.options)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self.connections.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        cut = threading.Timer(LONGEST_S, _cut, [request])
        cut.daemon = True
        try:
            cut.start()
            super().process_request_thread(request, client_address)
        except RuntimeError:  # no thread could be started
            self.shutdown_request(request)
        finally:
            cut.cancel()
            self.connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error."""


def _cut(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: Service
    timeout = SILENCE_S
    protocol_version = "HTTP/1.1"  # in which a client that asks before it sends much, as curl does, gets an answer
    server_version, sys_version = f"vovnet-runtime/{__version__}", ""

    def do_GET(self) -> None:
        with self._answering():
            self._check_path()
            info, session = self.server.detector.info, self.server.detector.session
            self._send(
                HTTPStatus.OK,
                {
                    "service": self.server_version,
                    "detector": info.detector,
                    "runtime": session.runtime,
                    "precision": info.precision,
                    "class_names": info.class_names,
                    "input_size": info.image_size,
                    **self.server.options,
                    **self._stored_thresholds(),
                },
            )

    def do_POST(self) -> None:
        with self._answering():
            self._check_path()
            if not self.server.waiting.acquire(blocking=False):
                raise _RefusedError(
                    HTTPStatus.SERVICE_UNAVAILABLE, f"{MOST_WAITING} images are waiting already: try again later"
                )
            try:
                found = self._detect(self._body())
            finally:
                self.server.waiting.release()
            self._send(HTTPStatus.OK, _content(found))

    def _stored_thresholds(self) -> dict[str, object]:
        """What holds for each class where no threshold was given for all."""
        stored = self.server.detector.score_thresholds
        given = self.server.options.get("score_threshold") is not None
        return {} if given or stored is None else {"score_thresholds": stored}

    def _detect(self, content: bytes) -> Detections:
        try:
            return self.server.detect(content)
        except (ValueError, OSError, MemoryError) as error:
            if is_out_of_memory(error) or is_out_of_memory(error.__cause__ or error):
                raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "too little memory for this image") from error
            raise _RefusedError(HTTPStatus.BAD_REQUEST, describe(error)) from error

    def _check_path(self) -> None:
        if self.path != "/":
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is only /")

    def _body(self) -> bytes:
        stated = self.headers.get_all("Content-Length", [])
        if self.headers.get("Transfer-Encoding") or len(stated) != 1:
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "expected an image with one Content-Length, not in chunks")
        text = stated[0].strip()
        if not (text.isascii() and text.isdecimal()):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "the Content-Length is no number")
        size, most = int(text) if len(text) <= 18 else 10**18, limits().download_bytes
        if size > most:
            raise _RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"an image may have at most {counted_with_commas(most, 'bytes')}"
            )
        # Memory grows with what arrives, not with what is stated.
        content = bytearray()
        while len(content) < size and (chunk := self.rfile.read1(min(_CHUNK, size - len(content)))):
            content += chunk
        if len(content) < size:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, f"only {len(content)} of {size} bytes of the image came")
        return bytes(content)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Every error of the block is answered, in one sentence as JSON."""
        try:
            yield
        except _RefusedError as refused:
            self._send(refused.status, {"error": line(str(refused), SENTENCE)})
        except (TimeoutError, ConnectionError):
            raise  # nobody listens
        except Exception as error:  # a fault of ours: the client need not know which
            complain(f"{typed(error)} (in a request)")
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "the detector failed; see the log of the service"})

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The library's own errors, as of a request that is no HTTP, in the same form."""
        self._send(HTTPStatus(code), {"error": line(message or HTTPStatus(code).phrase, SENTENCE)})

    def _send(self, status: HTTPStatus, content: object) -> None:
        body = f"{json_text(content)}\n".encode()
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", "1")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if status >= HTTPStatus.BAD_REQUEST:
            self._drain()

    def _drain(self) -> None:
        """Takes what the client still sends, for a moment: else the system would drop our answer with it."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            end = time.monotonic() + SILENCE_S
            while time.monotonic() < end and self.rfile.read1(_CHUNK):
                pass

    def log_message(self, format: str, *values: object) -> None:
        """Only what fails is worth a line: a health check asks every few seconds."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if isinstance(code, int) and code >= HTTPStatus.BAD_REQUEST:
            complain(f"answered {int(code)} to {self.client_address[0]}")


def _content(found: Detections) -> dict[str, object]:
    """The answer: boxes are x1 y1 x2 y2 in pixels of the image."""
    codes: list[dict[str, Any] | None] = [None] * len(found) if found.masks is None else [*found.masks.to_coco()]
    height, width = found.image_size
    return {
        "width": width,
        "height": height,
        "detections": [
            {
                "class": name,
                "score": round(score, 6),
                "box": [round(side, 3) for side in box],
                **({} if code is None else {"segmentation": code}),
            }
            for name, score, box, code in zip(
                found.names, found.scores.tolist(), found.boxes.tolist(), codes, strict=True
            )
        ],
    }


def serve(detector: Detector, host: str, port: int, options: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; then the requests that have begun are answered.

    Raises OSError if the address cannot be had.
    """
    try:
        service = Service(detector, (host, port), options)
    except OSError as error:
        reason = line(error.strerror or str(error), 200)
        raise OSError(
            f"cannot listen on {line(host)} port {port} ({reason}): choose another --host or --port"
        ) from error

    def stop(*_: object) -> None:
        threading.Thread(target=service.shutdown, name="stop").start()  # which waits for the loop that runs below

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with service:
            say(f"serving {line(detector.info.detector)} at {service.url}")
            service.serve_forever(poll_interval=0.1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
