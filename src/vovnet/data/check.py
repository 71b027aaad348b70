"""Finds the problems of a dataset before an hour of training is spent on it, and writes a copy without them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vovnet.data.checking.cleaned_copy import (
    changed_annotations,
    copy_annotations,
    copy_images,
    copy_other_files,
    file_keys,
    files_left_out,
    find_difference,
    require_new_folder,
    unchanged_annotations,
)
from vovnet.data.checking.duplicates import describe_duplicate, remove_duplicate_images
from vovnet.data.checking.image_scan import scan_splits, turn_boxes_upright, warn_about_orientation
from vovnet.data.checking.problem import NEEDS_PIXELS, Problem, Removal, name_in
from vovnet.data.checking.repairs import Repairs
from vovnet.data.checking.statistics import Statistics, compute_statistics
from vovnet.data.checking.whole_splits import find_split_problems, has_masks, hints_about_copy, hints_about_names
from vovnet.data.dataset import SplitAnnotations, count_images
from vovnet.data.formats import data_folder, find_format
from vovnet.data.keys import KeySet, keys_of
from vovnet.data.readers import mask_png, voc, yolo
from vovnet.data.reading import names_of_splits, read_splits
from vovnet.data.splits.split_file import is_split_file
from vovnet.data.splits.split_roles import find_unions, images_to_report
from vovnet.errors import UsageError
from vovnet.files import new_folder
from vovnet.masks import RleMasks

_LOG = logging.getLogger("vovnet")
_NO_BOX = "object left out, or the box of its mask written"
_UNLISTED = "unlisted"  # the split of VOC annotation files that no list names

# Kind of problem → what it is, what the cleaned copy does about it.
KINDS: dict[str, tuple[str, str]] = {
    "unreadable-image": ("a file is not an image, or is damaged or truncated", "image left out"),
    "missing-image": ("an annotation or list names an image that does not exist", "annotation left out"),
    "missing-annotation": ("a list names an image that has no annotation file", "image left out"),
    "annotation-without-image": ("the image of an annotation is not listed or does not exist", "annotation left out"),
    "skipped-file": ("a file among the images is none that can be read", "file left out"),
    "no-labels": ("no image of a split has a label file", "left as it is: the files must be moved or renamed"),
    "bad-annotation": ("an annotation is malformed", "annotation left out"),
    "no-area": ("a shape has no area, such as a point or a line", "left out; the image too, if nothing else is in it"),
    "listed-twice": ("a split lists the same image twice", "the first is kept"),
    "same-file": ("a split lists an image file under two ids", "objects of both kept under the first"),
    "repeated-id": ("two annotations have the same id", "a new id is written"),
    "category-ids": ("a split gives a class another category id than the first split does", "its id written"),
    "size-mismatch": (
        "the annotation states a different image size",
        "true size written; image left out if a box fits only the stated size",
    ),
    "unknown-class": ("the class of an object is not among the class names", "object left out"),
    "bad-bndbox": ("a <bndbox> is not valid, but the object has another shape (VOC)", "box around the shape written"),
    "not-a-number": ("a corner of a box is missing or not a finite number", _NO_BOX),
    "inverted-box": ("a box ends before it begins", _NO_BOX),
    "empty-box": ("a box has no width or no height", _NO_BOX),
    "box-outside": ("less than a pixel of a box's width or height is inside the image", _NO_BOX),
    "box-partly-outside": ("a box extends beyond the edge of the image", "box clipped"),
    "missing-mask": ("an object has no mask, although most objects of its split have one", "object left out"),
    "bad-polygon": ("a mask holds something else beside its polygons, or nests them", "its polygons written"),
    "bad-mask": ("a mask is malformed", "object left out"),
    "mask-size": ("a mask and its image differ in size", "object left out (the whole image if masks are PNGs)"),
    "empty-mask": ("a mask covers no pixel", "object left out"),
    "mask-elsewhere": ("a mask does not overlap the box of its object", "object left out"),
    "mask-box-mismatch": ("the box of an object does not fit its mask", "box of the mask written"),
    "duplicate-box": (
        "two objects have the same class and box, and the same mask if any",
        "one is kept, if possible not difficult and with a mask",
    ),
    "duplicate-image": (
        "two images of a split have the same pixels",
        "the one with more objects is kept, else the first",
    ),
    "split-leak": (
        "two of train, val and test contain an image with the same pixels",
        "kept in the test split only, else in val; never so that a split is left empty",
    ),
    "empty-split": ("a split has no image", "nothing: add images, or do not use the split"),
    "split-without-objects": ("no image of a split has an object", "nothing: look for its annotations"),
    "class-not-in-train": (
        "a class has objects in val or test, but none in train",
        "nothing: add such objects to train, or correct the name",
    ),
}
# Problems of files for which the cleaned copy lacks nothing.
_COSTS_NOTHING = {"no-labels", "same-file", "repeated-id", "category-ids", "bad-bndbox"}
_MOST_PROBLEMS = 100_000  # of a kind in a file that are listed
_RANK = {kind: index for index, kind in enumerate(KINDS)}


@dataclass(frozen=True)
class Report:
    """What `check_dataset` found.

    removed: what the cleaned copy lacks, and why.
    images_losing_objects: the images, relative to the data folder, that the copy keeps without some of their objects,
        which are still visible in them.
    hints: sentences about what is no problem by itself, such as classes with nearly the same name.
    masks_unchecked: why masks were not checked; "" if they were, or if there are none.
    clean: the splits without their problems, as `write_cleaned_copy` writes them.
    left_out: the files that the copy lacks.
    changed: the annotation files that the copy has not as they are.
    annotated: the splits as annotated, in pixels of the upright images.
    headers_only: whether no image was decoded.
    """

    root: Path
    format: str
    class_names: tuple[str, ...]
    problems: tuple[Problem, ...]
    removed: tuple[Removal, ...]
    images_losing_objects: tuple[str, ...]
    hints: tuple[str, ...]
    statistics: Statistics
    masks_unchecked: str
    clean: tuple[SplitAnnotations, ...] = field(repr=False)
    left_out: frozenset[Path] = field(repr=False)
    changed: frozenset[Path] = field(repr=False)
    annotated: tuple[SplitAnnotations, ...] = field(repr=False, default=())
    headers_only: bool = False

    def count_by_kind(self) -> dict[str, int]:
        """Number of problems of each kind that occurs, in the order of KINDS."""
        counts = Counter(problem.kind for problem in self.problems)
        return {kind: counts[kind] for kind in KINDS if counts[kind]}

    def to_dict(self) -> dict[str, Any]:
        """Everything but the annotations and the files, ready for JSON."""
        return {
            "root": str(self.root),
            "format": self.format,
            "class_names": list(self.class_names),
            "fault_count": len(self.problems),
            "faults_by_kind": self.count_by_kind(),
            "masks_unchecked": self.masks_unchecked,
            "headers_only": self.headers_only,
            "faults": [asdict(problem) for problem in self.problems],
            "removed": [asdict(removal) for removal in self.removed],
            "images_losing_objects": list(self.images_losing_objects),
            "hints": list(self.hints),
            "statistics": asdict(self.statistics),
        }


def check_dataset(
    root: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    ignore_masks: bool = False,
    headers: bool = False,
    most_decoded: int | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Reads every annotation, mask and image of all splits.

    Masks need the extra "eval". Without it everything else is checked, and a warning and the report say so.

    class_names: the classes to expect; None trusts the names in the dataset.
    ignore_masks: check a dataset with masks as one of boxes; no object is left out for its mask.
    headers: read only the headers of images, which misses the problems in `problem.DECODED_KINDS`.
    most_decoded: read only the headers if there are more images than this.
    workers: number of threads that decode images; None means one per core.
    progress: called with (images decoded, all images).
    """
    root = Path(root)
    splits, file_problems = _read_all_splits(root)
    headers = headers or (most_decoded is not None and count_images(splits) > most_decoded)
    folder = splits[0].root
    scans = scan_splits(splits, workers, progress, headers=headers)
    warn_about_orientation(splits, scans)
    unions = find_unions(splits)
    masked_splits = set() if ignore_masks else {split.split for split in splits if has_masks(split)}
    masks_unchecked = _why_masks_are_not_checked(root) if masked_splits else ""

    repairs = Repairs(folder, scans, class_names)
    reported = images_to_report(splits, unions)
    repaired_splits = [
        repairs.repair(split, reported[split.split], split.split in masked_splits and not masks_unchecked)
        for split in splits
    ]
    problems, removed, losing = repairs.problems, repairs.removed, repairs.losing
    clean, duplicates = remove_duplicate_images(repaired_splits, unions, scans)
    keys_reported = {split: KeySet(keys) for split, keys in reported.items()} if duplicates else {}
    for duplicate in duplicates:
        if duplicate.image.image_path in keys_reported[duplicate.split]:
            found, lacking = describe_duplicate(duplicate, scans, folder)
            problems.append(found)
            removed += lacking
            if len(lacking) > 1:
                losing.add(duplicate.other.image_path)
    explained = {problem.kind for problem in file_problems}
    problems += find_split_problems([split for split in splits if split.split not in unions], explained)
    # The copy is left without labels as the original is, so its own check explains these splits in the same way.
    unjoined = [split for split in clean if split.split not in unions]
    about_copy = [] if is_split_file(root) else hints_about_copy(unjoined, problems, explained & {"no-labels"})

    left_out = files_left_out(folder, splits, clean, file_problems)
    removed += _file_removals(file_problems, folder, left_out)
    kept = KeySet(np.concatenate([split.images.keys for split in clean]))
    class_names_found = tuple(dict.fromkeys(name for split in splits for name in split.class_names))
    upright = [turn_boxes_upright(split, scans) for split in splits]
    statistics = compute_statistics(upright, scans)
    return Report(
        root=root,
        format=splits[0].format,
        class_names=class_names_found,
        problems=tuple(sorted(file_problems + problems, key=lambda p: (_RANK[p.kind], p.split, p.image, p.detail))),
        removed=tuple(sorted(removed, key=lambda r: (r.what, r.split, r.image, r.kind, r.detail))),
        images_losing_objects=tuple(sorted(name_in(path, folder) for path in losing if path in kept)),
        hints=(*about_copy, *hints_about_names(class_names_found), *statistics.boxes.hints()),
        statistics=statistics,
        masks_unchecked=masks_unchecked,
        clean=clean,
        left_out=left_out,
        changed=changed_annotations(folder, splits, clean, file_problems),
        annotated=tuple(upright),
        headers_only=headers,
    )


