"""Reads splits of a dataset; within `read_once` each of them once, however many steps need it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Protocol

from vovnet.data.dataset import OnProblem, SplitAnnotations, raise_problem


class Reader(Protocol):
    """What reads as the modules of the formats do: the selection of a split file."""

    def splits(self, root: Path) -> tuple[str, ...]:
        """The names of the splits."""

    def read(
        self, root: Path, names: Sequence[str], on_problem: OnProblem, *, masks: bool
    ) -> tuple[SplitAnnotations, ...]:
        """The splits of these names."""


_Key = tuple[Path, str]  # a dataset and the name of a split


class _Kept:
    """Splits that were read without a problem, and those that could be opened.

    Their masks are not kept, which take much; `masked` has the keys of those that had some.
    names: of all splits of a dataset.
    """

    def __init__(self) -> None:
        self.sound: dict[_Key, tuple[Path, SplitAnnotations]] = {}
        self.opened: dict[_Key, tuple[Path, SplitAnnotations]] = {}
        self.masked: set[_Key] = set()
        self.names: dict[Path, tuple[str, ...]] = {}

    def find(
        self, root: Path, names: Sequence[str], on_problem: OnProblem, *, masks: bool
    ) -> tuple[SplitAnnotations, ...] | None:
        usable = self.sound | self.opened if on_problem is raise_problem else self.sound
        keys = [(root.resolve(), name) for name in names]
        if not usable.keys() >= set(keys) or (masks and self.masked.intersection(keys)):
            return None
        return tuple(_called(root, *usable[key]) for key in keys)

    def add(self, root: Path, splits: Sequence[SplitAnnotations], *, sound: bool) -> None:
        for split in splits:
            key, images = (root.resolve(), split.split), split.images
            if images.columns.has_masks:
                self.masked.add(key)
                images = images.without_masks()
            (self.sound if sound else self.opened)[key] = root, replace(split, images=images)


def _called(root: Path, read_as: Path, split: SplitAnnotations) -> SplitAnnotations:
    """A split of a dataset that was read under another of its paths, as in a split file, with that in place of it."""
    if root == read_as:
        return split
    folder = root if split.root == read_as else root.parent
    return replace(split, root=folder, images=split.images.moved(split.root, folder))


_KEPT: ContextVar[_Kept | None] = ContextVar("_KEPT", default=None)


@contextmanager
def read_once() -> Iterator[None]:
    """Within the block `read_splits` and `names_of_splits` keep what they read, even if files change meanwhile.

    What was read while problems were collected serves all, if there were none; else a dataset is read again to open it.
    """
    token = _KEPT.set(_Kept())
    try:
        yield
    finally:
        _KEPT.reset(token)


def names_of_splits(reader: ModuleType | Reader, root: Path) -> tuple[str, ...]:
    """What the reader's `splits` gives: some formats read all annotations for it."""
    kept = _KEPT.get()
    if kept is None or not isinstance(reader, ModuleType):
        names: tuple[str, ...] = reader.splits(root)
        return names
    key = root.resolve()
    if key not in kept.names:
        kept.names[key] = reader.splits(root)
    return kept.names[key]


def read_splits(
    reader: ModuleType | Reader, root: Path, names: Sequence[str], on_problem: OnProblem, *, masks: bool
) -> tuple[SplitAnnotations, ...]:
    """What the reader's `read` gives. masks: whether the masks of the objects are needed."""
    if not isinstance(reader, ModuleType):  # a split file is cheap to read, and may change
        return reader.read(root, names, on_problem, masks=masks)
    kept = _KEPT.get()
    if kept is None:
        unkept: tuple[SplitAnnotations, ...] = reader.read(root, names, on_problem)
        return unkept
    if (found := kept.find(root, names, on_problem, masks=masks)) is not None:
        return found
    problems = 0

    def count_problem(kind: str, path: Path, detail: str) -> None:
        nonlocal problems
        problems += 1
        on_problem(kind, path, detail)

    opens = on_problem is raise_problem  # by which readers know
    splits: tuple[SplitAnnotations, ...] = reader.read(root, names, raise_problem if opens else count_problem)
    if not problems:
        kept.add(root, splits, sound=not opens)
    return splits
