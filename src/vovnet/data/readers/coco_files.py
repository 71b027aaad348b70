"""Finds COCO's JSON files, and looks into them without parsing them: some hold half a gigabyte."""

from __future__ import annotations

import heapq
import io
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from vovnet.data.readers import mask_png, yolo
from vovnet.data.readers.coco_fields import Entry
from vovnet.data.readers.tool_files import tool_of
from vovnet.json_entries import JsonEntries, Note, Part, open_json
from vovnet.limits import limits

_OTHER_TASKS = ("captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_")
LISTS = ("images", "annotations", "categories")
_CATEGORY_ID = re.compile(rb'"category_id"\s*:\s*"?([+-]?[0-9]{1,18})(?:\.0*)?"?\s*[,}]')
ROBOFLOW_NAME = "_annotations.coco.json"
_WRITERS = {
    "CVAT or Datumaro": re.compile(rb"\A\{\s*\"licenses\"\s*:\s*\[\s*\{\s*\"name\"\s*:\s*\"\"\s*,\s*\"id\"\s*:\s*0\b"),
    "Label Studio": re.compile(rb"\"contributor\"\s*:\s*\"Label Studio\""),
}
_SHOWS_WRITER = 2000  # bytes at each end of a file
_MOST_SPLITS = 100  # in one folder, beyond which all files are looked at only if they may be COCO's
_MOST_DAMAGED = 5  # files of a tool in one folder before one that shows the tool
_MOST_LISTS = 10  # called "categories" that are looked at: annotations may have lists of this name
_BLOCK = 2**18  # bytes that are looked at together
_LONGEST_ID = 1000  # bytes of a category id with its key
_LONGEST_LIST = 8 * 2**20  # bytes of "categories": fifty times the length of LVIS's


def annotation_files(root: Path) -> dict[str, Path]:
    """Split → its JSON file, in alphabetical order."""
    folders = _names(root, lambda entry: entry.is_dir())
    files = {name: path for name in folders if (path := root / name / ROBOFLOW_NAME).exists()}
    below = root / "annotations"
    if not _are_of_tool(_json_files(below, _MOST_DAMAGED)):  # labelme's lie there too
        files |= {_split_name(path): path for path in _json_files(below)}
    if not files and not yolo.recognises(root) and not mask_png.recognises(root):
        first = _json_files(root, _MOST_SPLITS + 1)
        if len(first) <= _MOST_SPLITS or not _are_of_tool(first):  # labelme has a file for each image
            files = {_split_name(path): path for path in _json_files(root) if _is_coco(path)}
    return dict(sorted(files.items()))


def _json_files(folder: Path, most: int | None = None) -> list[Path]:
    """The JSON files in a folder that may be of this task, sorted, at most so many."""

    def may_be_coco(entry: os.DirEntry[str]) -> bool:
        return os.path.normcase(entry.name).endswith(".json") and not entry.name.startswith(_OTHER_TASKS)

    return [folder / name for name in _names(folder, may_be_coco, most)]


def _names(folder: Path, is_wanted: Callable[[os.DirEntry[str]], bool], most: int | None = None) -> list[str]:
    """Sorted names in a folder, at most so many. The others, of which there may be 100,000, are not listed."""
    try:
        with os.scandir(folder) as entries:
            names = (entry.name for entry in entries if is_wanted(entry))
            return sorted(names) if most is None else heapq.nsmallest(most, names)
    except OSError:
        return []


def _are_of_tool(paths: Sequence[Path]) -> bool:
    """Whether files are those of a labelling tool, by the first ones, of which some may be damaged."""
    for index, path in enumerate(paths[:_MOST_DAMAGED]):
        if tool_of(path):
            return not any(map(_is_coco, paths[:index]))
    return False


def _split_name(path: Path) -> str:
    return "all" if path.name == ROBOFLOW_NAME else path.stem.removeprefix("instances_")


def writer(path: Path) -> str:
    """ "; NAME wrote it", if the file shows which program that was."""
    if path.name == ROBOFLOW_NAME:
        return "; Roboflow wrote it"
    with _opened(path) as file:
        start = file.read(_SHOWS_WRITER)
        file.seek(max(0, file.seek(0, os.SEEK_END) - _SHOWS_WRITER))
        ends = start, file.read(_SHOWS_WRITER)
    return next((f"; {name} wrote it" for name, mark in _WRITERS.items() if any(map(mark.search, ends))), "")


@dataclass(frozen=True)
class CocoFile:
    """A COCO file while it is open.

    parts: all that is in it, by its key: the three lists and whatever else.
    """

    parts: dict[str, Part]
    images: JsonEntries
    annotations: JsonEntries
    categories: list[Entry]


@contextmanager
def open_coco(path: Path, note: Note | None = None) -> Iterator[CocoFile]:
    """A COCO file, whose three lists exist and hold dictionaries. Numbers may have any size.

    note: gives what is kept of each annotation.
    """
    notes = {"images": None, "annotations": note, "categories": None}
    with open_json(path, "json_bytes", notes, any_encoding=True, long_numbers=True) as content:
        parts = content if isinstance(content, dict) else {}
        lists = {}
        for key in LISTS:
            entries = parts.get(key)
            if not isinstance(entries, JsonEntries) or not entries.are_objects:
                raise ValueError(f"{path} must hold a list {key!r} of objects, as COCO's instance files do")
            lists[key] = entries
        yield CocoFile(parts, lists["images"], lists["annotations"], list(lists["categories"]))


def scan_categories(path: Path) -> list[dict[str, Any]]:
    """The list "categories" of a COCO file; empty if it cannot be found."""
    for text in islice(_lists(path, "categories"), _MOST_LISTS):
        try:
            entries, _ = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            continue
        if entries and all(isinstance(entry, dict) and {"id", "name"} <= entry.keys() for entry in entries):
            return entries
    return []


def find_category_ids(path: Path, wanted: Collection[int]) -> set[int]:
    """Those of the category ids that an annotation in a COCO file has."""
    found: set[int] = set()
    tail = b""
    with _opened(path) as file:
        while len(found) < len(wanted) and (block := file.read(_BLOCK)):
            block = tail + block
            found |= {int(match[1]) for match in _CATEGORY_ID.finditer(block)} & set(wanted)
            tail = block[-_LONGEST_ID:]
    return found


def _is_coco(path: Path) -> bool:
    return all(any(_lists(path, key)) for key in LISTS)


def _lists(path: Path, key: str) -> Iterator[str]:
    """The text from the start of each list of this key, the last one in the file first."""
    quoted = f'"{key}"'.encode()
    with _opened(path) as file:
        for place in _places(file, quoted):
            file.seek(place + len(quoted))
            opening = re.match(rb"\s*:\s*(?=\[\s*(?:[{\]]|\Z))", file.read(100))
            if opening:
                file.seek(place + len(quoted) + opening.end())
                yield file.read(_LONGEST_LIST).decode(errors="replace")


def _places(file: BinaryIO, wanted: bytes) -> Iterator[int]:
    """Where these bytes are in a file, the last place first."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        block = file.read(end - start + len(wanted) - 1)
        place = len(block)
        while (place := block.rfind(wanted, 0, place)) >= 0:
            yield start + place
        end = start


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file, as UTF-8."""
    if not path.is_file():  # a pipe would wait
        yield io.BytesIO()
        return
    with path.open("rb") as file:
        encoding = json.detect_encoding(file.read(4))
        file.seek(0)
        if encoding.startswith("utf-8"):
            yield file
        else:
            text = file.read(limits().json_bytes).decode(encoding, errors="replace")
            yield io.BytesIO(text.encode(errors="replace"))
