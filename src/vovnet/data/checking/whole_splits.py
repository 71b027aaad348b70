"""What is wrong, or suspicious, about whole splits and the list of classes."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence

from vovnet.data.checking.problem import Problem
from vovnet.data.dataset import SplitAnnotations
from vovnet.data.splits.split_roles import find_rivals, find_role
from vovnet.masks import find_polygons
from vovnet.printing import quoted

_LOG = logging.getLogger("vovnet")

_MOST_NAMES = 10  # that a sentence lists
_EXPLAINS_NOTHING = {"skipped-file", "listed-twice", "annotation-without-image"}  # kinds that leave no split empty


def find_split_problems(splits: Sequence[SplitAnnotations], explained: Collection[str] = ()) -> list[Problem]:
    """Splits without images or objects, and classes that train lacks.

    splits: without unions.
    explained: kinds of problems in files of the dataset, which may be why there is no image or object.
    """
    problems = []
    has_reason = bool(set(explained) - _EXPLAINS_NOTHING)
    with_role = [split for split in splits if find_role(split.split)]
    for split in with_role or splits:
        if any(split.images.object_counts()) or any(split.images.unusable_counts()) or has_reason:
            continue
        if split.images:
            detail = (
                "its only image has no object"
                if len(split.images) == 1
                else f"none of its {len(split.images)} images has an object"
            )
            problems.append(Problem("split-without-objects", split.split, "", detail))
        else:
            problems.append(Problem("empty-split", split.split, "", "the split has no image"))
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


def hints_about_copy(
    clean: Sequence[SplitAnnotations], found: Collection[Problem], explained: Collection[str]
) -> list[str]:
    """A sentence for each problem of whole splits that the cleaned copy has, and the original has not.

    clean: the splits of the copy, without unions.
    explained: as for `find_split_problems`, in the files of the copy.
    """
    return [
        f"the cleaned copy has a new problem, {problem.kind}: {problem.split}: {problem.detail}"
        for problem in find_split_problems(clean, explained)
        if (problem.kind, problem.split) not in {(other.kind, other.split) for other in found}
    ]


def _used_classes(split: SplitAnnotations) -> set[str]:
    return {name for of_image in split.images.class_names() for name in of_image}


def _holds_train(name: str) -> bool:
    role = find_role(name)
    return role is not None and "train" in role.parts


def _join(names: Sequence[str]) -> str:
    """The first names, quoted, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(quoted(name, 40) for name in names[:_MOST_NAMES]) + more


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


def has_masks(split: SplitAnnotations) -> bool:
    """Whether most objects have a mask: some tools give a few objects of a dataset of boxes a polygon."""
    counts: Counter[str] = Counter()
    for image in split.images:
        for obj in image.objects:
            counts["objects"] += 1
            if obj.mask is not None:
                counts["masks"] += 1
                counts["usable"] += isinstance(obj.mask, dict) or bool(find_polygons(obj.mask)[0])
    if 2 * counts["usable"] <= counts["objects"] < 2 * counts["masks"]:
        _LOG.warning(
            "%s, split %s: most masks are malformed, so it is checked as a dataset of boxes", split.root, split.split
        )
    return 2 * counts["usable"] > counts["objects"]
