"""The classes of COCO's splits, numbered alike although each split's file lists categories of its own."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vovnet.data.readers.coco_fields import Entry, to_number_id
from vovnet.data.readers.coco_files import find_category_ids, scan_categories
from vovnet.data.splits.split_roles import find_role
from vovnet.printing import quoted


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
        ids = _Ids(self.by_id)
        return tuple(
            own[name] if name in own else ids.take(shared_id)
            for name, shared_id in zip(self.names, self.shared_ids, strict=True)
        )

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
    unused = roots - _used(roots, files, lists)
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
            ids = _Ids(shared.values())
            shared |= {name: ids.take(wanted) for wanted, name in by_id[other].items() if name not in shared}
        if other == split:
            own_names = set(own.values())
            length = max(length, *(index for index, name in enumerate(shared, 1) if name in own_names), 0)
    return Classes(own, tuple(shared)[:length], tuple(shared.values())[:length], first)


def _is_training(split: str) -> bool:
    role = find_role(split)
    return role is not None and "train" in role.parts


def _by_id(categories: Sequence[Entry], left_out: Collection[tuple[int, str]], path: Path) -> dict[int, str]:
    """Category id → name, in the order of the ids, without those to be left out."""
    names: dict[int, str] = {}
    ids: dict[str, int] = {}
    for category in categories:
        category_id, name = to_number_id(category.get("id")), category.get("name")
        if category_id is None or not isinstance(name, str):
            raise ValueError(f"{path}: a category must have an integer id and a name as text, got {quoted(category)}")
        if (category_id, name) in left_out:
            continue
        if category_id in names or name in ids:
            raise ValueError(
                f"{path}: category {category_id} ({quoted(name)}) is listed twice: give each its own id and name"
            )
        names[category_id], ids[name] = name, category_id
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


def _used(
    categories: Collection[tuple[int, str]], files: Mapping[str, Path], lists: Mapping[str, Sequence[Entry]]
) -> set[tuple[int, str]]:
    """Those of the categories, given as id and name, of which any split has an annotation."""
    used: set[tuple[int, str]] = set()
    for split, entries in lists.items():
        stated = {(to_number_id(entry.get("id")), _text(entry.get("name"))) for entry in entries}
        wanted = {category[0]: category for category in categories if category in stated}
        used |= {wanted[category_id] for category_id in find_category_ids(files[split], wanted)}
    return used


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _are_related(classes: Mapping[int, str], others: Mapping[int, str]) -> bool:
    names, other_names = set(classes.values()), set(others.values())
    common = len(names & other_names)
    return common == min(len(names), len(other_names)) or 2 * common >= max(len(names), len(other_names))


class _Ids:
    """Hands out category ids that are not taken."""

    def __init__(self, taken: Iterable[int]) -> None:
        self._taken = set(taken)
        self._highest = max(self._taken, default=0)

    def take(self, wanted: int) -> int:
        """The wanted id, or one above all others if it is taken."""
        free = wanted if wanted not in self._taken else self._highest + 1
        self._taken.add(free)
        self._highest = max(self._highest, free)
        return free
