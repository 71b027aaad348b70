"""Where a dataset of VOC annotations has its files.

Layouts: VOC's own (Annotations/, JPEGImages/, ImageSets/Main/), also when the folder above it is given; the same with
images/ or with the images beside the XML files; the XML files of LabelImg and Roboflow, beside the images, in one
folder or in a folder for each split; and FiftyOne's (labels/ and data/). Annotations and images may lie in sub-folders
of the same names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, islice
from pathlib import Path

from vovnet.data.dataset import OnProblem, inside
from vovnet.data.image_files import some_files, walk_files, walk_images
from vovnet.data.keys import are_repeated, keys_of
from vovnet.data.readers.voc_lists import find_lists
from vovnet.data.spooled import Texts
from vovnet.data.text_table import TextTable
from vovnet.media.pixels import IMAGE_SUFFIXES

_ANNOTATION_FOLDERS = ("Annotations", "annotations")
_IMAGE_FOLDERS = ("JPEGImages", "images", "Images")
_SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
_HEAD = re.compile(r"<annotation[\s>]")
LABEL_MAP = "labelmap.txt"
_LABEL_MAP_HEAD = re.compile(rb"#\s*label\s*:\s*color_rgb\b")


@dataclass(frozen=True)
class Part:
    """XML files in one folder and below it, and where their images are.

    prefix: what precedes the names of the files: "" or "SPLIT/".
    images: folders and whether the folders below them count; an earlier one takes precedence.
    """

    prefix: str
    annotations: Path
    images: tuple[tuple[Path, bool], ...]
    below: bool

    def xml_files(self) -> Iterator[tuple[str, str]]:
        """Name and XML file. A name is the path in the folder without suffix, such as 000001 or 2012/000001."""
        for path, _ in walk_files(self.annotations, below=self.below, suffix=".xml"):
            if path.endswith(".xml") and not os.path.basename(path).startswith("._"):  # macOS's companions of files
                yield f"{self.prefix}{os.path.splitext(inside(self.annotations, path))[0]}", path

    def name_of(self, xml_path: Path) -> str:
        """The name of an XML file, which need not exist."""
        return f"{self.prefix}{_without_suffix(xml_path.relative_to(self.annotations))}"

    def image_tables(self, on_problem: OnProblem) -> list[TextTable]:
        """For each image folder, path in it and unique stem, both without suffix → image. The paths come first."""
        folders = [(folder, below) for folder, below in self.images if folder.is_dir()]
        return [_image_table(folder, walk_images(folder, on_problem, below=below)) for folder, below in folders]

    def find_image(self, tables: Sequence[Mapping[str, str]], xml_path: Path, stated: str) -> Path | None:
        """The image of an XML file: looked up by its path and its stem, then by the <filename> that it states.

        Only files of the image folders are looked up, so a stated name cannot point outside them.
        """
        stated_path = Path(stated.replace("\\", "/"))
        name = _without_suffix(xml_path.relative_to(self.annotations))
        found = _first_of((name, xml_path.stem), tables) or _image_of_full_name(tables, name)
        return found or _first_of((stated_path.stem, stated_path.name), tables)


@dataclass(frozen=True)
class Layout:
    """Where the files of a dataset are.

    lists: the folder of the split lists, which need not exist.
    all_lists: the folder of these and of other lists.
    first_pixel: the number of the first column and row in <bndbox>: 1 in VOC, 0 where CVAT, Datumaro or FiftyOne
        wrote it.
    """

    parts: tuple[Part, ...]
    lists: Path
    all_lists: Path
    first_pixel: int = 1


def find_layout(root: Path) -> Layout | None:
    """The layout of a folder; None if it holds no VOC annotations."""
    if has_standard_layout(root):
        return _standard_layout(root, root / "Annotations")
    for name in _ANNOTATION_FOLDERS:
        if holds_annotations(root / name, below=True):
            return _standard_layout(root, root / name)
    if (root / "data").is_dir() and holds_annotations(root / "labels", below=True):
        return replace(_layout(root, [_fiftyone_part(root)]), first_pixel=0)
    parts = [_flat_part(root, "")] if holds_annotations(root) else list(_split_parts(root))
    if parts:
        return _layout(root, parts)
    folders = _sub_folders(root)
    below = [base for folder in folders for base in (folder, *_sub_folders(folder)) if has_standard_layout(base)]
    return _standard_layout(below[0], below[0] / "Annotations") if len(below) == 1 else None


def has_standard_layout(root: Path) -> bool:
    return any(some_files(root / "Annotations", ".xml"))


def _standard_layout(base: Path, annotations: Path) -> Layout:
    return _layout(base, [_standard_part(base, annotations, "")])


def _layout(base: Path, parts: Sequence[Part]) -> Layout:
    """The lists are those in ImageSets/Main, or in ImageSets itself if Main has none."""
    every = base / "ImageSets"
    main = every / "Main"
    directly = not find_lists(main) and bool(find_lists(every))
    return Layout(tuple(parts), every if directly else main, every, 0 if has_label_map(base) else 1)


def has_label_map(root: Path) -> bool:
    """Whether there is the list of classes that CVAT and Datumaro write beside VOC annotations."""
    try:
        with (root / LABEL_MAP).open("rb") as file:
            return bool(_LABEL_MAP_HEAD.match(file.read(200)))
    except OSError:
        return False


def holds_annotations(folder: Path, *, below: bool = False) -> bool:
    """Whether one of some XML files begins as VOC's do. Other tools write XML too."""
    return any(map(_is_annotation, islice(some_files(folder, ".xml", below=below), 20)))


