"""Where weights come from: those that ship with the package, a file, or an address."""

from __future__ import annotations

import hashlib
import os
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from vovnet.download import download, is_url
from vovnet.errors import did_you_mean
from vovnet.files import replacing
from vovnet.weights.checkpoint import LoadedModel, load_model

_MAX_BYTES = 2 * 2**30
_TIMEOUT_S = 3600.0


def shipped_weights() -> dict[str, Path]:
    """Name → file of the weights that are part of the package."""
    folder = Path(str(resources.files("vovnet") / "weights"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def find_weights(source: str | Path) -> Path:
    """The file behind a shipped name, a path, or an http(s) address (fetched once, then taken from the cache).

    The path may also be a run's folder, of which it takes best.safetensors.

    The cache is $VOVNET_CACHE, or ~/.cache/vovnet. Raises FileNotFoundError, or OSError for a broken download.
    """
    shipped, path = shipped_weights(), Path(source)
    if str(source) in shipped:
        return shipped[str(source)]
    if is_url(str(source)):
        return _download(str(source))
    if path.is_file():
        return path
    if (path / "best.safetensors").is_file():
        return path / "best.safetensors"
    hint = did_you_mean(str(source), shipped)
    raise FileNotFoundError(
        f"{source} is neither a weights file nor the name of shipped weights{hint} (there are: {', '.join(shipped)})"
    )


def load_weights(source: str | Path) -> LoadedModel:
    """A trained model in eval mode from a shipped name, a file, or an address.

    Raises FileNotFoundError, OSError for a broken download, or ValueError when the file holds no detector.
    """
    path = find_weights(source)
    try:
        return load_model(path)
    except ValueError as error:
        if not is_url(str(source)):
            raise
        path.unlink()  # so that the next try fetches it again
        raise ValueError(f"{source} did not send weights that can be used ({error})") from None


def _download(url: str) -> Path:
    cache = Path(os.environ.get("VOVNET_CACHE", "~/.cache/vovnet")).expanduser()
    name = Path(urlsplit(url).path).name or "weights.safetensors"
    path = cache / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    if not path.is_file():
        content = download(url, max_bytes=_MAX_BYTES, timeout_s=_TIMEOUT_S)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    return path
