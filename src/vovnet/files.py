"""Writes files completely or not at all."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`. The file that the block writes there replaces `path` if the block succeeds.

    If the block fails or the machine stops, the old file stays as it was. Missing parent folders are created. A full
    disk raises an OSError that names the file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")  # writers go by the suffix
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        full = error.errno in _FULL
        about_path = error.filename is not None and Path(error.filename) in (temporary, path, path.parent)
        if not full and not about_path:
            raise  # the error concerns another file that the block used
        remedy = "free some disk space or choose another folder" if full else "choose another folder"
        raise OSError(
            f"could not write {path} ({error.strerror}); {remedy}; what was there before is unharmed"
        ) from error
    finally:
        with suppress(OSError):  # an error above is what the caller needs to see
            temporary.unlink()


def write_json(path: str | Path, content: Any, *, indent: int | None = 1) -> None:
    """Writes `content` as JSON, completely or not at all. NaN and infinity, which JSON lacks, are a ValueError."""
    text = json.dumps(content, indent=indent, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
