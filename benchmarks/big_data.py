"""Measure the data commands on many images: `python benchmarks/big_data.py` makes datasets of 100,000 images, which are
hard links to a few, runs each command in a process of its own and writes docs/records/big_data.json.

It prints images per second, the peak of the resident memory with a small and a large dataset, and by how much it
grows with each image. Linux only. A machine with nothing else to do is needed for the images per second.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from shared import RECORDS, ROOT

from vovnet.cli.output import Output
from vovnet.files import write_json
from vovnet.media.pixels import image_header_size
from vovnet.provenance import processor, record_header

CLASSES = ("red", "green", "blue")
SMALL = 1000  # images of the dataset with which the large one is compared
_PEAKS = [f"MB of {SMALL:,} images", "MB"]
HEADER = ["format", "command", "images", "images/s", "CPU µs an image", *_PEAKS, "bytes an image"]
SPLITS = {"train": 0.8, "val": 0.2}
DIFFERENT = 32  # image files; the others are links to them
MAIN = "import sys\nfrom vovnet.cli.main import main\nsys.argv[1:] = {arguments!r}\nmain()"
COMMANDS = {  # name → arguments of vovnet, or code, in which {root} and {out} are folders
    "check --headers": "data check {root} --headers",
    "convert --to yolo": "data convert {root} --to yolo {out}/yolo --link",
    "convert --to coco": "data convert {root} --to coco {out}/coco --link",
    "split, by names": "from vovnet.data.splitting import divide\n"
    "divide('{root}', dict(train=0.8, val=0.2), compare_images=False)",
    "open, read all": "from vovnet.data.formats import open_dataset\n"
    "print(sum(len(sample.target) for sample in open_dataset('{root}', 'train')))",
}
# The peak that the system reports for a child counts what its parent held when it started it.
PEAK = """
import atexit, sys
def tell():
    with open("/proc/self/status") as file:
        print(next(line for line in file if line.startswith("VmHWM:")).split()[1], file=sys.stderr)
atexit.register(tell)
"""

Object = tuple[int, float, float, float, float]  # class, x1 y1 x2 y2 in pixels


@dataclass(frozen=True)
class Row:
    """What a command took: seconds of the clock and of the processors, and the peak of the resident memory in bytes."""

    format: str
    command: str
    images: int
    seconds: float
    cpu_s: float
    peak: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--formats", nargs="+", default=["yolo", "voc", "coco"], choices=["yolo", "voc", "coco"])
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    parser.add_argument("--folder", type=Path, help="where the datasets are made; a temporary folder by default")
    parser.add_argument("--record", type=Path, default=RECORDS / "big_data.json")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for form in args.formats:
            for count in (min(SMALL, args.images), args.images):
                root = Path(folder, f"{form}_{count}")
                make_dataset(root, form, count)
                rows += [measure(name, root, form, count) for name in args.commands]
                shutil.rmtree(root)
    Output().table(HEADER, table(rows))
    measured = ["--images", str(args.images), "--formats", *args.formats]  # a folder of this machine says nothing
    if args.commands != list(COMMANDS):
        measured += ["--commands", *args.commands]
    header = record_header(shlex.join(["python", "benchmarks/big_data.py", *measured]))
    write_json(args.record, {**header, "device": processor(), "rows": [asdict(row) for row in rows]})


def table(rows: Sequence[Row]) -> list[list[str]]:
    """The large datasets, with what each image adds to the small one."""
    small = {(row.format, row.command): row for row in rows if row.images == min(r.images for r in rows)}
    lines = []
    for row in rows:
        base = small[row.format, row.command]
        more = row.images - base.images
        if more:
            seconds, cpu_s = row.seconds - base.seconds, row.cpu_s - base.cpu_s
            rate = f"{more / seconds:.0f}" if seconds > 0 else "too short"
            peaks = [f"{peak / 1e6:.1f}" for peak in (base.peak, row.peak)]
            cells = [rate, f"{1e6 * cpu_s / more:.0f}", *peaks, f"{(row.peak - base.peak) / more:.0f}"]
            lines.append([row.format, row.command, str(row.images), *cells])
    return lines


def big_data_section(records: Path) -> str:
    """The section of docs/results.md."""
    title, path = "## Data commands on many images", records / "big_data.json"
    if not path.exists():
        return f"{title}\n\nNot measured yet: `python benchmarks/big_data.py` does it.\n"
    record = json.loads(path.read_text())
    lines = [HEADER, ["---"] * len(HEADER), *table([Row(**row) for row in record["rows"]])]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"""{title}

Measured: {record["device"]}, two cores, one run of `{record["command"]}` on datasets whose images are
hard links to a few. What an image takes is the difference to a dataset of {SMALL:,} images; MB and bytes are of the
peak of the resident memory.

