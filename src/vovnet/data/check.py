"""Finds the problems of a dataset before an hour of training is spent on it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from vovnet.data import formats, mask_png, voc, yolo
from vovnet.data.annotations import SplitAnnotations
from vovnet.data.duplicates import find_unions, remove_duplicate_images
from vovnet.data.image_scan import ImageScan, scan_images
from vovnet.data.problems import KINDS, OnProblem, Problem
from vovnet.data.repairs import repair_image
from vovnet.data.statistics import Statistics, compute_statistics
from vovnet.masks import RleMasks

_LOG = logging.getLogger("vovnet")
_UNLISTED = "unlisted"  # the split of VOC annotation files that no list names


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
    scans = scan_images(
        {image.image_path for split in splits for image in split.images}, workers=workers, progress=progress
    )
    unions = find_unions(splits)
    masked_splits = {split.split for split in splits if _has_masks(split)}
    masks_unchecked = _why_masks_cannot_be_read() if masked_splits else ""
    if masks_unchecked:
        _LOG.warning("%s: masks were not checked: %s", root, masks_unchecked)

    repaired_splits = []
    for split in splits:
        needs_masks = split.split in masked_splits and not masks_unchecked
        repaired, split_problems = _repair_split(split, scans, known_classes=class_names, needs_masks=needs_masks)
        repaired_splits.append(repaired)
        if split.split not in unions:  # the parts of a union report its problems
            problems += split_problems
    clean, duplicates = remove_duplicate_images(repaired_splits, unions=unions, scans=scans)

    rank = {kind: index for index, kind in enumerate(KINDS)}
    sizes = {path: scan.image_size for path, scan in scans.items() if not scan.error}
    return Report(
        root=root,
        format=splits[0].format,
        class_names=tuple(dict.fromkeys(name for split in splits for name in split.class_names)),
        problems=tuple(sorted(problems + duplicates, key=lambda p: (rank[p.kind], p.split, p.image, p.detail))),
        statistics=compute_statistics(splits, sizes),
        masks_unchecked=masks_unchecked,
        clean=clean,
    )


def _read_all_splits(root: Path) -> tuple[tuple[SplitAnnotations, ...], list[Problem]]:
    """All annotations of a dataset, and the problems of its files, each once even if two splits use the file."""
    problems: list[Problem] = []

    def add_problem(kind: str, path: Path, detail: str) -> None:
        problems.append(Problem(kind, "", path.relative_to(root).as_posix(), detail))

    format_module = formats.find_format(root)
    names = format_module.splits(root)
    if format_module is voc and voc.ALL not in names:
        splits = _read_voc(root, names, add_problem)
    else:
        splits = format_module.read(root, names, add_problem)
    for path in _annotations_without_image(root, format_module, splits):
        add_problem("annotation-without-image", path, "there is no image of this name")
    return splits, list(dict.fromkeys(problems))


def _read_voc(root: Path, names: Sequence[str], on_problem: OnProblem) -> tuple[SplitAnnotations, ...]:
    """The listed splits, and one more of the annotation files that no list names, if there are any."""
    *listed, everything = voc.read(root, (*names, voc.ALL), on_problem)
    listed_paths = {image.annotation_path for split in listed for image in split.images}
    unlisted = tuple(image for image in everything.images if image.annotation_path not in listed_paths)
    return (*listed, replace(everything, split=_UNLISTED, images=unlisted)) if unlisted else tuple(listed)


def _annotations_without_image(root: Path, format_module: ModuleType, splits: Sequence[SplitAnnotations]) -> list[Path]:
    if format_module is yolo:
        return yolo.labels_without_image(root, splits)
    return mask_png.masks_without_image(root) if format_module is mask_png else []


def _repair_split(
    split: SplitAnnotations,
    scans: Mapping[Path, ImageScan],
    *,
    known_classes: Sequence[str] | None,
    needs_masks: bool,
) -> tuple[SplitAnnotations, list[Problem]]:
    """The split without the problems of its single images, and those problems."""
    problems: list[Problem] = []
    images = []
    for image in split.images:
        image_problems, repaired = repair_image(
            image, scans[image.image_path], known_classes=known_classes, needs_masks=needs_masks
        )
        name = image.image_path.relative_to(split.root).as_posix()
        problems += [Problem(kind, split.split, name, detail) for kind, detail in image_problems]
        if repaired is not None:
            images.append(repaired)
    return replace(split, images=tuple(images)), problems


def _has_masks(split: SplitAnnotations) -> bool:
    """Whether most objects have a mask: some tools give a few objects of a dataset of boxes a polygon."""
    has_mask = [obj.mask is not None for image in split.images for obj in image.objects]
    return 2 * sum(has_mask) > len(has_mask)


def _why_masks_cannot_be_read() -> str:
    """The reason, or "" if the extra for masks is installed."""
    try:
        RleMasks((b"1",), (1, 1)).areas()
    except ModuleNotFoundError as error:
        return str(error)
    return ""
