"""The user's cache, and the files of URLs in it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from vovnet.download import download_weights
from vovnet.files import replacing, try_folder
from vovnet.urls import check_url, shown_url

_LONGEST_NAME = 100
_ANOTHER_CACHE = "set VOVNET_CACHE to a folder for downloads"


def cache_folder() -> Path:
    """The folder of what can be fetched or made again, which need not exist. OSError if no home folder is known."""
    try:
        if stated := os.environ.get("VOVNET_CACHE"):
            return Path(stated).expanduser()
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "vovnet"
        if sys.platform == "darwin":
            return Path.home() / "Library/Caches/vovnet"
        stated = os.environ.get("XDG_CACHE_HOME", "")
        return (Path(stated) if os.path.isabs(stated) else Path.home() / ".cache") / "vovnet"
    except RuntimeError as error:
        raise OSError(f"no home folder is known; {_ANOTHER_CACHE}") from error


def from_url(url: str, fault: Callable[[Path], str] = lambda path: "") -> Path:
    """The file of a URL, which is downloaded once.

    fault: what is wrong with a new file, as "SHA-256 …, its name states …"; nothing if it is right. OSError if so.
    """
    check_url(url)
    name = Path(urlsplit(url).path).name or "weights.safetensors"
    path = cache_folder() / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name[-_LONGEST_NAME:]}"
    if not path.is_file():
        try_folder(path.parent, _ANOTHER_CACHE)
        with replacing(path) as temporary:
            download_weights(url, temporary)
            if wrong := fault(temporary):
                raise OSError(f"{shown_url(url)} arrived with {wrong}; try again")
    return path


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
