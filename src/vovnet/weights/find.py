"""Find weights: a shipped name, a file, a run's folder, a URL, a name on the hub or of a package → a local file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from torch import Tensor

from vovnet.errors import UsageError, did_you_mean, nearest_beside
from vovnet.limits import LimitError
from vovnet.names import shipped_weights
from vovnet.printing import line
from vovnet.runtime.opening import MNN_FILE, OPENVINO_FILE, is_exported
from vovnet.urls import check_url, is_hub_name, is_url, shown_url
from vovnet.weights.asked_once import answer
from vovnet.weights.file import SUFFIXES, read_tensors, suffix_of
from vovnet.weights.hub import VOVNETS_ON_HUB, from_hub, from_timm, refuse_page
from vovnet.weights.published import PUBLISHED, from_checked_url, from_published
from vovnet.zoo import BACKBONES, is_detector

BACKBONES_TO_DOWNLOAD = (*VOVNETS_ON_HUB, *PUBLISHED)
_PACKAGES = ("timm/", "torchvision/", "pytorchcv/")
_NO_WEIGHTS = "holds an exported network, which is no weights: name the weights file that it was exported from"


def find_weights(source: str | Path, hub_names: Sequence[str] = ()) -> Path:
    """The local file of weights.

    source: a shipped name, an http(s) URL, "hf:owner/name" on the hub, a file, a run's folder (of which it takes
        best.safetensors), or one of `hub_names`, each of which starts with "timm/", "torchvision/" or "pytorchcv/". A
        shipped name hides a file of the same name.

    Files from URLs and of torchvision and pytorchcv stay in the user's cache ($VOVNET_CACHE), downloaded once.
    Files from the hub stay in the hub's own cache until there is a newer one, see `from_hub`. A file from the hub must
    have the digest that the hub states, one of torchvision's the start of the SHA-256 that its name states, one of
    pytorchcv's the SHA-1 that pytorchcv states. With HF_HUB_OFFLINE=1 nothing is asked of the hub.

    Raises FileNotFoundError, UsageError for an unknown name on the hub, ValueError for a URL that is not http(s),
    ModuleNotFoundError without the hub's library, and OSError if the download fails.
    """
    text, path = str(source), Path(source)
    shipped = shipped_weights()
    if text in shipped:
        return shipped[text]
    if is_hub_name(text):
        return answer(text, from_hub)
    if is_url(text):
        check_url(text)
        refuse_page(text)
        return from_checked_url(text)
    if exported := find_exported(source):
        raise UsageError(f"{line(str(exported), 200)} {_NO_WEIGHTS}")
    if path.is_file():
        return path
    if (path / "best.safetensors").is_file():
        return path / "best.safetensors"
    if hub_names and text.startswith(_PACKAGES):
        if text not in hub_names:
            hint = did_you_mean(text, hub_names)
            raise UsageError(f"no weights are called {text!r}{hint} (known names: {', '.join(hub_names)})")
        return from_timm(text) if text.startswith("timm/") else from_published(text)
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
    near = did_you_mean(text, names) or nearest_beside(path)
    raise FileNotFoundError(
        f"{source} is neither a weights file nor the name of weights{near} "
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
    if text in shipped_weights() or is_url(text) or is_hub_name(text) or (path / "best.safetensors").is_file():
        return None
    if path.name in (OPENVINO_FILE, MNN_FILE) and is_exported(path.parent):
        return path.parent
    return path if is_exported(path) and path.exists() else None


def weights_hint(name: str) -> str:
    """ "; …" for a name that is no image or file but that of weights, of a network or of a dataset; else nothing."""
    shipped = shipped_weights()
    if name in shipped or is_hub_name(name):
        return f"; it is the name of weights, which --weights {name} loads"
    if is_detector(name) or name in BACKBONES or name.lower().startswith(("coco", "voc", "imagenet")):
        return f"; the weights that ship with vovnet are {', '.join(shipped)}{_not_published()}"
    return ""


@contextmanager
def open_weights(source: str | Path, hub_names: Sequence[str] = ()) -> Iterator[Path]:
    """`find_weights` for a block that reads the file.

    If the block raises ValueError for a file from a URL or for a published one of another package, the file is deleted,
    so that the next try downloads it again; not for a UsageError or LimitError, which say nothing against the file.
    """
    path = find_weights(source, hub_names)
    try:
        yield path
    except ValueError as error:
        text = str(source)
        downloaded = is_url(text) or (text in PUBLISHED and path != Path(source))
        if isinstance(error, UsageError) or isinstance(error.__cause__ or error, LimitError) or not downloaded:
            raise
        path.unlink(missing_ok=True)
        raise ValueError(f"{shown_url(text)} sent no usable weights ({line(str(error), 300)})") from None


def read_source(
    source: str | Path, hub_names: Sequence[str] = BACKBONES_TO_DOWNLOAD
) -> tuple[Path, dict[str, Tensor], dict[str, str]]:
    """The file of `find_weights`, its tensors and its metadata, see `read_tensors`."""
    text = str(source)
    if is_url(text):
        check_url(text)
        refuse_page(text)
        if suffix_of(urlsplit(text).path) not in SUFFIXES:
            raise ValueError(
                f"a URL must end in {', '.join(SUFFIXES)}, got {shown_url(text)}; download the file and give its path"
            )
    with open_weights(source, hub_names) as path:
        return (path, *read_tensors(path))
