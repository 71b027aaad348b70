"""One run at a time in an output folder: two would destroy each other's files, and both would report success."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from vovnet.printing import line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
try:
    import msvcrt
except ImportError:
    msvcrt = None  # type: ignore[assignment]

NAME = ".vovnet-lock"
_LOCKED_BYTE = 2**30  # on Windows nobody else can read what is locked, so this is beyond the text
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_LOG = logging.getLogger("vovnet")
# Device and inode of folders, and the thread that has each: the system's locks do not stop other threads.
_held: dict[tuple[int, int], int] = {}
_changing = threading.Lock()


class _InUseError(Exception):
    """Another run has the folder; the text says which."""


@contextmanager
def folder_lock(folder: Path, *, remedy: str = "choose another output folder") -> Iterator[None]:
    """Keeps other runs out of the folder while the block runs. The folder is created.

    OSError that names the other run if one has the folder, and the remedy. A thread that has the lock may take it
    again. The system drops it with its process, whatever ends that. A folder that cannot be created or written to gets
    no lock: writing there gives its own error.
    """
    created, held = list[Path](), None
    try:
        created += [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        held = _acquire(folder)
    except _InUseError as other:
        raise OSError(f"{folder} is in use by {other}: wait for its end, stop it, or {remedy}") from None
    except OSError:
        pass
    try:
        yield
    finally:
        if held is not None:
            _release(folder, *held)
        with suppress(OSError):  # a run that wrote nothing leaves nothing
            for path in created:
                path.rmdir()


def _acquire(folder: Path) -> tuple[IO[bytes], tuple[int, int]] | None:
    """The open lock file, and the folder's device and inode; None if this thread has the lock already."""
    status = folder.stat()
    key = (status.st_dev, status.st_ino)
    with _changing:  # to open the file of a lock that this process has, and to close it, would drop the lock
        if _held.get(key) == threading.get_ident():
            return None
        if key in _held:
            raise _InUseError("another thread of this process")
        path = folder / NAME
        while True:
            file = path.open("ab+", buffering=0)
            try:
                _lock(file, folder)
                with suppress(FileNotFoundError):  # its owner ended and removed it in between
                    if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                        break
            except BaseException:
                file.close()
                raise
            file.close()
        owner = (
            f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
        )
        with suppress(OSError):  # a full disk
            file.truncate(0)
            file.write(owner.encode())
        _held[key] = threading.get_ident()
        return file, key


def _lock(file: IO[bytes], folder: Path) -> None:
    """A POSIX record lock, which NFS has too, or one of Windows. _InUseError if another process has it."""
    if fcntl is None and msvcrt is None:
        _LOG.warning("this system has no locks of the kind used here: start no second run in %s", folder)
        return
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            file.seek(_LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            file.seek(0)
            owner = line(file.read(500).decode(errors="replace"), 150)
            raise _InUseError(owner or "another run") from None
        if error.errno not in _NO_LOCKS:
            raise
        _LOG.warning("the file system of %s has no locks (%s): start no second run there", folder, error.strerror)


def _release(folder: Path, file: IO[bytes], key: tuple[int, int]) -> None:
    with _changing:
        if fcntl is None:  # Windows removes no file that is open, here or in a run that has taken the lock since
            file.close()
        with suppress(OSError):  # elsewhere before the lock is gone, so that nobody else's file is removed
            (folder / NAME).unlink()
        file.close()
        _held.pop(key, None)
