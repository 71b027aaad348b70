"""Pascal VOC: an XML file for each image, in the layouts of `voc_layout`, and lists of the images of each split."""

from __future__ import annotations

import logging
from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np

from vovnet.data.dataset import (
    ImageAnnotation,
    ImageTable,
    ObjectAnnotation,
    OnProblem,
    SplitAnnotations,
    add_image,
    keys_of,
    raise_problem,
    report_mended,
    text_key,
    to_number,
)
from vovnet.data.image_columns import ImageColumns
from vovnet.data.image_files import ignore_problem
from vovnet.data.readers.voc_layout import LABEL_MAP, Layout, Part, find_layout, has_label_map, has_standard_layout
from vovnet.data.readers.voc_lists import (
    NameFinder,
    drop_lines,
    filter_lines,
    find_lists,
    is_for_one_class,
    is_list,
    read_list,
)
from vovnet.data.readers.voc_xml import corrected_xml, parse_xml, read_box, stands_in, stated_size
from vovnet.data.splits.split_roles import find_role
from vovnet.errors import counted
from vovnet.printing import line as shorten

_LOG = logging.getLogger("vovnet")
ALL = "all"  # the split of every annotation file


def recognises(root: Path) -> str:
    """The folder that shows VOC's own layout, as a clause; "" without it."""
    written = f"; {LABEL_MAP} is of CVAT or Datumaro" if has_label_map(root) else ""
    return f"Annotations/ holds XML files{written}" if has_standard_layout(root) else ""


def recognises_layout(root: Path) -> str:
    """The same for the other layouts of VOC annotations."""
    layout = find_layout(root)
    if layout is None:
        return ""
    folder = layout.parts[0].annotations.relative_to(root).as_posix()
    where = "the folder" if folder == "." else f"{shorten(folder)}/"
    return f"{where} holds XML files that begin with <annotation>"


def splits(root: Path) -> tuple[str, ...]:
    """Names of the lists in ImageSets/Main, without those for one class (`cat_train`).

    Without lists, the folders in which all annotations lie; `all` if there are none.
    """
    layout = _layout(root)
    names = find_lists(layout.lists).keys()
    by_list = tuple(sorted(name for name in names if not is_for_one_class(name, names)))
    return by_list or tuple(_folder_splits(layout)) or (ALL,)


def has_split(root: Path, split: str) -> bool:
    """Whether `read` takes the name, although `splits` may not list it: `all`, and the list of a class."""
    return split == ALL or split in find_lists(_layout(root).lists) or split in splits(root)


def read(root: Path, names: Sequence[str], on_problem: OnProblem) -> tuple[SplitAnnotations, ...]:
    """The splits of these names; `all` takes every annotation file.

    The class names are those of all annotation files in alphabetical order, so every split numbers them alike.
    """
    layout = _layout(root)
    xml_files = _xml_files(layout)
    tables = [part.image_tables(on_problem) for part in layout.parts]
    negatives = _Negatives(layout, tables, xml_files)
    members = {split: _members(layout, split, xml_files, negatives, on_problem) for split in names}
    wanted = {name for split_members in members.values() for name in split_members}
    repeated = _repeated_stems(xml_files)
    columns = ImageColumns()
    rows: dict[str, int] = {}  # of the images by the names of their annotations
    class_names: set[str] = set()
    folder = layout.parts[0].images[0][0]
    if not folder.is_dir() and not any(map(any, tables)):
        raise FileNotFoundError(f"{root} has annotations (*.xml) but no images: put them into {folder.name}/")
    for part, part_tables in zip(layout.parts, tables, strict=True):
        for name, path in (xml_files if len(layout.parts) == 1 else part.xml_files()).items():
            # A file of another split only contributes class names when a dataset is opened. The check reports its
            # problems.
            outside = on_problem is raise_problem and name not in wanted
            problems = ignore_problem if outside else on_problem
            stem = _stem(name)
            image_id = name if stem in repeated else stem
            image = _read_xml(
                part, part_tables, Path(path), image_id, first_pixel=layout.first_pixel, on_problem=problems
            )
            if image is not None:
                rows[name] = add_image(columns, image)
                class_names.update(obj.class_name for obj in image.objects)
    used = set(ImageTable(columns).keys.tolist()) if negatives.found else set()
    for name, image in negatives.found.items():
        if text_key(image.image_path) in used:
            detail = f"lists {shorten(name)}, the image of an annotation that has another name: list that name"
            on_problem("missing-annotation", negatives.lists[name], detail)
        else:
            rows[name] = add_image(columns, image)
    if on_problem is not raise_problem:
        known = np.unique(ImageTable(columns).keys)
        unused: set[str] = set()
        for table in chain(*tables):
            is_used = np.isin(keys_of(table.values()), known)
            unused |= {path for path, is_known in zip(table.values(), is_used, strict=True) if not is_known}
        _warn_about_unused(layout, sorted(map(Path, unused)))
    ordered_names, category_ids = tuple(sorted(class_names)), tuple(range(1, len(class_names) + 1))

    def to_split(split: str) -> SplitAnnotations:
        # A name without an annotation was reported when its list or its XML file was read.
        split_images = ImageTable(columns, array("I", (rows[name] for name in members[split] if name in rows)))
        return SplitAnnotations(root, "voc", split, ordered_names, category_ids, split_images)

    return tuple(map(to_split, names))


