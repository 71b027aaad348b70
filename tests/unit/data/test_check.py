from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from vovnet.data.check import KINDS, Report, check_dataset, fix_dataset
from vovnet.data.formats import open_dataset

WIDTH, HEIGHT = 60, 40
Spoil = Callable[[Path], object]


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


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
        boxes = [
            {
                "id": n,
                "image_id": n,
                "category_id": 7,
                "bbox": [1, 2, 30, 20],
                "area": 600,
                "iscrowd": 0,
                "note": "mine",
            }
            for n in range(count)
        ]
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


def fix(root: Path, out: Path) -> Report:
    """Fixes, and checks what has to hold whatever the faults were."""
    before = digests(root)
    report = check_dataset(root, workers=1)
    fix_dataset(report, out)
    assert digests(root) == before
    again = check_dataset(out, workers=1)
    assert again.faults == ()
    for path in out.rglob("*.png"):
        assert path.read_bytes() == (root / path.relative_to(out)).read_bytes()
    return again


def test_bccd_has_no_faults() -> None:
    calls: list[tuple[int, int]] = []
    report = check_dataset("samples/bccd", workers=1, progress=lambda done, total: calls.append((done, total)))
    assert report.faults == ()
    assert calls[0] == (1, 364)
    assert calls[-1] == (364, 364)
    train = next(split for split in report.statistics.splits if split.split == "train")
    assert (train.images, sum(train.objects_per_class.values())) == (205, train.objects)
    assert json.loads(json.dumps(report.to_dict()))["fault_count"] == 0


