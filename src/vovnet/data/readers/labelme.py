"""labelme: a JSON file for each image, beside it or in another folder, as version 3 and later write it.

Programs that write such files, as X-AnyLabeling does, are read too.
"""

from __future__ import annotations

import json
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vovnet.data.dataset import (
    ImageAnnotation,
    ImageTable,
    OnProblem,
    SplitAnnotations,
    add_image,
    raise_problem,
    to_image_size,
)
from vovnet.data.image_columns import ImageColumns
from vovnet.data.image_files import ignore_problem, walk_files, walk_images
from vovnet.data.keys import text_key
from vovnet.data.readers import tool_files
from vovnet.data.readers.image_index import ImageIndex, local_names
from vovnet.data.readers.labelme_shapes import (
    IGNORED,
    NO_AREA,
    ShapeReader,
    corrected_shapes,
    label_of,
    objects_of,
    type_of,
)
from vovnet.data.readers.tool_reading import WithoutArea, keys_of_all, make_splits, warn_about_unused
from vovnet.limits import check_limit
from vovnet.parsing import read_json
from vovnet.printing import line, quoted


def recognises(root: Path) -> str:
    path = tool_files.first_file(root, "labelme")
    return f"{path} has labelme's shapes and imagePath" if path else ""


def splits(root: Path) -> tuple[str, ...]:
    """The folders that are called like splits and hold annotations, or have them below; `all` for the other files."""
    found: set[str] = set()
    for path in _json_files(root):
        split = tool_files.split_of_folder(path, root)
        if split not in found and _is_labelme(path):
            found.add(split)
    return tuple(sorted(found))


def read(root: Path, names: Sequence[str], on_problem: OnProblem) -> tuple[SplitAnnotations, ...]:
    """The splits of these names. Files of another split only contribute class names when a dataset is opened."""
    index = ImageIndex(root, walk_images(root, on_problem))
    without_area = WithoutArea(on_problem)
    columns = ImageColumns()
    rows: dict[int, int] = {}  # of the images by their keys
    found: defaultdict[str, _Found] = defaultdict(_Found)  # in each split
    # A file that is called like its image comes before a copy of it.
    for is_beside in (True, False):
        for place, path in enumerate(_json_files(root)):
            if bool(index.beside(path)) is not is_beside:
                continue
            split = tool_files.split_of_folder(path, root)
            outside = on_problem is raise_problem and split not in names
            report = ignore_problem if outside else on_problem
            content = _parse(path, index, report)
            image = None if content is None else _read_image(path, content, index, report)
            if content is None or image is None:
                continue
            key = text_key(image.image_path)
            if key in rows:
                other = line(Path(columns.annotation_path(rows[key])).name, 60)
                report("listed-twice", path, f"annotates {line(image.image_path.name, 60)}, as {other} does")
                continue
            rows[key] = add_image(columns, image)
            found[split].add(place, rows[key])
            if not outside:
                without_area.add(path, _count_without_area(content))
    without_area.warn(root)
    images = {split: ImageTable(columns, of_split.in_order()) for split, of_split in found.items()}
    if on_problem is not raise_problem:
        warn_about_unused(root, lambda: index.paths, keys_of_all(images.values()), "JSON file")
    return make_splits(root, "labelme", images=images, wanted=names, on_problem=on_problem)


class _Found:
    """Rows of images, in the order of their JSON files."""

    def __init__(self) -> None:
        self._places, self._rows = array("I"), array("I")

    def add(self, place: int, row: int) -> None:
        """place: that of the JSON file among all."""
        self._places.append(place)
        self._rows.append(row)

    def in_order(self) -> array[int]:
        order = np.argsort(np.frombuffer(self._places, np.uint32))
        return array("I", np.frombuffer(self._rows, np.uint32)[order].tobytes())


def _json_files(root: Path) -> Iterator[Path]:
    """All JSON files, sorted, of which some may be of other programs."""
    for path, _ in walk_files(root, below=True, suffix=".json"):
        name = os.path.basename(path)
        if name.endswith(".json") and not name.startswith("."):
            yield Path(path)


