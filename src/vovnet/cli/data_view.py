"""`vovnet data view`."""

from __future__ import annotations

from pathlib import Path

from vovnet.cli.app import data_app
from vovnet.cli.options import Positive
from vovnet.cli.output import Output, make_folder, name_of, show_progress
from vovnet.errors import counted
from vovnet.printing import line


@data_app.command
def view(
    root: Path,
    *,
    split: str | None = None,
    images: Positive = 60,
    output: Path | None = None,
    workers: Positive | None = None,
) -> None:
    """Draw a sample of a dataset, to see whether its boxes are where they should be.

    Writes view.html, one page that needs nothing else, and sheet.jpg, a contact sheet. Images with problems come
    first, then a spread over classes and sizes of objects.

    Parameters
    ----------
    root:
        Folder of a dataset in any format that is read, or a split file.
    split:
        Show images of this split only.
    images:
        Number of images at most.
    output:
        Folder for the two files; by default NAME-view here.
    workers:
        Threads that read the headers of images.
    """
    out = Output()
    from vovnet.data.check import check_dataset
    from vovnet.data.dataset import count_images
    from vovnet.data.shown_images import choose_images
    from vovnet.report.data_page import write_data_view

    folder = output or Path(f"{name_of(root)}-view")
    make_folder(folder)
    with show_progress() as progress:
        task = progress.add_task("headers", total=None)
        report = check_dataset(
            root,
            headers=True,
            workers=workers,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
        chosen = choose_images(report, images, split)
        drawing = progress.add_task("images", total=len(chosen))
        total = count_images(report.annotated)
        problems = counted(len(report.problems), "problem")
        sheet, page = write_data_view(
            folder,
            chosen,
            title=f"{line(root.resolve().name, 60)}: {len(chosen)} of {counted(total, 'image')}",
            class_names=report.class_names,
            note=f"{problems} in annotations and headers of images; vovnet data check lists all.",
            progress=lambda done, _: progress.update(drawing, completed=done),
        )
    out.say(f"{counted(len(chosen), 'image')} in {page} and {sheet}")
