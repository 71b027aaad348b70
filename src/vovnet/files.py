"""Files that are either whole or not there."""

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
    """A temporary path beside `path`; what the block writes there takes the place of `path` when the block ends well.

    When it does not, or the machine stops, the old file stays as it was. Folders above `path` are made. A full disk
    is an OSError that names the file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")  # formats are told by the suffix
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        full = error.errno in _FULL
        mine = error.filename is not None and Path(error.filename) in (temporary, path, path.parent)
        if not full and not mine:
            raise  # it is about something else that the block did, and says so
        remedy = "free some disk space or choose another folder" if full else "choose another folder"
        raise OSError(
            f"could not write {path} ({error.strerror}); {remedy}; what was there before is unharmed"
        ) from error
    finally:
        with suppress(OSError):  # what went wrong above is the news
            temporary.unlink()


def write_json(path: str | Path, content: Any, *, indent: int | None = 1) -> None:
    """Write `content` as JSON, whole or not at all. Raises ValueError for NaN and infinity, which JSON lacks."""
    text = json.dumps(content, indent=indent, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
