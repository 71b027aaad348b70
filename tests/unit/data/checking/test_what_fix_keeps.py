"""Which images, objects and files the cleaned copy keeps where a problem leaves a choice, and how it says so."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vovnet.data.check import Report, check_dataset, write_cleaned_copy
from vovnet.data.checking.cleaned_copy import find_difference
from vovnet.data.checking.image_scan import ImageScan
from vovnet.data.checking.repairs import NO_OBJECT_LEFT, repair_image
from vovnet.data.dataset import (
    ImageAnnotation,
    ImageTable,
    ObjectAnnotation,
    OnProblem,
    SplitAnnotations,
    raise_problem,
)
from vovnet.data.formats import open_dataset
from vovnet.data.readers import yolo

from ..small_datasets import (
    HEIGHT,
    WIDTH,
    Spoil,
    append,
    cut_short,
    digests,
    make_coco,
    make_masked_coco,
    make_voc,
    make_yolo,
    mask_entry,
    same_pixels,
    set_entry,
    unlink,
    voc_lines,
    write_image,
    xml_of,
)

GOOD = (1, 1, 60, 40)


def no_image(root: Path) -> None:
    (root / "images/train/0.png").write_text("hello")


def fix(root: Path) -> Report:
    report = check_dataset(root, workers=1)
    write_cleaned_copy(report, root.with_name("out"))
    return report


# ---- images without any usable object


@pytest.mark.parametrize("line", ["0 0.5 0.5 0 0.1", "0 0.5 0.5 nan 0.1", "9 0.5 0.5 0.1 0.1", "0 7 7 0.1 0.1"])
def test_an_image_that_loses_all_objects_does_not_become_a_negative(tmp_path: Path, line: str) -> None:
    root = make_yolo(tmp_path / "d")
    (root / "labels/train/0.txt").write_text(f"{line}\n")
    (root / "labels/train/1.txt").write_text("")  # annotated as a negative
    (root / "labels/train/2.txt").unlink()
    report = fix(root)
    assert [(r.image, r.kind) for r in report.removed if r.what == "image"] == [("images/train/0.png", NO_OBJECT_LEFT)]
    assert report.images_losing_objects == ()
    names = [sample.image_path.name for sample in open_dataset(tmp_path / "out", "train")]
    assert names == ["1.png", "2.png", "3.png", "4.png"]


@pytest.mark.parametrize(
    ("usable", "unusable", "bad", "stays"),
    [(0, 0, 0, True), (0, 1, 0, False), (0, 0, 2, False), (0, 1, 1, False), (1, 1, 0, True), (1, 0, 1, True)],
)
def test_objects_that_the_reader_left_out_count_too(usable: int, unusable: int, bad: int, stays: bool) -> None:
    boxes = [(0.0, 0.0, 5.0 + n, 5.0) for n in range(usable)] + [(0.0, 0.0, 0.0, 5.0)] * bad
    objects = tuple(ObjectAnnotation(index, "cat", box) for index, box in enumerate(boxes))
    image = ImageAnnotation(Path("a.png"), Path("a.xml"), "a", objects, None, unusable)
    repair = repair_image(image, ImageScan((HEIGHT, WIDTH), b"f", b"p"), None, needs_masks=False)
    assert (repair.image is not None) == stays
    assert repair.why_left_out[0] == ("" if stays else NO_OBJECT_LEFT)


# ---- which object stays of two with the same box


def test_of_two_equal_objects_the_one_that_is_not_difficult_stays(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    voc_lines("a", GOOD, GOOD, (5, 5, 20, 30))(root)
    path = root / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<pose>", "<difficult>1</difficult><pose>", 1))
    assert fix(root).count_by_kind() == {"duplicate-box": 1}
    target = open_dataset(tmp_path / "out", "train")[0].target
    assert target.difficult.tolist() == [False, False]
    assert target.boxes.tolist() == [[0, 0, 60, 40], [4, 4, 20, 30]]


def test_of_two_equal_objects_the_one_with_a_mask_stays(tmp_path: Path) -> None:
    """In a dataset of boxes, where most objects have no mask."""
    root = make_coco(tmp_path / "d")
    mask = [[1, 2, 31, 2, 31, 22, 1, 22]]
    path = root / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"].append({**content["annotations"][0], "id": 77, "segmentation": mask})
    path.write_text(json.dumps(content))
    assert fix(root).count_by_kind() == {"duplicate-box": 1}
    kept = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())["annotations"]
    assert [entry["id"] for entry in kept] == [1, 2, 3, 4, 77]
    assert kept[-1]["segmentation"] == mask


def test_masks_that_are_not_checked_still_tell_objects_apart(tmp_path: Path) -> None:
    root = make_masked_coco(tmp_path / "d")
    path = root / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"].append({**content["annotations"][0], "id": 77, "segmentation": [[1, 2, 31, 2, 1, 22]]})
    path.write_text(json.dumps(content))
    for ignore_masks in (False, True):
        assert check_dataset(root, workers=1, ignore_masks=ignore_masks).problems == ()


# ---- masks


@pytest.mark.parametrize("mask", [[], "polygon", [[40, 25, 50, 25, 50, 35]], {"size": [1, 2], "counts": [2]}])
def test_without_masks_an_object_keeps_its_box(tmp_path: Path, mask: object) -> None:
    root = make_masked_coco(tmp_path / "d")
    mask_entry(mask)(root)
    report = check_dataset(root, workers=1)
    assert [removal.what for removal in report.removed] == ["image", "object"]  # its only object
    report = check_dataset(root, workers=1, ignore_masks=True)
    assert (report.problems, report.removed, report.masks_unchecked) == ((), (), "")
    write_cleaned_copy(report, tmp_path / "out")
    assert len(open_dataset(tmp_path / "out", "train")) == 5


@pytest.mark.parametrize("box", [[5, 5, 0, 3], [5, 5, -3, 3], [0, 0, None, 3], [99, 5, 10, 3], "box"])
def test_a_bad_box_gives_way_to_that_of_a_good_mask(tmp_path: Path, box: object) -> None:
    root = make_masked_coco(tmp_path / "d")
    set_entry("train", "annotations", 0, bbox=box)(root)
    report = fix(root)
    assert sum(report.count_by_kind().values()) == 1
    assert report.removed == ()
    assert open_dataset(tmp_path / "out", "train", masks=True)[0].target.boxes.tolist() == [[1, 2, 31, 22]]


# ---- images that occur twice


def test_of_two_equal_images_the_one_with_more_objects_stays(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    same_pixels("JPEGImages/b.png", "JPEGImages/a.png")(root)
    voc_lines("a", (7, 7, 20, 20))(root)
    (problem,) = fix(root).problems
    assert (problem.kind, problem.image) == ("duplicate-image", "JPEGImages/a.png")
    assert problem.detail.endswith(
        "same pixels as JPEGImages/b.png in this split; 1 of its 1 objects are not annotated there"
    )
    report = check_dataset(root, workers=1)
    assert [(r.what, r.image) for r in report.removed] == [
        ("image", "JPEGImages/a.png"),
        ("object", "JPEGImages/a.png"),
    ]
    assert report.images_losing_objects == ("JPEGImages/b.png",)
    assert [sample.image_id for sample in open_dataset(tmp_path / "out", "train")] == list("bcdef")


def test_lists_beside_train_val_and_test_may_share_images(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    lists = {"seq1": "iaz", "night": "gb", "fold1": "abcdefghij", "camera_front": "ja"}
    for name, stems in lists.items():
        (root / f"ImageSets/Main/{name}.txt").write_text("".join(f"{stem}\n" for stem in stems if stem != "z"))
    assert check_dataset(root, workers=1).problems == ()
    append("ImageSets/Main/train.txt", "g\n")(root)  # also in val
    voc_lines("a", GOOD, (9, 9, 4, 4))(root)
    report = fix(root)
    assert report.count_by_kind() == {"inverted-box": 1, "split-leak": 1}  # once, whichever lists name the image
    for name, stems in lists.items():
        assert (tmp_path / f"out/ImageSets/Main/{name}.txt").read_text().split() == [s for s in stems if s != "z"]
    assert (tmp_path / "out/ImageSets/Main/train.txt").read_text().split() == list("abcdef")


@pytest.mark.parametrize("names", ["train2017 val2017", "train_a val_a", "train valid", "fold1_train fold1_test"])
def test_leaks_between_splits_of_other_names(tmp_path: Path, names: str) -> None:
    root = make_coco(tmp_path / "d")
    for old, new in zip(("train", "val"), names.split(), strict=True):
        (root / f"annotations/instances_{old}.json").rename(root / f"annotations/instances_{new}.json")
        (root / f"images/{old}").rename(root / f"images/{new}")
    train, val = names.split()
    same_pixels(f"images/{val}/0.png", f"images/{train}/1.png")(root)
    (problem,) = fix(root).problems
    assert (problem.kind, problem.split) == ("split-leak", train)
    assert len(open_dataset(tmp_path / "out", val)) == 2


def test_folds_may_overlap(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "d")
    for split in ("train", "val"):
        content = (root / f"annotations/instances_{split}.json").read_text()
        (root / f"annotations/instances_{split}_1.json").write_text(content)
        other = "val" if split == "train" else "train"
        (root / f"annotations/instances_{other}_2.json").write_text(content)
        (root / f"annotations/instances_{split}.json").unlink()
    for folder in ("train_1", "val_2"):
        (root / f"images/{folder}").symlink_to(root / "images/train")
    for folder in ("val_1", "train_2"):
        (root / f"images/{folder}").symlink_to(root / "images/val")
    assert check_dataset(root, workers=1).problems == ()


@pytest.mark.parametrize(
    ("settings", "kept", "stays"),
    [
        ("train: images/val\nval: images/train\ntest: images/val\n", (2, 5, 2), True),  # train is test
        ("train: images/val\nval: images\n", (2, 5), False),  # train would be empty; val has more
        ("train: images/train\nval: images/train\n", (5, 5), True),
        ("train: images\nval: images/val\n", (5, 2), False),
    ],
)
def test_no_split_is_left_empty(tmp_path: Path, settings: str, kept: tuple[int, ...], stays: bool) -> None:
    root = make_yolo(tmp_path / "d")
    (root / "data.yaml").write_text(f"{settings}names: [cat, dog]\n")
    report = fix(root)
    counts = tuple(len(open_dataset(tmp_path / "out", name)) for name in ("train", "val", "test")[: len(kept)])
    assert counts == kept
    leaks = [problem for problem in report.problems if problem.kind == "split-leak"]
    assert leaks
    assert all(("it stays in both" in problem.detail) == stays for problem in leaks)
    assert len(report.removed) == (0 if stays else len(leaks))
    assert (check_dataset(tmp_path / "out", workers=1).problems != ()) == stays


@pytest.mark.parametrize("blank", ["val", "train"])
def test_of_a_leak_the_image_with_objects_stays(tmp_path: Path, blank: str) -> None:
    root = make_yolo(tmp_path / "d")
    same_pixels("images/train/0.png", "images/val/again.png")(root)
    (root / "labels/val/again.txt").write_text("0 0.5 0.5 0.5 0.5\n1 0.3 0.25 0.3 0.3\n")
    (root / f"labels/{blank}/{'again' if blank == 'val' else '0'}.txt").write_text("")
    report = fix(root)
    (removal,) = report.removed
    assert (removal.what, removal.kind, removal.split) == ("image", "split-leak", blank)
    assert report.images_losing_objects == ()
    assert check_dataset(tmp_path / "out", workers=1).problems == ()


# ---- files


def test_all_other_files_are_kept_byte_for_byte(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "d")
    files = {
        "annotations/captions_train.json": "[]",
        "annotations/person_keypoints_val.json": "{}",
        "images/train/NOTES.txt": "mine",
        "images/unlisted/x.png": "not even an image",
        "licences/CC-BY/LICENSE": "free",
        ".hidden/settings.toml": "a = 1",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    cut_short("images/train/1.png")(root)
    fix(root)
    before, after = digests(root), digests(tmp_path / "out")
    assert before.keys() - after.keys() == {"images/train/1.png"}
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"annotations/instances_train.json"}


def test_voc_keeps_other_lists_and_masks_of_segmentation(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    (root / "ImageSets/Layout").mkdir()
    (root / "ImageSets/Layout/train.txt").write_text("a 1\n")
    write_image(root / "SegmentationClass/a.png", 7)
    write_image(root / "JPEGImages/without_annotation.png", 8)
    cut_short("JPEGImages/a.png")(root)
    fix(root)
    lost = digests(root).keys() - digests(tmp_path / "out").keys()
    assert lost == {"JPEGImages/a.png", "Annotations/a.xml"}


@pytest.mark.parametrize("spoil", [cut_short("images/train/0.png"), unlink("images/train/0.png"), no_image])
def test_a_label_goes_with_its_image(tmp_path: Path, spoil: Spoil) -> None:
    root = make_yolo(tmp_path / "d")
    spoil(root)
    removed = write_cleaned_copy(check_dataset(root, workers=1), tmp_path / "out")
    assert "labels/train/0.txt" in {removal.image for removal in removed if removal.what == "file"} or (
        "images/train/0.png" in {removal.image for removal in removed if removal.what == "image"}
    )
    lost = digests(root).keys() - digests(tmp_path / "out").keys()
    assert lost - {"images/train/0.png"} == {"labels/train/0.txt"}
    assert check_dataset(tmp_path / "out", workers=1).problems == ()


def test_no_link_brings_a_file_from_elsewhere_into_the_copy(tmp_path: Path) -> None:
    root = make_yolo(tmp_path / "d")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").write_text("secret")
    (root / "notes").symlink_to(tmp_path / "secret/key")
    (root / "more").symlink_to(tmp_path / "secret")
    (root / "gone").symlink_to(tmp_path / "nowhere")
    (root / "inside.yaml").symlink_to(root / "data.yaml")
    os.mkfifo(root / "pipe")
    removed = write_cleaned_copy(check_dataset(root, workers=1), tmp_path / "out")
    assert {removal.image for removal in removed} == {"notes", "more", "gone", "pipe"}
    assert {removal.kind for removal in removed} == {"not-copied"}
    assert (tmp_path / "out/inside.yaml").read_text() == (root / "data.yaml").read_text()
    assert not any(b"secret" in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())


def test_images_behind_a_link_are_copied(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "d")
    (root / "images").rename(tmp_path / "store")
    (root / "images").symlink_to(tmp_path / "store")
    report = check_dataset(root, workers=1)
    assert report.problems == ()
    write_cleaned_copy(report, tmp_path / "out")
    assert len(open_dataset(tmp_path / "out", "train")) == 5


@pytest.mark.parametrize(
    ("make", "name", "spoil"),
    [
        (make_voc, "Annotations/c.xml", voc_lines("a", (9, 9, 4, 4))),
        (make_coco, "annotations/instances_val.json", set_entry("train", "annotations", 0, bbox=[5, 5, 0, 3])),
        (make_yolo, "labels/val/0.txt", append("labels/val/1.txt", "0 0.5 0.5 0 0.1\n")),
    ],
)
def test_annotations_without_problems_are_kept_byte_for_byte(
    tmp_path: Path, make: Callable[[Path], Path], name: str, spoil: Spoil
) -> None:
    root = make(tmp_path / "d")
    path = root / name
    path.write_text("\n" * (make is not make_voc) + path.read_text().replace(" ", "  ") + "\n\n")
    spoil(root)
    assert sum(fix(root).count_by_kind().values()) == 1
    assert (tmp_path / "out" / name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("make", [make_voc, make_coco, make_yolo])
def test_a_dataset_without_any_good_image_gives_an_empty_copy(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    root = make(tmp_path / "d")
    for path in root.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:2000])
    (root / "notes").write_text("mine")
    report = fix(root)
    emptied = [hint for hint in report.hints if "empty-split" in hint]
    assert len(emptied) == len([split for split in report.clean if split.split != "trainval"])
    assert not list((tmp_path / "out").rglob("*.png"))
    assert (tmp_path / "out/notes").read_text() == "mine"


# ---- the copy is read back


def test_a_copy_that_differs_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_yolo(tmp_path / "d")
    append("labels/val/1.txt", "0 0.5 0.5 0 0.1\n")(root)
    report = check_dataset(root, workers=1)
    write = yolo.write

    def forgetful(root: Path, splits: list[SplitAnnotations], out: Path) -> None:
        write(root, splits, out)
        (out / "labels/val/1.txt").write_text("0 0.5 0.5 0.5 0.5\n")

    monkeypatch.setattr(yolo, "write", forgetful)
    with pytest.raises(ValueError, match="the objects of images/val/1.png in the split val differ"):
        write_cleaned_copy(report, tmp_path / "out")


def test_every_difference_has_a_name(tmp_path: Path) -> None:
    on_problem: OnProblem = raise_problem
    splits = yolo.read(make_yolo(tmp_path), ["train", "val"], on_problem)
    train, val = splits
    assert find_difference(splits, splits) == ""
    assert find_difference(splits, [train]) == "the split val is missing"
    fewer = replace(val, images=val.images[:1])
    assert find_difference(splits, [train, fewer]) == "images/val/1.png is missing from the split val"
    assert find_difference([train, fewer], splits) == "images/val/1.png is additional in the split val"
    moved = replace(val.images[0].objects[0], box=(0.0, 0.0, 5.0, 5.0))
    image = replace(val.images[0], objects=(moved, *val.images[0].objects[1:]))
    other = replace(val, images=ImageTable.of([image, val.images[1]]))
    assert find_difference(splits, [train, other]) == "the objects of images/val/0.png in the split val differ"


def test_the_report_lists_what_is_left_out(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    cut_short("JPEGImages/a.png")(root)
    voc_lines("b", GOOD, (9, 9, 4, 4))(root)
    voc_lines("c", (9, 9, 4, 4))(root)
    (root / "Annotations/z.xml").write_text(xml_of(GOOD))
    append("ImageSets/Main/val.txt", "y\n")(root)
    report = check_dataset(root, workers=1).to_dict()
    found = {(entry["what"], entry["kind"], Path(entry["image"]).name) for entry in report["removed"]}
    assert found == {
        ("image", "unreadable-image", "a.png"),
        ("object", "inverted-box", "b.png"),
        ("object", "inverted-box", "c.png"),
        ("image", NO_OBJECT_LEFT, "c.png"),
        ("file", "missing-image", "z.xml"),
        ("annotation", "missing-annotation", "val.txt"),
    }
    assert report["images_losing_objects"] == ["JPEGImages/b.png"]


# ---- images of another size than stated


@pytest.mark.parametrize("box", [[WIDTH + 10, 2, 20, 20], [WIDTH - 10, 2, 30, 20], [2, HEIGHT, 5, HEIGHT - 1]])
def test_an_image_that_was_resized_since_is_left_out_whole(tmp_path: Path, box: list[float]) -> None:
    """Clipped or unscaled boxes would be wrong, and the objects beside them are wrong too."""
    root = make_coco(tmp_path / "d")
    set_entry("train", "images", 0, width=2 * WIDTH, height=2 * HEIGHT)(root)
    set_entry("train", "annotations", 0, bbox=box)(root)
    (problem,) = (p for p in fix(root).problems if p.kind == "size-mismatch")
    assert "fits only the stated size: resized since?" in problem.detail
    assert len(open_dataset(tmp_path / "out", "train")) == len(open_dataset(root, "train")) - 1


@pytest.mark.parametrize("size", [(2 * HEIGHT, 2 * WIDTH), (HEIGHT, WIDTH + 1), (1, 1)])
def test_a_wrong_size_costs_no_object_that_is_inside_the_image(tmp_path: Path, size: tuple[int, int]) -> None:
    root = make_coco(tmp_path / "d")
    set_entry("train", "images", 0, height=size[0], width=size[1])(root)
    assert fix(root).count_by_kind() == {"size-mismatch": 1}
    before, after = (open_dataset(path, "train") for path in (root, tmp_path / "out"))
    assert [sample.target.boxes.tolist() for sample in after] == [sample.target.boxes.tolist() for sample in before]
