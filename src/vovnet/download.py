"""Downloads from http and https URLs, bounded in size and time."""

from __future__ import annotations

import http.client
import io
import re
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

MAX_REDIRECTS = 4
_CHUNK = 2**16

T = TypeVar("T")


def is_url(text: str) -> bool:
    """Whether `text` starts like a URL: `scheme://`. It need not be http."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def check_scheme(url: str) -> None:
    """Raises ValueError unless `url` is an http or https URL."""
    if not _is_web(url):
        raise ValueError(f"only http:// and https:// URLs can be downloaded, got {url}")
    try:
        host, _ = urlsplit(url).hostname, urlsplit(url).port  # the latter raises unless it is a possible one
    except ValueError as error:
        raise ValueError(f"{url} is no valid URL ({error})") from None
    if not host:
        raise ValueError(f"{url} is no valid URL (it names no host)")


def download(url: str, *, max_bytes: int = 50 * 2**20, timeout_s: float = 10.0, silence_s: float = 30.0) -> bytes:
    """The content of the file at an http or https URL; the default limits suit an image.

    max_bytes: largest file accepted. It is checked against the announced length and against what arrives.
    timeout_s: limit for name look-up, connection, redirects and content together.
    silence_s: limit for a pause in which nothing arrives.

    Raises ValueError for another scheme, for a text page and for a file that is too large; TimeoutError; OSError if the
    server cannot be reached, answers with an error, sends nothing or closes the connection early.
    """
    content = io.BytesIO()
    _download(url, content, max_bytes=max_bytes, timeout_s=timeout_s, silence_s=silence_s)
    return content.getvalue()


def download_file(url: str, path: Path, *, max_bytes: int, timeout_s: float) -> None:
    """Like `download`, but writes the content to `path` as it arrives, so that a large file needs no memory."""
    with path.open("wb") as file:
        _download(url, file, max_bytes=max_bytes, timeout_s=timeout_s, silence_s=30.0)


def call_within(timeout_s: float, function: Callable[[], T]) -> T:
    """The result of `function`, which runs in a thread. After `timeout_s`: TimeoutError, and the thread is left behind.

    A socket's timeout covers neither the name look-up nor a header that arrives byte by byte. Waiting for a thread
    does.
    """
    result: Future[T] = Future()

    def work() -> None:
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=work, name="download", daemon=True).start()
    return result.result(timeout_s)


def _download(url: str, file: IO[bytes], *, max_bytes: int, timeout_s: float, silence_s: float) -> None:
    check_scheme(url)
    silence_s = min(timeout_s, silence_s)
    deadline = time.monotonic() + timeout_s
    visit = _Visit(url)

    def receive() -> None:
        _receive(visit, file, max_bytes=max_bytes, deadline=deadline, silence_s=silence_s)

    try:
        call_within(timeout_s, receive)
    except TimeoutError:
        problem = f"{url} is too slow" if visit.answered else f"could not reach {visit.host}: no answer"
        raise TimeoutError(
            f"{problem}: the limit is {timeout_s:g} s in all and {silence_s:g} s of silence; try again later"
        ) from None


@dataclass
class _Visit:
    """How far a download has come. location: the URL that was asked last, after redirects."""

    url: str
    location: str = ""
    answered: bool = False

    @property
    def host(self) -> str:
        return urlsplit(self.location or self.url).hostname or self.url


def _reason(error: BaseException | str) -> str:
    """What an error of the network says, without its number and its place in the library."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"its certificate is not trusted ({error.verify_message})"
    elif isinstance(error, ssl.SSLError):
        text = f"no secure connection ({(error.reason or str(error)).replace('_', ' ').lower()})"
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())[:200]


def _is_web(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


class _WebRedirects(HTTPRedirectHandler):
    """Follows redirects to http and https only."""

    max_redirections = MAX_REDIRECTS

    def __init__(self, visit: _Visit) -> None:
        self.visit = visit

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        if not _is_web(newurl):
            raise HTTPError(req.full_url, code, f"a redirect to {newurl}", headers, fp)
        check_scheme(newurl)
        self.visit.location = newurl
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _receive(visit: _Visit, file: IO[bytes], *, max_bytes: int, deadline: float, silence_s: float) -> None:
    url = visit.url
    opener = build_opener(_WebRedirects(visit))
    request = Request(url, headers={"User-Agent": "vovnet"})
    too_large = f"the file at {url} is larger than the limit of {max_bytes} bytes"
    received = 0
    try:
        with opener.open(request, timeout=silence_s) as response:
            visit.answered = True
            content_type = response.headers.get_content_type()
            if response.headers.get("Content-Type") and content_type.startswith("text/"):
                raise ValueError(f"{url} sent a page of type {content_type}; use the URL of the file itself")
            announced = response.length
            if announced is not None and announced > max_bytes:
                raise ValueError(too_large)
            while chunk := response.read1(_CHUNK):
                received += len(chunk)
                if received > max_bytes:
                    raise ValueError(too_large)
                file.write(chunk)
                if time.monotonic() > deadline:
                    raise TimeoutError
    except HTTPError as error:
        error.close()
        raise OSError(_refusal(url, error)) from None
    except URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise error.reason from None
        raise OSError(
            f"could not reach {visit.host}: {_reason(error.reason)}; check the network and the URL {url}"
        ) from None
    except (http.client.InvalidURL, UnicodeError) as error:
        raise ValueError(f"{url} is no valid URL ({_reason(error)})") from None
    except ssl.SSLError as error:
        raise OSError(f"{url} closed the connection early ({_reason(error)}); try again") from None
    except (ConnectionError, http.client.HTTPException) as error:
        raise OSError(f"{url} closed the connection early ({_reason(error)}); try again") from None
    if announced is not None and received < announced:
        raise OSError(f"{url} closed the connection after {received} of {announced} bytes; try again")
    if received == 0:
        raise OSError(f"{url} sent an empty file; check the URL")


def _refusal(url: str, error: HTTPError) -> str:
    reason = _reason(error.reason)
    if 300 <= error.code < 400 and "redirect error" in reason:  # the library's text for a circle has several lines
        return (
            f"{url} answered with {error.code} more than {MAX_REDIRECTS} times: it redirects in a circle; check the URL"
        )
    remedy = "try again later" if error.code >= 500 or error.code == 429 else "check the URL"
    return f"{url} answered with {error.code} {reason}; {remedy}"
