"""What the readers of labelling tools' files have in common once an image's objects are known."""

from __future__ import annotations

import logging
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from vovnet.data.dataset import ImageAnnotation, ImageTable, OnProblem, SplitAnnotations, add_image, raise_problem
from vovnet.data.image_columns import ImageColumns
from vovnet.data.keys import Integers, are_among, keys_of, text_key
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
        self._columns = ImageColumns()
        self._rows: defaultdict[str, dict[int, int]] = defaultdict(dict)  # of each split, by the keys of the images

    def add(self, split: str, image: ImageAnnotation, on_problem: OnProblem) -> None:
        """Adds an image unless the split has it: of two annotations that differ nothing tells which is right."""
        rows, key = self._rows[split], text_key(image.image_path)
        if key not in rows:
            rows[key] = add_image(self._columns, image)
            return
        other = Path(self._columns.annotation_path(rows[key]))
        also = "before" if other == image.annotation_path else f"in {other.name}"
        detail = f"annotates {line(image.image_path.name, 60)}, which is annotated {line(also, 60)}"
        on_problem("listed-twice", image.annotation_path, detail)

    def by_split(self) -> dict[str, ImageTable]:
        return {split: ImageTable(self._columns, array("I", rows.values())) for split, rows in self._rows.items()}


def make_splits(
    root: Path, name: str, *, images: Mapping[str, ImageTable], wanted: Sequence[str], on_problem: OnProblem
) -> tuple[SplitAnnotations, ...]:
    """The wanted splits of a dataset, of which `images` has all, in the same columns.

    The class names are those of all splits in alphabetical order, so that every split numbers them alike. In training,
    an image whose shapes are all without an area is left out: it would teach that nothing is there.
    """
    every = ImageTable.joined(list(images.values())) if images else ImageTable.of(())
    class_names = tuple(sorted(set().union(*every.class_names())))
    _, first = np.unique(every.keys, return_index=True)
    once = every.select(np.sort(first))  # an image that is in several splits has one id
    with_ids = with_unique_ids(root, once)
    is_new = np.array(once.rows) != np.array(with_ids.rows)
    new_ids = dict(zip(once.keys[is_new].tolist(), with_ids.select(is_new).image_ids(), strict=True))

    def with_id(image: ImageAnnotation) -> ImageAnnotation | None:
        if on_problem is raise_problem and not image.objects and image.unusable_objects:
            return None
        new_id = new_ids.get(text_key(image.image_path)) if new_ids else None
        return image if new_id is None else replace(image, image_id=new_id)

    def to_split(split: str) -> SplitAnnotations:
        of_split = images.get(split, ImageTable.of(())).changed(with_id)
        return SplitAnnotations(root, name, split, class_names, tuple(range(1, len(class_names) + 1)), of_split)

    return tuple(map(to_split, wanted))


def warn_about_unused(root: Path, images: Callable[[], Iterable[str]], used: Integers, of_what: str) -> None:
    """Logs images that no annotation names: they are not taken for images without objects.

    images: gives the paths of all. used: the keys of those that are named.
    """
    unused = np.flatnonzero(~are_among(keys_of(images()), used))
    if len(unused):
        has, count = ("has", "counts") if len(unused) == 1 else ("have", "count")
        which = f"{counted(len(unused), 'image')} {has} no {of_what} and {count} in no split"
        first = next(islice(images(), int(unused[0]), None))
        _LOG.warning("%s: %s (the first is %s)", root, which, first)


def keys_of_all(tables: Iterable[ImageTable]) -> Integers:
    """Those of the images in some tables."""
    return np.concatenate([keys_of(()), *(table.keys for table in tables)])