def _sub_folders(folder: Path) -> list[Path]:
    """Sorted; none of a folder that may not be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if os.path.isdir(entry.path))
    except OSError:
        return []


def _is_annotation(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return bool(_HEAD.search(file.read(2000).replace(b"\0", b"").decode("ascii", "replace")))
    except OSError:
        return False


def _standard_part(base: Path, annotations: Path, prefix: str) -> Part:
    folder = next((base / name for name in _IMAGE_FOLDERS if (base / name).is_dir()), None)
    images = ((folder, True),) if folder else ((base / _IMAGE_FOLDERS[0], True), (annotations, True), (base, False))
    return Part(prefix, annotations, images, below=True)


def _flat_part(folder: Path, prefix: str) -> Part:
    beside = ((folder, False), *((folder / name, True) for name in _IMAGE_FOLDERS if (folder / name).is_dir()))
    return Part(prefix, folder, beside, below=False)


def _fiftyone_part(root: Path) -> Part:
    return Part("", root / "labels", ((root / "data", True), (root / "labels", True)), below=True)


def _split_parts(root: Path) -> Iterator[Part]:
    """A part for each sub-folder with XML files, in it or, where it is called like a split, in its Annotations/."""
    for folder in _sub_folders(root):
        prefix = f"{folder.name}/"
        if holds_annotations(folder):
            yield _flat_part(folder, prefix)
        elif folder.name in _SPLIT_FOLDERS:
            inside = (folder / name for name in _ANNOTATION_FOLDERS if holds_annotations(folder / name))
            yield from (_standard_part(folder, path, prefix) for path in islice(inside, 1))


def _image_table(folder: Path, paths: Iterable[str]) -> TextTable:
    """Of several images of one name, the one whose suffix comes first in IMAGE_SUFFIXES counts."""
    ranks = {suffix: rank for rank, suffix in enumerate(IMAGE_SUFFIXES)}

    def rank(suffix: str) -> tuple[int, str]:
        return ranks[suffix.lower()], suffix

    def name_of(path: str) -> str:
        return os.path.splitext(inside(folder, path))[0]

    found = Texts(paths)
    is_repeated = are_repeated(keys_of(map(name_of, found), len(found)))
    best: dict[str, str] = {}  # of the names that several images have
    for path in compress(found, is_repeated):
        name, suffix = os.path.splitext(inside(folder, path))
        if name not in best or rank(suffix) < rank(os.path.splitext(best[name])[1]):
            best[name] = path
    found = Texts(path for path in found if best.get(name_of(path), path) == path) if best else found

    def entries() -> Iterator[tuple[str, str]]:
        nested = 0
        for path in found:
            name = name_of(path)
            nested += "/" in name
            yield name, path
        if nested:
            shares_stem = are_repeated(keys_of((stem_of(name_of(path)) for path in found), len(found)))
            for path in compress(found, ~shares_stem):
                if "/" in (name := name_of(path)):
                    yield stem_of(name), path

    return TextTable(entries())


def stem_of(name: str) -> str:
    """The last part of a name."""
    return name.rpartition("/")[2]


def _without_suffix(path: Path) -> str:
    return path.with_name(path.stem).as_posix()


def _first_of(keys: Iterable[str], tables: Sequence[Mapping[str, str]]) -> Path | None:
    return next((Path(path) for key in keys for table in tables if (path := table.get(key)) is not None), None)


def _image_of_full_name(tables: Sequence[Mapping[str, str]], name: str) -> Path | None:
    """The image of an XML file that is called like the image with its suffix, as a.png.xml."""
    if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        return None
    key = _without_suffix(Path(name))
    found = _first_of([key], tables)
    own = None if found is None else found.with_name(Path(name).name)  # beside a.jpg there may be a.png
    return own if own is not None and own.is_file() else found