def test_statistics(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    (root / "Annotations/a.xml").write_text(xml_of())
    statistics = check_dataset(root, workers=1).statistics
    split = next(split for split in statistics.splits if split.split == "train")
    assert (split.images, split.images_without_objects, split.objects) == (6, 1, 10)
    assert split.objects_per_class == {"cat": 10}
    assert split.images_per_class == {"cat": 5}
    boxes = statistics.boxes  # nine of 60 × 40 and nine of 16 × 26
    assert (boxes.small, boxes.medium, boxes.large) == (9, 9, 0)
    assert boxes.relative_size[100] == pytest.approx(1)
    assert boxes.relative_size[0] == pytest.approx((16 * 26 / 2400) ** 0.5)
    assert boxes.aspect_ratio[100] == pytest.approx(1.5)


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


GOOD = (1, 1, 60, 40)
VOC_FAULTS: list[tuple[str, str, Spoil]] = [
    ("unreadable-image", "a.png", cut_short("JPEGImages/a.png")),
    ("missing-image", "a.xml", unlink("JPEGImages/a.png")),
    ("missing-annotation", "train.txt", append("ImageSets/Main/train.txt", "zzz\n")),
    ("bad-annotation", "a.xml", append("Annotations/a.xml", "<")),
    ("listed-twice", "train.txt", append("ImageSets/Main/train.txt", "a\n")),
    ("size-mismatch", "a.png", voc_lines("a", GOOD, size=(HEIGHT, WIDTH))),
    ("not-a-number", "a.png", voc_lines("a", GOOD, ("nan", 1, 4, 4))),
    ("not-a-number", "a.png", voc_lines("a", GOOD, ("one", 1, 4, 4))),
    ("inverted-box", "a.png", voc_lines("a", GOOD, (30, 1, 4, 4))),
    ("empty-box", "a.png", voc_lines("a", GOOD, (5, 1, 4, 4))),
    ("box-outside", "a.png", voc_lines("a", GOOD, (70, 1, 90, 4))),
    ("box-partly-outside", "a.png", voc_lines("a", GOOD, (30, 10, 62, 30))),
    ("box-partly-outside", "a.png", voc_lines("a", GOOD, (0, 10, 30, 30))),
    ("duplicate-box", "a.png", voc_lines("a", GOOD, GOOD)),
    ("duplicate-image", "b.png", same_pixels("JPEGImages/a.png", "JPEGImages/b.png")),
    ("split-leak", "a.png", same_pixels("JPEGImages/i.png", "JPEGImages/a.png")),
    ("split-leak", "g.png", same_pixels("JPEGImages/i.png", "JPEGImages/g.png")),
    ("split-leak", "a.png", append("ImageSets/Main/test.txt", "a\n")),
]


@pytest.mark.parametrize(("kind", "file", "spoil"), VOC_FAULTS)
def test_voc_faults_are_found_and_fixed(tmp_path: Path, kind: str, file: str, spoil: Spoil) -> None:
    root = make_voc(tmp_path / "d")
    assert check_dataset(root, workers=1).faults == ()
    spoil(root)
    report = check_dataset(root, workers=1)
    # A list's fault is met again in the list that joins others.
    assert {(fault.kind, Path(fault.image).name) for fault in report.faults} == {(kind, file)}
    assert kind in KINDS
    fix(root, tmp_path / "out")


def test_voc_copy_keeps_the_rest(tmp_path: Path) -> None:
    root, out = make_voc(tmp_path / "d"), tmp_path / "out"
    voc_lines("a", (1, 1, 70, 40), (30, 1, 4, 4), size=(1, 1))(root)
    same_pixels("JPEGImages/i.png", "JPEGImages/b.png")(root)
    fix(root, out)
    assert "<pose>Left</pose>" in (out / "Annotations/a.xml").read_text()
    assert (out / "Annotations/c.xml").read_bytes() == (root / "Annotations/c.xml").read_bytes()
    assert (out / "LICENSE").read_text() == "free"
    assert (out / "ImageSets/Main/cat_train.txt").read_text() == "a  1\nc  1\nd  1\ne  1\nf  1\n"
    assert [sample.image_id for sample in open_dataset(out, "train")] == list("acdef")
    assert [sample.image_id for sample in open_dataset(out, "trainval")] == list("acdefgh")
    assert not (out / "JPEGImages/b.png").exists()
    sample = open_dataset(out, "train")[0]
    assert sample.target.boxes.tolist() == [[0, 0, 60, 40]]
    assert sample.image_size == (HEIGHT, WIDTH)


def test_voc_files_in_no_list_are_checked_and_kept(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    (root / "ImageSets/Main/test.txt").write_text("i\n")
    voc_lines("j", (1, 1, 70, 40))(root)
    report = check_dataset(root, workers=1)
    assert [(fault.kind, fault.split) for fault in report.faults] == [("box-partly-outside", "unlisted")]
    fix(root, tmp_path / "out")
    assert len(open_dataset(tmp_path / "out", "all")) == 10
    assert [sample.image_id for sample in open_dataset(tmp_path / "out", "test")] == ["i"]


def test_unknown_classes_of_voc_need_the_names(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    voc_lines("a", GOOD, name="catt")(root)
    assert check_dataset(root, workers=1).faults == ()
    (fault,) = check_dataset(root, workers=1, class_names=["cat"]).faults
    assert (fault.kind, fault.image) == ("unknown-class", "JPEGImages/a.png")
    assert "nearest: 'cat'" in fault.detail


def set_entry(split: str, part: str, index: int, **values: object) -> Spoil:
    return lambda root: edit(root, split, lambda content: content[part][index].update(values))


def repeat_entry(split: str, part: str) -> Spoil:
    return lambda root: edit(root, split, lambda content: content[part].append(content[part][0]))


COCO_FAULTS: list[tuple[str, Spoil]] = [
    ("unreadable-image", cut_short("images/train/0.png")),
    ("missing-image", unlink("images/train/0.png")),
    ("annotation-without-image", set_entry("train", "annotations", 0, image_id=99)),
    ("bad-annotation", set_entry("train", "images", 0, file_name="../../x.png")),
    ("listed-twice", repeat_entry("train", "images")),
    ("size-mismatch", set_entry("train", "images", 0, width=33)),
    ("unknown-class", set_entry("train", "annotations", 0, category_id=8)),
    ("not-a-number", set_entry("train", "annotations", 0, bbox=[0, 0, None, 3])),
    ("inverted-box", set_entry("train", "annotations", 0, bbox=[5, 5, -3, 3])),
    ("empty-box", set_entry("train", "annotations", 0, bbox=[5, 5, 0, 3])),
    ("box-outside", set_entry("train", "annotations", 0, bbox=[59.9, 5, 10, 3])),
    ("box-partly-outside", set_entry("train", "annotations", 0, bbox=[50, 5, 20, 3])),
    ("duplicate-box", repeat_entry("train", "annotations")),
    ("duplicate-image", same_pixels("images/train/0.png", "images/train/1.png")),
    ("split-leak", same_pixels("images/val/0.png", "images/train/1.png")),
]


@pytest.mark.parametrize(("kind", "spoil"), COCO_FAULTS)
def test_coco_faults_are_found_and_fixed(tmp_path: Path, kind: str, spoil: Spoil) -> None:
    root = make_coco(tmp_path / "d")
    assert check_dataset(root, workers=1).faults == ()
    spoil(root)
    assert check_dataset(root, workers=1).count_by_kind() == {kind: 1}
    fix(root, tmp_path / "out")


def test_coco_copy_keeps_the_rest(tmp_path: Path) -> None:
    root, out = make_coco(tmp_path / "d"), tmp_path / "out"
    set_entry("train", "annotations", 0, bbox=[50, 5, 20, 3])(root)
    same_pixels("images/val/0.png", "images/train/1.png")(root)
    fix(root, out)
    content = json.loads((out / "annotations/instances_train.json").read_text())
    assert content["info"] == {"x": 1}
    assert [image["id"] for image in content["images"]] == [0, 2, 3, 4]
    assert [entry["id"] for entry in content["annotations"]] == [0, 2, 3, 4]
    assert content["annotations"][0] == {
        "id": 0, "image_id": 0, "category_id": 7, "bbox": [50, 5, 10, 3], "area": 30, "iscrowd": 0, "note": "mine"
    }  # fmt: skip


YOLO_FAULTS: list[tuple[str, Spoil]] = [
    ("unreadable-image", cut_short("images/train/0.png")),
    ("unreadable-image", lambda root: (root / "images/train/0.png").write_text("hello")),
    ("annotation-without-image", lambda root: (root / "labels/train/zz.txt").touch()),
    ("unknown-class", append("labels/train/0.txt", "2 0.5 0.5 0.1 0.1\n")),
    ("not-a-number", append("labels/train/0.txt", "1 0.5 0.5 nan 0.1\n")),
    ("not-a-number", append("labels/train/0.txt", "1 0.5\n")),
    ("inverted-box", append("labels/train/0.txt", "1 0.5 0.5 -0.1 0.1\n")),
    ("empty-box", append("labels/train/0.txt", "1 0.5 0.5 0 0.1\n")),
    ("box-outside", append("labels/train/0.txt", "1 1.5 0.5 0.1 0.1\n")),
    ("box-partly-outside", append("labels/train/0.txt", "1 1 0.5 0.5 0.1\n")),
    ("box-partly-outside", append("labels/train/0.txt", "1 0.5 0.5 1.5 0.5 0.7 0.9\n")),
    ("duplicate-box", append("labels/train/0.txt", "0 0.5 0.5 0.5 0.5\n")),
    ("duplicate-image", same_pixels("images/train/0.png", "images/train/1.png")),
    ("split-leak", same_pixels("images/val/0.png", "images/train/1.png")),
]


@pytest.mark.parametrize(("kind", "spoil"), YOLO_FAULTS)
def test_yolo_faults_are_found_and_fixed(tmp_path: Path, kind: str, spoil: Spoil) -> None:
    root = make_yolo(tmp_path / "d")
    assert check_dataset(root, workers=1).faults == ()
    spoil(root)
    assert check_dataset(root, workers=1).count_by_kind() == {kind: 1}
    fix(root, tmp_path / "out")


def test_yolo_splits_that_share_a_folder(tmp_path: Path) -> None:
    root, out = make_yolo(tmp_path / "d"), tmp_path / "out"
    (root / "data.yaml").write_text("train: images\nval: images/val\nnames: [cat, dog]\n")
    assert check_dataset(root, workers=1).count_by_kind() == {"split-leak": 2}
    fix(root, out)
    assert (len(open_dataset(out, "train")), len(open_dataset(out, "val"))) == (5, 2)
    assert yaml.safe_load((out / "data.yaml").read_text())["names"] == ["cat", "dog"]
    assert (out / "labels/train/0.txt").read_bytes() == (root / "labels/train/0.txt").read_bytes()


def test_the_copy_goes_to_a_new_folder_outside(tmp_path: Path) -> None:
    report = check_dataset(make_yolo(tmp_path / "d"), workers=1)
    with pytest.raises(ValueError, match="lies inside the data folder"):
        fix_dataset(report, tmp_path / "d" / "clean")
    for out in (tmp_path, tmp_path / "d"):
        with pytest.raises(FileExistsError, match="not an empty folder"):
            fix_dataset(report, out)
    (tmp_path / "empty").mkdir()
    fix_dataset(report, tmp_path / "empty")
    assert len(open_dataset(tmp_path / "empty", "val")) == 2


def test_faults_of_yolo_lists(tmp_path: Path) -> None:
    root, out = make_yolo(tmp_path / "d"), tmp_path / "out"
    (root / "data.yaml").write_text("train: lists/train.txt\nval: images/val\nnames: [cat, dog]\n")
    (root / "lists").mkdir()
    (root / "lists/train.txt").write_text("images/train/0.png\nimages/train/9.png\n../images/train/0.png\n")
    assert check_dataset(root, workers=1).count_by_kind() == {"missing-image": 1, "listed-twice": 1}
    fix(root, out)
    assert [sample.image_path for sample in open_dataset(out, "train")] == [out / "images/train/0.png"]


def test_voc_without_lists(tmp_path: Path) -> None:
    root, out = make_voc(tmp_path / "d"), tmp_path / "out"
    for path in (root / "ImageSets/Main").iterdir():
        path.unlink()
    same_pixels("JPEGImages/a.png", "JPEGImages/b.png")(root)
    fix(root, out)
    assert [sample.image_id for sample in open_dataset(out)] == list("acdefghij")


def test_coco_with_images_beside_the_json(tmp_path: Path) -> None:
    source, root, out = make_coco(tmp_path / "s"), tmp_path / "d", tmp_path / "out"
    root.mkdir()
    for split in ("train", "val"):
        (source / f"images/{split}").rename(root / split)
        (source / f"annotations/instances_{split}.json").rename(root / split / "_annotations.coco.json")
    cut_short("train/3.png")(root)
    fix(root, out)
    assert (len(open_dataset(out, "train")), len(open_dataset(out, "val"))) == (4, 2)


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


MASK_FAULTS: list[tuple[str, Spoil]] = [
    ("missing-mask", mask_entry([])),
    ("missing-mask", mask_entry(None)),
    ("bad-mask", mask_entry("polygon")),
    ("bad-mask", mask_entry(3)),
    ("bad-mask", mask_entry([[1, 2, 3]])),
    ("bad-mask", mask_entry([[1, 2, 3, None, 5, 6]])),
    ("bad-mask", mask_entry([[0, 0, 9e5, 9e5, 0, 9e5]])),
    ("bad-mask", mask_entry({"size": [HEIGHT, WIDTH], "counts": [1, -1, 2400]})),
    ("bad-mask", mask_entry({"size": [HEIGHT, WIDTH], "counts": "\ud800"})),
    ("bad-mask", mask_entry({"size": [HEIGHT, WIDTH], "counts": "12"})),
    ("bad-mask", mask_entry({"counts": [2400]})),
    ("mask-size", mask_entry({"size": [WIDTH, HEIGHT], "counts": [2400]})),
    ("empty-mask", mask_entry(HOLE)),
    ("empty-mask", mask_entry([[5, 5, 5, 5, 5, 5]])),
    ("empty-mask", mask_entry([[100, 100, 120, 100, 120, 120]])),
    ("mask-elsewhere", mask_entry([[40, 25, 50, 25, 50, 35]])),
    ("mask-box-mismatch", mask_entry(BAR)),
    ("mask-box-mismatch", mask_entry([[1, 2, 55, 2, 55, 22, 1, 22]])),
    ("duplicate-box", repeat_entry("train", "annotations")),
]


@pytest.mark.parametrize(("kind", "spoil"), MASK_FAULTS)
def test_faults_of_masks_are_found_and_fixed(tmp_path: Path, kind: str, spoil: Spoil) -> None:
    root = make_masked_coco(tmp_path / "d")
    assert check_dataset(root, workers=1).faults == ()
    spoil(root)
    assert check_dataset(root, workers=1).count_by_kind() == {kind: 1}
    fix(root, tmp_path / "out")
    open_dataset(tmp_path / "out", "train", masks=True)


@pytest.mark.parametrize(
    "spoil",
    [
        mask_entry([[1.5, 2.5, 30.5, 2.5, 30.5, 21.5, 1.5, 21.5]]),  # COCO's boxes and polygons have fractions
        mask_entry([[1, 2, 26, 2, 26, 22, 1, 22]]),  # five pixels short
        mask_entry([[1, 2, 10, 2, 10, 22, 1, 22], [20, 2, 31, 2, 31, 22, 20, 22]]),  # an object seen in two parts
        mask_entry(BAR, bbox=[1, 2, 2, 20], iscrowd=1),
        mask_entry([[40, 5, 70, 5, 70, 30, 40, 30]], bbox=[40, 5, 20.3, 25]),  # a polygon over the edge
    ],
)
def test_what_is_normal_for_masks(tmp_path: Path, spoil: Spoil) -> None:
    root = make_masked_coco(tmp_path / "d")
    spoil(root)
    assert check_dataset(root, workers=1).faults == ()


def test_what_the_copy_does_about_masks(tmp_path: Path) -> None:
    root, out = make_masked_coco(tmp_path / "d"), tmp_path / "out"
    mask_entry(BAR)(root)
    set_entry("train", "annotations", 1, segmentation=[])(root)
    # Cut by the image's edge, as its mask is: one fault, not two.
    over = [[50, 5, 70, 5, 70, 8, 50, 8]]
    set_entry("train", "annotations", 2, bbox=[50, 5, 20, 3], segmentation=over)(root)
    kinds = {"box-partly-outside": 1, "missing-mask": 1, "mask-box-mismatch": 1}
    assert check_dataset(root, workers=1).count_by_kind() == kinds
    fix(root, out)
    annotations = json.loads((out / "annotations/instances_train.json").read_text())["annotations"]
    assert [entry["id"] for entry in annotations] == [0, 2, 3, 4]
    assert annotations[0]["bbox"] == [1, 2, 2, 20]
    assert annotations[0]["segmentation"] == BAR
    assert annotations[1]["bbox"] == [50, 5, 10, 3]
    assert annotations[1]["segmentation"] == over


def test_one_box_with_two_masks_is_two_objects(tmp_path: Path) -> None:
    root = make_masked_coco(tmp_path / "d")
    halves = [[[1, 2, 31, 2, 1, 22]], [[31, 2, 31, 22, 1, 22]]]
    repeat_entry("train", "annotations")(root)
    for index, half in zip((0, 5), halves, strict=True):
        set_entry("train", "annotations", index, segmentation=half)(root)
    assert check_dataset(root, workers=1).faults == ()


def test_a_few_masks_in_a_data_set_of_boxes_are_no_fault(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "d")
    mask_entry("polygon")(root)
    report = check_dataset(root, workers=1)
    assert report.faults == ()
    train, val = report.statistics.splits
    assert (train.with_mask, val.with_mask) == (1, 0)


def test_without_the_extra_all_but_masks_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_masked_coco(tmp_path / "d")
    mask_entry("polygon", bbox=[5, 5, 0, 3])(root)
    set_entry("train", "annotations", 1, segmentation="polygon")(root)
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with caplog.at_level(logging.WARNING, "vovnet"):
        report = check_dataset(root, workers=1)
    assert report.count_by_kind() == {"empty-box": 1}
    assert "masks were not checked: masks need an extra: pip install 'vovnet[eval]'" in caplog.text
    assert "vovnet[eval]" in report.to_dict()["masks_unchecked"]


def test_data_without_masks_needs_no_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_coco(tmp_path / "d")
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    assert check_dataset(root, workers=1).masks_unchecked == ""
