"""YOLO: data.yaml, images/… and labels/… with one line of text per object."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from vovnet.data.dataset import Box, ImageAnnotation, ObjectAnnotation, OnProblem, SplitAnnotations, to_number
from vovnet.data.images import IMAGE_SUFFIXES, image_header_size

_SPLITS = ("train", "val", "test")


def recognises(root: Path) -> bool:
    return _yaml_path(root) is not None


def splits(root: Path) -> tuple[str, ...]:
    settings = _parse_yaml(root)
    names = tuple(split for split in _SPLITS if settings.get(split))
    if not names:
        raise ValueError(f"{_yaml_path(root)} must name a folder or list of images under train, val or test")
    return names


def read(root: Path, names: Sequence[str], on_problem: OnProblem) -> tuple[SplitAnnotations, ...]:
    """The splits of these names. An image without a label file has no objects."""
    settings = _parse_yaml(root)
    class_names = _class_names(root, settings)

    def read_split(split: str) -> SplitAnnotations:
        paths = _image_files(root, settings, split, on_problem)
        labelled = (_read_labels(path, class_names, on_problem) for path in paths)
        images = _with_unique_ids(root, [image for image in labelled if image is not None])
        return SplitAnnotations(root, "yolo", split, class_names, tuple(range(len(class_names))), images)

    return tuple(map(read_split, names))


def _yaml_path(root: Path) -> Path | None:
    return next((root / name for name in ("data.yaml", "data.yml") if (root / name).is_file()), None)


def _parse_yaml(root: Path) -> dict[str, Any]:
    path = _yaml_path(root)
    assert path is not None, "recognises(root) was called before"
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold the keys train, val and names, got {type(settings).__name__}")
    return settings


def _class_names(root: Path, settings: dict[str, Any]) -> tuple[str, ...]:
    """`names` of data.yaml: a list, or a dictionary with the keys 0, 1, 2, …"""
    names, path = settings.get("names"), _yaml_path(root)
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ValueError(f"{path}: names must be a list, or a dictionary with the keys 0, 1, 2, …, got {names!r}")
    if settings.get("nc", len(names)) != len(names):
        raise ValueError(f"{path}: nc is {settings['nc']}, but names has {len(names)} entries: make them agree")
    if len({str(name) for name in names}) < len(names):
        raise ValueError(f"{path}: names must differ from each other, got {names}")
    return tuple(map(str, names))


def _image_files(root: Path, settings: dict[str, Any], split: str, on_problem: OnProblem) -> list[Path]:
    """The images of a split, in alphabetical order or in the order of its list."""
    entries = settings[split] if isinstance(settings[split], list) else [settings[split]]
    images: dict[Path, None] = {}
    for entry in entries:
        source = _locate(root, settings, str(entry), split)
        if source.is_dir():
            paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        else:
            paths = _read_list(root, source, on_problem)
        for path in paths:
            if path in images:
                on_problem("listed-twice", source, f"the split {split} has {path.name} twice")
            images[path] = None
    return list(images)


def _locate(root: Path, settings: dict[str, Any], entry: str, split: str) -> Path:
    """The folder or list that an entry of data.yaml means; it must lie in the data folder.

    `path` often names a folder of the machine on which the file was written, and some tools write `../train/images` for
    a folder beside data.yaml. So the entry is also tried without `path` and without `../`.
    """
    inside = root.resolve()
    for base in (root / str(settings.get("path") or "."), root):
        for name in (entry, entry.removeprefix("../")):
            path = base / name
            if path.exists() and path.resolve().is_relative_to(inside):
                return root / path.resolve().relative_to(inside)
    raise FileNotFoundError(f"{_yaml_path(root)}: {split}: {entry} is not a folder or list in {root}")


def _read_list(root: Path, path: Path, on_problem: OnProblem) -> list[Path]:
    """The images that a text file lists, with paths relative to itself or to the data folder."""
    if path.suffix != ".txt":
        raise ValueError(f"{path} must be a folder of images or a .txt file that lists them")
    inside = root.resolve()
    images = []
    for line in filter(None, map(str.strip, path.read_text(encoding="utf-8-sig").splitlines())):
        image = next((file for file in (path.parent / line, root / line) if file.is_file()), None)
        if image is None:
            on_problem("missing-image", path, f"lists {line}, which does not exist")
        elif not image.resolve().is_relative_to(inside):
            on_problem("bad-annotation", path, f"lists {line}, which lies outside the data folder")
        else:
            images.append(root / image.resolve().relative_to(inside))
    return images


def _label_path(image_path: Path) -> Path:
    """…/images/…/x.jpg → …/labels/…/x.txt; beside the image if no folder is called images."""
    return _rename_folder(image_path, "images", "labels").with_suffix(".txt")


def _rename_folder(path: Path, old: str, new: str) -> Path:
    """The path with the last folder called `old` renamed, if there is one."""
    before, found, after = f"/{path.as_posix()}".rpartition(f"/{old}/")
    return Path(f"{before}/{new}/{after}"[1:]) if found else path


def _read_labels(image_path: Path, class_names: tuple[str, ...], on_problem: OnProblem) -> ImageAnnotation | None:
    try:
        height, width = image_header_size(image_path)  # boxes are fractions of it
    except (ValueError, OSError) as error:
        on_problem("unreadable-image", image_path, str(error).removeprefix(f"{image_path} "))
        return None
    path = _label_path(image_path)
    objects = []
    lines = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        index, (x1, y1, x2, y2) = _parse_line(line)
        if index.is_integer() and 0 <= index < len(class_names):
            box = (x1 * width, y1 * height, x2 * width, y2 * height)
            objects.append(ObjectAnnotation(number, class_names[int(index)], box))
        else:
            detail = f"line {number + 1} has the class {line.split()[0]}, not 0 to {len(class_names) - 1}"
            on_problem("unknown-class", path, detail)
    return ImageAnnotation(image_path, path, image_path.stem, tuple(objects), (height, width))


def _parse_line(line: str) -> tuple[float, Box]:
    """class cx cy w h, or class x1 y1 x2 y2 x3 y3 … of a polygon → (class index, x1 y1 x2 y2), all in fractions.

    A malformed line has NaN as its class or corners.
    """
    index, *numbers = map(to_number, line.split())
    if len(numbers) == 4:
        cx, cy, width, height = numbers
        return index, (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
    if len(numbers) >= 6 and len(numbers) % 2 == 0 and not any(map(math.isnan, numbers)):
        xs, ys = numbers[0::2], numbers[1::2]
        return index, (min(xs), min(ys), max(xs), max(ys))
    return index, (math.nan,) * 4


def _with_unique_ids(root: Path, images: Sequence[ImageAnnotation]) -> tuple[ImageAnnotation, ...]:
    """Images with the same stem in several folders get their path in the data folder as their id."""
    counts = Counter(image.image_id for image in images)

    def with_unique_id(image: ImageAnnotation) -> ImageAnnotation:
        if counts[image.image_id] == 1:
            return image
        return replace(image, image_id=image.image_path.relative_to(root).with_suffix("").as_posix())

    return tuple(map(with_unique_id, images))


def labels_without_image(root: Path, splits: Sequence[SplitAnnotations]) -> list[Path]:
    """Label files that belong to no image, in the folders where the splits have theirs."""
    used = {_label_path(image.image_path) for split in splits for image in split.images}
    folders = {path.parent for path in used if path.parent.name != "images" and "labels" in path.parts}
    suffixes = (*IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES))

    def has_image(path: Path) -> bool:
        image_path = _rename_folder(path, "labels", "images")
        return path in used or any(image_path.with_suffix(suffix).is_file() for suffix in suffixes)

    return [path for folder in sorted(folders) for path in sorted(folder.glob("*.txt")) if not has_image(path)]


def write(root: Path, splits: Sequence[SplitAnnotations], out: Path) -> None:
    """Label files with only these objects, a list SPLIT.txt for each split, and a data.yaml that names the lists.

    Lists rather than folders, because two splits may share a folder and still differ.
    """
    settings = {key: value for key, value in _parse_yaml(root).items() if key != "path"}
    out.mkdir(parents=True, exist_ok=True)
    for split in splits:
        settings[split.split] = f"{split.split}.txt"
        lines = [f"./{image.image_path.relative_to(root).as_posix()}\n" for image in split.images]
        (out / f"{split.split}.txt").write_text("".join(lines), encoding="utf-8")
        for image in split.images:
            if image.annotation_path.is_file():
                path = out / image.annotation_path.relative_to(root)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(_corrected_labels(image), encoding="utf-8")
    (out / "data.yaml").write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _corrected_labels(image: ImageAnnotation) -> str:
    """The lines of the remaining objects; a line whose box changed becomes class cx cy w h."""
    assert image.image_size is not None, "the boxes in pixels were computed with it"
    height, width = image.image_size
    lines = image.annotation_path.read_text(encoding="utf-8-sig").splitlines()
    corrected = []
    for obj in image.objects:
        line = lines[obj.index]
        index, (x1, y1, x2, y2) = _parse_line(line)
        if (x1 * width, y1 * height, x2 * width, y2 * height) != obj.box:
            x1, y1, x2, y2 = obj.box
            cx, cy = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
            line = f"{int(index)} {cx:.7f} {cy:.7f} {(x2 - x1) / width:.7f} {(y2 - y1) / height:.7f}"
        corrected.append(f"{line}\n")
    return "".join(corrected)
