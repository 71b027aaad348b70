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

_UNFINISHED, _OLD = ".vovnet-export-", ".old"


@contextmanager
def unfinished_folder(output: Path) -> Iterator[Path]:
    """A hidden folder for what is not ready. It goes with the block; a killed one's is removed by the next.

    The output folder must be locked.
    """
    for leftover in output.glob(f"{_UNFINISHED}*"):
        _remove(leftover)
    folder = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=output))
    try:
        yield folder
    finally:
        _remove(folder)


def check_replaceable(target: Path, ending: str) -> None:
    """OSError if something is there that is no export of this kind."""
    is_folder = not ending.startswith(".")
    if not os.path.lexists(target) or (target.is_dir() == is_folder and (is_exported(target) or _is_empty(target))):
        return
    raise FileExistsError(
        f"{line(str(target), 200)} is there and is no exported detector: move it away, or choose another --output"
    )


def place(new: Path, target: Path) -> None:
    """Move a file or folder of `unfinished_folder` to its name in the output folder, and replace what is there.

    If that stops half-way, the old folder returns with the end of `unfinished_folder`, this one's or the next.
    """
    if new.is_dir() and os.path.lexists(target):
        target.rename(new.with_name(f"{target.name}{_OLD}"))
    new.replace(target)


def _remove(unfinished: Path) -> None:
    """Remove an unfinished folder; what was to be replaced, and was not, goes back."""
    for old in unfinished.glob(f"*{_OLD}"):
        target = unfinished.with_name(old.name.removesuffix(_OLD))
        if not os.path.lexists(target):
            old.rename(target)
    shutil.rmtree(unfinished, ignore_errors=True)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
