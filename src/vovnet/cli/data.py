"""`vovnet data`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.cli.app import data_app
from vovnet.cli.output import Classes, Json, Output, Positive, show_progress

if TYPE_CHECKING:
    from vovnet.data.check import Report


@data_app.command
def check(
    root: Path,
    *,
    fix: Path | None = None,
    classes: Classes = None,
    workers: Positive | None = None,
    json_file: Json = None,
) -> int:
    """Find the faults of a data set; exit status 1 if there are any.

    Parameters
    ----------
    root:
        Folder of a data set in VOC, COCO or YOLO form.
    fix:
        Write a copy without the faults to this new folder; the original is only read.
    classes:
        The known classes, where the data's own are not to be trusted; give the option once for each.
    workers:
        Threads that decode images.
    json_file:
        Write everything found as JSON to this file, or "-" for standard output.
    """
    out = Output(json_file)
    from vovnet.data.check import check_dataset
    from vovnet.data.cleaned_copy import write_cleaned_copy
    from vovnet.data.problems import KINDS

    with show_progress() as progress:
        task = progress.add_task("images", total=None)
        report = check_dataset(
            root,
            class_names=classes,
            workers=workers,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    print_statistics(report, out)
    for problem in report.problems[:20]:
        where = " ".join(part for part in (problem.split, problem.image) if part)
        out.say(f"{problem.kind}: {where}: {problem.detail}")
    if len(report.problems) > 20:
        out.say(f"… and {len(report.problems) - 20} more (all of them with --json)")
    if report.problems:
        counts = report.count_by_kind()
        out.table(["fault", "found", "what --fix does"], [[kind, str(counts[kind]), KINDS[kind][1]] for kind in counts])
    out.say(f"{len(report.problems)} {'fault' if len(report.problems) == 1 else 'faults'} in {root}")
    if fix is not None:
        write_cleaned_copy(report, fix)
        out.say(f"cleaned copy in {fix}")
    out.json(report.to_dict())
    return 1 if report.problems else 0


def print_statistics(report: Report, out: Output) -> None:
    """Print how many objects of which class and size a data set has."""
    statistics = report.statistics
    splits, boxes = statistics.splits, statistics.boxes
    out.table(
        ["split", "images", "of them empty", "objects"],
        [[s.split, str(s.images), str(s.images_without_objects), str(s.objects)] for s in splits],
    )
    names = dict.fromkeys(name for split in splits for name in split.objects_per_class)
    out.table(
        ["objects of class", *(f"in {split.split}" for split in splits)],
        [[name, *(str(split.objects_per_class.get(name, 0)) for split in splits)] for name in names],
    )
    percentiles = list(boxes.relative_size)
    out.table(
        ["boxes", *(f"{p} %" for p in percentiles)],
        [
            ["√(area / image area)", *(f"{boxes.relative_size[p]:.3f}" for p in percentiles)],
            ["width / height", *(f"{boxes.aspect_ratio[p]:.2f}" for p in percentiles)],
        ],
    )
    out.say(f"by COCO's sizes: {boxes.small} small, {boxes.medium} medium, {boxes.large} large boxes")
