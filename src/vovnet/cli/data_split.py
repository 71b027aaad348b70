"""`vovnet data split`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.cli.app import data_app
from vovnet.cli.options import Count, Json, Positive
from vovnet.cli.output import Output, name_of, show_progress
from vovnet.errors import UsageError, counted
from vovnet.printing import line, quoted, shell_word

if TYPE_CHECKING:
    from vovnet.data.splitting import Division

_NAMES = {2: ("train", "val"), 3: ("train", "val", "test")}
_MOST_CLASSES = 2000  # in a table; LVIS has 1203


@data_app.command
def split(
    root: Path,
    fractions: str = "0.8/0.1/0.1",
    *,
    seed: Count = 0,
    output: Path | None = None,
    group_by: str | None = None,
    workers: Positive | None = None,
    json_file: Json = None,
) -> None:
    """Share the images of a dataset out over train, val and test; no image is moved or copied.

    Writes a split file, which every command and `data.root` take in place of the folder. Each split has its share of
    every class. Nearly equal images, frames of one video and augmented versions of one image stay in one split.

    Parameters
    ----------
    root:
        Folder of a dataset in any format that is read, or a split file of one to divide again.
    fractions:
        Two numbers for train and val, three for train, val and test.
    seed:
        Another seed gives other splits.
    output:
        The split file; by default NAME-splits.json here. An existing file is not replaced.
    group_by:
        Regular expression for the paths of the images; those for which its first group is the same stay together.
    workers:
        Threads that decode images.
    """
    out = Output(json_file)
    from vovnet.data.splits.split_file import write_members
    from vovnet.data.splitting import divide

    shares = parse_fractions(fractions)
    path = output or Path(f"{name_of(root)}-splits.json")
    if path.exists():
        raise FileExistsError(f"{path} exists: name another file with --output, or remove it")
    with show_progress() as progress:
        task = progress.add_task("images", total=None)
        division = divide(
            root,
            shares,
            seed,
            pattern=group_by,
            workers=workers,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    write_members(path, division.root, division.members)
    print_division(division, out)
    out.say(f"split file: {path}; in a config, data.root={path}")
    out.say(f"next: vovnet train {shell_word(path)}")
    out.json(to_dict(division, path))


def parse_fractions(text: str) -> dict[str, float]:
    """Split → fraction. UsageError for what is no list of two or three numbers."""
    parts = text.replace(",", "/").split("/")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in _NAMES:
        raise UsageError(f"expected two or three fractions, such as 0.8/0.2 or 0.8/0.1/0.1, got {quoted(text, 40)}")
    return dict(zip(_NAMES[len(numbers)], numbers, strict=True))


def print_division(division: Division, out: Output) -> None:
    """Print the images and objects of each split and class, and what was kept together."""
    splits, objects = list(division.members), division.objects_per_class()
    out.table(
        ["split", "images", "share", "objects"],
        [
            [line(split, 60), str(len(images)), f"{len(images) / division.count:.1%}", str(objects[split].total())]
            for split, images in division.members.items()
        ],
    )
    names = division.whole.class_names
    out.table(
        ["objects per class", *(line(split, 60) for split in splits)],
        [[line(name), *(str(objects[split][name]) for split in splits)] for name in names[:_MOST_CLASSES]],
    )
    if len(names) > _MOST_CLASSES:
        out.say(f"… and {len(names) - _MOST_CLASSES} more classes (--json writes all of them)")
    grouping = division.grouping
    if grouping.by_name:
        out.say(f"kept together by their names: {counted(grouping.by_name, 'image')}")
    if grouping.alike:
        out.say(f"kept together because they are nearly equal: {counted(grouping.alike, 'image')}")
    if grouping.torn:
        out.say(
            f"in different splits though nearly equal: {counted(grouping.torn, 'pair')}; too many images are like "
            "each other to keep all in one split, as those of a fixed camera: --group-by keeps together what you say"
        )
    for split, missing in division.missing_classes().items():
        shown = ", ".join(quoted(name, 40) for name in missing[:10]) + (", …" if len(missing) > 10 else "")
        out.say(f"without an object in {split}: {shown}")


def to_dict(division: Division, path: Path) -> dict[str, object]:
    grouping, objects = division.grouping, division.objects_per_class()
    return {
        "split_file": str(path),
        "images": {split: len(images) for split, images in division.members.items()},
        "objects_per_class": {split: dict(objects[split]) for split in division.members},
        "kept_together": {"by_name": grouping.by_name, "alike": grouping.alike, "torn_pairs": grouping.torn},
        "unreadable": list(division.unreadable),
    }
