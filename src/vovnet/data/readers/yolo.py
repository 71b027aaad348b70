"""YOLO: a YAML file, images/… and labels/… with one line of text per object."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vovnet.data.dataset import ImageAnnotation, ObjectAnnotation, OnProblem, SplitAnnotations, raise_problem, to_number
from vovnet.data.image_files import walk_images
from vovnet.data.images import why_unreadable
from vovnet.data.keys import KeySet, are_repeated, keys_of
from vovnet.data.readers.unique_ids import with_unique_ids
from vovnet.data.readers.yolo_labels import (
    explain_missing_labels,
    find_labels,
    has_labels,
    parse_line,
    read_label_lines,
    swap_folder,
)
from vovnet.data.readers.yolo_settings import (
    ALL,
    CLASSES,
    NAME_FILES,
    YAML_SUFFIXES,
    Settings,
    exists,
    find_inside,
    find_settings,
    read_settings,
    usual_yaml,
    write_yaml,
)
from vovnet.data.spooled import Texts
from vovnet.files import encodable
from vovnet.media.pixels import IMAGE_SUFFIXES, read_header
from vovnet.parsing import each_line
from vovnet.printing import line as shorten
from vovnet.printing import quoted

_LOG = logging.getLogger("vovnet")
_LARGEST = 3.0  # a corner further away, in widths or heights of the image, is no fraction of it


def recognises(root: Path) -> str:
    """The file that describes a dataset, as a clause; "" without one."""
    name = usual_yaml(root)
    return f"{name} describes it" if name else ""


def recognises_yaml(root: Path) -> str:
    """The same for a YAML file of another name that has class names and splits. ValueError if several have."""
    path = find_settings(root)
    return f"{shorten(path.name)} has names and splits" if path and path.suffix.lower() in YAML_SUFFIXES else ""


def recognises_settings(root: Path) -> str:
    """The same for darknet's .data file, or a file of class names if there are labels."""
    path = find_settings(root)
    if path is None:
        return ""
    if path.name not in NAME_FILES:
        return f"{shorten(path.name)} has names"
    return f"{path.relative_to(root).as_posix()} has names, and there are labels" if has_labels(root) else ""


def is_settings_file(path: Path) -> bool:
    """Whether the name of a file is that of one which describes a dataset."""
    return path.suffix.lower() in (*YAML_SUFFIXES, ".data") or path.name in NAME_FILES


def splits(root: Path) -> tuple[str, ...]:
    """The splits that the file names, but test only if it exists: exports name it even when they have none."""
    settings = read_settings(root)
    names = tuple(split for split in settings.entries if split != "test" or _sources(settings, split))
    return names or (ALL,)


def has_split(root: Path, split: str) -> bool:
    """Whether `read` takes the name: a test split that does not exist is then a problem."""
    settings = read_settings(root)
    return split in settings.entries or (split == ALL and settings.path.name in NAME_FILES)


def read(root: Path, names: Sequence[str], on_problem: OnProblem) -> tuple[SplitAnnotations, ...]:
    """The splits of these names. An image without a label file has no objects, but some image must have one."""
    settings = read_settings(root)
    if on_problem is not raise_problem and "test" in settings.entries and "test" not in names:
        entries = shorten(", ".join(settings.entries["test"]))
        _LOG.warning("%s: there is no split test: %s does not exist", settings.path, entries)

    def read_split(split: str) -> SplitAnnotations:
        paths = _image_files(settings, split, on_problem)
        label_of, some_exist = find_labels(settings.folder, paths)
        if paths and not some_exist:
            where = explain_missing_labels(settings.folder, list(map(Path, paths)), label_of(paths[0]))
            which = f"none of the {len(paths)} images of the split {split} has a"
            which = which if len(paths) > 1 else f"the only image of the split {split} has no"
            on_problem("no-labels", Path(paths[0]).parent, f"{which} label file: {where}")
        labelled = (_read_labels(Path(path), label_of(path), settings, on_problem) for path in paths)
        images = with_unique_ids(settings.folder, labelled)
        ids = tuple(range(len(settings.class_names)))
        return SplitAnnotations(settings.folder, "yolo", split, settings.class_names, ids, images)

    return tuple(map(read_split, names))


