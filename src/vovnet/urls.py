"""The form of URLs: which can be asked for, and how they are shown."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from vovnet.printing import line

HUB_PREFIX = "hf:"  # of the names of weights on the Hugging Face Hub


def is_url(text: str) -> bool:
    """Whether `text` starts like a URL: `scheme://`. It need not be http, but is no name on the hub."""
    return not is_hub_name(text) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def is_hub_name(text: str) -> bool:
    """Whether `text` names weights on the Hugging Face Hub, as "hf:owner/name"."""
    return text.startswith(HUB_PREFIX)


def check_url(url: str) -> None:
    """Raises ValueError unless `url` is an http or https URL that can be asked for."""
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"only http:// and https:// URLs can be downloaded, got {shown_url(url)}")
    if fault := _fault(url):
        raise ValueError(f"{shown_url(url)} is no valid URL ({fault})")


def shown_url(url: str, length: int = 120) -> str:
    """The URL in a message: short, on one line, and without the name and password of a user."""
    return line(without_user(url), length)


def without_user(url: str) -> str:
    """The URL with *** in place of the name and password of a user; in a URL that is not valid, of all before an @."""
    rest = "[^/?#]*" if _host_and_port(url) else ".*"
    return re.sub(f"://{rest}(@|%40)", "://***@", url, count=1, flags=re.DOTALL)


def _host_and_port(url: str) -> tuple[str, int | None] | None:
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port
    except ValueError:
        return None


def _fault(url: str) -> str:
    """What is wrong with an http URL, nothing if it can be asked for."""
    found = _host_and_port(url)
    if found is None:
        return "its host or port cannot be read"
    netloc = urlsplit(url).netloc
    if "@" in netloc or "%40" in netloc:
        return "a user name and password in it are not used: download the file and give its path"
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        return "it holds a space or a control character: write a space as %20"
    path = url.partition("://")[2].partition("/")[2]
    if not path.isascii():
        return "letters beyond ASCII in its path must be written as bytes of UTF-8 with %, such as %C3%BC"
    host = found[0]
    if "%" in netloc and not netloc.startswith("["):  # which would be read only after this check
        return "its host holds a %"
    if not host:
        return "it names no host"
    try:
        host.encode("idna")
    except UnicodeError:
        return "its host is no possible name"
    return ""
