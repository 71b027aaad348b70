"""Which splits must not share images: those that are called train, val and test, in one of the usual ways.

All other lists (sequences, cameras, folds, subsets) may share images with any split.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from vovnet.data.dataset import SplitAnnotations
from vovnet.data.keys import Integers

_ROLES = {
    **dict.fromkeys(("train", "training", "trainset"), ("train",)),
    **dict.fromkeys(("val", "valid", "validation", "valset", "dev", "eval"), ("val",)),
    **dict.fromkeys(("test", "testing", "testset"), ("test",)),
    "trainval": ("train", "val"),
    "trainvaltest": ("train", "val", "test"),
}
_PRIORITY = ("test", "val", "train")


@dataclass(frozen=True)
class Role:
    """What the name of a split says.

    parts: those of train, val and test that it holds; several for a union such as trainval.
    group: the other words and numbers of its name, in order: ("2017",) for train2017. Splits of one group belong
        together.
    """

    parts: frozenset[str]
    group: tuple[str, ...]


def find_role(name: str) -> Role | None:
    """The role of a split by its name; None for a list that is none of train, val and test."""
    words = re.findall(r"[a-z]+|\d+", name.lower())
    if "test" in words:  # COCO's test-dev is no dev split
        words = [word for word in words if word != "dev"]
    parts = frozenset(part for word in words for part in _ROLES.get(word, ()))
    return Role(parts, tuple(word for word in words if word not in _ROLES)) if parts else None


def find_rivals(names: Collection[str]) -> set[frozenset[str]]:
    """The pairs of splits that must not share images.

    They have different roles and the same group: train_1 may hold what val_2 holds, because folds overlap. A group
    without a partner, as in train_day beside val, is no group.
    """
    roles = {name: role for name in names if (role := find_role(name))}
    paired = {
        a.group for a, b in combinations(roles.values(), 2) if a.group and a.group == b.group and not a.parts & b.parts
    }
    unpaired_parts = frozenset[str]().union(*(role.parts for role in roles.values() if role.group not in paired))

    def are_rivals(a: Role, b: Role) -> bool:
        if a.parts & b.parts:
            return False
        if a.group == b.group or (a.group not in paired and b.group not in paired):
            return True
        # Folds beside one test split that is theirs: it has no training split of its own.
        fold, other = (a, b) if a.group in paired else (b, a)
        fold_parts = frozenset[str]().union(*(role.parts for role in roles.values() if role.group == fold.group))
        return other.group not in paired and unpaired_parts == {"test"} and "test" not in fold_parts

    return {frozenset((a, b)) for a, b in combinations(roles, 2) if are_rivals(roles[a], roles[b])}


def priority(name: str) -> tuple[int, str]:
    """Sorts the split that keeps a shared image first: test, then val, then train, then the others by name."""
    role = find_role(name)
    parts = role.parts if role else frozenset()
    return next((rank for rank, part in enumerate(_PRIORITY) if part in parts), len(_PRIORITY)), name


def find_unions(splits: Sequence[SplitAnnotations]) -> dict[str, list[str]]:
    """For each split that joins two or more of train, val and test, as VOC's trainval does, the names of its parts."""
    paths = {split.split: np.unique(split.images.keys) for split in splits}
    rivals = find_rivals(paths)
    candidates = [name for name in paths if find_role(name) and len(paths[name])]
    unions: dict[str, list[str]] = {}
    for name, union in sorted(paths.items(), key=lambda item: len(item[1])):  # a part is no union itself
        parts = [
            part
            for part in candidates
            if part not in unions
            and frozenset((part, name)) not in rivals
            and len(paths[part]) < len(union)
            and np.isin(paths[part], union).all()
        ]
        if len(parts) >= 2 and len(np.unique(np.concatenate([paths[part] for part in parts]))) == len(union):
            unions[name] = parts
    return unions


def images_to_report(splits: Sequence[SplitAnnotations], unions: Mapping[str, Sequence[str]]) -> dict[str, Integers]:
    """The keys of the images whose problems each split reports: a list beside train, val and test repeats none of
    theirs."""
    nothing = np.empty(0, np.int64)
    paths = {split.split: split.images.keys for split in splits}
    reported = {name: nothing if name in unions else paths[name] for name in paths if find_role(name)}
    seen = np.concatenate([nothing, *reported.values()])
    for name in paths.keys() - reported.keys():
        reported[name] = nothing if name in unions else np.setdiff1d(paths[name], seen)
        seen = np.concatenate([seen, paths[name]])
    return reported
