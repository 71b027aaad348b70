"""A key of the code that a result was measured with, so that a later run repeats only what is missing or stale."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch


def source_key(root: Path, sources: Sequence[str], settings: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that change with the text of a source file, its name, a setting, and PyTorch's version.

    sources: files and folders below `root`; of a folder, its Python files.
    """
    values = {**settings, "torch": torch.__version__, "cuda": torch.version.cuda}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode())
    for path in sorted(set(_files(root, sources))):
        digest.update(f"\0{path.relative_to(root).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _files(root: Path, sources: Sequence[str]) -> Iterator[Path]:
    for source in sources:
        path = root / source
        if path.is_dir():
            yield from path.rglob("*.py")
        elif path.is_file():
            yield path
        else:
            raise FileNotFoundError(f"a stage says that it depends on {source}, which is not there")
