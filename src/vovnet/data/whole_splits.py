"""What is wrong, or suspicious, about whole splits and the list of classes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from vovnet.data.dataset import SplitAnnotations
from vovnet.data.problem import Problem
from vovnet.data.split_roles import find_rivals, find_role

_MOST_NAMES = 10  # that a sentence lists


def find_split_problems(splits: Sequence[SplitAnnotations]) -> list[Problem]:
    """Splits without images or objects, and classes that train lacks.

    splits: as the cleaned copy has them, without unions.
    """
    problems = []
    with_role = [split for split in splits if find_role(split.split)]
    for split in with_role or splits:
        objects = [obj for image in split.images for obj in image.objects]
        if not split.images:
            problems.append(Problem("empty-split", split.split, "", "the split has no image that can be used"))
        elif not objects:
            detail = f"none of its {len(split.images)} images has an object"
            problems.append(Problem("split-without-objects", split.split, "", detail))
    classes = {split.split: _used_classes(split) for split in with_role}
    rivals = find_rivals(classes)
    for name, used in classes.items():
        if _holds_train(name):
            continue
        trained = [classes[other] for other in classes if frozenset((name, other)) in rivals and _holds_train(other)]
        missing = used - set().union(*trained)
        if any(trained) and missing:
            problems.append(Problem("class-not-in-train", name, "", _join(sorted(missing))))
    return problems


def _used_classes(split: SplitAnnotations) -> set[str]:
    return {obj.class_name for image in split.images for obj in image.objects}


def _holds_train(name: str) -> bool:
    role = find_role(name)
    return role is not None and "train" in role.parts


def _join(names: Sequence[str]) -> str:
    """The first names, quoted, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(map(repr, names[:_MOST_NAMES])) + more


def hints_about_names(names: Iterable[str]) -> list[str]:
    """A sentence for class names that differ only in case, spaces, hyphens and underscores."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[re.sub(r"[\s_-]+", "", name.casefold())].append(name)
    return [
        f"the classes {_join(group)} differ only in case, spaces, hyphens or underscores: "
        "if they are one class, give them one name"
        for group in groups.values()
        if len(group) > 1
    ]
