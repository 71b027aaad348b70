"""`vovnet data`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.cli.app import data_app
from vovnet.cli.options import Json, Positive, Repeated, Switch
from vovnet.cli.output import Output, free_folder, show_progress
from vovnet.errors import UsageError, counted
from vovnet.printing import line, shell_word, shell_words

if TYPE_CHECKING:
    from vovnet.data.check import Report

_MOST_LINES = 20  # of problems, hints and files that the terminal shows
_MOST_CLASSES = 2000  # in a table; LVIS has 1203
_NAME, _PATH, _DETAIL = 120, 300, 600  # characters of a class or split, a file, a sentence that are shown


@data_app.command
def check(
    root: Path,
    *,
    fix: Path | None = None,
    classes: Repeated = None,
    ignore_masks: Switch = False,
    headers: Switch = False,
    workers: Positive | None = None,
    json_file: Json = None,
) -> int:
    """Find problems in a dataset; exit status 1 if there are any.

    Parameters
    ----------
    root:
        Folder of a dataset in any format that is read, or a split file.
    fix:
        Write a copy without the problems to this new folder; the original is not changed.
    classes:
        Name of a valid class, if the dataset's own list cannot be trusted; repeat the option for more.
    ignore_masks:
        Check a dataset with masks as one of boxes: an object with a bad mask keeps its box.
    headers:
        Read only the headers of images: many times as fast, but damaged pixels and copies of images go unnoticed.
    workers:
        Threads that decode images.
    """
    out = Output(json_file)
    from vovnet.data.check import check_dataset, write_cleaned_copy
    from vovnet.data.checking.cleaned_copy import require_new_folder
    from vovnet.data.checking.problem import DECODED_KINDS, NEEDS_PIXELS
    from vovnet.data.formats import data_folder, recognise
    from vovnet.data.splits.split_file import Selection

    if headers and fix is not None:
        raise UsageError(NEEDS_PIXELS)
    recognition = recognise(root)
    if fix is not None and isinstance(recognition.module, Selection):
        raise UsageError(recognition.module.why_not_mended)
    if fix is not None:
        require_new_folder(fix, data_folder(root))  # before the images are read, which may take long
    out.say(f"format: {recognition.sentence()}")
    with show_progress() as progress:
        task = progress.add_task("images", total=None)
        report = check_dataset(
            root,
            class_names=classes,
            ignore_masks=ignore_masks,
            headers=headers,
            workers=workers,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    print_statistics(report, out)
    print_problems(report, out)
    print_removals(report, out)
    for hint in report.hints[:_MOST_LINES]:
        out.say(f"hint: {line(hint, _DETAIL)}")
    if len(report.hints) > _MOST_LINES:
        out.say(f"… and {len(report.hints) - _MOST_LINES} more hints (--json writes all of them)")
    if headers:
        missed = "; ".join(f"{kind} ({what})" for kind, what in DECODED_KINDS.items())
        out.say(f"no image was decoded, so these were not looked for: {missed}")
    out.say(f"{counted(len(report.problems), 'problem')} in {root}")
    removed, kinds = report.removed, set(report.count_by_kind())
    if fix is not None:
        removed = write_cleaned_copy(report, fix)
        lacking = removed[len(report.removed) :]
        for removal in lacking[:_MOST_LINES]:
            out.say(f"not in the copy: {line(removal.image, _PATH)}: {line(removal.detail, _DETAIL)}")
        if len(lacking) > _MOST_LINES:
            out.say(f"… and {len(lacking) - _MOST_LINES} more files (--json writes all of them)")
        form = getattr(recognition.module, "COPY_FORMAT", "")
        out.say(f"cleaned copy in {fix}{f', as {form}' if form else ''}")
        copy = fix / root.name  # of a dataset that was named by its file
        out.say(f"next: vovnet train {shell_word(copy if root.is_file() and copy.is_file() else fix)}")
    elif not kinds:
        out.say(f"next: vovnet train {shell_word(root)}")
    elif not headers and not isinstance(recognition.module, Selection) and kinds - only_by_hand(kinds):
        folder = root.parent if root.is_file() else root
        options = [*(["--ignore-masks"] if ignore_masks else []), *(f"--classes={name}" for name in classes or ())]
        words = ["vovnet", "data", "check", root, *options, "--fix", free_folder(folder, "-fixed")]
        out.say(f"next: {shell_words(words)}")
    found = {"format_reason": recognition.reason, "removed": [asdict(removal) for removal in removed]}
    out.json(report.to_dict() | found)
    return 1 if report.problems else 0


def only_by_hand(kinds: Iterable[str]) -> set[str]:
    """Those of these kinds of problems that a cleaned copy has too."""
    from vovnet.data.check import KINDS

    return {kind for kind in kinds if KINDS[kind][1].startswith(("nothing", "left as it is"))}


def print_problems(report: Report, out: Output) -> None:
    """Print the first problems, and how many there are of each kind."""
    from vovnet.data.check import KINDS

    for problem in report.problems[:_MOST_LINES]:
        where = " ".join(line(part, _PATH) for part in (problem.split, problem.image) if part)
        out.say(f"{problem.kind}: {where}: {line(problem.detail, _DETAIL)}")
    if len(report.problems) > _MOST_LINES:
        out.say(f"… and {len(report.problems) - _MOST_LINES} more (--json writes all of them)")
    counts = report.count_by_kind()
    if counts:
        out.table(
            ["problem", "found", "what --fix does"], [[kind, str(counts[kind]), KINDS[kind][1]] for kind in counts]
        )


def print_removals(report: Report, out: Output) -> None:
    """Print what a cleaned copy lacks, so that nobody has to trust it blindly."""
    from vovnet.data.splits.split_file import is_split_file

    if not report.removed or is_split_file(report.root):  # of which there is no cleaned copy
        return
    kept = {split.split: split for split in report.clean}
    rows = []
    for split in report.statistics.splits:
        images = kept[split.split].images
        objects = sum(images.object_counts())
        rows.append(
            [line(split.split, _NAME), *map(str, (len(images), split.images, objects, split.annotated_objects))]
        )
    out.table(["--fix keeps", "images", "of", "objects", "of"], rows)
    if emptied := len({removal.image for removal in report.removed if removal.kind == "no-object-left"}):
        out.say(
            f"{counted(emptied, 'image')} left out because every object annotated there has a problem: "
            "without objects, an image would teach that nothing is there"
        )
    if losing := len(report.images_losing_objects):
        out.say(
            f"{counted(losing, 'image')} kept without some objects, which are still visible there: correct the "
            "annotation of what matters (--json lists all that is left out)"
        )


def print_statistics(report: Report, out: Output) -> None:
    """Print the number of images and objects per split and class, and the sizes of the boxes."""
    statistics = report.statistics
    splits, boxes = statistics.splits, statistics.boxes
    out.table(
        ["split", "images", "without objects", "objects"],
        [[line(s.split, _NAME), str(s.images), str(s.images_without_objects), str(s.objects)] for s in splits],
    )
    names = list(dict.fromkeys(name for split in splits for name in split.objects_per_class))
    out.table(
        ["objects per class", *(line(split.split, _NAME) for split in splits)],
        [
            [line(name, _NAME), *(str(split.objects_per_class.get(name, 0)) for split in splits)]
            for name in names[:_MOST_CLASSES]
        ],
    )
    if len(names) > _MOST_CLASSES:
        out.say(f"… and {len(names) - _MOST_CLASSES} more classes (--json writes all of them)")
    percentiles = list(boxes.relative_size)
    out.table(
        ["boxes", *(f"{p} %" for p in percentiles)],
        [
            ["√(area / image area)", *(f"{boxes.relative_size[p]:.3f}" for p in percentiles)],
            ["width / height", *(f"{boxes.aspect_ratio[p]:.2f}" for p in percentiles)],
        ],
    )
    if boxes.at_input_size:
        out.table(
            ["√area in a network's input", *(f"{side} × {side}" for side in boxes.at_input_size)],
            [
                ["median", *(f"{sizes.median:.1f}" for sizes in boxes.at_input_size.values())],
                ["below 8 pixels", *(f"{sizes.below_8:.0%}" for sizes in boxes.at_input_size.values())],
                ["below 16 pixels", *(f"{sizes.below_16:.0%}" for sizes in boxes.at_input_size.values())],
            ],
        )
    out.say(f"by COCO's sizes: {boxes.small} small, {boxes.medium} medium, {boxes.large} large boxes")
