"""Weights that other packages publish on a web server, by name: torchvision's and pytorchcv's."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from vovnet.weights.cached import from_url, sha256_of
from vovnet.weights.zipped import sha1_inside

# torchvision's weights for backbones of the paper; without a tag they are the first ones, as old as the paper.
FROM_TORCHVISION = (
    "torchvision/resnet50",
    "torchvision/resnet101",
    "torchvision/densenet161",
    "torchvision/densenet201",
    "torchvision/resnet50.IMAGENET1K_V2",
    "torchvision/resnet101.IMAGENET1K_V2",
)
TORCHVISION_HOST = "download.pytorch.org"

# pytorchcv's table of its releases: part of the file's name, the SHA-1 of the file in the archive, the release.
_RELEASES = {
    "pytorchcv/vovnet27s": ("0997", "b7a5bf677bd3431bbed44b439fde7a01d699ace1", "v0.0.551"),
    "pytorchcv/vovnet39": ("0564", "63bfa613870b37bd4fb5b71412e7875392aa4f66", "v0.0.493"),
    "pytorchcv/vovnet57": ("0518", "c080e47169a176043f298b1e909ddd8776d5aa76", "v0.0.505"),
}
FROM_PYTORCHCV = tuple(_RELEASES)
PYTORCHCV_RELEASES = "https://github.com/osmr/imgclsmob/releases/download"

PUBLISHED = (*FROM_TORCHVISION, *FROM_PYTORCHCV)


def from_published(name: str) -> Path:
    """The file of a name of `PUBLISHED`, downloaded once. OSError if it does not arrive, or not as it is stated."""
    url = torchvision_url(name) if name in FROM_TORCHVISION else pytorchcv_url(name)
    try:
        return from_checked_url(url, _RELEASES[name][1] if name in _RELEASES else "")
    except OSError as error:
        raise OSError(f"{name}: {error}; or give the path of a copy of that file") from error


def from_checked_url(url: str, sha1: str = "") -> Path:
    """As `from_url`; a new file of torchvision's must have the SHA-256 that its name states.

    sha1: of the .pth in the archive that the URL leads to.
    """
    if sha1:
        return from_url(url, lambda path: _fault_inside(path, sha1))
    stated = re.search(r"-([0-9a-f]{8,64})\.pth$", urlsplit(url).path)  # PyTorch names its files so
    if stated and urlsplit(url).hostname == TORCHVISION_HOST:
        return from_url(url, lambda path: _fault(path, stated[1]))
    return from_url(url)


def torchvision_url(name: str) -> str:
    """Where torchvision publishes the weights of a name of `FROM_TORCHVISION`."""
    from torchvision.models import get_model_weights

    network, _, tag = name.removeprefix("torchvision/").partition(".")
    url: str = get_model_weights(network)[tag or "IMAGENET1K_V1"].url
    return url


def pytorchcv_url(name: str) -> str:
    """Where pytorchcv publishes the weights of a name of `FROM_PYTORCHCV`."""
    error, sha1, release = _RELEASES[name]
    return f"{PYTORCHCV_RELEASES}/{release}/{name.removeprefix('pytorchcv/')}-{error}-{sha1[:8]}.pth.zip"


def _fault(path: Path, stated: str) -> str:
    received = sha256_of(path)
    return "" if received.startswith(stated) else f"SHA-256 {received}, its name states {stated}"


def _fault_inside(path: Path, stated: str) -> str:
    try:
        received = sha1_inside(path)
    except ValueError as error:
        return f"no archive of weights (it {error})"
    return "" if received == stated else f"a .pth of SHA-1 {received}, pytorchcv states {stated}"
