"""Which labelling tool wrote a JSON or CSV file, by a look at it, and which split the file belongs to."""

from __future__ import annotations

import heapq
import json
import mmap
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from vovnet.data.splits.split_roles import find_role
from vovnet.limits import limits
from vovnet.printing import line

Tool = Literal["labelme", "via", "label_studio"]

ALL = "all"  # the split of the files that no folder or name of a split holds

_HEAD = 2**16  # bytes that are looked at
_MOST_FILES, _MOST_FOLDERS = 20, 50  # of a folder, by which it is recognised
_VIA_KEYS = ("_via_settings", "_via_img_metadata")
_FIRST_OBJECT = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\{')


def first_file(root: Path, tool: Tool) -> str:
    """The tool's first file in a folder or in those in it, relative to the folder; "" if none of the first is its own.

    Few files are opened, however many there are.
    """
    first = (path for folder in _folders(root, _MOST_FOLDERS) for path in _files(folder, _MOST_FILES))
    return next((line(path.relative_to(root).as_posix(), 60) for path in first if tool_of(path) == tool), "")


def find_files(root: Path, tool: Tool) -> list[Path]:
    """All files of a tool in the folder and two levels below it.

    Exports as CSV and JSON lie side by side: a CSV file counts only if no JSON file is of its split, or of all images.
    """
    files = [path for folder in _folders(root) for path in _files(folder) if tool_of(path) == tool]
    by_json = {split_of(path, root) for path in files if path.suffix.lower() == ".json"}
    if not by_json:
        return files

    def counts(path: Path) -> bool:
        split = split_of(path, root)
        return path.suffix.lower() == ".json" or not (split == ALL or by_json & {split, ALL})

    return list(filter(counts, files))


def split_of(path: Path, root: Path) -> str:
    """The folder above a file, or else the file itself, that is called like a split; `all` without either."""
    relative = path.relative_to(root)
    names = (*relative.parent.parts, relative.stem)
    return next((name for name in names if find_role(name)), ALL)


def split_of_folder(path: Path, root: Path) -> str:
    """As `split_of`, by folders alone: where each image has a file, this is called like the image."""
    return next((name for name in path.relative_to(root).parent.parts if find_role(name)), ALL)


def tool_of(path: Path) -> Tool | None:
    """The tool that wrote a file; None if it is none of these, cannot be read, or is too large to be one."""
    try:
        if not path.is_file() or not 0 < path.stat().st_size <= limits().json_bytes:
            return None
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Look(data).tool()
    except (OSError, ValueError):
        return None


class _Look:
    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.encoding = data, json.detect_encoding(data[:4])
        self.head = data[:_HEAD].decode(self.encoding, errors="replace").lstrip("\ufeff \t\r\n")

    def tool(self) -> Tool | None:
        if self.head.startswith("{"):
            return "labelme" if self._is_labelme() else "via" if self._is_via() else None
        if re.match(r"\[\s*\{", self.head):
            return "label_studio" if self._is_label_studio() else None
        return "via" if is_via_header(self.head.partition("\n")[0]) else None

    def _has(self, *keys: str) -> bool:
        """Whether all these keys are somewhere in the file. A value that looks like a key is no harm."""
        mark = self.encoding.replace("utf-8-sig", "utf-8")
        mark = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(mark, mark)
        return all(f'"{key}"' in self.head or self.data.find(f'"{key}"'.encode(mark)) >= 0 for key in keys)

    def _is_labelme(self) -> bool:
        some = any(f'"{key}"' in self.head for key in ("shapes", "imagePath", "imageData"))
        return some and self._has("shapes", "imagePath")

    def _is_via(self) -> bool:
        if any(f'"{key}"' in self.head for key in _VIA_KEYS):
            return True
        if re.match(r'\{\s*"project"\s*:\s*\{', self.head):
            return '"data_format_version"' in self.head
        has_regions = '"regions"' in self.head or '"base64_img_data"' in self.head
        return has_regions and '"filename"' in self.head and bool(_FIRST_OBJECT.match(self.head))

    def _is_label_studio(self) -> bool:
        by_task = self._has("result", "data") and (self._has("annotations") or self._has("completions"))
        return by_task or self._has("original_width", "original_height")


def is_via_header(text: str) -> bool:
    """Whether a line is the first one of VIA's CSV files."""
    names = {name.strip(' "') for name in text.strip().lstrip("#").split(",")}
    return {"filename", "region_shape_attributes", "region_attributes"} <= names


def _folders(root: Path, most: int | None = None) -> Iterator[Path]:
    """The folder, those in it and those in these; of each at most so many."""
    yield root
    below = _sub_folders(root)[:most]
    yield from below
    for folder in below:
        yield from _sub_folders(folder)[:most]


def _sub_folders(folder: Path) -> list[Path]:
    return [folder / name for name in _names(folder, lambda entry: entry.is_dir())]


def _files(folder: Path, most: int | None = None) -> Iterator[Path]:
    names = _names(folder, lambda entry: entry.name.lower().endswith((".json", ".csv")), most)
    return (folder / name for name in names)


def _names(folder: Path, is_wanted: Callable[[os.DirEntry[str]], bool], most: int | None = None) -> list[str]:
    """Sorted names in a folder, at most so many, without hidden ones; none of a folder that may not be read."""
    try:
        with os.scandir(folder) as entries:
            names = (entry.name for entry in entries if not entry.name.startswith(".") and is_wanted(entry))
            return sorted(names) if most is None else heapq.nsmallest(most, names)
    except OSError:
        return []
