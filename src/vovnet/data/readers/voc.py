"""Pascal VOC: an XML file for each image, in the layouts of `voc_layout`, and lists of the images of each split."""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from vovnet.data.dataset import (
    ImageAnnotation,
    ImageTable,
    ObjectAnnotation,
    OnProblem,
    SplitAnnotations,
    add_image,
    raise_problem,
    report_mended,
    to_number,
)
from vovnet.data.image_columns import ImageColumns
from vovnet.data.image_files import ignore_problem
from vovnet.data.keys import KeySet, text_key
from vovnet.data.readers.voc_layout import (
    LABEL_MAP,
    Layout,
    Part,
    find_layout,
    has_label_map,
    has_standard_layout,
    stem_of,
)
from vovnet.data.readers.voc_lists import (
    NameFinder,
    drop_lines,
    filter_lines,
    find_lists,
    is_for_one_class,
    is_list,
    read_list,
)
from vovnet.data.readers.voc_members import ALL, Negatives, find_members, find_xml_files, is_flagged, repeated_stems
from vovnet.data.readers.voc_xml import corrected_xml, parse_xml, read_box, stands_in, stated_size
from vovnet.data.splits.split_roles import find_role
from vovnet.data.text_table import TextTable
from vovnet.printing import line as shorten

_LOG = logging.getLogger("vovnet")


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
    xml_files, ends = find_xml_files(layout)
    tables = [part.image_tables(on_problem) for part in layout.parts]
    negatives = Negatives(layout.parts[0], tables[0], xml_files)
    members = {split: find_members(layout, split, xml_files, negatives, on_problem) for split in names}
    count = len(xml_files) + negatives.count
    is_wanted = bytearray(count)
    for number in chain.from_iterable(members.values()):
        is_wanted[number] = True
    repeated = repeated_stems(xml_files)
    columns = ImageColumns()
    rows = array("q", [-1]) * count  # of the images, by the numbers of their names
    class_names: set[str] = set()
    folder = layout.parts[0].images[0][0]
    if not folder.is_dir() and not any(map(any, tables)):
        raise FileNotFoundError(f"{root} has annotations (*.xml) but no images: put them into {folder.name}/")
    for number, (name, path) in enumerate(xml_files.items()):
        part = bisect_right(ends, number)
        # A file of another split only contributes class names when a dataset is opened. The check reports its problems.
        problems = ignore_problem if on_problem is raise_problem and not is_wanted[number] else on_problem
        image_id = name if (stem := stem_of(name)) in repeated else stem
        image = _read_xml(
            layout.parts[part], tables[part], Path(path), image_id, first_pixel=layout.first_pixel, on_problem=problems
        )
        if image is not None:
            rows[number] = add_image(columns, image)
            class_names.update(obj.class_name for obj in image.objects)
    used = KeySet(ImageTable(columns).keys)
    for number, name, list_path, image in negatives.found():
        if str(image.image_path) in used:
            detail = f"lists {shorten(name)}, the image of an annotation that has another name: list that name"
            on_problem("missing-annotation", list_path, detail)
        else:
            rows[number] = add_image(columns, image)
    if on_problem is not raise_problem:
        _warn_about_unused(layout, _unused_images(columns, list(chain(*tables))))
    ordered_names, category_ids = tuple(sorted(class_names)), tuple(range(1, len(class_names) + 1))

    def to_split(split: str) -> SplitAnnotations:
        # A name without an annotation was reported when its list or its XML file was read.
        split_images = ImageTable(columns, array("I", (rows[number] for number in members[split] if rows[number] >= 0)))
        return SplitAnnotations(root, "voc", split, ordered_names, category_ids, split_images)

    return tuple(map(to_split, names))


def _layout(root: Path) -> Layout:
    layout = find_layout(root)
    assert layout is not None, "recognises(root) or recognises_layout(root) was called before"
    return layout


def _folder_splits(layout: Layout) -> dict[str, None]:
    """The first folder of the names of all annotations, if each of them has one."""
    found: dict[str, None] = {}
    for name, _ in chain.from_iterable(part.xml_files() for part in layout.parts):
        folder, slash, _ = name.partition("/")
        if not slash:
            return {}
        found[folder] = None
    return found


def _unused_images(columns: ImageColumns, tables: Sequence[TextTable]) -> tuple[int, str]:
    """How many images in the folders belong to no row, and the first of them."""
    used = KeySet(ImageTable(columns).keys)
    first, keys = "", array("q")
    for path in chain.from_iterable(table.values() for table in tables):
        if path not in used:
            first = min(first, path) if first else path
            keys.append(text_key(path))
    return len(set(keys)), first


def _warn_about_unused(layout: Layout, unused: tuple[int, str]) -> None:
    """Logs images without an XML file, and lists that are not read because they are not where VOC has them."""
    count, first = unused
    if count:
        which = "1 image has no XML file and belongs" if count == 1 else f"{count} images have no XML file and belong"
        _LOG.warning("%s to no split (the first is %s)", which, first)
    if find_lists(layout.lists):
        return
    lists = sorted((*layout.all_lists.rglob("*.txt"), *layout.all_lists.parent.glob("*.txt")))
    lists = [path for path in lists if find_role(path.stem)]
    if lists:
        _LOG.warning("%s is not read as a list of a split: put such lists into %s", lists[0], layout.lists)


def _read_xml(
    part: Part,
    tables: Sequence[TextTable],
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
    names = {Path(path): name for part in layout.parts for name, path in part.xml_files()}
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
    finder = NameFinder(set(names.values()))
    all_kept = set().union(*kept.values())
    for path in sorted(layout.all_lists.rglob("*.txt")):
        if not is_list(path):
            continue
        try:
            lines = list(read_list(path))
        except ValueError:
            continue  # was reported when the list was read
        if path.parent == layout.lists:
            split = path.stem if path.stem in kept else path.stem.rpartition("_")[2]
            lines = filter_lines(lines, kept.get(split, all_kept), finder, flagged=is_flagged(path))
        elif (remaining := drop_lines(lines, set(names.values()) - all_kept, finder)) != lines:
            lines = remaining
        else:
            continue  # is copied as it is
        copy = out / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
