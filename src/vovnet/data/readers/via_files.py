"""The files of the VGG Image Annotator, whichever version wrote them, as images with regions; and with less in them.

VIA 1 and 2 write a project, and exports of the annotations as JSON or CSV; VIA 3 writes a project. In all of them a
region has a shape, and attributes of which the user has chosen the names.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vovnet.data.readers.tool_files import is_via_header
from vovnet.parsing import naming, parse_json, read_json, read_text
from vovnet.printing import quoted

Shape = dict[str, Any]

_METADATA = "_via_img_metadata"
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
    """A file as it was read.

    content: the whole JSON, or the rows of a CSV file.
    options: attribute → id of each of its options → what describes it.
    """

    path: Path
    content: Any
    entries: list[Entry]
    options: dict[str, dict[str, str]]


def parse(path: Path) -> ViaFile:
    """ValueError for a file that is not VIA's, or is damaged."""
    with naming(path):
        if path.suffix.lower() == ".csv":
            return _parse_csv(path)
        content = read_json(path, "json_bytes")
        if not isinstance(content, dict):
            raise ValueError(f"must hold VIA's images by their names, got {quoted(content, 40)}")
        return _parse_3(path, content) if _is_3(content) else _parse_2(path, content)


def _is_3(content: Mapping[str, Any]) -> bool:
    return all(isinstance(content.get(key), dict) for key in ("project", "file", "view", "metadata"))


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _parse_2(path: Path, content: dict[str, Any]) -> ViaFile:
    entries, count = [], 0
    for key, image in _images_2(content).items():
        name = _dict(image).get("filename")
        entry = Entry(key, name if isinstance(name, str) else "")
        for region_key, region in _regions_2(image):
            shape, attributes = (_dict(_dict(region).get(name)) for name in ("shape_attributes", "region_attributes"))
            entry.regions.append(Region(count, region_key, shape, attributes))
            count += 1
        entries.append(entry)
    attributes = _dict(_dict(content.get("_via_attributes")).get("region"))
    return ViaFile(path, content, entries, {name: _options(value) for name, value in attributes.items()})


def _images_2(content: dict[str, Any]) -> dict[str, Any]:
    """A project has settings beside the images."""
    images = content.get(_METADATA, content)
    if not isinstance(images, dict):
        raise ValueError(f"must hold {_METADATA} by the images' names, got {quoted(images, 40)}")
    return {key: image for key, image in images.items() if images is not content or not key.startswith("_via_")}


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


def rewritten(file: ViaFile, images: set[Any], shapes: Mapping[int, Shape]) -> str:
    """The text of the file with only the entries of these keys, and the regions of these indices in these shapes."""
    if isinstance(file.content, list):
        return _rewritten_csv(file, images, shapes)
    rewrite = _rewritten_3 if _is_3(file.content) else _rewritten_2
    return json.dumps(rewrite(file, images, shapes))


def _rewritten_2(file: ViaFile, images: set[Any], shapes: Mapping[int, Shape]) -> dict[str, Any]:
    content, whole = file.content, _images_2(file.content)
    kept = {entry.key: _with_regions(whole[entry.key], entry, shapes) for entry in file.entries if entry.key in images}
    if _METADATA not in content:
        return {key: value for key, value in content.items() if key.startswith("_via_")} | kept
    listed = content.get("_via_image_id_list")
    order = {"_via_image_id_list": [key for key in listed if str(key) in kept]} if isinstance(listed, list) else {}
    return content | {_METADATA: kept} | order


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
