"""VGG Image Annotator (VIA): one JSON or CSV file for many images, in the folder or in one for each split.

The class of a region is in one of its attributes, whose names the user has chosen: the only one there is, or the first
of class, label, name, type and category.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vovnet.data.dataset import (
    ImageAnnotation,
    ObjectAnnotation,
    OnProblem,
    SplitAnnotations,
    is_valid_box,
    raise_problem,
    to_number,
)
from vovnet.data.image_files import ignore_problem, walk_images
from vovnet.data.keys import text_key
from vovnet.data.readers import tool_files
from vovnet.data.readers.image_index import UploadFinder
from vovnet.data.readers.shapes import NOTHING, Outline, ellipse, fitted_polygons, polygon, rectangle
from vovnet.data.readers.tool_reading import Collected, WithoutArea, keys_of_all, make_splits, warn_about_unused
from vovnet.data.readers.via_files import Entry, Region, Shape, open_via, rewritten
from vovnet.errors import listed
from vovnet.limits import check_limit
from vovnet.printing import line, quoted

_NAMES = ("class", "label", "name", "type", "category")  # of the attribute that holds the class, the likeliest first
_NO_AREA = ("point", "line", "polyline")
_ONE_CLASS = "object"  # its name where no region has an attribute


def recognises(root: Path) -> str:
    path = tool_files.first_file(root, "via")
    return f"{path} has VIA's regions" if path else ""


def splits(root: Path) -> tuple[str, ...]:
    """The folders or files that are called like splits; `all` for the other files."""
    return tuple(sorted({tool_files.split_of(path, root) for path in tool_files.find_files(root, "via")}))


def read(root: Path, names: Sequence[str], on_problem: OnProblem) -> tuple[SplitAnnotations, ...]:
    """The splits of these names. An image without regions has no objects."""
    paths = tool_files.find_files(root, "via")
    classes = _Classes(paths)
    finder = UploadFinder(root, walk_images(root, on_problem))
    without_area, collected = WithoutArea(on_problem), Collected()
    for path in paths:
        split = tool_files.split_of(path, root)
        outside = on_problem is raise_problem and split not in names
        report = ignore_problem if outside else on_problem
        with open_via(path) as file:
            finder.start(path, split, (entry.name for entry in file.entries))
            for entry in file.entries:
                if (image_path := finder.find(entry.name, report)) is not None:
                    image, no_area = _read_image(image_path, path, entry, classes, report)
                    collected.add(split, image, report)
                    if not outside:
                        without_area.add(path, no_area, line(image_path.name, 60))
    without_area.warn(root)
    images = collected.by_split()
    if on_problem is not raise_problem:
        used = keys_of_all(images.values())
        warn_about_unused(root, lambda: finder.index.paths, used, "entry in a file of VIA")
    return make_splits(root, "via", images=images, wanted=names, on_problem=on_problem)


def _read_image(
    image_path: Path, path: Path, entry: Entry, classes: _Classes, on_problem: OnProblem
) -> tuple[ImageAnnotation, Counter[str]]:
    """The image, and the types of its shapes that cover nothing."""
    objects, unusable, no_area = [], 0, Counter[str]()
    fault = _too_many(entry)
    if fault:
        on_problem("bad-annotation", path, f"{line(entry.name, 60)}: {fault}")
        return ImageAnnotation(image_path, path, image_path.stem, (), unusable_objects=len(entry.regions)), no_area
    for region in entry.regions:
        if region.shape.get("name") in _NO_AREA:
            no_area[region.shape["name"]] += 1
            continue
        try:
            class_name = classes.find(region)
        except ValueError as error:
            on_problem("bad-annotation", path, f"{line(entry.name, 60)}: region {region.index + 1} {error}")
            unusable += 1
            continue
        objects.append(_to_object(region, class_name))
    unusable += no_area.total()
    return ImageAnnotation(image_path, path, image_path.stem, tuple(objects), None, unusable), no_area


def _too_many(entry: Entry) -> str:
    try:
        check_limit("image_objects", len(entry.regions), "")
    except ValueError as error:
        return str(error)
    return ""


def _to_object(region: Region, class_name: str) -> ObjectAnnotation:
    outline = _outline(region.shape)
    stated = "" if is_valid_box(outline.box) else f"shape_attributes {line(quoted(region.shape, 150), 150)}"
    return ObjectAnnotation(
        region.index, class_name, outline.box, area=outline.area(), mask=outline.mask(), stated=stated
    )


def _outline(shape: Shape) -> Outline:
    def numbers(*names: str) -> list[float]:
        return [to_number(shape.get(name)) for name in names]

    xs, ys = (
        [to_number(value) for value in column] if isinstance(column := shape.get(name), list) else []
        for name in ("all_points_x", "all_points_y")
    )
    points = list(zip(xs, ys, strict=True)) if len(xs) == len(ys) else []
    match shape.get("name"):
        case "rect":
            x, y, width, height = numbers("x", "y", "width", "height")
            return Outline((x, y, x + width, y + height))
        case "circle":
            x, y, radius = numbers("cx", "cy", "r")
            return ellipse((x, y), (radius, radius))
        case "ellipse":
            x, y, across, down = numbers("cx", "cy", "rx", "ry")
            return ellipse((x, y), (across, down), math.degrees(to_number(shape.get("theta", 0))))
        case "polygon":
            return polygon(points)
        case "extreme_rect":
            return rectangle(points)
        case _:
            return NOTHING


class _Classes:
    """Finds the class of a region in its attributes."""

    def __init__(self, paths: Sequence[Path]) -> None:
        used: Counter[str] = Counter()
        options: defaultdict[str, dict[str, str]] = defaultdict(dict)
        numbers: defaultdict[str, set[str] | None] = defaultdict(set)  # the values of attributes that have no others
        for path in paths:
            with open_via(path) as file:
                for name, own in file.options.items():
                    options[name] |= own
                regions = (region for entry in file.entries for region in entry.regions)
                for name, value in (item for region in regions for item in region.attributes.items()):
                    chosen, of_name = _chosen(value), numbers[name]
                    used[name] += bool(chosen)
                    if of_name is not None and all(map(str.isdecimal, chosen)):
                        of_name.update(chosen)
                    else:
                        numbers[name] = None
        self.attribute = _choose_attribute(+used, paths)
        # A user may number the options and say beside each what it means.
        values, texts = numbers[self.attribute or ""], options[self.attribute or ""]
        self._texts = texts if values and values <= texts.keys() else {}

    def find(self, region: Region) -> str:
        """ValueError whose text goes on after the name of the region."""
        if self.attribute is None:
            return _ONE_CLASS
        chosen = _chosen(region.attributes.get(self.attribute))
        if not chosen:
            raise ValueError(f"has no value of the attribute {line(self.attribute, 40)}, which holds the class")
        if len(chosen) > 1:
            raise ValueError(f"has the classes {listed(chosen, 5)}, and a region may have one")
        return self._texts.get(chosen[0], chosen[0])


def _chosen(value: Any) -> list[str]:
    """The values of an attribute: one, but any number for check boxes."""
    if isinstance(value, dict):
        return [name for name, is_set in value.items() if is_set is True and name.strip()]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return [value] if isinstance(value, str) and value.strip() else []


def _choose_attribute(used: Counter[str], paths: Sequence[Path]) -> str | None:
    """The name of the attribute that holds the class; None if no region has any. ValueError if it could be several."""
    if len(used) <= 1:
        return next(iter(used), None)
    for likely in _NAMES:
        named = [name for name in used if name.strip().lower() == likely]
        if len(named) == 1:
            return named[0]
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and others"
    raise ValueError(
        f"{where}: regions have the attributes {listed(sorted(used), 10)}, and none of them is called "
        f"{', '.join(_NAMES[:-1])} or {_NAMES[-1]}: call the one that holds the class so, in VIA under Attributes"
    )


def write(root: Path, splits: Sequence[SplitAnnotations], out: Path) -> None:
    """The files with only these images and regions; everything else in them stays as it is."""
    finder = UploadFinder(root, walk_images(root, ignore_problem))
    tables = {split.split: split.images for split in splits}
    numbers = {split: dict(zip(table.keys.tolist(), itertools.count())) for split, table in tables.items()}
    for path in tool_files.find_files(root, "via"):
        split = tool_files.split_of(path, root)
        own = numbers.get(split, {})

        def change(
            entry: Entry, path: Path = path, split: str = split, own: dict[int, int] = own
        ) -> dict[int, Shape] | None:
            image_path = finder.find(entry.name, ignore_problem)
            number = own.get(text_key(image_path)) if image_path else None
            image = None if number is None else tables[split][number]
            if image is None or image.annotation_path != path:
                return None
            del own[text_key(image.image_path)]  # the file may have it twice
            objects = {obj.index: obj for obj in image.objects}
            regions = (region for region in entry.regions if region.index in objects)
            return {region.index: _shape_of(region, objects[region.index]) for region in regions}

        copy = out / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with open_via(path) as file, copy.open("w", encoding="utf-8") as target:
            finder.start(path, split, (entry.name for entry in file.entries))
            target.writelines(rewritten(file, change))


def _shape_of(region: Region, obj: ObjectAnnotation) -> Shape:
    """The region's shape, or one with the object's box."""
    if _outline(region.shape).box == obj.box:
        return region.shape
    polygons = fitted_polygons(obj)
    if polygons is not None and len(polygons) == 1:
        xs, ys = (list(column) for column in zip(*polygons[0], strict=True))
        return {"name": "polygon", "all_points_x": xs, "all_points_y": ys}
    x1, y1, x2, y2 = obj.box
    return {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
