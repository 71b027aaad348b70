"""Label Studio: its JSON and JSON-MIN exports, one file for many images, in the folder or in one for each split.

Its other exports are datasets in COCO and YOLO format, and are read as such.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vovnet.data.dataset import (
    ImageAnnotation,
    ObjectAnnotation,
    OnProblem,
    SplitAnnotations,
    is_valid_box,
    raise_problem,
    to_image_size,
    to_number,
)
from vovnet.data.image_files import ignore_problem, walk_images
from vovnet.data.images import why_unreadable
from vovnet.data.keys import text_key
from vovnet.data.readers import label_studio_brush as brush
from vovnet.data.readers import tool_files
from vovnet.data.readers.image_index import UploadFinder
from vovnet.data.readers.label_studio_tasks import (
    Change,
    Entry,
    Region,
    TaskFile,
    Value,
    corrected,
    open_tasks,
)
from vovnet.data.readers.shapes import NOTHING, Outline, ellipse, fitted_polygons, from_bitmap, polygon, rectangle
from vovnet.data.readers.tool_reading import Collected, WithoutArea, keys_of_all, make_splits, warn_about_unused
from vovnet.errors import counted, listed
from vovnet.json_writing import list_pieces
from vovnet.limits import check_limit
from vovnet.media.orientation import means_stored_pixels
from vovnet.media.pixels import read_header
from vovnet.printing import line, quoted

_LOG = logging.getLogger("vovnet")
_NO_AREA = ("key point", "vector", "video")
_MOST_COVERED = 20  # how often the brush strokes of an image may cover it; more takes seconds
_ASPECT = 100  # a stated size may differ by this part from the same image scaled, since sides are whole numbers

Size = tuple[int, int]


def recognises(root: Path) -> str:
    path = tool_files.first_file(root, "label_studio")
    return f"{path} has Label Studio's tasks" if path else ""


def splits(root: Path) -> tuple[str, ...]:
    """The folders or files that are called like splits; `all` for the other files."""
    return tuple(sorted({tool_files.split_of(path, root) for path in tool_files.find_files(root, "label_studio")}))


def read(root: Path, names: Sequence[str], on_problem: OnProblem) -> tuple[SplitAnnotations, ...]:
    """The splits of these names. A task without annotation counts in none; one annotated as empty has no objects."""
    finder = UploadFinder(root, walk_images(root, on_problem))
    without_area, collected = WithoutArea(on_problem), Collected()
    for path in tool_files.find_files(root, "label_studio"):
        split = tool_files.split_of(path, root)
        outside = on_problem is raise_problem and split not in names
        report = ignore_problem if outside else on_problem
        with open_tasks(path) as file:
            unlabelled = _start(finder, file, split)
            if unlabelled and not outside:
                _LOG.warning("%s: %s without annotation left out", path, counted(unlabelled, "task"))
            for entry in file.entries():
                if entry.annotation is None:
                    continue
                if entry.fault:
                    report("bad-annotation", path, f"task {entry.position + 1} {entry.fault}")
                elif (image_path := finder.find(entry.image, report)) is not None:
                    image, no_area = _read_image(image_path, path, entry, report)
                    collected.add(split, image, report)
                    if not outside:
                        without_area.add(path, no_area, line(image_path.name, 60))
    without_area.warn(root)
    images = collected.by_split()
    if on_problem is not raise_problem:
        warn_about_unused(root, lambda: finder.index.paths, keys_of_all(images.values()), "annotated task")
    return make_splits(root, "label_studio", images=images, wanted=names, on_problem=on_problem)


def _start(finder: UploadFinder, file: TaskFile, split: str) -> int:
    """Begins with the names of all images in a file. The number of tasks that nobody has annotated."""
    unlabelled = 0

    def names() -> Iterator[str]:
        nonlocal unlabelled
        for entry in file.entries():
            if entry.annotation is None:
                unlabelled += 1
            else:
                yield entry.image

    finder.start(file.path, split, names())
    return unlabelled


def _read_image(
    image_path: Path, path: Path, entry: Entry, on_problem: OnProblem
) -> tuple[ImageAnnotation, Counter[str]]:
    """The image, and the types of its regions that are not read."""
    name, no_area = line(image_path.name, 60), Counter[str]()
    unread = ImageAnnotation(image_path, path, image_path.stem, (), unusable_objects=len(entry.regions))
    try:
        check_limit("image_objects", len(entry.regions), "")
    except ValueError as error:
        on_problem("bad-annotation", path, f"{name}: {error}")
        return unread, no_area
    try:
        size = _size_of(image_path, entry)
    except (ValueError, OSError) as error:
        if on_problem is raise_problem:  # the check decodes all images and reports this one then
            on_problem("unreadable-image", image_path, why_unreadable(image_path, error))
        return unread, no_area
    reader, objects, unusable = _Reader(size), list[ObjectAnnotation](), 0
    for region in entry.regions:
        if region.shape() in _NO_AREA:
            no_area[region.shape()] += 1
            continue
        fault = _fault(region)
        try:
            objects += [] if fault else [reader.read(region)]
        except ValueError as error:
            fault = f"is a brush stroke: {error}"
        if fault:
            on_problem("bad-annotation", path, f"{name}: region {region.index + 1} {fault}")
            unusable += 1
    unusable += no_area.total()
    return ImageAnnotation(image_path, path, image_path.stem, tuple(objects), size, unusable), no_area


def _size_of(image_path: Path, entry: Entry) -> Size:
    """The (height, width) by which percent become pixels.

    It is the image's own, because an image that was scaled since has the same percentages. Where its stated size has
    another aspect, the image is another one, which the check reports; or EXIF turns it, and the stored one was shown.
    """
    size, orientation = read_header(image_path)
    sizes = (to_image_size(*region.size) for region in entry.regions)
    stated = next(filter(None, sizes), None)
    if stated is None or stated == size or means_stored_pixels(stated, size, orientation):
        return stated or size
    one, other = stated[0] * size[1], stated[1] * size[0]
    return size if abs(one - other) * _ASPECT <= max(one, other) else stated


def _fault(region: Region) -> str:
    """Why a region is no object, or ""."""
    labels = region.labels()
    if region.turned:
        return "was drawn on an image that was turned in Label Studio, which is not read"
    if not labels:
        return f"has no label, got {quoted(region.value, 60)}"
    if len(labels) > 1:
        return f"has the labels {listed(labels, 5)}, and an object has one class"
    return ""


@dataclass
class _Reader:
    """Reads the regions of an image of this (height, width)."""

    size: Size
    _stroked_pixels: int = 0

    def read(self, region: Region) -> ObjectAnnotation:
        """ValueError for a damaged brush stroke."""
        label, shape = region.labels()[0], region.shape()
        if shape == "brush":
            return self._read_brush(region.index, label, region.value["rle"])
        outline = _outline(region.value, shape, self.size)
        stated = "" if is_valid_box(outline.box) else f"{shape or 'shape'}: {line(quoted(region.value, 150), 150)}"
        mask, area = outline.mask(), outline.area()
        return ObjectAnnotation(region.index, label, outline.box, area=area, mask=mask, stated=stated)

    def _read_brush(self, index: int, label: str, code: object) -> ObjectAnnotation:
        drawn, top = brush.decode(code, self.size)
        self._stroked_pixels += drawn.size
        if self._stroked_pixels > _MOST_COVERED * self.size[0] * self.size[1] + 10**6:
            raise ValueError(f"those before it cover the image {_MOST_COVERED} times")
        found = from_bitmap(drawn, top, 0, self.size)
        assert found is not None, "it covers something"
        box, mask, area = found
        return ObjectAnnotation(index, label, box, area=area, mask=mask)


def _outline(value: Value, shape: str, size: Size) -> Outline:
    height, width = size

    def across(name: str) -> float:
        return to_number(value.get(name)) * width / 100

    def down(name: str) -> float:
        return to_number(value.get(name)) * height / 100

    degrees = to_number(value.get("rotation") or 0)
    if shape == "polygon":
        points = value["points"] if isinstance(value["points"], list) else []
        if not all(isinstance(point, list) and len(point) == 2 for point in points):
            return NOTHING
        return polygon([(to_number(x) * width / 100, to_number(y) * height / 100) for x, y in points])
    if shape == "ellipse":
        return ellipse((across("x"), down("y")), (across("radiusX"), down("radiusY")), degrees)
    if shape != "rectangle":
        return NOTHING
    x, y, w, h = across("x"), down("y"), across("width"), down("height")
    if not degrees or not math.isfinite(degrees):
        return Outline((x, y, x + w, y + h) if degrees == 0 else NOTHING.box)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))  # clockwise about the first corner
    corners = [(x + u * cosine - v * sine, y + u * sine + v * cosine) for u in (0, w) for v in (0, h)]
    return rectangle(corners) if w > 0 and h > 0 else Outline((x, y, x + w, y + h))


def write(root: Path, splits: Sequence[SplitAnnotations], out: Path) -> None:
    """The files with only these images and regions; everything else in them stays as it is."""
    finder = UploadFinder(root, walk_images(root, ignore_problem))
    tables = {split.split: split.images for split in splits}
    numbers = {split: dict(zip(table.keys.tolist(), itertools.count())) for split, table in tables.items()}
    for path in tool_files.find_files(root, "label_studio"):
        split = tool_files.split_of(path, root)
        own = numbers.get(split, {})

        def change(entry: Entry, path: Path = path, split: str = split, own: dict[int, int] = own) -> Change | None:
            image_path = finder.find(entry.image, ignore_problem)
            number = own.get(text_key(image_path)) if image_path else None
            image = None if number is None else tables[split][number]
            if image is None or image.annotation_path != path or image.image_size is None:
                return None
            del own[text_key(image.image_path)]  # the file may have it twice
            objects = {obj.index: obj for obj in image.objects}
            of_image = [region for region in entry.regions if region.index in objects]
            changed = image.image_size != _size_of(image.image_path, replace(entry, regions=of_image))
            kept = {r.index: _new_shape(r, objects[r.index], image.image_size) for r in of_image}
            return kept, image.image_size if changed else None

        copy = out / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with open_tasks(path) as file, copy.open("w", encoding="utf-8") as target:
            _start(finder, file, split)
            target.writelines(list_pieces(corrected(file, change)))


def _new_shape(region: Region, obj: ObjectAnnotation, size: Size) -> Value | None:
    """The object's box or polygon in percent; None where the region has it already."""
    if region.shape() == "brush" or _outline(region.value, region.shape(), size).box == obj.box:
        return None  # the pixels of a brush stroke are in the image
    height, width = size
    polygons = fitted_polygons(obj)
    if polygons is not None and len(polygons) == 1:
        return {"points": [[100 * x / width, 100 * y / height] for x, y in polygons[0]], "closed": True}
    x1, y1, x2, y2 = obj.box
    percent = {"x": x1 / width, "y": y1 / height, "width": (x2 - x1) / width, "height": (y2 - y1) / height}
    return {name: 100 * value for name, value in percent.items()} | {"rotation": 0}