def _layout(root: Path) -> Layout:
    layout = find_layout(root)
    assert layout is not None, "recognises(root) or recognises_layout(root) was called before"
    return layout


def _xml_files(layout: Layout) -> dict[str, str]:
    return {name: path for part in layout.parts for name, path in part.xml_files().items()}


def _folder_splits(layout: Layout) -> dict[str, None]:
    """The first folder of the names of all annotations, if each of them has one."""
    names = list(_xml_files(layout))
    return {name.partition("/")[0]: None for name in names} if all("/" in name for name in names) else {}


def _warn_about_unused(layout: Layout, images: Sequence[Path]) -> None:
    """Logs images without an XML file, and lists that are not read because they are not where VOC has them."""
    if images:
        count = (
            "1 image has no XML file and belongs"
            if len(images) == 1
            else f"{len(images)} images have no XML file and belong"
        )
        _LOG.warning("%s to no split (the first is %s)", count, images[0])
    if find_lists(layout.lists):
        return
    lists = sorted((*layout.all_lists.rglob("*.txt"), *layout.all_lists.parent.glob("*.txt")))
    lists = [path for path in lists if find_role(path.stem)]
    if lists:
        _LOG.warning("%s is not read as a list of a split: put such lists into %s", lists[0], layout.lists)


class _Negatives:
    """Images that a list names although they have no XML file: they show no object.

    found: name → image.
    lists: name → the list that names it.
    """

    def __init__(
        self, layout: Layout, tables: Sequence[Sequence[Mapping[str, str]]], xml_files: Mapping[str, str]
    ) -> None:
        self.found: dict[str, ImageAnnotation] = {}
        self.lists: dict[str, Path] = {}
        self._part, self._tables, self._xml_files = layout.parts[0], tables[0], xml_files

    @cached_property
    def _stems(self) -> set[str]:
        return set(map(_stem, self._xml_files))

    @cached_property
    def _images(self) -> dict[str, str]:
        """Name → image without an XML file of that name."""
        names: dict[str, str] = {}  # the path in its folder; the tables have the stem, too
        for name, path in chain.from_iterable(table.items() for table in self._tables if not self._part.prefix):
            names[path] = max(name, names.get(path, ""), key=len)
        return {name: path for path, name in names.items() if name not in self._xml_files}

    @cached_property
    def _finder(self) -> NameFinder:
        return NameFinder(self._images)

    def find(self, line: str, *, flagged: bool) -> str | None:
        """The name of the image that a line of a list means."""
        return self._finder.find(line, flagged=flagged)

    def add(self, name: str, path: Path) -> None:
        """Takes the image of a name that the list `path` has."""
        stem = name.rpartition("/")[2]
        image_id = name if stem in self._stems else stem
        xml_path = self._part.annotations / f"{name}.xml"
        self.found[name], self.lists[name] = ImageAnnotation(Path(self._images[name]), xml_path, image_id, ()), path


def _members(
    layout: Layout, split: str, xml_files: Mapping[str, str], negatives: _Negatives, on_problem: OnProblem
) -> list[str]:
    """Names of the annotations of a split."""
    path = layout.lists / f"{split}.txt"
    if path.is_file():
        return _read_names(path, xml_files, negatives, on_problem)
    if split == ALL:
        return list(xml_files)
    return [name for name in xml_files if name.startswith(f"{split}/")]


def _repeated_stems(names: Collection[str]) -> set[str]:
    """What several annotations in different folders are called."""
    if not any("/" in name for name in names):
        return set()
    counts = Counter(map(_stem, names))
    return {stem for stem, count in counts.items() if count > 1}


def _stem(name: str) -> str:
    return name.rpartition("/")[2]


