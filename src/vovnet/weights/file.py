"""Named tensors out of a stranger's file; nothing in the file is run."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MAX_BYTES = 2 * 2**30
SUFFIXES = (".pth", ".pt", ".safetensors", ".npz")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, and the metadata of one that has such.

    .pth, .pt: a state dict of PyTorch, or one under "model" or "state_dict".
    .npz: of NumPy, for example of a Caffe net, made with
        numpy.savez(file, **{f"{name}.{i}": blob.data for name, b in net.params.items() for i, blob in enumerate(b)})

    Raises FileNotFoundError, or ValueError for a file that is damaged, of another kind, or holds more than tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    if path.suffix not in SUFFIXES:
        caffe = "; make an .npz of it with Caffe, as docs/train.md shows" if path.suffix == ".caffemodel" else ""
        raise ValueError(f"weights are read from files that end in {', '.join(SUFFIXES)}, got {path}{caffe}")
    _check_size(path)
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        content = _read_npz(path) if path.suffix == ".npz" else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each library raises half a dozen kinds for a damaged file
        raise ValueError(
            f"{path} is damaged or holds more than tensors, which is not read ({type(error).__name__}); "
            "fetch it again, or save its state dict alone where you trust it"
        ) from error
    return _state_dict(content, path), {}


def _check_size(path: Path) -> None:
    """Before memory is claimed: a small zip archive may unpack to any size."""
    size = path.stat().st_size
    if path.suffix != ".safetensors" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
    if size > MAX_BYTES:
        raise ValueError(f"{path} holds {size} bytes, no VoVNet needs more than {MAX_BYTES}")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 (not a dict)


def _read_npz(path: Path) -> dict[str, Tensor]:
    import numpy as np

    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a state dict, got {type(content).__name__}")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"{path} must hold a tensor under each name, got {type(tensor).__name__} under {name!r}")
    return dict(content)
