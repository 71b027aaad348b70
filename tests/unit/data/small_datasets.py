"""Small datasets of each format, and changes that give them one problem each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vovnet.data.check import KINDS, Report, check_dataset, write_cleaned_copy
from vovnet.data.splits.split_file import write_members
from vovnet.data.splitting import divide

WIDTH, HEIGHT = 60, 40
Spoil = Callable[[Path], object]


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_split_file(root: Path, fractions: Mapping[str, float], seed: int, path: Path) -> Path:
    """Divides a dataset as `vovnet data split` does."""
    division = divide(root, fractions, seed)
    write_members(path, division.root, division.members)
    return path


def xml_of(*boxes: tuple[object, ...], name: str = "cat", size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    """boxes: xmin ymin xmax ymax as VOC counts."""
    objects = "".join(
        f"<object><name>{name}</name><pose>Left</pose><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>"
        f"<ymax>{d}</ymax></bndbox></object>"
        for a, b, c, d in boxes
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"


def make_voc(root: Path) -> Path:
    lists = {"train": "abcdef", "val": "gh", "test": "ij", "trainval": "abcdefgh"}
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for seed, stem in enumerate("abcdefghij"):
        write_image(root / f"JPEGImages/{stem}.png", seed)
        (root / f"Annotations/{stem}.xml").write_text(xml_of((1, 1, 60, 40), (5, 5, 20, 30)))
    for split, stems in lists.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("\n".join(stems) + "\n")
    (root / "ImageSets/Main/cat_train.txt").write_text("".join(f"{stem}  1\n" for stem in "abcdef"))
    (root / "LICENSE").write_text("free")
    return root


def make_coco(root: Path) -> Path:
    (root / "annotations").mkdir(parents=True)
    for seed, (split, count) in enumerate({"train": 5, "val": 2}.items()):
        images = [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in range(count)]
        box = {"category_id": 7, "bbox": [1, 2, 30, 20], "area": 600, "iscrowd": 0, "note": "mine"}
        boxes = [{"id": n, "image_id": n, **box} for n in range(count)]
        content = {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "cat"}], "info": {"x": 1}}
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
        for n in range(count):
            write_image(root / f"images/{split}/{n}.png", 100 * seed + n)
    return root


def make_yolo(root: Path) -> Path:
    for seed, (split, count) in enumerate({"train": 5, "val": 2}.items()):
        (root / f"labels/{split}").mkdir(parents=True)
        for n in range(count):
            write_image(root / f"images/{split}/{n}.png", 100 * seed + n)
            (root / f"labels/{split}/{n}.txt").write_text("0 0.5 0.5 0.5 0.5\n1 0.1 0.1 0.4 0.1 0.3 0.4\n")
    (root / "data.yaml").write_text("path: /elsewhere\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n")
    return root


def edit(root: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    path = root / f"annotations/instances_{name}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def digests(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def assert_only_known_problems(report: Report, copy: Report) -> None:
    """The copy has only those problems of whole splits that the report named and that no fix can mend."""
    named = {(problem.kind, problem.split) for problem in report.problems}
    for problem in copy.problems:
        assert KINDS[problem.kind][1].startswith("nothing: ")
        announced = any(f"{problem.kind}: {problem.split}:" in hint for hint in report.hints)
        assert announced or (problem.kind, problem.split) in named


def clean_and_check(root: Path, out: Path) -> Report:
    """Fixes, and checks what has to hold whatever the faults were."""
    before = digests(root)
    report = check_dataset(root, workers=1)
    write_cleaned_copy(report, out)
    assert digests(root) == before
    again = check_dataset(out, workers=1)
    assert_only_known_problems(report, again)
    for path in out.rglob("*.png"):
        assert path.read_bytes() == (root / path.relative_to(out)).read_bytes()
    return again


def voc_lines(stem: str, *boxes: tuple[object, ...], **options: Any) -> Spoil:
    return lambda root: (root / f"Annotations/{stem}.xml").write_text(xml_of(*boxes, **options))


def cut_short(path: str) -> Spoil:
    return lambda root: (root / path).write_bytes((root / path).read_bytes()[:2000])


def same_pixels(source: str, target: str) -> Spoil:
    """Another file with the pixels of `source`."""
    return lambda root: Image.open(root / source).save(root / target, compress_level=0)


def unlink(path: str) -> Spoil:
    return lambda root: (root / path).unlink()


def append(path: str, text: str) -> Spoil:
    return lambda root: (root / path).write_text((root / path).read_text() + text)


def set_entry(split: str, part: str, index: int, **values: object) -> Spoil:
    return lambda root: edit(root, split, lambda content: content[part][index].update(values))


def repeat_entry(split: str, part: str) -> Spoil:
    return lambda root: edit(root, split, lambda content: content[part].append(content[part][0]))


BOX_MASK = [[1, 2, 31, 2, 31, 22, 1, 22]]  # that of make_coco's boxes
HOLE = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
BAR = {"size": [HEIGHT, WIDTH], "counts": [42, 20, 20, 20, HEIGHT * WIDTH - 102]}  # x 1 to 3, y 2 to 22


def make_masked_coco(root: Path) -> Path:
    make_coco(root)
    for split, count in (("train", 5), ("val", 2)):
        for index in range(count):
            set_entry(split, "annotations", index, segmentation=BOX_MASK)(root)
    return root


def mask_entry(mask: object, **values: object) -> Spoil:
    return set_entry("train", "annotations", 0, segmentation=mask, **values)
