"""Writes files completely or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_LONGEST_SUFFIX = 16
# These may lead to a regular file, to which whoever opened it goes on to write.
_OPEN_FILES = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`. The file that the block writes there replaces `path` if the block succeeds.

    If the block fails or the machine stops, the old file stays as it was. Missing parent folders are created. A full
    disk raises an OSError that names the file. A link stays a link, and what it leads to is replaced. What is no
    regular file, such as /dev/null or a named pipe, is written to, never replaced.
    """
    path = Path(path)
    temporary = path
    try:
        if is_special(path):
            with tempfile.TemporaryDirectory(prefix="vovnet-") as folder:
                temporary = Path(folder, f"content{_suffix(path)}")
                yield temporary
                _write_through(temporary, path)
            return
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        temporary = _beside(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        full = error.errno in _FULL
        names = (temporary, path, path.parent, temporary.parent)
        about_path = error.filename is not None and Path(os.fsdecode(error.filename)) in names
        if not full and not about_path:
            raise  # the error concerns another file that the block used
        remedy = "free some disk space or choose another folder" if full else "choose another folder or name"
        raise OSError(
            f"could not write {path} ({error.strerror}); {remedy}; what was there before is unharmed"
        ) from error
    finally:
        if temporary != path:
            with suppress(OSError):  # an error above is what the caller needs to see
                temporary.unlink()


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes `data`, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8, completely or not at all. What UTF-8 lacks, as bytes of a file name, is escaped."""
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_json(path: str | Path, content: Any, *, indent: int | None = 1) -> None:
    """Writes `content` as JSON, completely or not at all. NaN and infinity, which JSON lacks, are a ValueError."""
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n")


def is_special(path: Path) -> bool:
    """Whether a path is a device, a pipe, a socket, or one that a process has open, as /dev/stdout."""
    try:
        mode = path.stat().st_mode
    except OSError:  # not there, or its own error when it is written
        return False
    if not stat.S_ISREG(mode):
        return not stat.S_ISDIR(mode)
    return os.path.abspath(path).startswith(_OPEN_FILES)


def _write_through(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as source, path.open("ab") as target:
        shutil.copyfileobj(source, target)


def _beside(path: Path) -> Path:
    """A name in the same folder, which no other writer has, and which is not too long where the file's own is not."""
    digest = hashlib.blake2b(os.fsencode(path.name), digest_size=6).hexdigest()
    return path.with_name(f".{digest}.{secrets.token_hex(4)}.part{_suffix(path)}")


def _suffix(path: Path) -> str:
    """Writers go by the suffix."""
    return path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""
