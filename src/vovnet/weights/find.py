"""Find weights: a shipped name, a file, a run's folder, a URL, a name of timm's or torchvision's → a local file."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from torch import Tensor

from vovnet.bounded_http import call_within
from vovnet.download import download_weights
from vovnet.errors import UsageError, did_you_mean, install_extra
from vovnet.files import replacing, try_folder
from vovnet.limits import LimitError
from vovnet.names import shipped_weights
from vovnet.printing import line
from vovnet.runtime.opening import MNN_FILE, OPENVINO_FILE, is_exported
from vovnet.urls import check_url, is_url, shown_url
from vovnet.weights.file import SUFFIXES, read_tensors, suffix_of
from vovnet.zoo import BACKBONES, is_detector

# The VoVNets of timm that have weights on the hub.
VOVNETS_ON_HUB = (
    "timm/ese_vovnet19b_dw.ra_in1k",
    "timm/ese_vovnet39b.ra_in1k",
    "timm/ese_vovnet57b.ra4_e3600_r256_in1k",
)
# torchvision's weights for backbones of the paper; without a tag they are the first ones, as old as the paper.
FROM_TORCHVISION = (
    "torchvision/resnet50",
    "torchvision/resnet101",
    "torchvision/densenet161",
    "torchvision/densenet201",
    "torchvision/resnet50.IMAGENET1K_V2",
    "torchvision/resnet101.IMAGENET1K_V2",
)
BACKBONES_TO_DOWNLOAD = (*VOVNETS_ON_HUB, *FROM_TORCHVISION)
TORCHVISION_HOST = "download.pytorch.org"
HUB_FILE = "model.safetensors"
HUB_TIMEOUT_S = 5.0
_LONGEST_NAME = 100
_NO_WEIGHTS = "holds an exported network, which is no weights: name the weights file that it was exported from"
_ANOTHER_CACHE = "set VOVNET_CACHE to a folder for downloads"


def find_weights(source: str | Path, hub_names: Sequence[str] = ()) -> Path:
    """The local file of weights.

    source: a shipped name, an http(s) URL, a file, a run's folder (of which it takes best.safetensors), or one of
        `hub_names`, each of which starts with "timm/" or "torchvision/". A shipped name hides a file of the same name.

    Files from URLs and torchvision's stay in $VOVNET_CACHE (default ~/.cache/vovnet) and files from the hub in the
    hub's own cache; all are downloaded once. A file from the hub must have the SHA-256 that the hub states, one of
    torchvision's the start of it that its name states. With HF_HUB_OFFLINE=1 nothing is asked of the hub.

    Raises FileNotFoundError, UsageError for an unknown name on the hub, ValueError for a URL that is not http(s),
    ModuleNotFoundError without the hub's library, and OSError if the download fails.
    """
    text, path = str(source), Path(source)
    shipped = shipped_weights()
    if text in shipped:
        return shipped[text]
    if is_url(text):
        return _from_url(text)
    if exported := find_exported(source):
        raise UsageError(f"{line(str(exported), 200)} {_NO_WEIGHTS}")
    if path.is_file():
        return path
    if (path / "best.safetensors").is_file():
        return path / "best.safetensors"
    if hub_names and text.startswith(("timm/", "torchvision/")):
        if text not in hub_names:
            hint = did_you_mean(text, hub_names)
            raise UsageError(f"no weights are called {text!r}{hint} (known names: {', '.join(hub_names)})")
        return _from_hub(text) if text.startswith("timm/") else _from_torchvision(text)
    if path.is_dir() and text:
        files = sorted(file.name for file in path.iterdir() if suffix_of(file) in SUFFIXES)
        files += sorted(entry.name for entry in path.iterdir() if is_exported(entry))
        remedy = f"name one of its files: {', '.join(files[:5])}" if files else "name a weights file"
        raise FileNotFoundError(f"the folder {source} holds no best.safetensors; {remedy}")
    names = [*shipped, *hub_names]
    none_published = "" if hub_names else _not_published()
    if is_detector(text) or text in BACKBONES:
        raise FileNotFoundError(
            f"{text} is a network, not the name of weights (names: {', '.join(names)}); train it with vovnet train, or "
            f"name a weights file or URL{none_published}"
        )
    raise FileNotFoundError(
        f"{source} is neither a weights file nor the name of weights{did_you_mean(text, names)} "
        f"(names: {', '.join(names)}); a URL works too{none_published}"
    )


def _not_published() -> str:
    data = "COCO" if "voc" in shipped_weights() else "COCO or VOC"
    return f"; no weights trained on {data} are published"


def find_exported(source: str | Path) -> Path | None:
    """The exported detector that `source` names, see `is_exported`; None if it names weights, or nothing that is there.

    The network in the folder of an export stands for the folder. A shipped name hides a file of the same name, and the
    folder of a run is that of weights.
    """
    text, path = str(source), Path(source)
    if text in shipped_weights() or is_url(text) or (path / "best.safetensors").is_file():
        return None
    if path.name in (OPENVINO_FILE, MNN_FILE) and is_exported(path.parent):
        return path.parent
    return path if is_exported(path) and path.exists() else None


def weights_hint(name: str) -> str:
    """ "; …" for a name that is no image or file but that of weights, of a network or of a dataset; else nothing."""
    shipped = shipped_weights()
    if name in shipped:
        return f"; it is the name of weights, which --weights {name} loads"
    if is_detector(name) or name in BACKBONES or name.lower().startswith(("coco", "voc", "imagenet")):
        return f"; the weights that ship with vovnet are {', '.join(shipped)}{_not_published()}"
    return ""


@contextmanager
def open_weights(source: str | Path, hub_names: Sequence[str] = ()) -> Iterator[Path]:
    """`find_weights` for a block that reads the file.

    If the block raises ValueError for a file from a URL or for one of torchvision's, the file is deleted, so that the
    next try downloads it again; not for a UsageError or LimitError, which say nothing against the file.
    """
    path = find_weights(source, hub_names)
    try:
        yield path
    except ValueError as error:
        downloaded = is_url(str(source)) or (str(source) in FROM_TORCHVISION and path != Path(source))
        if isinstance(error, UsageError) or isinstance(error.__cause__ or error, LimitError) or not downloaded:
            raise
        path.unlink(missing_ok=True)
        shown = shown_url(str(source))
        raise ValueError(f"{shown} sent no usable weights ({line(str(error), 300)})") from None


def read_source(
    source: str | Path, hub_names: Sequence[str] = BACKBONES_TO_DOWNLOAD
) -> tuple[Path, dict[str, Tensor], dict[str, str]]:
    """The file of `find_weights`, its tensors and its metadata, see `read_tensors`."""
    if is_url(str(source)):
        check_url(str(source))
        if suffix_of(urlsplit(str(source)).path) not in SUFFIXES:
            raise ValueError(
                f"a URL must end in {', '.join(SUFFIXES)}, got {shown_url(str(source))}; "
                "download the file and give its path"
            )
    with open_weights(source, hub_names) as path:
        return (path, *read_tensors(path))


def _cache() -> Path:
    """The folder of downloads, which need not exist. OSError if no home folder is known."""
    folder = Path(os.environ.get("VOVNET_CACHE") or "~/.cache/vovnet")
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise OSError(f"no home folder is known for {folder}; {_ANOTHER_CACHE}") from error


def _from_url(url: str) -> Path:
    check_url(url)
    name = Path(urlsplit(url).path).name or "weights.safetensors"
    path = _cache() / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name[-_LONGEST_NAME:]}"
    if not path.is_file():
        try_folder(path.parent, _ANOTHER_CACHE)
        with replacing(path) as temporary:
            download_weights(url, temporary)
            stated = re.search(r"-([0-9a-f]{8,64})\.pth$", name)  # PyTorch names its files so
            if stated and urlsplit(url).hostname == TORCHVISION_HOST:
                received = _sha256(temporary)
                if not received.startswith(stated[1]):
                    raise OSError(f"{url} arrived with SHA-256 {received}, its name states {stated[1]}; try again")
    return path


def _from_torchvision(name: str) -> Path:
    url = torchvision_url(name)
    try:
        return _from_url(url)
    except OSError as error:
        raise OSError(f"{name}: {error}; or give the path of a copy of that file") from error


def torchvision_url(name: str) -> str:
    """Where torchvision publishes the weights of a name of `FROM_TORCHVISION`."""
    from torchvision.models import get_model_weights

    network, _, tag = name.removeprefix("torchvision/").partition(".")
    url: str = get_model_weights(network)[tag or "IMAGENET1K_V1"].url
    return url


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub(name: str) -> Path:
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
    received = _sha256(path)
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
