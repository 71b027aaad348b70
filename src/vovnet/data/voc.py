"""Pascal VOC: Annotations/*.xml, JPEGImages/, ImageSets/Main/*.txt."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from xml.etree import ElementTree

from vovnet.data.dataset import (
    Box,
    ImageAnnotation,
    ObjectAnnotation,
    OnProblem,
    SplitAnnotations,
    raise_problem,
    to_image_size,
    to_number,
)
from vovnet.data.images import IMAGE_SUFFIXES

ALL = "all"  # the split of every annotation file


def recognises(root: Path) -> bool:
    return any((root / "Annotations").glob("*.xml"))


def splits(root: Path) -> tuple[str, ...]:
    """Names of the lists in ImageSets/Main, without those for one class (`cat_train`); `all` if there is no list."""
    names = {path.stem for path in (root / "ImageSets" / "Main").glob("*.txt")}
    return tuple(sorted(name for name in names if name.rpartition("_")[2] not in names - {name})) or (ALL,)


def read(root: Path, names: Sequence[str], on_problem: OnProblem) -> tuple[SplitAnnotations, ...]:
    """The splits of these names; `all` takes every annotation file.

    The class names are those of all annotation files in alphabetical order, so every split numbers them alike.
    """
    image_paths = _image_paths(root)
    lists = {split: _read_list(root, split, on_problem) for split in names if split != ALL}
    listed = {stem for stems in lists.values() for stem in stems}
    images = {}
    class_names: set[str] = set()
    for path in sorted((root / "Annotations").glob("*.xml")):
        # A file of another split only contributes class names when a dataset is opened. The check reports its problems.
        outside = on_problem is raise_problem and ALL not in names and path.stem not in listed
        image = _read_xml(path, image_paths, _ignore_problem if outside else on_problem)
        if image is not None:
            images[path.stem] = image
            class_names.update(obj.class_name for obj in image.objects)
    ordered_names, ids = tuple(sorted(class_names)), tuple(range(1, len(class_names) + 1))

    def to_split(name: str) -> SplitAnnotations:
        # A stem without an annotation was reported when its list or its XML file was read.
        split_images = tuple(images[stem] for stem in (images if name == ALL else lists[name]) if stem in images)
        return SplitAnnotations(root, "voc", name, ordered_names, ids, split_images)

    return tuple(map(to_split, names))


def _ignore_problem(kind: str, path: Path, detail: str) -> None:
    """The `OnProblem` for files of other splits."""


def list_path(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Main" / f"{split}.txt"


def _parse_xml(path: Path) -> ElementTree.Element:
    data = path.read_bytes()
    # An annotation needs no entities, and nested ones can fill the memory. Without NULs this also detects UTF-16.
    plain = data.replace(b"\0", b"")
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise ValueError("declares a document type or entities, which an annotation does not need: remove them")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # LookupError: unknown encoding
        raise ValueError(f"is not well-formed XML ({error})") from error


def _parse_box(element: ElementTree.Element) -> Box:
    """The box of an <object>: VOC counts pixels from 1 and includes the last one."""
    x1, y1, x2, y2 = (to_number(element.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
    return x1 - 1, y1 - 1, x2, y2


def _image_paths(root: Path) -> dict[str, Path]:
    """Stem → image file; of several files with one stem, the one whose suffix comes first in IMAGE_SUFFIXES."""
    folder = root / "JPEGImages"
    if not folder.is_dir():
        raise FileNotFoundError(f"{root} has Annotations/ but no JPEGImages/: put the images there")
    ranks = {suffix: rank for rank, suffix in enumerate(IMAGE_SUFFIXES)}
    names = [(stem, suffix) for stem, suffix in map(os.path.splitext, os.listdir(folder)) if suffix.lower() in ranks]
    names.sort(key=lambda name: (ranks[name[1].lower()], name[1]), reverse=True)  # of equal stems the last one stays
    return {stem: folder / f"{stem}{suffix}" for stem, suffix in names}


def _read_list(root: Path, split: str, on_problem: OnProblem) -> list[str]:
    """The stems in a split's list."""
    path = list_path(root, split)
    stems: dict[str, None] = {}
    for line in filter(str.strip, path.read_text(encoding="utf-8-sig").splitlines()):
        stem = line.split()[0]  # in a list for one class a flag follows it
        if stem in stems:
            on_problem("listed-twice", path, f"lists {stem} twice")
        elif not (root / "Annotations" / f"{stem}.xml").is_file():
            on_problem("missing-annotation", path, f"lists {stem}, but there is no Annotations/{stem}.xml")
        else:
            stems[stem] = None
    return list(stems)