{rows}
"""


def measure(name: str, root: Path, form: str, count: int) -> Row:
    """Run a command in a process of its own. CalledProcessError if it fails."""
    with tempfile.TemporaryDirectory(dir=root.parent) as out:
        text = COMMANDS[name].format(root=root, out=out)
        code = text if "\n" in text else MAIN.format(arguments=text.split())
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-c", PEAK + code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        messages = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.stderr.buffer.write(messages)
            raise subprocess.CalledProcessError(process.returncode, [name, str(root)])
    cpu_s = usage.ru_utime + usage.ru_stime
    return Row(form, name, count, time.monotonic() - began, cpu_s, 1024 * int(messages.split()[-1]))


def make_dataset(root: Path, form: str, count: int) -> None:
    """A dataset in which each image has one to five objects, in train and val."""
    sources = sorted((ROOT / "samples/bccd/JPEGImages").glob("*.jpg"))[:DIFFERENT]
    names = [f"image_{number:07}" for number in range(count)]
    first_of_val = round(SPLITS["train"] * count)
    members = {"train": names[:first_of_val], "val": names[first_of_val:]}
    pool = root / "pool"
    pool.mkdir(parents=True)
    copies = [Path(shutil.copy(source, pool)) for source in sources]
    sizes = [image_header_size(path) for path in copies]
    writer = {"yolo": write_yolo, "voc": write_voc, "coco": write_coco}[form]
    folders = writer(root, members, sizes)
    for split, of_split in members.items():
        for name in of_split:
            source, number = copies[int(name[-7:]) % len(copies)], int(name[-7:])
            target = folders[split] / f"{name}.jpg"
            try:
                os.link(source, target)
            except OSError:  # a file has 65,000 links at most in some file systems
                shutil.copy(source, target)
                copies[number % len(copies)] = target
    shutil.rmtree(pool)


def objects_of(name: str, sizes: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], Iterator[Object]]:
    """The size of an image, and its objects."""
    number = int(name[-7:])
    height, width = sizes[number % len(sizes)]
    rng = np.random.default_rng(number)

    def draw() -> Iterator[Object]:
        for _ in range(1 + number % 5):
            x1, y1 = rng.uniform(0, 0.6 * width), rng.uniform(0, 0.6 * height)
            w, h = rng.uniform(0.1 * width, 0.4 * width), rng.uniform(0.1 * height, 0.4 * height)
            yield int(rng.integers(len(CLASSES))), round(x1, 1), round(y1, 1), round(x1 + w, 1), round(y1 + h, 1)

    return (height, width), draw()


def write_yolo(root: Path, members: dict[str, list[str]], sizes: Sequence[tuple[int, int]]) -> dict[str, Path]:
    """The label files and data.yaml; the folder of each split's images."""
    for split, names in members.items():
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for name in names:
            (height, width), objects = objects_of(name, sizes)
            lines = [
                f"{label} {(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f} "
                f"{(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f}\n"
                for label, x1, y1, x2, y2 in objects
            ]
            (root / "labels" / split / f"{name}.txt").write_text("".join(lines))
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: {list(CLASSES)}\n")
    return {split: root / "images" / split for split in members}


def write_voc(root: Path, members: dict[str, list[str]], sizes: Sequence[tuple[int, int]]) -> dict[str, Path]:
    """The XML files and lists; the folder of all images."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for split, names in members.items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            (height, width), objects = objects_of(name, sizes)
            tree = ElementTree.Element("annotation")
            ElementTree.SubElement(tree, "filename").text = f"{name}.jpg"
            size = ElementTree.SubElement(tree, "size")
            for tag, length in (("width", width), ("height", height), ("depth", 3)):
                ElementTree.SubElement(size, tag).text = str(length)
            for label, *corners in objects:
                element = ElementTree.SubElement(tree, "object")
                ElementTree.SubElement(element, "name").text = CLASSES[label]
                box = ElementTree.SubElement(element, "bndbox")
                for tag, corner in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
                    ElementTree.SubElement(box, tag).text = str(1 + int(corner))
            ElementTree.ElementTree(tree).write(root / "Annotations" / f"{name}.xml")
    return dict.fromkeys(members, root / "JPEGImages")


def write_coco(root: Path, members: dict[str, list[str]], sizes: Sequence[tuple[int, int]]) -> dict[str, Path]:
    """The JSON files; the folder of all images."""
    for folder in ("annotations", "images"):
        (root / folder).mkdir(parents=True)
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
    for split, names in members.items():
        images, annotations = [], []
        for image_id, name in enumerate(names, 1):
            (height, width), objects = objects_of(name, sizes)
            images.append({"id": image_id, "file_name": f"{name}.jpg", "height": height, "width": width})
            for label, x1, y1, x2, y2 in objects:
                box = [x1, y1, round(x2 - x1, 1), round(y2 - y1, 1)]
                entry = {"id": len(annotations) + 1, "image_id": image_id, "category_id": label + 1, "bbox": box}
                annotations.append({**entry, "area": box[2] * box[3], "iscrowd": 0})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return dict.fromkeys(members, root / "images")


if __name__ == "__main__":
    main()
