"""Finds the problems of a dataset before an hour of training is spent on it, and writes a copy without them."""

from __future__ import annotations

import logging
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vovnet.data import mask_png, voc, yolo
from vovnet.data.dataset import ImageAnnotation, SplitAnnotations
from vovnet.data.formats import data_folder, find_format, notes
from vovnet.data.image_scan import ImageScan, scan_images, turn_boxes_upright, warn_about_orientation
from vovnet.data.repairs import repair_image
from vovnet.data.statistics import Statistics, compute_statistics
from vovnet.masks import RleMasks, find_polygons

_LOG = logging.getLogger("vovnet")
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
    "listed-twice": ("a split lists the same image twice", "the first is kept"),
    "same-file": ("a split lists an image file under two ids", "objects of both kept under the first"),
    "repeated-id": ("two annotations have the same id", "a new id is written"),
    "category-ids": ("a split gives a class another category id than the first split does", "its id written"),
    "size-mismatch": ("the annotation states a different image size", "true size written"),
    "unknown-class": ("the class of an object is not among the class names", "object left out"),
    "not-a-number": ("a corner of a box is missing or not a finite number", "object left out"),
    "inverted-box": ("a box ends before it begins", "object left out"),
    "empty-box": ("a box has no width or no height", "object left out"),
    "box-outside": ("less than a pixel of a box's width or height is inside the image", "object left out"),
    "box-partly-outside": ("a box extends beyond the edge of the image", "box clipped"),
    "missing-mask": ("an object has no mask, although most objects of its split have one", "object left out"),
    "bad-polygon": ("a mask holds something else beside its polygons, or nests them", "its polygons written"),
    "bad-mask": ("a mask is malformed", "object left out"),
    "mask-size": ("a mask and its image differ in size", "object left out (the whole image if masks are PNGs)"),
    "empty-mask": ("a mask covers no pixel", "object left out"),
    "mask-elsewhere": ("a mask does not overlap the box of its object", "object left out"),
    "mask-box-mismatch": ("the box of an object does not fit its mask", "box of the mask written"),
    "duplicate-box": ("two objects have the same class and box, and the same mask if any", "the first is kept"),
    "duplicate-image": ("two images of a split have the same pixels", "the first is kept"),
    "split-leak": ("two splits contain an image with the same pixels", "kept in the test split only, else in val"),
}
_RANK = {kind: index for index, kind in enumerate(KINDS)}


@dataclass(frozen=True)
class Problem:
    """One problem of a dataset.

    kind: a key of KINDS.
    split: "" if the problem lies in a file itself, whichever splits use it.
    image: the image or annotation file, relative to the data folder.
    """

    kind: str
    split: str
    image: str
    detail: str


@dataclass(frozen=True)
class Report:
    """What `check_dataset` found.

    masks_unchecked: why masks were not checked; "" if they were, or if there are none.
    clean: the splits without their problems, as `write_cleaned_copy` writes them.
    """

    root: Path
    format: str
    class_names: tuple[str, ...]
    problems: tuple[Problem, ...]
    statistics: Statistics
    masks_unchecked: str
    clean: tuple[SplitAnnotations, ...] = field(repr=False)

    def count_by_kind(self) -> dict[str, int]:
        """Number of problems of each kind that occurs, in the order of KINDS."""
        counts = Counter(problem.kind for problem in self.problems)
        return {kind: counts[kind] for kind in KINDS if counts[kind]}

    def to_dict(self) -> dict[str, Any]:
        """Everything but `clean`, ready for JSON."""
        return {
            "root": str(self.root),
            "format": self.format,
            "class_names": list(self.class_names),
            "fault_count": len(self.problems),
            "faults_by_kind": self.count_by_kind(),
            "masks_unchecked": self.masks_unchecked,
            "faults": [asdict(problem) for problem in self.problems],
            "statistics": asdict(self.statistics),
        }