def write_cleaned_copy(report: Report, out: str | Path) -> tuple[Removal, ...]:
    """Writes the dataset without its problems to a new folder; KINDS says how.

    The copy has the format of the original, or that which the format's module names as COPY_FORMAT.

    Images, annotation files without problems and all other files are copied byte for byte. The original is only read.
    The copy is read back; ValueError if it is not what the report promises. It appears when it is complete.

    Returns what the copy lacks: `report.removed`, and links and special files.
    """
    out, folder = Path(out), report.clean[0].root
    if report.headers_only:
        raise UsageError(NEEDS_PIXELS)
    require_new_folder(out, folder)
    with new_folder(out) as copy:
        format_module = find_format(report.root)
        format_module.write(report.root, report.clean, copy)
        replaced = _replaced_files(report) if hasattr(format_module, "COPY_FORMAT") else frozenset()
        copy_images(report.clean, folder, copy)
        copy_annotations(unchanged_annotations(report.annotated, report.changed | replaced), folder, copy)
        lacking = copy_other_files(folder, copy, report.left_out | replaced)
        if any(split.images for split in report.clean):
            lacking += _read_back(report, copy)
    return report.removed + tuple(lacking)


def _replaced_files(report: Report) -> frozenset[Path]:
    """The annotation files in place of which the copy has those of another format."""
    return frozenset(Path(path) for split in report.clean for path in set(split.images.annotation_paths()))


