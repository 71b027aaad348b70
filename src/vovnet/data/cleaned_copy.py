"""Writes a copy of a dataset without the problems that the check found."""

from __future__ import annotations

import shutil
from pathlib import Path

from vovnet.data.check import Report
from vovnet.data.formats import find_format


def write_cleaned_copy(report: Report, out: str | Path) -> None:
    """Writes the dataset without its problems to a new folder, in its own format; `problems.KINDS` says how.

    Images, and annotation files without problems, are copied byte for byte. The original is only read.
    """
    out, root = Path(out), report.root
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not an empty folder: name a new one for the cleaned copy")
    if out.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{out} lies inside the data folder {root}: name a folder outside it for the cleaned copy")
    out.mkdir(parents=True, exist_ok=True)
    for path in root.iterdir():
        if path.is_file():  # licence, notes; the format's own files are overwritten next
            shutil.copy2(path, out / path.name)
    find_format(root).write(root, report.clean, out)
    for path in {image.image_path for split in report.clean for image in split.images}:
        copy = out / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
