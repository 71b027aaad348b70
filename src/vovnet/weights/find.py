"""Files of weights from elsewhere: a path, an address, or a name on timm's hub → a file here, fetched once."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import threading
import urllib.request
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from urllib.parse import urlsplit

from vovnet.errors import UsageError, did_you_mean
from vovnet.files import replacing
from vovnet.weights.file import MAX_BYTES, SUFFIXES

# Of timm's VoVNets those that have weights on the hub.
ON_HUB = (
    "timm/ese_vovnet19b_dw.ra_in1k",
    "timm/ese_vovnet39b.ra_in1k",
    "timm/ese_vovnet57b.ra4_e3600_r256_in1k",
)
HUB_FILE = "model.safetensors"
TIMEOUT_S = 5.0  # for the hub to say what it has; for an address to begin and to go on
_BLOCK = 2**20


def find_file(source: str | Path, on_hub: Sequence[str] = ON_HUB) -> Path:
    """The file behind a path, an http(s) address, or one of the names `on_hub`.

    What is fetched stays in $VOVNET_CACHE (~/.cache/vovnet), or in the hub's own cache, and is fetched no more. A file
    from the hub must have the SHA-256 that the hub states. With HF_HUB_OFFLINE=1 the hub is not asked.

    Raises FileNotFoundError, ValueError for another kind of address or name, ModuleNotFoundError without the hub's
    library, OSError where the network or the other end fails.
    """
    text, path = str(source), Path(source)
    if path.is_file():
        return path
    if text.startswith("timm/"):
        return _from_hub(text, on_hub)
    if is_address(text):
        return _from_address(text)
    raise FileNotFoundError(f"no weights file {text}; weights are a file, an https:// address, or {', '.join(on_hub)}")


def is_address(source: str | Path) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", str(source)) is not None


def _cache() -> Path:
    return Path(os.environ.get("VOVNET_CACHE", "~/.cache/vovnet")).expanduser()


def _from_hub(name: str, on_hub: Sequence[str]) -> Path:
    if name not in on_hub:
        raise UsageError(f"no weights are called {name!r}{did_you_mean(name, on_hub)} (there are: {', '.join(on_hub)})")
    by_hand = _cache() / f"{name}.safetensors"
    if by_hand.is_file():
        return by_hand
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{name} needs an extra: pip install 'vovnet[timm]'", name=error.name) from error
    cached = try_to_load_from_cache(name, HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    try:
        sha256 = _stated_by_hub(name)
        path = Path(hf_hub_download(name, HUB_FILE, etag_timeout=TIMEOUT_S))
    except Exception as error:  # the hub's library raises those of its network library, which has changed before
        raise OSError(
            f"{name} could not be fetched from the hub ({type(error).__name__}); "
            f"put its file {HUB_FILE} from https://huggingface.co/{name} at {by_hand}"
        ) from error
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != sha256:
        path.resolve().unlink()  # so that the next try fetches it again
        path.unlink(missing_ok=True)
        raise OSError(f"{name} arrived with SHA-256 {got}, the hub states {sha256}; try again")
    return path


def _stated_by_hub(name: str) -> str:
    """The SHA-256 of the hub's file, from the hub."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    answer: Future[str | None] = Future()

    def ask() -> None:
        try:
            answer.set_result(get_hf_file_metadata(hf_hub_url(name, HUB_FILE), timeout=TIMEOUT_S).etag)
        except BaseException as error:
            answer.set_exception(error)

    # A name look-up on a blocked network does not obey the timeout; waiting for a thread does.
    threading.Thread(target=ask, name="hub", daemon=True).start()
    sha256 = answer.result(2 * TIMEOUT_S)
    if sha256 is None or re.fullmatch("[0-9a-f]{64}", sha256) is None:
        raise ValueError("the hub states no SHA-256")
    return sha256


def _from_address(url: str) -> Path:
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"weights are fetched from http:// and https:// addresses only, got {url}")
    name = Path(urlsplit(url).path).name
    if Path(name).suffix not in SUFFIXES:
        raise ValueError(f"an address of weights must end in {', '.join(SUFFIXES)}, got {url}: fetch the file by hand")
    path = _cache() / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    if not path.is_file():
        with replacing(path) as temporary:
            _download(url, temporary)
    return path


def _download(url: str, path: Path) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "vovnet"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response, path.open("wb") as file:
            announced = response.length
            while block := response.read(_BLOCK):
                if file.tell() + len(block) > MAX_BYTES:
                    raise ValueError(f"the file at {url} is larger than the limit of {MAX_BYTES} bytes")
                file.write(block)
            received = file.tell()
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{url} could not be fetched ({error}); check the address and the network") from error
    if announced is not None and received < announced:
        raise OSError(f"{url} broke off its answer after {received} of {announced} bytes; try again")
