"""Whether a dataset is fit to train on, found before any time is spent on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vovnet.data.batches.worker_count import usable_cores
from vovnet.data.check import Report, check_dataset
from vovnet.data.checking.problem import Problem
from vovnet.data.formats import open_dataset
from vovnet.errors import UsageError, counted, listed
from vovnet.printing import shell_word

# Training ends with an error, learns nothing, or is judged by images that it saw.
_FATAL = {"unreadable-image", "no-labels", "split-leak", "empty-split", "split-without-objects"}
_OF_SPLITS = {"no-labels", "empty-split", "split-without-objects"}  # which matter for splits that are used
# An object is left out but stays visible, so that it is learnt as background. A few do no harm.
_LOSES = {
    "not-a-number",
    "inverted-box",
    "empty-box",
    "box-outside",
    "unknown-class",
    "size-mismatch",
    "bad-annotation",
}
_MOST_LOST = 0.01  # of all objects
_CHECKING, _CHECKING_S = 0.05, 120.0  # of the time that a run may take; of one without a limit
_DECODED_PER_S = 100  # images, by a core: photographs of half a megapixel


@dataclass(frozen=True)
class Soundness:
    """What the check of a dataset means for training.

    spoiling: the problems that must be mended first.
    harmless: number of problems of each other kind.
    why_unreadable: the error of a split that cannot be opened, "" if all can.
    unlabelled_test: name of the split for the test, if nothing in it is labelled; it is not used then.
    repeated_val: name of the split for validation, if all its images are training images; it is not used then.
    """

    report: Report
    spoiling: tuple[Problem, ...]
    harmless: dict[str, int]
    why_unreadable: str = ""
    unlabelled_test: str | None = None
    repeated_val: str | None = None

    @property
    def is_sound(self) -> bool:
        return not self.spoiling and not self.why_unreadable

    @property
    def has_masks(self) -> bool:
        """Whether any object has a mask, which a detector of boxes does not need."""
        return any(split.images.columns.has_masks for split in self.report.annotated)

    def sentences(self) -> Iterator[str]:
        """What is not a fault but worth saying."""
        command = f"`vovnet data check {shell_word(self.report.root)}`"
        if self.unlabelled_test is not None:
            yield f"the split {self.unlabelled_test} has no labels that can be read: it is not used"
        if self.repeated_val is not None:
            yield f"the split {self.repeated_val} has only images of the training: others are kept for validation"
        if self.report.headers_only:
            yield (
                "the images are many, so that only their headers were read: damaged images and copies are found by "
                f"{command}"
            )
        if not self.harmless:
            return
        kinds = listed(f"{count} × {kind}" for kind, count in self.harmless.items())
        total = counted(sum(self.harmless.values()), "problem")
        yield f"{total} of the data that training copes with: {kinds}; {command} says more"


def most_decoded(minutes: float | None) -> int:
    """How many images are decoded before a run of some minutes, or of any length: it takes a small part of them."""
    seconds = _CHECKING_S if minutes is None else min(_CHECKING_S, _CHECKING * 60 * minutes)
    return int(seconds * _DECODED_PER_S * usable_cores())


def check_soundness(
    root: Path,
    train: str,
    val: str | None,
    *,
    test: str | None = None,
    most_images: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Soundness:
    """Check a dataset that a detector of boxes is to learn.

    train, val: the splits that will be read; val is not if it repeats the training images.
    test: read too if something in it is labelled.
    most_images: if there are more, only their headers are read; None for no limit.
    """
    report = check_dataset(root, ignore_masks=True, most_decoded=most_images, progress=progress)
    labelled = {
        split.split
        for split in report.annotated
        if any(split.images.object_counts()) or any(split.images.unusable_counts())
    }
    unlabelled_test = test if test is not None and test not in labelled else None
    repeated_val = val if val not in (None, train) and _repeats(report, train, str(val)) else None
    not_used = {None, unlabelled_test, repeated_val}
    used = tuple(split for split in (train, val, test) if split not in not_used)
    why = _why_unreadable(root, used)
    counts = report.count_by_kind()
    objects = sum(split.annotated_objects for split in report.statistics.splits)
    lost = sum(counts.get(kind, 0) for kind in _LOSES)
    kinds = _FATAL | (_LOSES if why or lost > _MOST_LOST * objects else set())
    spoiling = tuple(
        problem
        for problem in report.problems
        if problem.kind in kinds
        and (problem.kind not in _OF_SPLITS or _is_of(used, problem, why))
        and (problem.kind != "split-leak" or repeated_val is None or _is_about(test, problem))
    )
    if why and not spoiling:  # the readers refuse what the check calls by another name
        spoiling = tuple(problem for problem in report.problems if not problem.split)
    kinds = {problem.kind for problem in spoiling}
    harmless = {kind: count for kind, count in counts.items() if kind not in kinds}
    return Soundness(report, spoiling, harmless, why, unlabelled_test, repeated_val)


def _repeats(report: Report, train: str, val: str) -> bool:
    """Whether all images of val are training images, as in examples that name one folder for both."""
    keys = {split.split: split.images.keys for split in report.annotated}
    return val in keys and train in keys and len(keys[val]) > 0 and bool(np.isin(keys[val], keys[train]).all())


def _is_about(split: str | None, leak: Problem) -> bool:
    return split is not None and (leak.split == split or f"the split {split}" in leak.detail)


def _is_of(used: Sequence[str | None], problem: Problem, why: str) -> bool:
    """Whether a problem of a whole split is that of a used one. Where it names none, some used one cannot be opened."""
    return problem.split in used if problem.split else bool(why)


def _why_unreadable(root: Path, splits: Sequence[str | None]) -> str:
    for split in splits:
        try:
            open_dataset(root, split)
        except UsageError:
            raise
        except (ValueError, OSError) as error:
            return str(error)
    return ""
