"""Pascal VOC: Annotations/*.xml, JPEGImages/, ImageSets/Main/*.txt."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from vovnet.data.images import IMAGE_SUFFIXES
from vovnet.data.raw import Box, Complain, RawImage, RawObject, RawSplit, raise_complaint, to_number

ALL = "all"  # the split of every annotation file


def recognises(root: Path) -> bool:
    return any((root / "Annotations").glob("*.xml"))


def splits(root: Path) -> tuple[str, ...]:
    """Names of the lists in ImageSets/Main, without those for one class (`cat_train`); `all` where there is none."""
    names = {path.stem for path in (root / "ImageSets" / "Main").glob("*.txt")}
    return tuple(sorted(name for name in names if name.rpartition("_")[2] not in names - {name})) or (ALL,)


def read(root: Path, wanted: Sequence[str], complain: Complain = raise_complaint) -> tuple[RawSplit, ...]:
    """The wanted splits; `all` takes every annotation file.

    Class names are those of all annotation files in alphabetical order, so that every split numbers them alike.
    """
    images = _images(root)
    lists = {split: _read_list(root, split, complain) for split in wanted if split != ALL}
    listed = {stem for stems in lists.values() for stem in stems}
    records = {}
    class_names: set[str] = set()
    for path in sorted((root / "Annotations").glob("*.xml")):
        # Of files that nobody asked for, a reader only wants the class names; the check wants their faults too.
        idle = complain is raise_complaint and ALL not in wanted and path.stem not in listed
        record = _read_xml(path, images, _ignore if idle else complain)
        if record is not None:
            records[path.stem] = record
            class_names.update(obj.class_name for obj in record.objects)
    names = tuple(sorted(class_names))

    def read_split(split: str) -> RawSplit:
        chosen = list(records) if split == ALL else lists[split]
        # An id without a record was complained about when its XML was read, or when it was found to have none.
        kept = tuple(records[stem] for stem in chosen if stem in records)
        return RawSplit(root, "voc", split, names, tuple(range(1, len(names) + 1)), kept)

    return tuple(read_split(split) for split in wanted)


def _ignore(kind: str, path: Path, detail: str) -> None:
    """The `Complain` for files outside the wanted splits."""


def list_path(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Main" / f"{split}.txt"


def parse_xml(path: Path) -> ElementTree.Element:
    """The root element of an annotation file."""
    data = path.read_bytes()
    # Entities are of no use in an annotation, and nested ones can fill the memory. Without NULs this also sees UTF-16.
    plain = data.replace(b"\0", b"")
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise ValueError("declares a document type or entities, which an annotation does not need: remove them")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # LookupError: unknown encoding
        raise ValueError(f"is not well-formed XML ({error})") from error


def parse_box(element: ElementTree.Element) -> Box:
    """The box of an <object>: VOC counts from 1 and includes the last pixel."""
    x1, y1, x2, y2 = (to_number(element.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
    return x1 - 1, y1 - 1, x2, y2


def _images(root: Path) -> dict[str, Path]:
    """Stem → file; of several with one stem, the suffix that stands first in IMAGE_SUFFIXES."""
    folder = root / "JPEGImages"
    if not folder.is_dir():
        raise FileNotFoundError(f"{root} has Annotations/ but no JPEGImages/: put the images there")
    found: dict[str, Path] = {}
    for name in sorted(os.listdir(folder), key=lambda name: (_rank(name), name)):
        if _rank(name) < len(IMAGE_SUFFIXES):
            found.setdefault(os.path.splitext(name)[0], folder / name)
    return found


def _rank(name: str) -> int:
    suffix = os.path.splitext(name)[1].lower()
    return IMAGE_SUFFIXES.index(suffix) if suffix in IMAGE_SUFFIXES else len(IMAGE_SUFFIXES)


def _read_list(root: Path, split: str, complain: Complain) -> list[str]:
    path = list_path(root, split)
    stems: dict[str, None] = {}
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        stem = line.split()[0] if line.strip() else ""  # a list for one class has a flag after the id
        if not stem:
            continue
        if stem in stems:
            complain("listed-twice", path, f"lists {stem} twice")
        elif not (root / "Annotations" / f"{stem}.xml").is_file():
            complain("missing-annotation", path, f"lists {stem}, but there is no Annotations/{stem}.xml")
        else:
            stems[stem] = None
    return list(stems)


def _read_xml(path: Path, images: dict[str, Path], complain: Complain) -> RawImage | None:
    try:
        tree = parse_xml(path)
    except ValueError as error:
        complain("bad-annotation", path, str(error))
        return None
    # The stated name is only looked up among the files of JPEGImages, so it cannot lead out of the folder.
    stated = Path(tree.findtext("filename", default="").strip())
    image_path = images.get(path.stem) or images.get(stated.stem) or images.get(stated.name)
    if image_path is None:
        complain("missing-image", path, f"there is no JPEGImages/{path.stem}.jpg (or .png, …)")
        return None
    objects = []
    for index, element in enumerate(tree.iterfind("object")):
        name = element.findtext("name", default="").strip()
        if not name:
            complain("bad-annotation", path, f"object {index + 1} has no <name>")
            continue
        difficult = to_number(element.findtext("difficult", default="0")) == 1
        objects.append(RawObject(index, name, parse_box(element), difficult))
    return RawImage(image_path, path, path.stem, tuple(objects), _stated_size(tree))


def _stated_size(tree: ElementTree.Element) -> tuple[int, int] | None:
    height, width = (to_number(tree.findtext("size/height")), to_number(tree.findtext("size/width")))
    return (int(height), int(width)) if 0 < height < float("inf") and 0 < width < float("inf") else None


def write(root: Path, splits: Sequence[RawSplit], out: Path) -> None:
    """The annotation files and lists with only these images and objects; other elements stay as they are."""
    (out / "Annotations").mkdir(parents=True)
    for path, image in {image.annotation_path: image for split in splits for image in split.images}.items():
        (out / "Annotations" / path.name).write_bytes(_corrected(path, image))
    for split in splits:
        if list_path(root, split.split).is_file():
            kept = {str(image.image_id) for image in split.images}
            _copy_list(root, split.split, kept, out)
            for path in list_path(root, split.split).parent.glob(f"*_{split.split}.txt"):
                _copy_list(root, path.stem, kept, out)


def _corrected(path: Path, image: RawImage) -> bytes:
    """The annotation file as it is, or rewritten where `image` says otherwise."""
    tree = parse_xml(path)
    changed = _stated_size(tree) != image.image_size
    if changed and image.image_size is not None:
        for side, length in zip(("height", "width"), image.image_size, strict=True):
            _set(tree, f"size/{side}", length)
    boxes = {obj.index: obj.box for obj in image.objects}
    for index, element in enumerate(tree.findall("object")):
        if index not in boxes:
            tree.remove(element)
            changed = True
        elif parse_box(element) != boxes[index]:
            x1, y1, x2, y2 = boxes[index]
            for side, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
                _set(element, f"bndbox/{side}", value)
            changed = True
    return ElementTree.tostring(tree, encoding="utf-8") if changed else path.read_bytes()


def _set(element: ElementTree.Element, path: str, value: float) -> None:
    found = element.find(path)
    assert found is not None, "its number was read before"
    found.text = str(int(value)) if value == int(value) else f"{value:.3f}"


def _copy_list(root: Path, name: str, kept: set[str], out: Path) -> None:
    """The lines of kept ids, each once."""
    lines = {
        line.split()[0]: line for line in list_path(root, name).read_text("utf-8-sig").splitlines() if line.split()
    }
    path = list_path(out, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for stem, line in lines.items() if stem in kept), encoding="utf-8")
