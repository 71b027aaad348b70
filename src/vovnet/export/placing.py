"""Puts a new export where an older one may be: whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vovnet.printing import line
from vovnet.runtime.opening import is_exported

_UNFINISHED = ".vovnet-export-"


@contextmanager
def unfinished_folder(output: Path) -> Iterator[Path]:
    """A hidden folder for what is not ready. It goes with the block; a killed one's is removed by the next.

    The output folder must be locked.
    """
    for leftover in output.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=output, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def check_replaceable(target: Path, ending: str) -> None:
    """OSError if something is there that is no export of this kind."""
    is_folder = not ending.startswith(".")
    if not os.path.lexists(target) or (target.is_dir() == is_folder and (is_exported(target) or _is_empty(target))):
        return
    raise FileExistsError(
        f"{line(str(target), 200)} is there and is no exported detector: move it away, or choose another --output"
    )


def place(new: Path, target: Path) -> None:
    """Move a file or folder of `unfinished_folder` to `target`; what is there is replaced at the end."""
    if not new.is_dir() or not os.path.lexists(target):
        new.replace(target)
        return
    old = new.with_name(f"{new.name}.old")
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
