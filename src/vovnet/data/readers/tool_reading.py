"""What the readers of labelling tools' files have in common once an image's objects are known."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vovnet.data.dataset import ImageAnnotation, ImageTable, OnProblem, SplitAnnotations, raise_problem
from vovnet.data.readers.unique_ids import with_unique_ids
from vovnet.errors import counted
from vovnet.printing import line

_LOG = logging.getLogger("vovnet")
_MOST_TYPES = 5  # of shapes that a sentence names


@dataclass
class WithoutArea:
    """Shapes that are no objects for a detector, because they cover nothing: points, lines.

    They do not stop training, where one warning counts all of them; the check names every file.
    """

    on_problem: OnProblem
    _found: Counter[str] = field(default_factory=Counter)
    _first: Path | None = None

    def add(self, path: Path, types: Mapping[str, int], image: str = "") -> None:
        """Shapes of these types in a file; in one of its images, where the file has several."""
        if not types:
            return
        if self.on_problem is raise_problem:
            self._found.update(types)
            self._first = self._first or path
        else:
            start = f"{image}: " if image else ""
            self.on_problem("no-area", path, f"{start}{_count(types)}")

    def warn(self, root: Path) -> None:
        if self._found:
            text = "%s: left out %s (the first in %s): `vovnet data check` lists all"
            _LOG.warning(text, root, _count(self._found), self._first)


def _count(types: Mapping[str, int]) -> str:
    shown = ", ".join(f"{count} {line(name, 20)}" for name, count in sorted(types.items())[:_MOST_TYPES])
    return f"{counted(sum(types.values()), 'shape')} without an area ({shown})"


class Collected:
    """The images of files that describe many each, by split."""

    def __init__(self) -> None:
        self.images: defaultdict[str, dict[Path, ImageAnnotation]] = defaultdict(dict)

    def add(self, split: str, image: ImageAnnotation, on_problem: OnProblem) -> None:
        """Adds an image unless the split has it: of two annotations that differ nothing tells which is right."""
        other = self.images[split].setdefault(image.image_path, image)
        if other is not image:
            also = "before" if other.annotation_path == image.annotation_path else f"in {other.annotation_path.name}"
            detail = f"annotates {line(image.image_path.name, 60)}, which is annotated {line(also, 60)}"
            on_problem("listed-twice", image.annotation_path, detail)

    def by_split(self) -> dict[str, list[ImageAnnotation]]:
        return {split: list(images.values()) for split, images in self.images.items()}

    def used(self) -> set[Path]:
        return {path for images in self.images.values() for path in images}


def make_splits(
    root: Path,
    name: str,
    *,
    images: Mapping[str, Sequence[ImageAnnotation]],
    wanted: Sequence[str],
    on_problem: OnProblem,
) -> tuple[SplitAnnotations, ...]:
    """The wanted splits of a dataset, of which `images` has all.

    The class names are those of all splits in alphabetical order, so that every split numbers them alike. In training,
    an image whose shapes are all without an area is left out: it would teach that nothing is there.
    """
    every = [image for of_split in images.values() for image in of_split]
    class_names = tuple(sorted({obj.class_name for image in every for obj in image.objects}))
    ids = {image.image_path: image.image_id for image in with_unique_ids(root, _each_once(every))}

    def to_split(split: str) -> SplitAnnotations:
        of_split: Iterable[ImageAnnotation] = images.get(split, ())
        if on_problem is raise_problem:
            of_split = (image for image in of_split if image.objects or not image.unusable_objects)
        with_ids = ImageTable.of(replace(image, image_id=ids[image.image_path]) for image in of_split)
        return SplitAnnotations(root, name, split, class_names, tuple(range(1, len(class_names) + 1)), with_ids)

    return tuple(map(to_split, wanted))


def _each_once(images: Iterable[ImageAnnotation]) -> list[ImageAnnotation]:
    """An image that is in several splits has one id."""
    return list({image.image_path: image for image in images}.values())


def warn_about_unused(root: Path, images: Iterable[Path], used: Collection[Path], of_what: str) -> None:
    """Logs images that no annotation names: they are not taken for images without objects."""
    unused = [path for path in images if path not in used]
    if unused:
        has, count = ("has", "counts") if len(unused) == 1 else ("have", "count")
        which = f"{counted(len(unused), 'image')} {has} no {of_what} and {count} in no split"
        _LOG.warning("%s: %s (the first is %s)", root, which, unused[0])
