"""`vovnet data`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.cli.app import data_app
from vovnet.cli.options import Json, Positive, Repeated
from vovnet.cli.output import Output, show_progress

if TYPE_CHECKING:
    from vovnet.data.check import Report


@data_app.command
def check(
    root: Path,
    *,
    fix: Path | None = None,
    classes: Repeated = None,
    workers: Positive | None = None,
    json_file: Json = None,
) -> int:
    """Find problems in a dataset; exit status 1 if there are any.

    Parameters
    ----------
    root:
        Folder of a dataset in VOC, COCO, YOLO or mask-PNG format.
    fix:
        Write a copy without the problems to this new folder; the original is not changed.
    classes:
        Name of a valid class, if the dataset's own list cannot be trusted; repeat the option for more.
    workers:
        Threads that decode images.
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
        out.say(f"… and {len(report.problems) - 20} more (--json writes all of them)")
    if report.problems:
        counts = report.count_by_kind()
        out.table(
            ["problem", "found", "what --fix does"], [[kind, str(counts[kind]), KINDS[kind][1]] for kind in counts]
        )
    out.say(f"{len(report.problems)} {'problem' if len(report.problems) == 1 else 'problems'} in {root}")
    if fix is not None:
        write_cleaned_copy(report, fix)
        out.say(f"cleaned copy in {fix}")
    out.json(report.to_dict())
    return 1 if report.problems else 0


def print_statistics(report: Report, out: Output) -> None:
    """Print the number of images and objects per split and class, and the sizes of the boxes."""
    statistics = report.statistics
    splits, boxes = statistics.splits, statistics.boxes
    out.table(
        ["split", "images", "without objects", "objects"],
        [[s.split, str(s.images), str(s.images_without_objects), str(s.objects)] for s in splits],
    )
    names = dict.fromkeys(name for split in splits for name in split.objects_per_class)
    out.table(
        ["objects per class", *(split.split for split in splits)],
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
