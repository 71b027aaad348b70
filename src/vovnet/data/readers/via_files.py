"""The files of the VGG Image Annotator, whichever version wrote them, as images with regions; and with less in them.

VIA 1 and 2 write a project, and exports of the annotations as JSON or CSV; VIA 3 writes a project. In all of them a
region has a shape, and attributes of which the user has chosen the names.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from vovnet.data.readers.tool_files import is_via_header
from vovnet.json_entries import JsonMembers, JsonText, open_json
from vovnet.json_writing import list_pieces, member_pieces, object_pieces
from vovnet.parsing import naming, parse_json, read_json, read_text
from vovnet.printing import quoted

Shape = dict[str, Any]

_METADATA = "_via_img_metadata"
_HEAD_BYTES = 2**16
_CELLS = ("region_shape_attributes", "region_attributes")
# VIA 3's numbers of shapes, and the fields of VIA 2 for what follows in the list.
_SHAPES_3 = {
    1: ("point", ("cx", "cy")),
    2: ("rect", ("x", "y", "width", "height")),
    3: ("circle", ("cx", "cy", "r")),
    4: ("ellipse", ("cx", "cy", "rx", "ry")),
}
_LINES_3 = {5: "line", 6: "polyline", 7: "polygon", 8: "extreme_rect", 9: "extreme_circle"}


@dataclass(frozen=True)
class Region:
    """One region of an image.

    index: its position among all regions of the file.
    key: where the file has it: the key of a dictionary, the position in a list, the number of a row.
    shape: VIA 2's shape_attributes: {"name": "rect", "x": 1, …}; empty for one that is malformed.
    attributes: name → value; the ids of VIA 3's options are replaced by their names.
    """

    index: int
    key: Any
    shape: Shape
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One image of a file, by the name that this states; "" if it states none. row: the first one of a CSV file."""

    key: Any
    name: str
    row: int = 0
    regions: list[Region] = field(default_factory=list)


@dataclass(frozen=True)
class ViaFile:
    """A file while it is open.

    content: the members of the JSON, the whole JSON of VIA 3, or the rows of a CSV file.
    entries: its images, which may be gone through again.
    options: attribute → id of each of its options → what describes it.
    """

    path: Path
    content: Any
    entries: Iterable[Entry]
    options: dict[str, dict[str, str]]


Change = Callable[[Entry], Mapping[int, Shape] | None]
"""Gives the regions of an image that stay: their indices and shapes. None for an image that goes."""


@contextmanager
def open_via(path: Path) -> Iterator[ViaFile]:
    """ValueError for a file that is not VIA's, or is damaged."""
    if path.suffix.lower() == ".csv":
        with naming(path):
            file = _parse_csv(path)
        yield file
        return
    with ExitStack() as stack:
        content = stack.enter_context(open_json(path, "json_bytes", {}, objects=[_long_object(path)]))
        if isinstance(content, dict) and _METADATA not in content:  # it looked like a project
            content = stack.enter_context(open_json(path, "json_bytes", {}, objects=[""]))
        elif isinstance(content, JsonMembers) and content.has(_METADATA):
            content = stack.enter_context(open_json(path, "json_bytes", {}, objects=[_METADATA]))
        images = content.get(_METADATA) if isinstance(content, dict) else content
        if isinstance(images, JsonMembers) and not (images is content and _is_3(images)):
            yield ViaFile(path, content, _Entries2(images, is_project=images is not content), _options_2(content))
            return
    with naming(path):
        file = _parse_whole(path)
    yield file


