"""COCO: one JSON file per split.

Layouts: annotations/instances_SPLIT.json or annotations/SPLIT.json with the images in images/SPLIT/, images/, SPLIT/,
annotations/ or the root; SPLIT/_annotations.coco.json with the images beside it; or, without either, JSON files with
such names in the root.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vovnet.data.dataset import ImageTable, OnProblem, SplitAnnotations, report_mended
from vovnet.data.readers.coco_classes import read_classes
from vovnet.data.readers.coco_cleaned import write_cleaned
from vovnet.data.readers.coco_files import annotation_files, open_coco, writer
from vovnet.data.readers.coco_images import read_images
from vovnet.data.readers.coco_objects import ObjectReader, ids_of, repeated_ids
from vovnet.data.readers.image_finder import ImageFinder
from vovnet.data.readers.ordered_problems import OrderedProblems
from vovnet.printing import line, quoted


def recognises(root: Path) -> str:
    """The JSON file that shows the format, as a clause with the program that wrote it; "" without one."""
    path = next(iter(annotation_files(root).values()), None)
    return "" if path is None else f"{line(path.relative_to(root).as_posix())} is COCO JSON{writer(path)}"


def splits(root: Path) -> tuple[str, ...]:
    return tuple(annotation_files(root))


def read(root: Path, names: Sequence[str], on_problem: OnProblem) -> tuple[SplitAnnotations, ...]:
    """The splits of these names. Labels follow the order of the category ids, see `read_classes`."""
    files = annotation_files(root)
    return tuple(_read_split(root, split, files, on_problem) for split in names)


def _read_split(root: Path, split: str, files: dict[str, Path], on_problem: OnProblem) -> SplitAnnotations:
    path = files[split]
    with open_coco(path, ids_of) as content:
        classes = read_classes(files, split, content.categories)
        likely_folders = (root / "images" / split, root / "images", root / split, path.parent, root, root / "data")
        folders = [folder for folder in likely_folders if folder.is_dir()]
        problems, mended = OrderedProblems(on_problem), list[tuple[str, str]]()
        names = (entry.get("file_name") for entry in content.images)
        listed = read_images(content.images, ImageFinder(folders, names, path, problems.add), mended, problems)
        problems.report()
        mended += [
            ("repeated-id", f"annotation {index + 1} has the id {quoted(annotation_id)} of another one")
            for index, annotation_id in repeated_ids(content.annotations).items()
        ]
        images = ImageTable.of(ObjectReader(path, content.annotations, classes, problems).images(listed))
    problems.report()
    if new_ids := classes.new_ids():
        own, shared = next(iter(new_ids.items()))
        detail = (
            f"{quoted(classes.by_id[own])} has the category id {own}, but {shared} in the split {line(classes.first)}"
        )
        mended.append(("category-ids", detail + (f" (one of {len(new_ids)} classes)" if len(new_ids) > 1 else "")))
    report_mended(mended, path, on_problem)
    return SplitAnnotations(root, "coco", split, classes.names, classes.own_ids(), images)


def write(root: Path, splits: Sequence[SplitAnnotations], out: Path) -> None:
    """The annotation files with only these images and objects; all their other entries stay as they are."""
    files = annotation_files(root)
    for split in splits:
        write_cleaned(files, split, out / files[split.split].relative_to(root))
