"""Which images of a dataset to look at: those with problems, then a spread over classes and sizes of objects."""

from __future__ import annotations

import bisect
import itertools
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vovnet.data.check import Report
from vovnet.data.checking.statistics import MEDIUM, SMALL
from vovnet.data.dataset import ObjectAnnotation, SplitAnnotations, inside, is_valid_box
from vovnet.data.splits.split_file import image_name, image_names
from vovnet.errors import UsageError, did_you_mean, listed
from vovnet.printing import quoted


@dataclass(frozen=True)
class ShownImage:
    """An image to look at.

    name: its path in the data folder.
    objects: in pixels of the upright image, faulty ones included.
    problems: sentences about the image.
    """

    path: Path
    name: str
    split: str
    objects: tuple[ObjectAnnotation, ...]
    problems: tuple[str, ...] = ()

    @property
    def class_names(self) -> frozenset[str]:
        return frozenset(obj.class_name for obj in self.objects)

    def counts(self) -> Counter[str]:
        """Class → number of objects."""
        return Counter(obj.class_name for obj in self.objects)


def choose_images(report: Report, count: int, split: str | None = None) -> list[ShownImage]:
    """At most `count` images: first such with problems, which leave room for half of them; always the same ones.

    split: only images of this one.
    """
    names = [part.split for part in report.annotated]
    if split is not None and split not in names:
        raise UsageError(
            f"{report.root} has no split {quoted(split)}{did_you_mean(split, names)} (there are: {listed(names)})"
        )
    splits = [part for part in report.annotated if split in (None, part.split)]
    problems = _problems_by_image(report, splits)
    splits = list(_each_once(splits))
    starts = list(itertools.accumulate((len(part.images) for part in splits), initial=0))
    faulty, groups = _divide(splits, problems)
    first = _evenly(faulty, max(math.ceil(count / 2), count - (starts[-1] - len(faulty))))

    def show(number: int) -> ShownImage:
        position = bisect.bisect_right(starts, number) - 1
        part = splits[position]
        image = part.images[number - starts[position]]
        name = image_name(part.root, image)
        return ShownImage(image.image_path, name, part.split, image.objects, tuple(problems.get(name, ())))

    return list(map(show, [*first, *_spread(groups, count - len(first))]))


def _problems_by_image(report: Report, splits: Sequence[SplitAnnotations]) -> dict[str, list[str]]:
    """Path of an image in the data folder → its problems; those of an annotation file are those of its only image."""
    faulty = {problem.image for problem in report.problems}
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for split in splits:
        for path, owner in zip(split.images.annotation_paths(), image_names(split), strict=True):
            file = inside(split.root, path)
            if file in faulty and len(owners[file]) < 2:
                owners[file].add(owner)
    found: dict[str, list[str]] = defaultdict(list)
    for problem in report.problems:
        if not problem.image:
            continue
        of_file = owners.get(problem.image, set())
        name = next(iter(of_file)) if len(of_file) == 1 else problem.image
        sentence = f"{problem.kind}: {problem.detail}"
        if sentence not in found[name]:
            found[name].append(sentence)
    return found


def _each_once(splits: Iterable[SplitAnnotations]) -> Iterator[SplitAnnotations]:
    """The splits without images that come before."""
    seen = np.empty(0, np.int64)
    for split in splits:
        keys = split.images.keys
        is_new = ~np.isin(keys, seen)
        _, firsts = np.unique(keys, return_index=True)
        is_new &= np.isin(np.arange(len(keys)), firsts)
        yield replace(split, images=split.images.select(is_new))
        seen = np.concatenate([seen, keys])


_Numbers = Sequence[int]  # of images, counted through all splits


def _divide(
    splits: Sequence[SplitAnnotations], problems: Mapping[str, object]
) -> tuple[_Numbers, dict[tuple[str, str], _Numbers]]:
    """The images with problems; and of the others, those with an object of each class and size, or without objects."""
    faulty = array("I")
    groups: defaultdict[tuple[str, str], array[int]] = defaultdict(lambda: array("I"))
    images = ((split.root, image) for split in splits for image in split.images)
    for number, (folder, image) in enumerate(images):
        if image_name(folder, image) in problems:
            faulty.append(number)
            continue
        for key in {(obj.class_name, _size(obj)) for obj in image.objects} or {("", "")}:
            groups[key].append(number)
    return faulty, dict(groups)


def _spread(groups: Mapping[tuple[str, str], _Numbers], count: int) -> list[int]:
    """Images by turns from the groups."""
    queues = [iter(_evenly(groups[key], count)) for key in sorted(groups)]
    chosen: dict[int, None] = {}
    while queues and len(chosen) < count:
        for queue in list(queues):
            following = next((number for number in queue if number not in chosen), None)
            if following is None:
                queues.remove(queue)
            elif len(chosen) < count:
                chosen[following] = None
    return list(chosen)


def _size(obj: ObjectAnnotation) -> str:
    """Small, medium or large by COCO's limits."""
    if not is_valid_box(obj.box):
        return ""
    x1, y1, x2, y2 = obj.box
    area = (x2 - x1) * (y2 - y1)
    return "small" if area < SMALL else "medium" if area < MEDIUM else "large"


def _evenly(images: _Numbers, count: int) -> list[int]:
    """So many of the images at even distances, all of them if they are fewer."""
    if len(images) <= count:
        return list(images)
    return [images[index * len(images) // count] for index in range(count)]