def check_dataset(
    root: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Reads every annotation, mask and image of all splits.

    Masks need the extra "eval". Without it everything else is checked, and a warning and the report say so.

    class_names: the classes to expect; None trusts the names in the dataset.
    workers: number of threads that decode images; None means one per core.
    progress: called with (images decoded, all images).
    """
    root = Path(root)
    splits, problems = _read_all_splits(root)
    scans = scan_images({image.image_path for split in splits for image in split.images}, workers, progress)
    warn_about_orientation(splits, scans)
    unions = find_unions(splits)
    masked_splits = {split.split for split in splits if _has_masks(split)}
    masks_unchecked = _why_masks_cannot_be_read() if masked_splits else ""
    if masks_unchecked:
        _LOG.warning("%s: masks were not checked: %s", root, masks_unchecked)

    repaired_splits = []
    for split in splits:
        images = []
        for image in split.images:
            needs_masks = split.split in masked_splits and not masks_unchecked
            details, repaired = repair_image(image, scans[image.image_path], class_names, needs_masks)
            if repaired is not None:
                images.append(repaired)
            if split.split not in unions:  # the parts of a union report its problems
                name = _relative(image.image_path, data_folder(root))
                problems += [Problem(kind, split.split, name, detail) for kind, detail in details]
        repaired_splits.append(replace(split, images=tuple(images)))
    clean, duplicates = _remove_duplicate_images(repaired_splits, unions, scans)

    sizes = {path: scan.image_size for path, scan in scans.items() if not scan.error}
    return Report(
        root=root,
        format=splits[0].format,
        class_names=tuple(dict.fromkeys(name for split in splits for name in split.class_names)),
        problems=tuple(sorted(problems + duplicates, key=lambda p: (_RANK[p.kind], p.split, p.image, p.detail))),
        statistics=compute_statistics([turn_boxes_upright(split, scans) for split in splits], sizes),
        masks_unchecked=masks_unchecked,
        clean=clean,
    )


def write_cleaned_copy(report: Report, out: str | Path) -> None:
    """Writes the dataset without its problems to a new folder, in its own format; KINDS says how.

    Images, and annotation files without problems, are copied byte for byte. The original is only read.
    """
    out, root = Path(out), data_folder(report.root)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not an empty folder: name a new one for the cleaned copy")
    if out.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{out} lies inside the data folder {root}: name a folder outside it for the cleaned copy")
    out.mkdir(parents=True, exist_ok=True)
    for path in notes(root):  # the format's own files are overwritten next
        shutil.copy2(path, out / path.name)
    find_format(report.root).write(report.root, report.clean, out)
    for path in {image.image_path for split in report.clean for image in split.images}:
        copy = out / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _read_all_splits(root: Path) -> tuple[list[SplitAnnotations], list[Problem]]:
    """All annotations of a dataset, and the problems of its files, each once even if two splits use the file."""
    problems: list[Problem] = []

    def add_problem(kind: str, path: Path, detail: str) -> None:
        problems.append(Problem(kind, "", _relative(path, data_folder(root)), detail))

    format_module = find_format(root)
    names = format_module.splits(root)
    if format_module is voc and voc.ALL not in names:
        *splits, everything = voc.read(root, (*names, voc.ALL), add_problem)
        listed = {image.annotation_path for split in splits for image in split.images}
        unlisted = tuple(image for image in everything.images if image.annotation_path not in listed)
        splits += [replace(everything, split=_UNLISTED, images=unlisted)] if unlisted else []
    else:
        splits = list(format_module.read(root, names, add_problem))
    strays = yolo.labels_without_image(root, splits) if format_module is yolo else []
    strays += mask_png.masks_without_image(root) if format_module is mask_png else []
    for path in strays:
        add_problem("annotation-without-image", path, "there is no image of this name")
    return splits, list(dict.fromkeys(problems))


def _has_masks(split: SplitAnnotations) -> bool:
    """Whether most objects have a mask: some tools give a few objects of a dataset of boxes a polygon."""
    masks = [obj.mask for image in split.images for obj in image.objects]
    usable = [mask for mask in masks if isinstance(mask, dict) or find_polygons(mask)[0]]
    if 2 * len(usable) <= len(masks) < 2 * sum(mask is not None for mask in masks):
        _LOG.warning(
            "%s, split %s: most masks are malformed, so it is checked as a dataset of boxes", split.root, split.split
        )
    return 2 * len(usable) > len(masks)


def _why_masks_cannot_be_read() -> str:
    """The reason, or "" if the extra for masks is installed."""
    try:
        RleMasks((b"1",), (1, 1)).areas()
    except ModuleNotFoundError as error:
        return str(error)
    return ""


def find_unions(splits: Sequence[SplitAnnotations]) -> dict[str, list[str]]:
    """For each split that joins two or more others, as VOC's trainval does, the names of those others."""
    paths = {split.split: {image.image_path for image in split.images} for split in splits}
    unions = {}
    for name, union in paths.items():
        parts = [part for part in paths if paths[part] and paths[part] < union]
        if len(parts) >= 2 and set().union(*(paths[part] for part in parts)) == union:
            unions[name] = parts
    return unions


def _remove_duplicate_images(
    splits: Sequence[SplitAnnotations], unions: Mapping[str, Sequence[str]], scans: Mapping[Path, ImageScan]
) -> tuple[tuple[SplitAnnotations, ...], list[Problem]]:
    """The splits with each image once and in one split only, and a problem for each image that was removed.

    A split that joins others is no leak; it keeps the images that its parts keep.
    """
    root = splits[0].root
    problems = []
    copies: dict[bytes, list[tuple[str, ImageAnnotation]]] = defaultdict(list)  # by their pixels
    for split in sorted(splits, key=lambda split: _rank(split.split)):
        if split.split not in unions:
            for image in split.images:
                copies[scans[image.image_path].pixel_digest].append((split.split, image))

    kept: dict[str, set[tuple[int | str, Path]]] = defaultdict(set)  # split → id and path of its images
    for (first_split, first), *others in copies.values():
        kept[first_split].add((first.image_id, first.image_path))
        for name, image in others:
            same = "file" if scans[image.image_path].file_digest == scans[first.image_path].file_digest else "pixels"
            where = "this split" if name == first_split else f"the split {first_split}"
            kind = "duplicate-image" if name == first_split else "split-leak"
            detail = f"same {same} as {_relative(first.image_path, root)} in {where}"
            problems.append(Problem(kind, name, _relative(image.image_path, root), detail))
    for name, parts in unions.items():
        kept[name] = set().union(*(kept[part] for part in parts))

    def keep(split: SplitAnnotations) -> SplitAnnotations:
        images = (image for image in split.images if (image.image_id, image.image_path) in kept[split.split])
        return replace(split, images=tuple(images))

    return tuple(map(keep, splits)), problems


def _rank(split: str) -> tuple[int, str]:
    """Sorts the split that keeps a shared image first: test, then val, then train, then the others by name."""
    prefixes = ("test", "val", "train")
    return next((rank for rank, prefix in enumerate(prefixes) if split.startswith(prefix)), len(prefixes)), split