def _read_back(report: Report, out: Path) -> list[Removal]:
    """Compares the copy with the report. Removes, and returns, labels of images that could not be read."""
    splits, problems = _read_all_splits(out / report.root.name if report.root.is_file() else out)
    if difference := find_difference(report.clean, splits):
        raise ValueError(f"no copy is written: it is not what the check promised: {difference}; report the fault")
    used = KeySet(file_keys(splits))
    removed = []
    for problem in problems:
        path = out / problem.image
        if problem.kind == "annotation-without-image" and path not in used and path.is_file():
            path.unlink()
            removed.append(Removal("file", problem.kind, "", problem.image, "its image is left out"))
    return removed


def _file_removals(problems: Sequence[Problem], folder: Path, left_out: Collection[Path]) -> list[Removal]:
    return [
        Removal("file" if folder / p.image in left_out else "annotation", p.kind, p.split, p.image, p.detail)
        for p in problems
        if p.kind not in _COSTS_NOTHING
    ]


def _read_all_splits(root: Path) -> tuple[list[SplitAnnotations], list[Problem]]:
    """All annotations of a dataset, and the problems of its files, each once even if two splits use the file."""
    problems: dict[Problem, None] = {}
    counts: Counter[tuple[str, Path]] = Counter()

    folder = data_folder(root)

    def add_problem(kind: str, path: Path, detail: str) -> None:
        counts[kind, path] += 1
        if counts[kind, path] <= _MOST_PROBLEMS:
            problems[Problem(kind, "", name_in(path, folder), detail)] = None

    format_module = find_format(root)
    names = names_of_splits(format_module, root)
    if format_module is voc and voc.ALL not in names:
        *splits, everything = read_splits(format_module, root, (*names, voc.ALL), add_problem, masks=True)
        listed = KeySet(np.concatenate([keys_of(split.images.annotation_paths()) for split in splits]))
        is_unlisted = (path not in listed for path in everything.images.annotation_paths())
        unlisted = everything.images.select(np.fromiter(is_unlisted, np.bool_, len(everything.images)))
        splits += [replace(everything, split=_UNLISTED, images=unlisted)] if len(unlisted) else []
    else:
        splits = list(read_splits(format_module, root, names, add_problem, masks=True))
    strays = yolo.labels_without_image(root, splits) if format_module is yolo else []
    strays += mask_png.masks_without_image(root) if format_module is mask_png else []
    for path in strays:
        add_problem("annotation-without-image", path, "there is no image of this name")
    for (kind, path), count in counts.items():
        if count > _MOST_PROBLEMS:
            detail = f"and {count - _MOST_PROBLEMS:,} more problems of this kind"
            problems[Problem(kind, "", name_in(path, folder), detail)] = None
    return splits, list(problems)


def _why_masks_are_not_checked(root: Path) -> str:
    """The reason, which is logged, or "" if the extra for masks is installed."""
    try:
        RleMasks((b"1",), (1, 1)).areas()
    except ModuleNotFoundError as error:
        _LOG.warning("%s: masks were not checked: %s", root, error)
        return str(error)
    return ""
