"""Which images of a dataset to look at: those with problems, then a spread over classes and sizes of objects."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vovnet.data.check import Report
from vovnet.data.checking.statistics import MEDIUM, SMALL
from vovnet.data.dataset import ObjectAnnotation, SplitAnnotations, is_valid_box
from vovnet.data.splits.split_file import image_name
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
    images = list(_all_images(splits, problems))
    faulty = [shown for shown in images if shown.problems]
    sound = [shown for shown in images if not shown.problems]
    first = _evenly(faulty, max(math.ceil(count / 2), count - len(sound)))
    return [*first, *_spread(sound, count - len(first))]


def _problems_by_image(report: Report, splits: Sequence[SplitAnnotations]) -> dict[str, list[str]]:
    """Path of an image in the data folder → its problems; those of an annotation file are those of its only image."""
    owners: dict[str, list[str]] = defaultdict(list)
    for split in splits:
        for image in split.images:
            if image.annotation_path.is_relative_to(split.root):
                owner = image_name(split.root, image)
                owners[image.annotation_path.relative_to(split.root).as_posix()].append(owner)
    found: dict[str, list[str]] = defaultdict(list)
    for problem in report.problems:
        if not problem.image:
            continue
        of_file = owners.get(problem.image, [])
        name = of_file[0] if len(set(of_file)) == 1 else problem.image
        sentence = f"{problem.kind}: {problem.detail}"
        if sentence not in found[name]:
            found[name].append(sentence)
    return found


def _all_images(splits: Iterable[SplitAnnotations], problems: dict[str, list[str]]) -> Iterator[ShownImage]:
    seen: set[Path] = set()
    for split in splits:
        for image in split.images:
            if image.image_path not in seen:
                seen.add(image.image_path)
                name = image_name(split.root, image)
                yield ShownImage(image.image_path, name, split.split, image.objects, tuple(problems.get(name, ())))


def _spread(images: Sequence[ShownImage], count: int) -> list[ShownImage]:
    """The images by turns from groups of a class and a size, and from those without objects."""
    groups: dict[tuple[str, str], list[ShownImage]] = defaultdict(list)
    for shown in images:
        for key in {(obj.class_name, _size(obj)) for obj in shown.objects} or {("", "")}:
            groups[key].append(shown)
    queues = [iter(_evenly(groups[key], count)) for key in sorted(groups)]
    chosen: dict[Path, ShownImage] = {}
    while queues and len(chosen) < count:
        for queue in list(queues):
            following = next((shown for shown in queue if shown.path not in chosen), None)
            if following is None:
                queues.remove(queue)
            elif len(chosen) < count:
                chosen[following.path] = following
    return list(chosen.values())


def _size(obj: ObjectAnnotation) -> str:
    """Small, medium or large by COCO's limits."""
    if not is_valid_box(obj.box):
        return ""
    x1, y1, x2, y2 = obj.box
    area = (x2 - x1) * (y2 - y1)
    return "small" if area < SMALL else "medium" if area < MEDIUM else "large"


def _evenly(images: Sequence[ShownImage], count: int) -> list[ShownImage]:
    """So many of the images at even distances, all of them if they are fewer."""
    if len(images) <= count:
        return list(images)
    return [images[index * len(images) // count] for index in range(count)]
