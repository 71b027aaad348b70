"""The size of what a runtime runs."""

from __future__ import annotations

from pathlib import Path


def size_bytes(path: Path) -> int:
    """Of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size