def _image_files(settings: Settings, split: str, on_problem: OnProblem) -> Texts:
    """The images of a split, in alphabetical order or in the order of its list."""
    if split not in settings.entries:
        return Texts(walk_images(settings.folder, on_problem))
    images, ends = Texts(), list[tuple[int, Path]]()  # where the images of each source end
    for entry in settings.entries[split]:
        source = _locate(settings, entry)
        if source is None:
            detail = f"{split}: {shorten(entry)} is not a folder or list in {settings.folder}"
            if any(exists(settings.folder / base / entry) for base in (settings.base, ".")):
                detail += f": move {settings.path.name} into a folder that holds all images, none of them behind a link"
            on_problem("missing-image", settings.path, detail)
            continue
        for path in walk_images(source, on_problem) if source.is_dir() else _read_list(settings, source, on_problem):
            images.add(path)
        ends.append((len(images), source))
    if len(ends) == 1 and ends[0][1].is_dir():
        return images
    return _each_once(images, ends, split, on_problem)


def _each_once(images: Texts, ends: Sequence[tuple[int, Path]], split: str, on_problem: OnProblem) -> Texts:
    """The images without repeated ones, which are reported. ends: of each source the number of images up to its end."""
    is_repeated = are_repeated(keys_of(images))
    if not is_repeated.any():
        return images
    once, seen, sources = Texts(), set[str](), iter(ends)
    end, source = 0, Path()
    for position, (path, repeats) in enumerate(zip(images, is_repeated.tolist(), strict=True)):
        while position >= end:
            end, source = next(sources)
        if repeats and path in seen:
            on_problem("listed-twice", source, f"the split {split} has {shorten(os.path.basename(path))} twice")
            continue
        if repeats:
            seen.add(path)
        once.add(path)
    return once


def _sources(settings: Settings, split: str) -> list[Path]:
    located = (_locate(settings, entry) for entry in settings.entries[split])
    return [path for path in located if path is not None]


def _locate(settings: Settings, entry: str) -> Path | None:
    """The folder or list that an entry means; it must lie in the data folder."""
    return find_inside(settings.folder, entry, [settings.folder / settings.base])


def _read_list(settings: Settings, path: Path, on_problem: OnProblem) -> Iterator[str]:
    """The images that a text file lists, with paths relative to itself or to the data folder."""
    if path.suffix.lower() != ".txt":
        raise ValueError(f"{path} must be a folder of images or a .txt file that lists them")
    try:
        lines = Texts(filter(None, map(str.strip, each_line(path, "list_bytes"))))
    except ValueError as error:
        on_problem("bad-annotation", path, str(error))
        return
    repeated: dict[str, Path | None] = {}  # which are looked up once
    for line, is_repeated in zip(lines, are_repeated(keys_of(lines)), strict=True):
        image = repeated[line] if line in repeated else find_inside(settings.folder, line, [path.parent])
        if is_repeated:
            repeated[line] = image
        if image is not None and image.is_file():
            yield str(image)
        elif image is None and exists(path.parent / line):
            on_problem("bad-annotation", path, f"lists {shorten(line)}, which lies outside the data folder")
        else:
            on_problem("missing-image", path, f"lists {shorten(line)}, which does not exist")


def _read_labels(image_path: Path, path: Path, settings: Settings, on_problem: OnProblem) -> ImageAnnotation:
    objects, unusable, lines = [], 0, []
    try:
        lines = read_label_lines(path) if path.exists() else []
    except ValueError as error:
        on_problem("bad-annotation", path, str(error))
        unusable = 1  # at least
    try:
        (height, width), orientation = read_header(image_path)  # boxes are fractions of the size
    except (ValueError, OSError) as error:
        if on_problem is raise_problem:  # the check decodes all images and reports this one then
            on_problem("unreadable-image", image_path, why_unreadable(image_path, error))
        unusable += sum(bool(line.strip()) for line in lines)
        return ImageAnnotation(image_path, path, image_path.stem, (), unusable_objects=unusable)
    for number, text in enumerate(lines):
        if not text.strip():
            continue
        try:
            line = parse_line(text, settings.keypoints)
        except ValueError as error:
            on_problem("bad-annotation", path, f"line {number + 1} {error}")
            unusable += 1
            continue
        label = line.label(len(settings.class_names))
        if label is None:
            classes = f"not 0 to {len(settings.class_names) - 1}"
            on_problem(
                "unknown-class", path, f"line {number + 1} has the class {shorten(line.class_text, 40)}, {classes}"
            )
            unusable += 1
            continue
        x1, y1, x2, y2 = line.box
        box = (x1 * width, y1 * height, x2 * width, y2 * height)
        possible = all(abs(corner) <= _LARGEST for corner in line.box)
        stated = "" if possible else f"line {number + 1}: {shorten(text, 200)}"
        if stated and all(map(math.isfinite, box)):
            stated += ", which looks like pixels: expected fractions of the image, 0 to 1"
        objects.append(ObjectAnnotation(number, settings.class_names[label], box, stated=stated))
    return ImageAnnotation(image_path, path, image_path.stem, tuple(objects), (height, width), unusable, orientation)


