"""Copies a dataset without its problems, and proves that the copy reads back as it was meant."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from vovnet.data.checking.problem import Problem, Removal
from vovnet.data.dataset import Box, ImageTable, SplitAnnotations, inside
from vovnet.data.keys import Integers, KeySet, are_among, keys_of, text_key
from vovnet.data.readers import mask_png
from vovnet.data.readers.coco_files import LISTS
from vovnet.files import is_below
from vovnet.json_entries import is_same_json

_LISTS = (".txt", ".yaml", ".yml", ".data")
_ROUNDING = 0.01  # pixels that the text of an annotation may be off


def require_new_folder(out: Path, folder: Path) -> None:
    """FileExistsError or ValueError if a copy of a data folder must not be written to `out`."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not an empty folder: name a new one for the copy")
    if is_below(out, folder):
        raise ValueError(f"{out} lies inside the data folder {folder}: name a folder outside it for the copy")


def files_left_out(
    folder: Path,
    splits: Sequence[SplitAnnotations],
    clean: Sequence[SplitAnnotations],
    file_problems: Sequence[Problem],
) -> frozenset[Path]:
    """The images and annotation files that no split of the copy uses, though a split of the original does."""
    files = set[Path]()
    for problem in file_problems:
        path = folder / problem.image
        is_list = path.suffix in _LISTS and problem.kind != "annotation-without-image"
        if path.is_file() and not is_list and not Path(problem.image).is_absolute():  # lists and split files stay
            files.add(path)
    if splits[0].format == "mask_png":
        files |= set(mask_png.files(folder))
    if all(before.images is after.images for before, after in zip(splits, clean, strict=True)) and not files:
        return frozenset()
    kept = KeySet(file_keys(clean))
    files = {path for path in files if str(path) not in kept}
    for split in splits:
        paths = chain(split.images.paths(), split.images.annotation_paths())
        files.update(Path(path) for path in paths if path not in kept)
    return frozenset(files)


def changed_annotations(
    folder: Path,
    splits: Sequence[SplitAnnotations],
    clean: Sequence[SplitAnnotations],
    file_problems: Sequence[Problem],
) -> frozenset[Path]:
    """The annotation files of which something is left out or corrected."""
    changed = {folder / problem.image for problem in file_problems}
    for before, after in zip(splits, clean, strict=True):
        stays = are_among(np.array(before.images.rows, np.int64), np.array(after.images.rows, np.int64))
        changed |= {
            before.images[position].annotation_path
            for position, unusable in enumerate(before.images.unusable_counts())
            if unusable or not stays[position]
        }
    return frozenset(changed)


def unchanged_annotations(splits: Sequence[SplitAnnotations], changed: Collection[Path]) -> Iterator[Path]:
    """The other annotation files, each once."""
    seen = set(map(text_key, changed))
    for split in splits:
        for path in split.images.annotation_paths():
            if text_key(path) not in seen and Path(path).is_file():
                yield Path(path)
            seen.add(text_key(path))


def file_keys(splits: Sequence[SplitAnnotations]) -> Integers:
    """The keys of the images and annotation files of splits."""
    images = [split.images for split in splits]
    of_files = ((table.keys, keys_of(table.annotation_paths(), len(table))) for table in images)
    return np.concatenate([np.empty(0, np.int64), *chain.from_iterable(of_files)])


def copy_images(splits: Sequence[SplitAnnotations], root: Path, out: Path) -> None:
    """Copies the images of splits, each once."""
    seen = set[int]()
    for split in splits:
        for path, key in zip(split.images.paths(), split.images.keys.tolist(), strict=True):
            if key not in seen:
                seen.add(key)
                _copy(Path(path), out / Path(path).relative_to(root))


def copy_annotations(paths: Iterable[Path], root: Path, out: Path) -> None:
    """Copies annotation files as they are, unless the format has written a JSON file with other content."""
    for path in paths:
        written = out / path.relative_to(root)
        if path.suffix == ".json" and not is_same_json(written, path, "json_bytes", LISTS):
            continue  # such as 0 for the text "false", which other programs take for true
        _copy(path, written)


def copy_other_files(root: Path, out: Path, left_out: Collection[Path]) -> list[Removal]:
    """Copies every file that the format does not write itself, such as licences, notes and further annotations.

    Links are followed only within the data folder: the copy may be published. Returns what could not be copied.

    left_out: files that are not wanted.
    """
    lacking = []
    for path, problem in _walk(root):
        if path in left_out or (out / path.relative_to(root)).exists():
            continue
        if problem:
            lacking.append(Removal("file", "not-copied", "", path.relative_to(root).as_posix(), problem))
        else:
            _copy(path, out / path.relative_to(root))
    return lacking


def _walk(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file and linked folder below a folder, with the reason why it cannot be copied, or ""."""
    for folder, subfolders, files in os.walk(root):
        for path in (Path(folder, name) for name in sorted(subfolders)):
            if path.is_symlink():
                yield path, "a link to a folder; only the images and annotations that it leads to are copied"
        for path in (Path(folder, name) for name in sorted(files)):
            if path.is_symlink() and not is_below(path, root):
                yield path, "a link to a file outside the data folder"
            elif not path.is_file():
                yield path, "a link that leads nowhere" if path.is_symlink() else "not a regular file"
            else:
                yield path, ""


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def find_difference(expected: Sequence[SplitAnnotations], copy: Sequence[SplitAnnotations]) -> str:
    """The first difference between the splits as they were meant and as they read back, or ""."""
    splits = {split.split: split for split in copy}
    for split in expected:
        if split.split not in splits:
            if split.images:
                return f"the split {split.split} is missing"
            continue
        wanted, found = _ByName(split), _ByName(splits[split.split])
        for one, other, fault in ((wanted, found, "missing from"), (found, wanted, "additional in")):
            lacking = np.flatnonzero(~are_among(one.keys, other.keys))
            if len(lacking):
                return f"{one.name(int(lacking[0]))} is {fault} the split {split.split}"
        for place in range(len(wanted.keys)):
            if not _are_alike(wanted.objects(place), found.objects(place)):
                return f"the objects of {wanted.name(place)} in the split {split.split} differ"
    return ""


_Objects = list[tuple[str, Box]]


class _ByName:
    """The images of a split by their paths in the data folder, of which only keys are kept.

    keys: of the paths, sorted and each once; a place is a position in them.
    """

    def __init__(self, split: SplitAnnotations) -> None:
        self._split = split
        keys = keys_of((inside(split.root, path) for path in split.images.paths()), len(split.images))
        self._order = np.argsort(keys, kind="stable")
        self.keys, self._starts = np.unique(keys[self._order], return_index=True)

    def _images(self, place: int) -> ImageTable:
        end = self._starts[place + 1] if place + 1 < len(self.keys) else None
        return self._split.images.select(self._order[self._starts[place] : end])

    def name(self, place: int) -> str:
        return inside(self._split.root, next(self._images(place).paths()))

    def objects(self, place: int) -> _Objects:
        """Those of all entries of an image."""
        return [(obj.class_name, obj.box) for image in self._images(place) for obj in image.objects]


def _are_alike(a: _Objects, b: _Objects) -> bool:
    return len(a) == len(b) and all(
        name == other_name and max(abs(x - y) for x, y in zip(box, other_box, strict=True)) <= _ROUNDING
        for (name, box), (other_name, other_box) in zip(a, b, strict=True)
    )