def _is_labelme(path: Path) -> bool:
    return tool_files.tool_of(path) == "labelme"


def _parse(path: Path, index: ImageIndex, on_problem: OnProblem) -> dict[str, Any] | None:
    """The content of a file; None if it is not labelme's, and a problem if it should be.

    A file may hold its image, so it may be as large as one.
    """
    is_damaged = False
    try:
        content = read_json(path, "image_bytes")
        if isinstance(content, dict) and isinstance(content.get("shapes"), list):
            check_limit("image_objects", len(content["shapes"]), "")
            return content
        fault = "has no list of shapes, as labelme's files have"
    except ValueError as error:
        fault = str(error)
        is_damaged = True
    if index.beside(path) or _is_labelme(path) or (is_damaged and index.with_stem(path.stem)):
        on_problem("bad-annotation", path, fault)
    return None


def _find_image(path: Path, content: dict[str, Any], index: ImageIndex) -> Path | None:
    """The image beside the file with its stem, else that at imagePath, else the only one of that name or stem.

    imagePath may be that of another machine, or from before the files were renamed.
    """
    stated = content.get("imagePath")
    names = local_names(stated) if isinstance(stated, str) else []
    last = names[0].rpartition("/")[2] if names else ""
    if beside := index.beside(path):
        return next((image for image in beside if image.name == last), beside[0])
    at_path = (index.at(path.parent, name) for name in names)
    return next(filter(None, at_path), None) or (index.named(last) if last else None) or index.with_stem(path.stem)


def _read_image(
    path: Path, content: dict[str, Any], index: ImageIndex, on_problem: OnProblem
) -> ImageAnnotation | None:
    image_path = _find_image(path, content, index)
    if image_path is None:
        stated = quoted(content.get("imagePath"), 60)
        detail = f"imagePath is {stated}, and there is no image of that name or of {line(path.stem, 60)}"
        if isinstance(content.get("imageData"), str):
            detail += "; imageData holds the image: save it beside the file, as labelme_export_json does"
        on_problem("missing-image", path, detail)
        return None
    size = to_image_size(content.get("imageHeight"), content.get("imageWidth"))
    reader, shapes = ShapeReader(image_path, size), content["shapes"]
    objects, unusable = [], sum(_count_without_area(content).values())
    for indices in objects_of(shapes):
        first, label = shapes[indices[0]], label_of(shapes[indices[0]])
        name = f"shape {indices[0] + 1}"
        if label is None:
            stated = quoted(first.get("label") if isinstance(first, dict) else first, 40)
            on_problem("bad-annotation", path, f"{name} has no label, got {stated}")
            unusable += 1
        elif label not in IGNORED and type_of(first) not in NO_AREA:
            try:
                objects.append(reader.read(indices[0], [shapes[index] for index in indices]))
            except (ValueError, OSError) as error:
                on_problem("bad-annotation", path, f"{name} ({line(label, 40)}): {error}")
                unusable += 1
    return ImageAnnotation(image_path, path, image_path.stem, tuple(objects), size, unusable)


def _count_without_area(content: dict[str, Any]) -> Counter[str]:
    labelled = (shape for shape in content["shapes"] if label_of(shape) and label_of(shape) not in IGNORED)
    return Counter(kind for kind in map(type_of, labelled) if kind in NO_AREA)


def write(root: Path, splits: Sequence[SplitAnnotations], out: Path) -> None:
    """The JSON files with only these images and objects; everything else in them stays as it is."""
    for image in (image for split in splits for image in split.images):
        path = image.annotation_path
        content = read_json(path, "image_bytes")
        size = to_image_size(content.get("imageHeight"), content.get("imageWidth"))
        objects = {obj.index: obj for obj in image.objects}
        shapes = corrected_shapes(content["shapes"], objects, ShapeReader(image.image_path, size))
        content["shapes"] = shapes
        if image.image_size is not None and image.image_size != size:
            content["imageHeight"], content["imageWidth"] = image.image_size
        copy = out / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(json.dumps(content, indent=2), encoding="utf-8")