def _read_names(path: Path, xml_files: Mapping[str, str], negatives: _Negatives, on_problem: OnProblem) -> list[str]:
    """The names of the annotations in a list, and of images without one."""
    try:
        lines = read_list(path)
    except ValueError as error:
        on_problem("bad-annotation", path, str(error))
        return []
    finder = NameFinder(xml_files)
    flagged = _is_flagged(path)
    names: dict[str, None] = {}
    for line in lines:
        name = finder.find(line, flagged=flagged)
        if name is None or (name != line and {"/", "\\"} & set(line)):  # night/a may be an image, not the annotation a
            negative = negatives.find(line, flagged=flagged) or ""
            if len(negative) > len(name or ""):
                name = negative
                negatives.add(name, path)
        if name is None:
            stated = shorten(line)
            on_problem("missing-annotation", path, f"lists {stated}, but there is no Annotations/{stated}.xml")
        elif name in names:
            on_problem("listed-twice", path, f"lists {shorten(name)} twice")
        else:
            names[name] = None
    if without := [name for name in names if name not in xml_files]:
        which = f"{counted(len(without), 'image')} without an XML file (the first is {shorten(without[0])})"
        _LOG.warning("%s lists %s, which therefore shows no object", path, which)
    return list(names)


def _is_flagged(path: Path) -> bool:
    return is_for_one_class(path.stem, find_lists(path.parent))


def _read_xml(
    part: Part,
    tables: Sequence[Mapping[str, str]],
    path: Path,
    image_id: str,
    *,
    first_pixel: int,
    on_problem: OnProblem,
) -> ImageAnnotation | None:
    try:
        tree = parse_xml(path)
    except ValueError as error:
        on_problem("bad-annotation", path, str(error))
        image_path = part.find_image(tables, path, "")
        if image_path is None:
            return None
        return ImageAnnotation(image_path, path, image_id, (), unusable_objects=1)  # at least
    image_path = part.find_image(tables, path, tree.findtext("filename", default="").strip())
    if image_path is None:
        where = part.images[0][0]
        name = shorten(path.stem if where == part.annotations else f"{where.name}/{path.stem}")
        on_problem("missing-image", path, f"there is no {name}.jpg (or .png, …)")
        return None
    objects, mended, unusable = [], [], 0
    for index, element in enumerate(tree.iterfind("object")):
        class_name = element.findtext("name", default="").strip()
        if not class_name:
            on_problem("bad-annotation", path, f"object {index + 1} has no <name>")
            unusable += 1
            continue
        difficult = to_number(element.findtext("difficult", default="0")) == 1
        box, stated = read_box(element, first_pixel)
        if stands_in(box, stated):
            mended.append(("bad-bndbox", f"object {index + 1} ({shorten(class_name, 60)}): {stated}"))
            stated = ""
        objects.append(ObjectAnnotation(index, class_name, box, difficult=difficult, stated=stated))
    report_mended(mended, path, on_problem)
    return ImageAnnotation(image_path, path, image_id, tuple(objects), stated_size(tree), unusable)


def write(root: Path, splits: Sequence[SplitAnnotations], out: Path) -> None:
    """The annotation files and lists with only these images and objects; all other elements stay as they are.

    A list for one class keeps the images that its split keeps, any other list those that remain in some split. Lists in
    other folders, such as ImageSets/Layout, lose only the lines of images that are left out.
    """
    layout = _layout(root)
    names = {Path(path): name for name, path in _xml_files(layout).items()}
    negatives = {image.annotation_path for split in splits for image in split.images} - names.keys()
    names |= {path: layout.parts[0].name_of(path) for path in negatives}
    kept = {split.split: {names[image.annotation_path] for image in split.images} for split in splits}
    images = {image.annotation_path: image for split in splits for image in split.images}
    for path, image in images.items():
        if path in negatives:
            continue
        copy = out / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(corrected_xml(path, image, layout.first_pixel))
    finder = NameFinder(names.values())
    all_kept = set().union(*kept.values())
    for path in sorted(layout.all_lists.rglob("*.txt")):
        if not is_list(path):
            continue
        try:
            lines = read_list(path)
        except ValueError:
            continue  # was reported when the list was read
        if path.parent == layout.lists:
            split = path.stem if path.stem in kept else path.stem.rpartition("_")[2]
            lines = filter_lines(lines, kept.get(split, all_kept), finder, flagged=_is_flagged(path))
        elif (remaining := drop_lines(lines, set(names.values()) - all_kept, finder)) != lines:
            lines = remaining
        else:
            continue  # is copied as it is
        copy = out / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
