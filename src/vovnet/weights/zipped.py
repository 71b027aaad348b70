"""Weights in a .pth.zip: an archive that holds one .pth, as pytorchcv publishes its weights.

Every error here is a ValueError whose text goes on after the name of the file.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vovnet.errors import is_out_of_memory, listed
from vovnet.weights.archive import damage, opened_archive

ZIPPED = ".pth.zip"


@contextmanager
def unzipped(path: Path) -> Iterator[Path]:
    """The .pth of an archive, in a temporary folder. No name in the archive becomes that of a file."""
    with _opened(path) as source, tempfile.TemporaryDirectory(prefix="vovnet-") as folder:
        inner = Path(folder, "weights.pth")
        with inner.open("wb") as target:
            shutil.copyfileobj(_Readable(source), target)
        yield inner


def sha1_inside(path: Path) -> str:
    """The SHA-1 of the .pth of an archive, by which pytorchcv's releases are known."""
    with _opened(path) as source:
        digest, readable = hashlib.sha1(), _Readable(source)
        while block := readable.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with opened_archive(path) as archive:
        # The Finder of macOS adds a folder of its own, with a part for each file. A hostile name may be empty.
        parts = [part for part in archive.infolist() if not part.filename.endswith("/")]
        members = [part for part in parts if not part.filename.startswith("__MACOSX/")]
        if len(members) != 1 or not members[0].filename.endswith(".pth"):
            names = listed([repr(part.filename) for part in members], 3) or "nothing"
            raise ValueError(f"must hold one .pth file and nothing else, but holds {names}")
        if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("is compressed in an unusual way: unpack it, and name the .pth in it")
        try:
            source = archive.open(members[0])
        except Exception as error:
            raise damage(error) from error
        with source:
            yield source


class _Readable:
    """What is read of a part of an archive. Damaged archives raise half a dozen types."""

    def __init__(self, source: IO[bytes]) -> None:
        self.source = source

    def read(self, size: int = -1) -> bytes:
        try:
            return self.source.read(size)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise damage(error) from error
