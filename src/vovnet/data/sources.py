"""What to predict on: names on a command line → files and addresses, and the bytes behind an address."""

from __future__ import annotations

import glob
import http.client
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import IO

from vovnet.data.images import IMAGE_SUFFIXES

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
MAX_REDIRECTS = 4
MAX_SILENCE_S = 30.0


def is_url(source: str) -> bool:
    """Whether `source` begins like an address: `scheme://`."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source) is not None


def is_video(source: str | Path) -> bool:
    """Whether the name of a file ends like a video's."""
    return not is_url(str(source)) and Path(source).suffix.lower() in VIDEO_SUFFIXES


def expand_sources(inputs: Iterable[str | Path]) -> list[str]:
    """Files, folders, globs and addresses → paths of images and videos, and http(s) addresses, in the order given.

    A folder gives all images and videos in and below it, a glob those that it matches; both sorted by path, hidden
    files left out. A file named directly is taken whatever its suffix. A source named twice comes twice.

    Raises FileNotFoundError for a path or glob that leads to nothing, ValueError for an address that is not http(s).
    """
    sources: list[str] = []
    for given in map(str, inputs):
        path = Path(given)
        if is_url(given):
            _check_scheme(given)
            sources.append(given)
        elif path.is_dir():
            below = (
                file for file in path.rglob("*") if not any(part[0] == "." for part in file.relative_to(path).parts)
            )
            sources += _media(below, f"folder {given} holds no image or video; looked in it and below for")
        elif path.exists():
            sources.append(given)
        elif glob.has_magic(given):
            matches = map(Path, glob.glob(given, recursive=True))
            sources += _media(matches, f"{given} matches no image or video; looked for")
        else:
            raise FileNotFoundError(f"expected an image, video, folder or pattern, but {given!r} does not exist")
    return sources


def _media(paths: Iterable[Path], complaint: str) -> list[str]:
    suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    # A broken link is no folder: it stays in the list, so that the reader reports it.
    found = sorted(path for path in paths if path.suffix.lower() in suffixes and not path.is_dir())
    if not found:
        raise FileNotFoundError(f"{complaint} {' '.join(suffixes)}")
    return [str(path) for path in found]


def fetch(url: str, *, max_bytes: int = 50 * 2**20, timeout_s: float = 10.0) -> bytes:
    """The bytes of the file at an http or https address; the defaults suit an image.

    max_bytes: the largest answer accepted, checked against what the server announces and against what it sends.
    timeout_s: for everything together: name look-up, connection, redirects, answer; half a minute of silence also ends
        a longer one.

    Raises ValueError for another kind of address, an answer that is text or too large, TimeoutError, and OSError for
    an address that does not answer, answers with an error or breaks off.
    """
    _check_scheme(url)
    # Neither a name look-up nor a header that arrives byte by byte obeys a socket's timeout; waiting for a thread does.
    answer: Future[bytes] = Future()
    silence_s = min(timeout_s, MAX_SILENCE_S)

    def work() -> None:
        try:
            answer.set_result(_download(url, max_bytes, time.monotonic() + timeout_s, silence_s))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, name="fetch", daemon=True).start()
    try:
        return answer.result(timeout_s)
    except TimeoutError:
        raise TimeoutError(
            f"{url} is too slow: the limit is {timeout_s:g} s in all and {silence_s:g} s of silence; try again later"
        ) from None


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    max_redirections = MAX_REDIRECTS

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not _is_web(newurl):
            raise urllib.error.HTTPError(req.full_url, code, f"a redirect to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_web(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _check_scheme(url: str) -> None:
    if not _is_web(url):
        raise ValueError(f"files are fetched from http:// and https:// addresses only, got {url}")


def _download(url: str, max_bytes: int, deadline: float, silence_s: float) -> bytes:
    opener = urllib.request.build_opener(_WebRedirects)
    request = urllib.request.Request(url, headers={"User-Agent": "vovnet"})
    too_large = f"the file at {url} is larger than the limit of {max_bytes} bytes"
    try:
        with opener.open(request, timeout=silence_s) as response:
            kind = response.headers.get_content_type()
            if response.headers.get("Content-Type") and kind.startswith("text/"):
                raise ValueError(f"{url} answers with {kind}, a page to read; give the address of the file itself")
            announced = response.length
            if announced is not None and announced > max_bytes:
                raise ValueError(too_large)
            content = bytearray()
            while chunk := response.read1(2**16):
                content += chunk
                if len(content) > max_bytes:
                    raise ValueError(too_large)
                if time.monotonic() > deadline:
                    raise TimeoutError
    except urllib.error.HTTPError as error:
        error.close()
        reason = " ".join(str(error.reason).split())[:200]  # a refused redirect is explained in several lines
        raise OSError(f"{url} answered with {error.code} {reason}; check the address") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise error.reason from None
        raise OSError(f"{url} cannot be reached ({error.reason}); check the address and the network") from None
    except (ConnectionError, http.client.HTTPException) as error:
        raise OSError(f"{url} broke off its answer ({error!r}); try again") from None
    if announced is not None and len(content) < announced:
        raise OSError(f"{url} broke off its answer after {len(content)} of {announced} bytes; try again")
    return bytes(content)
