"""Split files: which images of a dataset are for training, validation and test, without moving or copying one.

A JSON file: {"vovnet_split": 1, "root": "the dataset", "splits": {"train": ["path of an image in it", …], "val": […]}}.
It only selects. Images and objects are those of the dataset, and nothing else of the disk can be named.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from vovnet.data.dataset import Box, ImageAnnotation, ImageTable, OnProblem, SplitAnnotations, inside, raise_problem
from vovnet.data.keys import are_among, are_repeated, keys_of
from vovnet.data.readers.yolo_settings import exists
from vovnet.data.reading import names_of_splits, read_splits
from vovnet.errors import UsageError, counted, did_you_mean
from vovnet.files import encodable, is_below, write_json
from vovnet.parsing import naming, read_json
from vovnet.printing import line, quoted

_LOG = logging.getLogger("vovnet")
_KEY, _VERSION = "vovnet_split", 1
_HEAD = 2**16  # bytes in which the key must be
_LONGEST_NAME = 60  # characters of the name of a split
_MOST_SPLITS, _MOST_NAMED = 100, 1000  # splits of a file; entries without an image that the check names
_MOST_HINTS = 20  # at similar names, which take long to find


@dataclass(frozen=True)
class SplitFile:
    """root: the dataset: its folder, or the file that describes it. members: split → images, as paths in its folder."""

    path: Path
    root: Path
    members: Mapping[str, tuple[str, ...]]


def is_split_file(path: Path) -> bool:
    """Whether a path is a JSON file with the key of a split file near its beginning."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        return f'"{_KEY}"'.encode() in file.read(_HEAD)


def is_split_name(name: str) -> bool:
    return 0 < len(name) <= _LONGEST_NAME and name.isprintable()


def read_split_file(path: Path) -> SplitFile:
    """ValueError for a file that is no split file, or names a dataset that does not exist."""
    with naming(path):
        content = read_json(path, "list_bytes")
    stated = content.get(_KEY) if isinstance(content, dict) else None
    if stated != _VERSION or isinstance(stated, bool):
        raise ValueError(f"{path} must hold {quoted(_KEY)}: {_VERSION}, got {quoted(stated, 40)}")
    root, splits = content.get("root"), content.get("splits")
    if not isinstance(root, str) or not root or "\0" in root:
        raise ValueError(f"{path}: root must be the folder of the dataset, got {quoted(root, 40)}")
    if not isinstance(splits, dict) or not 0 < len(splits) <= _MOST_SPLITS:
        raise ValueError(f"{path}: splits must hold 1 to {_MOST_SPLITS} lists of images, as train and val")
    for name, images in splits.items():
        if not is_split_name(name):
            raise ValueError(f"{path}: a split needs a short, printable name, got {quoted(name, 40)}")
        if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
            raise ValueError(f"{path}: the split {quoted(name, 40)} must be a list of paths of images")
    dataset = Path(os.path.normpath(path.parent / root))
    if not exists(dataset):
        raise FileNotFoundError(
            f"{path}: its dataset {line(str(dataset), 200)} does not exist: correct root in the file"
        )
    if is_split_file(dataset):
        raise ValueError(f"{path}: its root {line(str(dataset), 200)} is a split file, expected the dataset itself")
    return SplitFile(path, dataset, {name: tuple(images) for name, images in splits.items()})


def write_members(path: Path, dataset: Path, members: Mapping[str, Sequence[str]]) -> None:
    """Writes a split file. It names the dataset by a relative path if it lies in the dataset, so that both can move."""
    inside = dataset.is_dir() and is_below(path.parent, dataset)
    root = os.path.relpath(dataset.resolve(), path.parent.resolve()) if inside else str(dataset.resolve())
    splits = {name: list(map(encodable, images)) for name, images in members.items()}
    write_json(path, {_KEY: _VERSION, "root": root, "splits": splits})


