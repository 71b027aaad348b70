"""Whether a dataset is fit to train on, found before any time is spent on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vovnet.data.check import Report, check_dataset
from vovnet.data.formats import open_dataset
from vovnet.data.problem import Problem
from vovnet.errors import UsageError, counted, listed

# Training ends with an error, learns nothing, or is judged by images that it saw.
_FATAL = {"unreadable-image", "no-labels", "split-leak", "empty-split", "split-without-objects"}
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


@dataclass(frozen=True)
class Soundness:
    """What the check of a dataset means for training.

    spoiling: the problems that must be mended first.
    harmless: number of problems of each other kind.
    why_unreadable: the error of a split that cannot be opened, "" if all can.
    """

    report: Report
    spoiling: tuple[Problem, ...]
    harmless: dict[str, int]
    why_unreadable: str = ""

    @property
    def is_sound(self) -> bool:
        return not self.spoiling and not self.why_unreadable

    def sentence(self) -> str:
        """The harmless problems in one sentence, "" without any."""
        if not self.harmless:
            return ""
        kinds = listed(f"{count} × {kind}" for kind, count in self.harmless.items())
        total = counted(sum(self.harmless.values()), "problem")
        return (
            f"{total} of the data that training copes with: {kinds}; `vovnet data check {self.report.root}` says more"
        )


def check_soundness(
    root: Path, splits: Sequence[str], *, progress: Callable[[int, int], None] | None = None
) -> Soundness:
    """Check a dataset that a detector of boxes is to learn. splits: those that will be read."""
    report = check_dataset(root, ignore_masks=True, progress=progress)
    why = _why_unreadable(root, splits)
    counts = report.count_by_kind()
    objects = sum(split.annotated_objects for split in report.statistics.splits)
    lost = sum(counts.get(kind, 0) for kind in _LOSES)
    kinds = _FATAL | (_LOSES if why or lost > _MOST_LOST * objects else set())
    spoiling = tuple(problem for problem in report.problems if problem.kind in kinds)
    if why and not spoiling:  # the readers refuse what the check calls by another name
        spoiling = tuple(problem for problem in report.problems if not problem.split)
    kinds = {problem.kind for problem in spoiling}
    return Soundness(report, spoiling, {kind: count for kind, count in counts.items() if kind not in kinds}, why)


def _why_unreadable(root: Path, splits: Sequence[str]) -> str:
    for split in splits:
        try:
            open_dataset(root, split)
        except UsageError:
            raise
        except (ValueError, OSError) as error:
            return str(error)
    return ""
