"""Asking for a URL over http and https, within limits that hold whatever a server sends, and without other schemes."""

from __future__ import annotations

import http.client
import io
import socket
import string
import threading
import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, TypeVar, cast
from urllib import request
from urllib.error import HTTPError
from urllib.parse import quote, urljoin, urlsplit

from vovnet.printing import line
from vovnet.urls import check_url, shown_url

MAX_REDIRECTS = 4

T = TypeVar("T")


@dataclass
class Visit:
    """How far a download has come.

    location: the URL that was asked last, after redirects.
    deadline, answer_by: the end of the whole, and of the wait for the header, by the monotonic clock.
    """

    url: str
    location: str
    deadline: float
    silence_s: float
    answer_by: float = 0.0
    answered: bool = False
    stated_bytes: int | None = None

    @property
    def host(self) -> str:
        return line(urlsplit(self.location).hostname or "", 80)

    def wait_s(self) -> float:
        """How long the next byte may take. TimeoutError if no time is left."""
        end = self.deadline if self.answered else min(self.deadline, self.answer_by)
        left_s = end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return min(left_s, self.silence_s)

    @property
    def shown(self) -> str:
        return shown_url(self.url)

    def failure(self, reason: str) -> OSError:
        proxied = proxy_variable(self.location)
        proxy = f", the proxy in ${proxied}" if proxied else ""
        return OSError(f"could not reach {self.host}: {reason}; check the network{proxy} and the URL {self.shown}")


def open_url(visit: Visit) -> http.client.HTTPResponse:
    """The answer to a visit, with its header read. Raises what urllib and http.client raise."""
    opener = request.OpenerDirector()  # none of urllib's other handlers, which know ftp, files and data
    for handler in (
        request.ProxyHandler(),
        request.UnknownHandler(),
        _Web(visit),
        request.HTTPDefaultErrorHandler(),
        _WebRedirects(visit),
        request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    wanted = request.Request(visit.url, headers={"User-Agent": "vovnet"})
    response: http.client.HTTPResponse = opener.open(wanted, timeout=visit.silence_s)
    visit.answered = True
    return response


def call_within(timeout_s: float, function: Callable[[], T]) -> T:
    """The result of `function`, which runs in a thread. After `timeout_s`: TimeoutError, and the thread is left behind.

    For what no other limit covers, such as the look-up of a name.
    """
    result: Future[T] = Future()

    def work() -> None:
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=work, name="download", daemon=True).start()
    try:
        return result.result(timeout_s)
    except futures.TimeoutError:  # before Python 3.11 another class than the usual one
        raise TimeoutError from None


def proxy_variable(url: str) -> str:
    """The environment variable with the proxy for a URL, nothing without one."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    used = scheme in request.getproxies() and not request.proxy_bypass(parts.hostname or "")
    return f"{scheme}_proxy" if used else ""


class _WebRedirects(request.HTTPRedirectHandler):
    """Follows redirects to http and https only."""

    max_redirections = MAX_REDIRECTS

    def __init__(self, visit: Visit) -> None:
        self.visit = visit

    def http_error_302(
        self, req: request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage
    ) -> Any:
        fp.close()  # the library would read all of the page into memory
        if target := headers.get("location") or headers.get("uri"):
            try:
                # As the library joins them.
                check_url(urljoin(req.full_url, quote(target, encoding="iso-8859-1", safe=string.punctuation)))
            except ValueError:
                why = f"a redirect to {shown_url(target)}, which is no URL that can be downloaded"
                raise HTTPError(req.full_url, code, why, headers, None) from None
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> request.Request | None:
        self.visit.location = newurl
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Web(request.AbstractHTTPHandler):
    def __init__(self, visit: Visit) -> None:
        super().__init__()
        self.visit = visit

    def http_open(self, req: request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_bounded, http.client.HTTPConnection, self.visit), req)

    def https_open(self, req: request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_bounded, http.client.HTTPSConnection, self.visit), req)

    http_request = https_request = request.AbstractHTTPHandler.do_request_


def _bounded(
    kind: type[http.client.HTTPConnection], visit: Visit, host: str, /, **options: Any
) -> http.client.HTTPConnection:
    """A connection of which every wait ends in time, where a socket's own limit starts anew with each byte."""

    def response(sock: socket.socket, **options: Any) -> http.client.HTTPResponse:
        return http.client.HTTPResponse(cast(socket.socket, _BoundedSocket(sock, visit)), **options)

    visit.answer_by = time.monotonic() + visit.silence_s
    connection = kind(host, **options)
    vars(connection).update(response_class=response, _create_connection=partial(_connect, visit))
    return connection


def _connect(visit: Visit, address: tuple[str, int], *_: object) -> socket.socket:
    """A connection. The look-up of a name has no limit of its own, so a thread does it, and may be left behind."""
    wait_s = visit.wait_s()
    connected = call_within(wait_s, lambda: socket.create_connection(address, wait_s))
    connected.settimeout(visit.wait_s())  # of the TLS handshake
    return connected


@dataclass
class _BoundedSocket:
    """What a response reads from."""

    sock: socket.socket
    visit: Visit

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self.sock, self.visit))


class _BoundedReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, visit: Visit) -> None:
        self.sock, self.visit, self.raw = sock, visit, sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self.sock.settimeout(self.visit.wait_s())
        return self.raw.readinto(buffer)

    def close(self) -> None:
        self.raw.close()
        super().close()