def labels_without_image(root: Path, splits: Sequence[SplitAnnotations]) -> list[Path]:
    """Label files that belong to no image, in the folders labels/ where the splits have theirs."""
    folder = read_settings(root).folder
    used = KeySet(np.concatenate([keys_of(split.images.annotation_paths()) for split in splits]))
    parents = {Path(os.path.dirname(path)) for split in splits for path in split.images.annotation_paths()}
    folders = {parent for parent in parents if "labels" in parent.relative_to(folder).parts and parent.is_dir()}
    suffixes = (*IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES))

    def has_image(path: Path) -> bool:
        image_path = swap_folder(folder, path, "labels", "images")
        return any(image_path.with_suffix(suffix).is_file() for suffix in suffixes)

    def is_label(name: str) -> bool:
        return os.path.splitext(name)[1].lower() == ".txt" and name not in NAME_FILES and not name.startswith("._")

    def names(labels: Path) -> Iterator[str]:
        with os.scandir(labels) as entries:
            yield from (entry.name for entry in entries if is_label(entry.name))

    strays = []
    for labels in sorted(folders):
        strays += sorted(path for name in names(labels) if (path := os.path.join(labels, name)) not in used)
    return [path for path in map(Path, strays) if not has_image(path)]


def write(root: Path, splits: Sequence[SplitAnnotations], out: Path) -> None:
    """Label files with only these objects, a list SPLIT.txt for each split, and the YAML file that names the lists.

    Lists rather than folders, because two splits may share a folder and still differ. A dataset that a file of names
    describes has no YAML file, and only the lists that it had.
    """
    settings = read_settings(root)
    out.mkdir(parents=True, exist_ok=True)
    for split in splits:
        names = [image.image_path.relative_to(settings.folder).as_posix() for image in split.images]
        if list_name := _list_name(settings, split.split):
            (out / list_name).write_text("".join(map(_list_line, names)), encoding="utf-8")
        for image in split.images:
            if image.annotation_path.is_file():
                path = out / image.annotation_path.relative_to(settings.folder)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(_corrected_labels(image, settings.keypoints), encoding="utf-8")
    _write_settings(settings, [split.split for split in splits], out)


def _list_name(settings: Settings, split: str) -> str:
    """The name of the list of a split in the copy; "" where folders or nothing tell the splits apart."""
    if settings.path.name not in NAME_FILES:
        return f"{split}.txt"
    return next((entry for entry in settings.entries.get(split, ()) if entry.endswith(".txt")), "")


def _list_line(name: str) -> str:
    if encodable(name) != name or {"\n", "\r"} & set(name):
        raise ValueError(f"the copy needs a list of images, which cannot name {quoted(name)}: rename that file")
    return f"./{name}\n"


def _write_settings(settings: Settings, names: Sequence[str], out: Path) -> None:
    path = out / settings.path.relative_to(settings.folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    if settings.path.name in NAME_FILES:
        shutil.copy2(settings.path, path)
    elif settings.path.suffix == ".data":
        (out / CLASSES).with_suffix(".names").write_text("\n".join(settings.class_names) + "\n", encoding="utf-8")
        lists = "".join(f"{'valid' if name == 'val' else name} = {name}.txt\n" for name in names)
        path.write_text(f"classes = {len(settings.class_names)}\n{lists}names = classes.names\n", encoding="utf-8")
    else:
        write_yaml(settings.path, path, {name: f"{name}.txt" for name in names})


def _corrected_labels(image: ImageAnnotation, keypoints: int | None) -> str:
    """The lines of the remaining objects; a box that changed is rewritten, and a polygon clipped; keypoints stay."""
    assert image.image_size is not None, "the boxes in pixels were computed with it"
    height, width = image.image_size
    lines = read_label_lines(image.annotation_path)
    corrected = []
    for obj in image.objects:
        text = lines[obj.index]
        line = parse_line(text, keypoints)
        x1, y1, x2, y2 = line.box
        if (x1 * width, y1 * height, x2 * width, y2 * height) != obj.box:
            x1, y1, x2, y2 = obj.box
            cx, cy = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
            box = f"{cx:.7f} {cy:.7f} {(x2 - x1) / width:.7f} {(y2 - y1) / height:.7f}"
            columns = [f"{min(max(corner, 0), 1):.7f}" for corner in line.points] or [box, *line.rest]
            text = " ".join((str(int(to_number(line.class_text))), *columns))
        corrected.append(f"{text}\n")
    return "".join(corrected)