def _read_xml(path: Path, image_paths: dict[str, Path], on_problem: OnProblem) -> ImageAnnotation | None:
    try:
        tree = _parse_xml(path)
    except ValueError as error:
        on_problem("bad-annotation", path, str(error))
        return None
    # The stated file name is only looked up among the files of JPEGImages, so it cannot point outside the folder.
    stated = Path(tree.findtext("filename", default="").strip())
    image_path = image_paths.get(path.stem) or image_paths.get(stated.stem) or image_paths.get(stated.name)
    if image_path is None:
        on_problem("missing-image", path, f"there is no JPEGImages/{path.stem}.jpg (or .png, …)")
        return None
    objects = []
    for index, element in enumerate(tree.iterfind("object")):
        class_name = element.findtext("name", default="").strip()
        if not class_name:
            on_problem("bad-annotation", path, f"object {index + 1} has no <name>")
            continue
        difficult = to_number(element.findtext("difficult", default="0")) == 1
        objects.append(ObjectAnnotation(index, class_name, _parse_box(element), difficult=difficult))
    return ImageAnnotation(image_path, path, path.stem, tuple(objects), _stated_size(tree))


def _stated_size(tree: ElementTree.Element) -> tuple[int, int] | None:
    return to_image_size(tree.findtext("size/height"), tree.findtext("size/width"))


def write(root: Path, splits: Sequence[SplitAnnotations], out: Path) -> None:
    """The annotation files and lists with only these images and objects; all other elements stay as they are."""
    (out / "Annotations").mkdir(parents=True)
    for path, image in {image.annotation_path: image for split in splits for image in split.images}.items():
        (out / "Annotations" / path.name).write_bytes(_corrected_xml(path, image))
    for split in splits:
        if list_path(root, split.split).is_file():
            stems = {str(image.image_id) for image in split.images}
            lists_for_one_class = list_path(root, split.split).parent.glob(f"*_{split.split}.txt")
            for path in (list_path(root, split.split), *lists_for_one_class):
                _copy_list(path, list_path(out, path.stem), stems)


def _corrected_xml(path: Path, image: ImageAnnotation) -> bytes:
    """The annotation file as it is, or rewritten where `image` differs from it."""
    tree = _parse_xml(path)
    changed = _stated_size(tree) != image.image_size
    if changed and image.image_size is not None:
        for side, length in zip(("height", "width"), image.image_size, strict=True):
            _set_number(tree, f"size/{side}", length)
    boxes = {obj.index: obj.box for obj in image.objects}
    for index, element in enumerate(tree.findall("object")):
        if index not in boxes:
            tree.remove(element)
            changed = True
        elif _parse_box(element) != boxes[index]:
            x1, y1, x2, y2 = boxes[index]
            for side, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
                _set_number(element, f"bndbox/{side}", value)
            changed = True
    return ElementTree.tostring(tree, encoding="utf-8") if changed else path.read_bytes()


def _set_number(element: ElementTree.Element, path: str, value: float) -> None:
    child = element.find(path)
    assert child is not None, "its number was read before"
    child.text = str(int(value)) if value == int(value) else f"{value:.3f}"


def _copy_list(source: Path, target: Path, stems: Collection[str]) -> None:
    """Copies the lines of these stems, each once."""
    lines = {line.split()[0]: line for line in source.read_text("utf-8-sig").splitlines() if line.split()}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(f"{line}\n" for stem, line in lines.items() if stem in stems), encoding="utf-8")
