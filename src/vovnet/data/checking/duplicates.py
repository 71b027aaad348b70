"""Images that a dataset holds twice, in one split or in two that must not share images, and which copy stays."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vovnet.data.checking.image_scan import Scans
from vovnet.data.checking.problem import Problem, Removal
from vovnet.data.checking.repairs import describe_box
from vovnet.data.dataset import ImageAnnotation, ImageTable, ObjectAnnotation, SplitAnnotations
from vovnet.data.keys import Bools, Integers, are_among, are_repeated, keys_of
from vovnet.data.splits.split_roles import find_rivals, priority

_Images = dict[bytes, ImageAnnotation]  # by their pixels


@dataclass(frozen=True)
class _Others:
    """The images of a split of which there is no copy anywhere, and which therefore stay.

    any, annotated: whether there are some, and some with objects.
    """

    stay: Bools
    any: bool
    annotated: bool


@dataclass(frozen=True)
class Duplicate:
    """An image that another copy makes superfluous.

    removed: False if the image stays in both splits, because without such images its split would be left empty.
    """

    split: str
    image: ImageAnnotation
    other_split: str
    other: ImageAnnotation
    removed: bool = True


def remove_duplicate_images(
    splits: Sequence[SplitAnnotations], unions: Mapping[str, Sequence[str]], scans: Scans
) -> tuple[tuple[SplitAnnotations, ...], list[Duplicate]]:
    """The splits with each image once, and in one of train, val and test only; and the images that this takes out.

    Of two copies in a split, the one with more objects stays, else the first. Of two splits, test keeps a shared image,
    else val; but an image without objects gives way to the same one with objects, which would otherwise be lost, and a
    split keeps its images if it had none left otherwise. A split that joins others keeps what its
    parts keep.

    splits: without images that cannot be read.
    """
    parts = [split for split in splits if split.split not in unions]
    digests = [scans.pixel_digests(split.images) for split in parts]
    is_copied = np.split(are_repeated(np.concatenate([np.empty((0, 2), np.int64), *digests])[:, 0]), _ends(digests))
    present: dict[str, _Images] = {}
    others: dict[str, _Others] = {}
    duplicates: list[Duplicate] = []
    for split, of_split, copied in zip(parts, digests, is_copied, strict=False):
        annotated = any(count for count, twice in zip(split.images.object_counts(), copied, strict=True) if not twice)
        others[split.split] = _Others(~copied, not copied.all(), annotated)
        copies = [
            (of_split[position].tobytes(), split.images[position]) for position in np.flatnonzero(copied).tolist()
        ]
        present[split.split], removed = _remove_within(split.split, copies)
        duplicates += removed
    present, blank = _prefer_annotated(present, others)
    kept, leaks = _remove_leaks(present, others)
    keys = {
        split.split: np.concatenate([_keys(split.images)[others[split.split].stay], _keys(kept[split.split].values())])
        for split in parts
    }
    keys |= {
        name: np.concatenate([np.empty(0, np.int64), *(keys[part] for part in of_union)])
        for name, of_union in unions.items()
    }

    def keep(split: SplitAnnotations) -> SplitAnnotations:
        return replace(split, images=split.images.select(are_among(_keys(split.images), keys[split.split])))

    return tuple(map(keep, splits)), duplicates + blank + leaks


def _ends(parts: Sequence[Integers]) -> Integers:
    return np.cumsum([len(part) for part in parts])


def _keys(images: ImageTable | Iterable[ImageAnnotation]) -> Integers:
    """Of each image a number for its id and its path."""
    if isinstance(images, ImageTable):
        names = (f"{image_id} {path}" for image_id, path in zip(images.image_ids(), images.paths(), strict=True))
        return keys_of(names, len(images))
    return keys_of(f"{image.image_id} {image.image_path}" for image in images)


def _remove_within(name: str, copies: Sequence[tuple[bytes, ImageAnnotation]]) -> tuple[_Images, list[Duplicate]]:
    kept: _Images = {}
    for digest, image in copies:
        if digest not in kept or len(image.objects) > len(kept[digest].objects):
            kept[digest] = image
    others = [(image, kept[digest]) for digest, image in copies]
    return kept, [Duplicate(name, image, name, other) for image, other in others if image is not other]


def _prefer_annotated(
    present: Mapping[str, _Images], others: Mapping[str, _Others]
) -> tuple[dict[str, _Images], list[Duplicate]]:
    """The images without those that have no object, though a rival has the same image with objects; and these."""
    rivals = find_rivals(present)
    kept = dict(present)
    blank = []
    for name, images in present.items():
        annotated = {
            digest: other
            for other in present
            if frozenset((other, name)) in rivals
            for digest, image in present[other].items()
            if image.objects and digest in images and not images[digest].objects
        }
        rest = {digest: image for digest, image in images.items() if digest not in annotated}
        if _has_images(rest, others[name], images):
            kept[name] = rest
            blank += [Duplicate(name, images[d], other, present[other][d]) for d, other in annotated.items()]
    return kept, blank


def _remove_leaks(
    present: Mapping[str, _Images], others: Mapping[str, _Others]
) -> tuple[dict[str, _Images], list[Duplicate]]:
    """What each split keeps, and the images that another split has too.

    A split that would be left without images (or with none that has objects) goes first instead. If that empties the
    other split in turn, as it does if both are the same, both keep them.
    """
    rivals = find_rivals(present)
    order = sorted(present, key=priority)
    moved: set[str] = set()
    while True:
        kept = _share_out(order, present, rivals)
        emptied = [
            name
            for name in order
            if _has_images(present[name], others[name], present[name])
            and not _has_images(kept[name], others[name], present[name])
        ]
        unmoved = [name for name in emptied if name not in moved]
        if not unmoved:
            break
        moved.add(unmoved[-1])
        order.sort(key=lambda name: name != unmoved[-1])
    leaks = []
    for position, name in enumerate(order):
        for digest, image in present[name].items():
            if digest not in kept[name]:
                keepers = [other for other in order[:position] if _keeps(other, name, digest, kept, rivals)]
                leaks.append(Duplicate(name, image, keepers[0], kept[keepers[0]][digest], name not in emptied))
    return kept | {name: present[name] for name in emptied}, leaks


def _share_out(
    order: Sequence[str], present: Mapping[str, _Images], rivals: Collection[frozenset[str]]
) -> dict[str, _Images]:
    """What each split keeps if the first in `order` that has an image keeps it."""
    kept: dict[str, _Images] = {}
    for name in order:
        kept[name] = {
            digest: image
            for digest, image in present[name].items()
            if not any(_keeps(other, name, digest, kept, rivals) for other in kept)
        }
    return kept


def _keeps(
    other: str, name: str, digest: bytes, kept: Mapping[str, _Images], rivals: Collection[frozenset[str]]
) -> bool:
    return frozenset((other, name)) in rivals and digest in kept[other]


def _has_images(images: _Images, others: _Others, all_images: _Images) -> bool:
    """Whether a split has an image, with objects if any of all its images has some."""
    needs_objects = others.annotated or any(image.objects for image in all_images.values())
    if not needs_objects:
        return others.any or bool(images)
    return others.annotated or any(image.objects for image in images.values())


def describe_duplicate(duplicate: Duplicate, scans: Scans, root: Path) -> tuple[Problem, list[Removal]]:
    """The problem, and what the copy lacks: the image, and those of its objects that the other image does not have."""
    image, other, split = duplicate.image, duplicate.other, duplicate.split
    same = "file" if scans[image.image_path].file_digest == scans[other.image_path].file_digest else "pixels"
    within = split == duplicate.other_split
    kind = "duplicate-image" if within else "split-leak"
    name, other_name = (path.relative_to(root).as_posix() for path in (image.image_path, other.image_path))
    detail = f"same {same} as {other_name} in {'this split' if within else f'the split {duplicate.other_split}'}"
    if not duplicate.removed:
        detail += "; it stays in both, because a split would be left empty"
        return Problem(kind, split, name, detail), []
    annotated_there = set(map(_identity, other.objects))
    lost = [obj for obj in image.objects if _identity(obj) not in annotated_there]
    if lost:
        detail += f"; {len(lost)} of its {len(image.objects)} objects are not annotated there"
    objects = [Removal("object", kind, split, name, f"{describe_box(obj)}, not in {other_name}") for obj in lost]
    return Problem(kind, split, name, detail), [Removal("image", kind, split, name, detail), *objects]


def _identity(obj: ObjectAnnotation) -> tuple[object, ...]:
    return obj.class_name, *(round(corner) for corner in obj.box)
