"""The classes of COCO's splits, numbered alike although each split's file lists categories of its own."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vovnet.data.coco_fields import Entry, to_number_id
from vovnet.data.coco_files import has_annotation, scan_categories
from vovnet.data.split_roles import find_role


@dataclass(frozen=True)
class Classes:
    """The classes of one split.

    by_id: category id in the split's own file → name, in the order of the ids.
    names: in label order; other splits may have some of them only.
    shared_ids: the category id of each name in the first split that has it.
    first: the split whose classes come first.
    """

    by_id: dict[int, str]
    names: tuple[str, ...]
    shared_ids: tuple[int, ...]
    first: str

    def own_ids(self) -> tuple[int, ...]:
        """The category id of each name in the split's own file; a free one where it lacks the class."""
        own = {name: category_id for category_id, name in self.by_id.items()}
        for name, shared_id in zip(self.names, self.shared_ids, strict=True):
            own.setdefault(name, _free_id(shared_id, own.values()))
        return tuple(own[name] for name in self.names)

    def new_ids(self) -> dict[int, int]:
        """Category id in the split's own file → the shared one, where they differ."""
        shared = dict(zip(self.names, self.shared_ids, strict=True))
        return {own: shared[name] for own, name in self.by_id.items() if own != shared[name]}


def read_classes(files: Mapping[str, Path], split: str, categories: Sequence[Entry]) -> Classes:
    """The classes of a split in the order of their category ids, those of the training split before its own.

    The splits must be related: one has all classes of the other, or they share most. A folder of annotations may also
    hold another dataset's. A category that is only the supercategory of others, without an annotation in any split, is
    no class.

    files: split → its JSON file.
    categories: the list in the split's own file. ValueError if two entries are the same class.
    """
    lists = {name: scan_categories(path) for name, path in files.items() if name != split} | {split: categories}
    roots = {root for entries in lists.values() for root in _find_roots(entries)}
    unused = {root for root in roots if not _has_annotations(root, files, lists)}
    own = _by_id(categories, unused, files[split])
    by_id = {split: own}
    for name in lists.keys() - {split}:
        with contextlib.suppress(ValueError):  # reported when that split is opened
            by_id[name] = _by_id(lists[name], unused, files[name])
    names = [name for name in files if by_id.get(name)]
    first = next(filter(_is_training, names), names[0] if names else split)
    if not _are_related(own, by_id.get(first, {})):
        return Classes(own, tuple(own.values()), tuple(own), split)
    shared = {name: category_id for category_id, name in by_id[first].items()}
    length = len(shared)
    for other in names:
        if _are_related(by_id[other], by_id[first]):
            for category_id, name in by_id[other].items():
                shared.setdefault(name, _free_id(category_id, shared.values()))
        if other == split:
            length = max(length, *(index for index, name in enumerate(shared, 1) if name in own.values()), 0)
    return Classes(own, tuple(shared)[:length], tuple(shared.values())[:length], first)


def _is_training(split: str) -> bool:
    role = find_role(split)
    return role is not None and "train" in role.parts


def _by_id(categories: Sequence[Entry], left_out: Collection[tuple[int, str]], path: Path) -> dict[int, str]:
    """Category id → name, in the order of the ids, without those to be left out."""
    names: dict[int, str] = {}
    for category in categories:
        category_id, name = to_number_id(category.get("id")), category.get("name")
        if category_id is None or not isinstance(name, str):
            raise ValueError(f"{path}: a category must have an integer id and a name, got {category}")
        if (category_id, name) in left_out:
            continue
        if category_id in names or name in names.values():
            raise ValueError(
                f"{path}: category {category_id} ({name!r}) is listed twice: give each its own id and name"
            )
        names[category_id] = name
    return dict(sorted(names.items()))


def _find_roots(categories: Sequence[Entry]) -> set[tuple[int, str]]:
    """Id and name of the categories that others are kinds of. Roboflow lists the name of the project as one."""
    parents = Counter(parent for category in categories if isinstance(parent := category.get("supercategory"), str))
    roots = set()
    for category in categories:
        category_id, name = to_number_id(category.get("id")), category.get("name")
        if (
            category_id is not None
            and isinstance(name, str)
            and parents[name] > (category.get("supercategory") == name)
        ):
            roots.add((category_id, name))
    return roots


def _has_annotations(
    category: tuple[int, str], files: Mapping[str, Path], lists: Mapping[str, Sequence[Entry]]
) -> bool:
    """Whether any split has an annotation of the category with this id and name."""
    return any(
        any((to_number_id(entry.get("id")), entry.get("name")) == category for entry in entries)
        and has_annotation(files[split], category[0])
        for split, entries in lists.items()
    )


def _are_related(classes: Mapping[int, str], others: Mapping[int, str]) -> bool:
    names, other_names = set(classes.values()), set(others.values())
    common = len(names & other_names)
    return common == min(len(names), len(other_names)) or 2 * common >= max(len(names), len(other_names))


def _free_id(wanted: int, taken: Collection[int]) -> int:
    return wanted if wanted not in taken else max(taken) + 1