def _long_object(path: Path) -> str:
    """The key of the object that has the images, by the beginning of the file; "" for the file itself."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return _METADATA if f'"{_METADATA}"'.encode() in head or b'"_via_settings"' in head else ""


def _parse_whole(path: Path) -> ViaFile:
    """That of VIA 3, in which one image is in several places."""
    content = read_json(path, "json_bytes")
    if not isinstance(content, dict):
        raise ValueError(f"must hold VIA's images by their names, got {quoted(content, 40)}")
    if not _is_3(content):
        raise ValueError(f"must hold {_METADATA} by the images' names, got {quoted(content.get(_METADATA), 40)}")
    return _parse_3(path, content)


def _options_2(content: Any) -> dict[str, dict[str, str]]:
    stated = content.get("_via_attributes")
    stated = stated.value() if isinstance(stated, JsonText) else stated
    attributes = _dict(_dict(stated).get("region"))
    return {name: _options(value) for name, value in attributes.items()}


def _is_3(content: Mapping[str, Any] | JsonMembers) -> bool:
    return all(isinstance(content.get(key), dict) for key in ("project", "file", "view", "metadata"))


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


class _Entries2:
    """The images of VIA 1 and 2."""

    def __init__(self, images: JsonMembers, *, is_project: bool) -> None:
        self._images, self._is_project = images, is_project

    def __iter__(self) -> Iterator[Entry]:
        count = 0
        for key, image in self.stated():
            name = _dict(image).get("filename")
            entry = Entry(key, name if isinstance(name, str) else "")
            for region_key, region in _regions_2(image):
                shape, attributes = (_dict(_dict(region).get(n)) for n in ("shape_attributes", "region_attributes"))
                entry.regions.append(Region(count, region_key, shape, attributes))
                count += 1
            yield entry

    def stated(self) -> Iterator[tuple[str, Any]]:
        """The images by their keys, as the file has them. An export has a few settings beside them."""
        return ((key, image) for key, image in self._images if self._is_project or not key.startswith("_via_"))

    def settings(self) -> Iterator[tuple[str, Any]]:
        return ((key, value) for key, value in self._images if not self._is_project and key.startswith("_via_"))


def _regions_2(image: object) -> Iterator[tuple[Any, Any]]:
    """VIA 1 has a dictionary of regions, VIA 2 a list."""
    regions = _dict(image).get("regions")
    if isinstance(regions, dict):
        yield from regions.items()
    elif isinstance(regions, list):
        yield from enumerate(regions)


def _options(attribute: object) -> dict[str, str]:
    options = _dict(_dict(attribute).get("options"))
    return {key: text.strip() for key, text in options.items() if isinstance(text, str) and text.strip()}


def _parse_3(path: Path, content: dict[str, Any]) -> ViaFile:
    files = {key: _dict(value).get("fname") for key, value in content["file"].items()}
    entries: dict[str, Entry] = {}
    for key, view in content["view"].items():
        listed = _dict(view).get("fid_list")
        name = files.get(str(listed[0])) if isinstance(listed, list) and len(listed) == 1 else None
        entries[str(key)] = Entry(key, name if isinstance(name, str) else "")
    stated = _dict(content.get("attribute"))
    names = {key: str(_dict(value).get("aname", key)) for key, value in stated.items()}
    options = {key: _options(value) for key, value in stated.items()}
    for index, (key, metadata) in enumerate(content["metadata"].items()):
        entry = entries.get(str(_dict(metadata).get("vid")))
        coordinates, is_moment = _dict(metadata).get("xy"), bool(_dict(metadata).get("z"))
        if entry is None or not coordinates or is_moment:  # it describes a whole image, or a video
            continue
        values = _dict(_dict(metadata).get("av"))
        attributes = {names.get(a, a): _named(value, options.get(a, {})) for a, value in values.items()}
        entry.regions.append(Region(index, key, _to_shape(coordinates), attributes))
    return ViaFile(path, content, list(entries.values()), {})


def _named(value: object, options: Mapping[str, str]) -> object:
    """The options' names for their ids; a checkbox has several, after commas."""
    if not isinstance(value, str) or not options:
        return value
    chosen = [options.get(part, part) for part in value.split(",") if part]
    return chosen[0] if len(chosen) == 1 else {name: True for name in chosen}


def _to_shape(coordinates: object) -> Shape:
    if not isinstance(coordinates, list) or not isinstance(coordinates[0], int):
        return {}
    number, *values = coordinates
    if number in _SHAPES_3:
        name, fields = _SHAPES_3[number]
        return {"name": name, **dict(zip(fields, values, strict=False))}
    name = _LINES_3.get(number, f"shape {number}"[:20])
    return {"name": name, "all_points_x": values[0::2], "all_points_y": values[1::2]}


def _parse_csv(path: Path) -> ViaFile:
    try:
        rows = list(csv.reader(io.StringIO(read_text(path, "json_bytes"), newline="")))
    except csv.Error as error:
        raise ValueError(f"is not valid CSV ({error})") from error
    rows = [row for row in rows if row]
    if not rows or not is_via_header(",".join(rows[0])):
        raise ValueError("must start with the names of VIA's columns: filename, …, region_attributes")
    columns = _columns(rows[0])
    entries: dict[tuple[str, str], Entry] = {}
    for number, row in enumerate(rows[1:], start=1):
        cells = dict(zip(columns, row, strict=False))
        key = cells.get("filename", ""), cells.get("file_size", "")
        entry = entries.setdefault(key, Entry(key, key[0], number))
        shape, attributes = (_cell(cells.get(column, "")) for column in _CELLS)
        if shape != {}:  # a row without a region stands for an image that has none
            entry.regions.append(Region(number, number, _dict(shape), _dict(attributes)))
    return ViaFile(path, rows, list(entries.values()), {})


