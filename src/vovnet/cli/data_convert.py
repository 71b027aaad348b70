"""`vovnet data convert`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

from vovnet.cli.app import data_app
from vovnet.cli.options import Json, Positive, Repeated, Switch
from vovnet.cli.output import Output, show_progress
from vovnet.errors import counted
from vovnet.printing import line, shell_word

_MOST_LINES = 20


@data_app.command
def convert(
    root: Path,
    out: Path,
    *,
    to: Literal["coco", "voc", "yolo"],
    split: Repeated = None,
    link: Switch = False,
    workers: Positive | None = None,
    json_file: Json = None,
) -> None:
    """Write a dataset in another format to a new folder.

    Parameters
    ----------
    root:
        Folder of a dataset in any format that is read, or a split file.
    out:
        New folder, which appears when it is complete.
    to:
        Format of the copy.
    split:
        A split to write; repeat the option for more. By default all but those that join others, such as trainval.
    link:
        Make hard links to the images, where the file system can, in place of copies.
    workers:
        Threads that read the headers of images.
    """
    output = Output(json_file)
    from vovnet.data.conversion import convert_dataset

    with show_progress() as progress:
        task = progress.add_task("images", total=None)
        done = convert_dataset(
            root,
            to,
            out,
            splits=split or (),
            link=link,
            workers=workers,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    output.table(
        ["split", "images", "objects"],
        [[line(name, 60), str(count), str(done.objects[name])] for name, count in done.images.items()],
    )
    for what, count in done.changed.items():
        output.say(f"{what}: {count}")
    for old, new in list(done.renamed.items())[:_MOST_LINES]:
        output.say(f"renamed: {line(old, 200)} is {line(new, 200)}")
    if len(done.renamed) > _MOST_LINES:
        output.say(f"… and {len(done.renamed) - _MOST_LINES} more renamed (--json writes all of them)")
    if done.empty:
        output.say(f"not written, as they have no images: {line(', '.join(done.empty), 200)}")
    if done.unions:
        output.say(f"not written, as they join other splits: {line(', '.join(done.unions), 200)}")
    if link:
        output.say(f"{done.linked} of {counted(done.files, 'image file')} are hard links")
    output.say(f"{to} dataset in {out}")
    output.say(f"next: vovnet train {shell_word(out)}")
    output.json(asdict(done) | {"out": str(done.out)})
