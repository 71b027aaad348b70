"""Downloads from http and https URLs, bounded in size and time, whatever a server sends."""

from __future__ import annotations

import http.client
import io
import ssl
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import IO, Literal
from urllib.error import HTTPError, URLError

from vovnet.bounded_http import MAX_REDIRECTS, Visit, open_url, proxy_variable
from vovnet.limits import limits
from vovnet.printing import line
from vovnet.urls import check_url, shown_url

SILENCE_S = 30.0
_CHUNK = 2**16
_COMPRESSIONS = ("gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress")

Kind = Literal["download", "weights"]


def download(
    url: str, *, max_bytes: int | None = None, timeout_s: float | None = None, silence_s: float = SILENCE_S
) -> bytes:
    """The content of the file at an http or https URL.

    max_bytes: largest file accepted, checked against the announced length and what arrives; None for `download_bytes`.
    timeout_s: limit for name look-up, connection, redirects and content together; None for `download_seconds`.
    silence_s: limit for a pause in which nothing arrives, and for an answer to begin.

    Raises ValueError for another scheme, for a text page and for a file that is too large; TimeoutError; OSError if the
    server cannot be reached, answers with an error, sends nothing or closes the connection early.
    """
    content = io.BytesIO()
    _download(url, content, "download", max_bytes=max_bytes, timeout_s=timeout_s, silence_s=silence_s)
    return content.getvalue()


def download_weights(
    url: str,
    path: Path,
    *,
    max_bytes: int | None = None,
    timeout_s: float | None = None,
    silence_s: float = SILENCE_S,
) -> None:
    """As `download`, but to a file, within `weights_bytes` and `weights_seconds`.

    The content is written as it arrives, so that a large file needs no memory.
    """
    with path.open("wb") as file:
        _download(url, file, "weights", max_bytes=max_bytes, timeout_s=timeout_s, silence_s=silence_s)


def _download(
    url: str, file: IO[bytes], kind: Kind, *, max_bytes: int | None, timeout_s: float | None, silence_s: float
) -> None:
    check_url(url)
    allowed_bytes: int = getattr(limits(), f"{kind}_bytes") if max_bytes is None else max_bytes
    allowed_s: float = getattr(limits(), f"{kind}_seconds") if timeout_s is None else timeout_s
    visit = Visit(url, url, time.monotonic() + allowed_s, min(allowed_s, silence_s))
    too_large = (
        f"the file at {shown_url(url)} is larger than the limit of {allowed_bytes} bytes: "
        f"raise the limit with --limit {kind}_bytes=N if you trust it"
    )
    received = 0
    try:
        with closing(_receive(visit, allowed_bytes, too_large)) as chunks:
            for chunk in chunks:
                received += file.write(chunk)
    except TimeoutError:
        slow = f"{shown_url(url)} is too slow" if visit.answered else f"could not reach {visit.host}: no answer"
        raise TimeoutError(
            f"{slow}: the limit is {allowed_s:g} s in all and {visit.silence_s:g} s of silence; try again later, "
            f"or raise the limit with --limit {kind}_seconds=N"
        ) from None
    if visit.stated_bytes is not None and received < visit.stated_bytes:
        raise OSError(
            f"{shown_url(url)} closed the connection after {received} of {visit.stated_bytes} bytes; try again"
        )
    if received == 0:
        raise OSError(f"{shown_url(url)} sent an empty file; check the URL")


def _receive(visit: Visit, allowed_bytes: int, too_large: str) -> Generator[bytes]:
    """The content in pieces. Every error of the network is one sentence."""
    received = 0
    try:
        with open_url(visit) as response:
            visit.stated_bytes = _check_header(visit, response)
            if (visit.stated_bytes or 0) > allowed_bytes:
                raise _RefusedError(too_large)
            while chunk := response.read1(_CHUNK):
                received += len(chunk)
                if received > allowed_bytes:
                    raise _RefusedError(too_large)
                visit.wait_s()
                yield chunk
    except HTTPError as error:
        error.close()
        raise OSError(_refusal(visit.shown, error)) from None
    except URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise error.reason from None
        raise visit.failure(_reason(error.reason)) from None
    except TimeoutError:
        raise
    except _RefusedError as error:
        raise ValueError(str(error)) from None
    except (http.client.InvalidURL, ValueError, OverflowError) as error:
        if proxy_variable(visit.location):  # whose text may hold a password
            raise visit.failure("the proxy is no valid URL") from None
        raise ValueError(f"{visit.shown} is no valid URL ({_reason(error)})") from None
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{visit.shown} closed the connection early ({_reason(error)}); try again") from None


class _RefusedError(ValueError):
    """An answer that is not taken."""


def _check_header(visit: Visit, response: http.client.HTTPResponse) -> int | None:
    """The stated number of bytes, if there is one. `_RefusedError` or HTTPError for an answer that is no whole file."""
    headers = response.headers
    if response.status != 200:  # 206 is a part of a file, 204 none
        reason = f"{response.reason} instead of the file"
        raise HTTPError(visit.url, response.status, reason, headers, None)
    kind = headers.get_content_type()
    if headers.get("Content-Type") and kind.startswith("text/"):
        raise _RefusedError(f"{visit.shown} sent a page of type {line(kind, 40)}; use the URL of the file itself")
    content, transfer = (
        ", ".join(headers.get_all(name, [])).lower() for name in ("Content-Encoding", "Transfer-Encoding")
    )
    if any(word.strip() in _COMPRESSIONS for word in content.split(",")) or transfer not in ("", "chunked", "identity"):
        raise _RefusedError(
            f"{visit.shown} sent its file encoded as {line(content or transfer, 40)}, which was not asked for; "
            "download the file and give its path"
        )
    lengths = list(dict.fromkeys(length.strip() for length in headers.get_all("Content-Length", [])))
    if not lengths or response.chunked:
        return None
    if len(lengths) > 1 or not (lengths[0].isascii() and lengths[0].isdecimal()):
        stated = line(", ".join(lengths), 40)
        raise _RefusedError(f"{visit.shown} states no possible size of its file (Content-Length: {stated}); try again")
    return int(lengths[0]) if len(lengths[0]) <= 18 else 10**18


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
    return line(text, 160)


def _refusal(url: str, error: HTTPError) -> str:
    reason = _reason(error.reason)
    if 300 <= error.code < 400 and "redirect error" in reason:  # the library's text for a circle has several lines
        return (
            f"{url} answered with {error.code} more than {MAX_REDIRECTS} times: it redirects in a circle; check the URL"
        )
    remedy = "try again later" if error.code >= 500 or error.code == 429 else "check the URL"
    return f"{url} answered with {error.code} {reason}; {remedy}"