def _columns(header: list[str]) -> list[str]:
    return [name.lstrip("#").strip() for name in header]


def _cell(text: str) -> object:
    """The JSON in a cell; None if it is none."""
    try:
        return parse_json(text) if text.strip() else {}
    except ValueError:
        return None


def rewritten(file: ViaFile, change: Change) -> Iterator[str]:
    """The text of the file with only some images and regions, in pieces."""
    if isinstance(file.entries, _Entries2):
        yield from _rewritten_2(file, file.entries, change)
        return
    images, shapes = set(), dict[int, Shape]()
    for entry in file.entries:
        kept = change(entry)
        if kept is not None:
            images.add(entry.key)
            shapes |= kept
    if isinstance(file.content, list):
        yield _rewritten_csv(file, images, shapes)
    else:
        yield json.dumps(_rewritten_3(file, images, shapes))


def _rewritten_2(file: ViaFile, entries: _Entries2, change: Change) -> Iterator[str]:
    keys: set[str] = set()  # of the images that stay

    def images() -> Iterator[tuple[str, Any]]:
        for entry, (key, image) in zip(entries, entries.stated(), strict=True):
            kept = change(entry)
            if kept is not None:
                keys.add(key)
                yield key, _with_regions(image, entry, kept)

    if isinstance(file.content, JsonMembers):
        yield from object_pieces(chain(entries.settings(), images()))
        return
    members: dict[str, Iterable[str]] = {
        key: object_pieces(images()) if key == _METADATA else [part.text()] for key, part in file.content.items()
    }
    listed = file.content.get("_via_image_id_list")
    order = listed.value() if isinstance(listed, JsonText) else None
    if isinstance(order, list):  # after the images, when it is known which stay
        members.pop("_via_image_id_list")
        members["_via_image_id_list"] = list_pieces(key for key in order if str(key) in keys)
    yield from member_pieces(members)


def _rewritten_3(file: ViaFile, images: set[Any], shapes: Mapping[int, Shape]) -> dict[str, Any]:
    content = file.content
    views = {str(entry.key) for entry in file.entries if entry.key not in images}
    regions = {region.key: region for entry in file.entries for region in entry.regions}
    metadata = {}
    for key, value in content["metadata"].items():
        region = regions.get(key)
        if (region is not None and region.index not in shapes) or str(_dict(value).get("vid")) in views:
            continue
        changed = region is not None and shapes[region.index] is not region.shape
        metadata[key] = value | {"xy": _to_coordinates(shapes[regions[key].index])} if changed else value
    view = {key: value for key, value in content["view"].items() if key in images}
    listed = content["project"].get("vid_list")
    order = {"vid_list": [vid for vid in listed if str(vid) in view]} if isinstance(listed, list) else {}
    return content | {"metadata": metadata, "view": view, "project": content["project"] | order}


def _with_regions(image: dict[str, Any], entry: Entry, shapes: Mapping[int, Shape]) -> dict[str, Any]:
    stated = dict(_regions_2(image))
    kept = {r.key: stated[r.key] | {"shape_attributes": shapes[r.index]} for r in entry.regions if r.index in shapes}
    if isinstance(image.get("regions"), dict):
        return image | {"regions": kept}
    return image | {"regions": list(kept.values())} if "regions" in image else image


def _to_coordinates(shape: Shape) -> list[float]:
    if shape["name"] == "polygon":
        points = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
        return [7, *(value for point in points for value in point)]
    return [2, *(shape[name] for name in ("x", "y", "width", "height"))]


def _rewritten_csv(file: ViaFile, images: set[Any], shapes: Mapping[int, Shape]) -> str:
    columns = _columns(file.content[0])
    rows = [file.content[0]]
    for entry in file.entries:
        if entry.key not in images:
            continue
        kept = [region for region in entry.regions if region.index in shapes]
        if not entry.regions:
            rows.append(file.content[entry.row])
        for position, region in enumerate(kept):
            cells = dict(zip(columns, file.content[region.key], strict=False))
            cells |= {"region_count": str(len(kept)), "region_id": str(position)}
            cells["region_shape_attributes"] = json.dumps(shapes[region.index])
            rows.append([cells.get(column, "") for column in columns])
    target = io.StringIO()
    csv.writer(target, lineterminator="\n").writerows(rows)
    return target.getvalue()
