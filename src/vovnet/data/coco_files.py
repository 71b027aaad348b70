"""Finds COCO's JSON files, and looks into them without parsing them: some hold half a gigabyte."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vovnet.data import mask_png, yolo

_OTHER_TASKS = ("captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_")
_LISTS = ("images", "annotations", "categories")
_LONGEST_LIST = 8 * 2**20  # bytes of "categories": fifty times the length of LVIS's


def annotation_files(root: Path) -> dict[str, Path]:
    """Split → its JSON file, in alphabetical order."""
    files = {path.parent.name: path for path in root.glob("*/_annotations.coco.json")}
    for path in sorted((root / "annotations").glob("*.json")):
        if not path.stem.startswith(_OTHER_TASKS):
            files[_split_name(path)] = path
    if not files and not yolo.recognises(root) and not mask_png.recognises(root):
        paths = (path for path in sorted(root.glob("*.json")) if not path.stem.startswith(_OTHER_TASKS))
        files = {_split_name(path): path for path in paths if _is_coco(path)}
    return dict(sorted(files.items()))


def _split_name(path: Path) -> str:
    return "all" if path.name == "_annotations.coco.json" else path.stem.removeprefix("instances_")


def parse_json(path: Path) -> dict[str, Any]:
    """The content of a COCO file, whose three lists exist and hold dictionaries."""
    try:
        content = json.loads(path.read_bytes())
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}): download it again") from error
    for key in _LISTS:
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{path} must hold a list {key!r} of objects, as COCO's instance files do")
    return content


def scan_categories(path: Path) -> list[dict[str, Any]]:
    """The list "categories" of a COCO file; empty if it cannot be found."""
    for text in _lists(path, "categories"):
        try:
            entries, _ = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            continue
        if entries and all(isinstance(entry, dict) and {"id", "name"} <= entry.keys() for entry in entries):
            return entries
    return []


def has_annotation(path: Path, category_id: int) -> bool:
    """Whether an annotation in a COCO file is of this category."""
    pattern = re.compile(rb'"category_id"\s*:\s*"?%d(\.0*)?"?\s*[,}]' % category_id)
    with _mapped(path) as data:
        return pattern.search(data) is not None


def _is_coco(path: Path) -> bool:
    return all(any(_lists(path, key)) for key in _LISTS)


def _lists(path: Path, key: str) -> Iterator[str]:
    """The text from the start of each list of this key, the last one in the file first."""
    quoted = f'"{key}"'.encode()
    with _mapped(path) as data:
        position = len(data)
        while (position := data.rfind(quoted, 0, position)) >= 0:
            start = position + len(quoted)
            opening = re.match(rb"\s*:\s*(?=\[)", data[start : start + 100])
            if opening:
                start += opening.end()
                yield data[start : start + _LONGEST_LIST].decode(errors="replace")


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap | bytes]:
    with path.open("rb") as file:
        if not path.stat().st_size:
            yield b""  # cannot be mapped
            return
        encoding = json.detect_encoding(file.read(4))
        if not encoding.startswith("utf-8"):
            file.seek(0)
            yield file.read().decode(encoding, errors="replace").encode(errors="replace")
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
