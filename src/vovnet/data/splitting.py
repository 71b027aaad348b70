"""Shares the images of a dataset out over training, validation and test, as a split file."""

from __future__ import annotations

import logging
import math
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from vovnet.data.dataset import ImageTable, SplitAnnotations, raise_problem
from vovnet.data.formats import find_format
from vovnet.data.keys import KeySet, keys_of
from vovnet.data.splits.grouping import Grouping, group_images
from vovnet.data.splits.near_duplicates import small_pictures
from vovnet.data.splits.split_file import Selection, image_names, is_split_name, read_whole
from vovnet.data.splits.stratifying import stratify
from vovnet.data.spooled import Texts, in_order
from vovnet.errors import UsageError, counted
from vovnet.printing import line, quoted

_LOG = logging.getLogger("vovnet")
_NOTHING = Counter[str]()
_ROUNDING = 0.01  # that the sum of written fractions may be off


@dataclass(frozen=True)
class Division:
    """The images of a dataset, each in one of some splits.

    root: the dataset as it was given; of a split file, the dataset that it selects from.
    members: split → its images, as paths in the data folder, sorted; as `Texts`, which take no memory.
    whole: all images that were shared out.
    unreadable: images that cannot be decoded, which are in no split.
    """

    root: Path
    members: Mapping[str, Sequence[str]]
    whole: SplitAnnotations
    grouping: Grouping
    unreadable: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of images in all splits."""
        return sum(map(len, self.members.values()))

    def missing_classes(self) -> dict[str, list[str]]:
        """Split → classes with objects in other splits and none in it, for splits that lack some."""
        objects = self.objects_per_class()
        lacking = {
            split: [name for name in self.whole.class_names if not own[name] and any(o[name] for o in objects.values())]
            for split, own in objects.items()
        }
        return {split: names for split, names in lacking.items() if names}

    def objects_per_class(self) -> dict[str, Counter[str]]:
        """Split → class → number of its objects."""
        images = {split: KeySet(keys_of(names)) for split, names in self.members.items()}
        counts = {split: Counter[str]() for split in self.members}
        for name, image in zip(image_names(self.whole), self.whole.images, strict=True):
            for split, of_split in images.items():
                if name in of_split:
                    counts[split].update(obj.class_name for obj in image.objects)
        return counts


def divide(
    dataset_root: str | Path,
    fractions: Mapping[str, float],
    seed: int = 0,
    *,
    pattern: str | None = None,
    compare_images: bool = True,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Division:
    """Every annotated image in one of the splits, with the classes in the same proportions in each.

    Copies of an image, frames of one video and augmented versions of one image stay in one split, see `group_images`.
    The result depends on the images, their objects and the seed, not on the order of files.

    fractions: split → its share of the images, the split for training first.
    pattern: keeps the images together for which the first group of this regular expression is the same, by their paths
        in the data folder, in place of what the names of files say by themselves.
    compare_images: decode the images, to keep nearly equal ones together and to leave out those that cannot be read.
    workers: threads that decode. progress: is called with (images decoded, all images).
    """
    shares = check_fractions(fractions)
    root = Path(dataset_root)
    reader = find_format(root)
    whole = read_whole(reader, root, raise_problem, masks=False)
    names, images = _by_name(whole)
    pictures, unreadable = None, tuple[str, ...]()
    if compare_images and names:
        pictures, readable = small_pictures(Texts(images.paths()), workers, progress)
        if not readable.all():
            unreadable = tuple(compress(names, ~readable))
            names, images, pictures = Texts(compress(names, readable)), images.select(readable), pictures[readable]
    if unreadable:
        _LOG.warning(
            "%s: %s that cannot be read belong to no split (the first is %s); `vovnet data check` lists them",
            root, counted(len(unreadable), "image"), line(unreadable[0]),
        )  # fmt: skip
    if len(names) < len(shares):
        raise ValueError(f"{root}: {counted(len(names), 'annotated image')} cannot make {len(shares)} splits")
    most = max(2, int(min(shares.values()) * len(names) / 2))
    grouping = group_images(names, pictures, pattern=pattern, most=most)
    count = int(grouping.groups.max()) + 1
    sizes = array("I", np.bincount(grouping.groups, minlength=count).astype(np.uint32).tobytes())
    classes = _classes_of_groups(images, grouping, sizes)
    split_of = stratify(classes, sizes, list(shares.values()), seed)
    members = {split: Texts() for split in shares}
    splits = list(shares)
    for name, group in zip(names, grouping.groups, strict=True):
        members[splits[split_of[group]]].add(name)
    for split in splits:
        if not members[split]:
            raise ValueError(
                f"{root}: no image is left for the split {split}: {counted(len(names), 'image')} in "
                f"{counted(count, 'group')} that stay together cannot be shared out as asked; name fewer splits, or "
                "larger fractions"
            )
    source = reader.file.root if isinstance(reader, Selection) else root
    return Division(source, members, whole, grouping, unreadable)


def _by_name(whole: SplitAnnotations) -> tuple[Texts, ImageTable]:
    """The names of the images, sorted, and the images in that order."""
    ordered = in_order(f"{name}\0{position}" for position, name in enumerate(image_names(whole)))
    names, positions = Texts(), array("q")
    for entry in ordered:
        name, _, position = entry.rpartition("\0")
        names.add(name)
        positions.append(int(position))
    return names, whole.images.select(np.frombuffer(positions, np.int64))


def _classes_of_groups(images: ImageTable, grouping: Grouping, sizes: Sequence[int]) -> list[Counter[str]]:
    """For each group the number of its images that have a class. Groups of one image with the same classes share it."""
    shared: dict[frozenset[str], Counter[str]] = {}
    classes: list[Counter[str]] = [Counter() if size > 1 else _NOTHING for size in sizes]
    for group, names in zip(grouping.groups, images.class_names(), strict=True):
        of_image = frozenset(names or {""})
        if sizes[group] > 1:
            classes[group].update(of_image)
        else:
            classes[group] = shared.setdefault(of_image, Counter(of_image))
    return classes


def check_fractions(fractions: Mapping[str, float]) -> dict[str, float]:
    """The fractions, divided by their sum, which must be 1 or 100. UsageError for others."""
    stated = " + ".join(f"{value:g}" for value in fractions.values())
    if len(fractions) < 2 or not all(value > 0 and math.isfinite(value) for value in fractions.values()):
        raise UsageError(f"expected fractions above 0 for two splits or more, such as 0.8/0.1/0.1, got {stated}")
    for name in fractions:
        if not is_split_name(name):
            raise UsageError(f"a split needs a short, printable name, got {quoted(name, 40)}")
    total = sum(fractions.values())
    if not any(abs(total / whole - 1) <= _ROUNDING for whole in (1, 100)):
        raise UsageError(f"the fractions of the splits must add up to 1 or to 100, got {stated} = {total:g}")
    return {name: value / total for name, value in fractions.items()}
