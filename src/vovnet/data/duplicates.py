"""Images with the same pixels, within a split or in two of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vovnet.data.annotations import ImageAnnotation, SplitAnnotations
from vovnet.data.image_scan import ImageScan
from vovnet.data.problems import Problem


def find_unions(splits: Sequence[SplitAnnotations]) -> dict[str, list[str]]:
    """For each split that joins two or more others, as VOC's trainval does, the names of those others."""
    paths = {split.split: {image.image_path for image in split.images} for split in splits}
    unions = {}
    for name, union in paths.items():
        parts = [part for part in paths if paths[part] and paths[part] < union]
        if len(parts) >= 2 and set().union(*(paths[part] for part in parts)) == union:
            unions[name] = parts
    return unions


def remove_duplicate_images(
    splits: Sequence[SplitAnnotations], *, unions: Mapping[str, Sequence[str]], scans: Mapping[Path, ImageScan]
) -> tuple[tuple[SplitAnnotations, ...], list[Problem]]:
    """The splits with each image once and in one split only, and a problem for each image that was removed.

    unions: the result of `find_unions`. A split that joins others is no leak; it keeps the images that its parts keep.
    scans: of every image.
    """
    root = splits[0].root
    problems = []
    copies: dict[bytes, list[tuple[str, ImageAnnotation]]] = defaultdict(list)
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
            detail = f"same {same} as {first.image_path.relative_to(root).as_posix()} in {where}"
            kind = "duplicate-image" if name == first_split else "split-leak"
            problems.append(Problem(kind, name, image.image_path.relative_to(root).as_posix(), detail))
    for name, parts in unions.items():
        kept[name] = set().union(*(kept[part] for part in parts))

    return tuple(_keep(split, kept[split.split]) for split in splits), problems


def _keep(split: SplitAnnotations, keys: Collection[tuple[int | str, Path]]) -> SplitAnnotations:
    images = tuple(image for image in split.images if (image.image_id, image.image_path) in keys)
    return replace(split, images=images)


def _rank(split: str) -> tuple[int, str]:
    """Sorts the split that keeps a shared image first: test, then val, then train, then the others by name."""
    prefixes = ("test", "val", "train")
    return next((rank for rank, prefix in enumerate(prefixes) if split.startswith(prefix)), len(prefixes)), split
