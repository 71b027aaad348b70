"""Find weights: a shipped name, a file, a run's folder, a URL or a name on the Hugging Face hub → a local file."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from torch import Tensor

from vovnet.download import call_within, check_scheme, download_file, is_url
from vovnet.errors import UsageError, did_you_mean, install_extra
from vovnet.files import replacing
from vovnet.weights.file import MAX_BYTES, SUFFIXES, read_tensors

# The VoVNets of timm that have weights on the hub.
VOVNETS_ON_HUB = (
    "timm/ese_vovnet19b_dw.ra_in1k",
    "timm/ese_vovnet39b.ra_in1k",
    "timm/ese_vovnet57b.ra4_e3600_r256_in1k",
)
HUB_FILE = "model.safetensors"
HUB_TIMEOUT_S = 5.0
URL_TIMEOUT_S = 3600.0


def shipped_weights() -> dict[str, Path]:
    """Name → file of the weights that are part of the package."""
    folder = Path(str(resources.files("vovnet") / "weights"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def find_weights(source: str | Path, hub_names: Sequence[str] = ()) -> Path:
    """The local file of weights.

    source: a shipped name, an http(s) URL, a file, a run's folder (of which it takes best.safetensors), or one of
        `hub_names`, each of which starts with "timm/". A shipped name hides a file of the same name.

    Files from URLs stay in $VOVNET_CACHE (default ~/.cache/vovnet) and files from the hub in the hub's own cache; both
    are downloaded once. A file from the hub must have the SHA-256 that the hub states. With HF_HUB_OFFLINE=1 nothing
    is asked of the hub.

    Raises FileNotFoundError, UsageError for an unknown name on the hub, ValueError for a URL that is not http(s),
    ModuleNotFoundError without the hub's library, and OSError if the download fails.
    """
    text, path = str(source), Path(source)
    shipped = shipped_weights()
    if text in shipped:
        return shipped[text]
    if is_url(text):
        return _from_url(text)
    if path.is_file():
        return path
    if (path / "best.safetensors").is_file():
        return path / "best.safetensors"
    if hub_names and text.startswith("timm/"):
        return _from_hub(text, hub_names)
    names = [*shipped, *hub_names]
    raise FileNotFoundError(
        f"{source} is neither a weights file nor the name of weights{did_you_mean(text, names)} "
        f"(names: {', '.join(names)}); a URL works too"
    )


@contextmanager
def open_weights(source: str | Path, hub_names: Sequence[str] = ()) -> Iterator[Path]:
    """`find_weights` for a block that reads the file.

    If the block raises ValueError for a file from a URL, the file is deleted, so that the next try downloads it again.
    """
    path = find_weights(source, hub_names)
    try:
        yield path
    except ValueError as error:
        if isinstance(error, UsageError) or not is_url(str(source)):
            raise  # a wrong name or option says nothing against the file
        path.unlink(missing_ok=True)
        raise ValueError(f"{source} sent no usable weights ({error})") from None


def read_source(
    source: str | Path, hub_names: Sequence[str] = VOVNETS_ON_HUB
) -> tuple[Path, dict[str, Tensor], dict[str, str]]:
    """The file of `find_weights`, its tensors and its metadata, see `read_tensors`."""
    if is_url(str(source)) and Path(urlsplit(str(source)).path).suffix not in SUFFIXES:
        raise ValueError(f"a URL must end in {', '.join(SUFFIXES)}, got {source}; download the file and give its path")
    with open_weights(source, hub_names) as path:
        return (path, *read_tensors(path))


def _cache() -> Path:
    return Path(os.environ.get("VOVNET_CACHE", "~/.cache/vovnet")).expanduser()


def _from_url(url: str) -> Path:
    check_scheme(url)
    name = Path(urlsplit(url).path).name or "weights.safetensors"
    path = _cache() / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    if not path.is_file():
        with replacing(path) as temporary:
            download_file(url, temporary, max_bytes=MAX_BYTES, timeout_s=URL_TIMEOUT_S)
    return path


def _from_hub(name: str, hub_names: Sequence[str]) -> Path:
    if name not in hub_names:
        hint = did_you_mean(name, hub_names)
        raise UsageError(f"no weights are called {name!r}{hint} (known names: {', '.join(hub_names)})")
    manual = _cache() / f"{name}.safetensors"
    if manual.is_file():
        return manual
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{name} needs an extra: {install_extra('timm')}", name=error.name) from error
    cached = try_to_load_from_cache(name, HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    try:
        stated = _sha256_on_hub(name)
        path = Path(hf_hub_download(name, HUB_FILE, etag_timeout=HUB_TIMEOUT_S))
    except Exception as error:  # the hub's library passes on the errors of its network library, which has changed
        raise OSError(
            f"{name} could not be downloaded from the hub ({type(error).__name__}); "
            f"download {HUB_FILE} from https://huggingface.co/{name} and save it as {manual}"
        ) from error
    with path.open("rb") as file:
        received = hashlib.file_digest(file, "sha256").hexdigest()
    if received != stated:
        path.resolve().unlink()  # the next try downloads it again
        path.unlink(missing_ok=True)
        raise OSError(f"{name} arrived with SHA-256 {received}, the hub states {stated}; try again")
    return path


def _sha256_on_hub(name: str) -> str:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    metadata = call_within(
        2 * HUB_TIMEOUT_S, lambda: get_hf_file_metadata(hf_hub_url(name, HUB_FILE), timeout=HUB_TIMEOUT_S)
    )
    if metadata.etag is None or re.fullmatch("[0-9a-f]{64}", metadata.etag) is None:
        raise ValueError("the hub states no SHA-256")
    return metadata.etag