@dataclass(frozen=True)
class Selection:
    """A split file as a format of datasets: with the functions that the modules of the formats have.

    module: the format of the dataset itself.
    """

    file: SplitFile
    module: ModuleType

    def splits(self, root: Path) -> tuple[str, ...]:
        return tuple(self.file.members)

    def read(
        self, root: Path, names: Sequence[str], on_problem: OnProblem, *, masks: bool = True
    ) -> tuple[SplitAnnotations, ...]:
        """The splits of these names. All annotations of the dataset are read, whichever of its own splits has them."""
        wanted = set().union(*(self.file.members[name] for name in names))
        whole = read_whole(self.module, self.file.root, on_problem, wanted, masks=masks)
        positions = {name: position for position, name in enumerate(image_names(whole))}

        def select(split: str) -> SplitAnnotations:
            members = self._known_members(split, positions, on_problem)
            return replace(whole, split=split, images=whole.images.select([positions[name] for name in members]))

        return tuple(map(select, names))

    def _known_members(self, split: str, images: Mapping[str, int], on_problem: OnProblem) -> list[str]:
        counts = Counter(self.file.members[split])
        for name in (name for name, count in counts.items() if count > 1):
            on_problem("listed-twice", self.file.path, f"the split {line(split, 60)} lists {line(name)} twice")
        unknown = [name for name in counts if name not in images]
        others = f" (one of {counted(len(unknown), 'such entry', 'such entries')})" if len(unknown) > 1 else ""
        for position, name in enumerate(unknown[: 1 if on_problem is raise_problem else _MOST_NAMED]):
            hint = did_you_mean(name, images) if position < _MOST_HINTS else ""
            detail = f"lists {line(name)}, which is no annotated image of {line(str(self.file.root))}{hint}{others}"
            on_problem("missing-image", self.file.path, detail)
        return [name for name in counts if name in images]

    def write(self, root: Path, splits: Sequence[SplitAnnotations], out: Path) -> None:
        """UsageError: a split file has no annotations of its own to write."""
        raise UsageError(self.why_not_mended)

    @property
    def why_not_mended(self) -> str:
        return (
            f"{self.file.path} is a split file, which only selects images: give --fix the dataset itself, "
            f"{self.file.root}, and split the cleaned copy"
        )


def image_names(split: SplitAnnotations) -> Iterator[str]:
    """What a split file calls each image: its path in the data folder."""
    return (_name_of(split.root, path) for path in split.images.paths())


def image_name(folder: Path, image: ImageAnnotation) -> str:
    """What a split file calls an image."""
    return _name_of(folder, str(image.image_path))


def _name_of(folder: Path, path: str) -> str:
    return encodable(inside(folder, path))


def read_whole(
    module: ModuleType | Selection,
    root: Path,
    on_problem: OnProblem,
    wanted: set[str] | None = None,
    *,
    masks: bool = True,
) -> SplitAnnotations:
    """All splits of a dataset as one, called "all", with each image file once and ids that differ.

    wanted: images, as a split file names them. Those of VOC that no list names are read only if one of these is not
        among the others.
    """
    names = names_of_splits(module, root)
    splits = read_splits(module, root, names, on_problem, masks=masks)
    images = _join(splits)
    has_split = getattr(module, "has_split", None)
    if wanted and has_split and has_split(root, "all") and "all" not in names:
        known = keys_of((_name_of(splits[0].root, path) for path in images.paths()), len(images))
        if not are_among(keys_of(wanted), known).all():
            splits = read_splits(module, root, ("all",), on_problem, masks=masks)
            images = _join(splits)
    says = iter(are_repeated(keys_of(images.image_ids(), len(images))).tobytes())
    folder = splits[0].root
    unique = images.changed(lambda image: replace(image, image_id=image_name(folder, image)) if next(says) else image)
    ids: dict[str, int] = {}
    for split in splits:
        for name, category_id in zip(split.class_names, split.category_ids, strict=True):
            ids.setdefault(name, category_id)
    return replace(splits[0], split="all", class_names=tuple(ids), category_ids=tuple(ids.values()), images=unique)


def _join(splits: Sequence[SplitAnnotations]) -> ImageTable:
    """The images; of an image in several splits, as in trainval and train, the first.

    A warning counts those that a later split annotates otherwise.
    """
    if not splits:
        raise ValueError("the dataset has no splits")
    joined = ImageTable.joined([split.images for split in splits])
    if not are_repeated(joined.keys).any():
        return joined
    _, firsts, numbers = np.unique(joined.keys, return_index=True, return_inverse=True)
    first_of = firsts[numbers.reshape(-1)]
    later = np.flatnonzero(first_of != np.arange(len(joined)))
    differing: dict[str, None] = {}
    for position in later.tolist():
        first, image = joined[int(first_of[position])], joined[position]
        if first.objects != image.objects and _shown(first) != _shown(image):
            differing[image_name(splits[0].root, image)] = None
    if differing:
        which = f"{counted(len(differing), 'image')} (the first is {line(next(iter(differing)))})"
        _LOG.warning(
            "%s: splits annotate %s differently: the annotation of the first split counts", splits[0].root, which
        )
    return joined.select(np.sort(firsts))


def _shown(image: ImageAnnotation) -> set[tuple[str, Box]]:
    return {(obj.class_name, obj.box) for obj in image.objects}
