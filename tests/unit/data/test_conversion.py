"""A converted dataset reads as the original does, and what its format cannot hold is said with counts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vovnet.cli.data_convert import convert as convert_command
from vovnet.data import conversion
from vovnet.data.conversion import convert_dataset
from vovnet.data.dataset import ImageAnnotation, raise_problem
from vovnet.data.formats import find_format, open_dataset, splits
from vovnet.errors import UsageError

from .labelling_tools import make_label_studio, make_labelme, make_via
from .small_datasets import (
    BOX_MASK,
    HEIGHT,
    WIDTH,
    append,
    edit,
    make_coco,
    make_masked_coco,
    make_voc,
    make_yolo,
    set_entry,
    voc_lines,
    write_image,
    write_split_file,
)
from .tool_exports import EXPORTS

Objects = dict[tuple[str, str], list[tuple[str, tuple[float, ...]]]]


def make_mask_pngs(root: Path) -> Path:
    for seed, split in enumerate(("train", "val")):
        for n in range(3):
            write_image(root / f"images/{split}/{n}.png", 10 * seed + n)
            numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
            numbers[5:20, 5:30], numbers[10:30, 40:55] = 1, 2
            (root / f"masks/{split}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(numbers).save(root / f"masks/{split}/{n}.png")
    return root


MAKERS = {"voc": make_voc, "coco": make_coco, "yolo": make_yolo, "masks": make_mask_pngs}


def objects_of(root: Path, digits: int = 1) -> Objects:
    """(split, bytes of the image) → its objects, whatever the image and the split are called."""
    found: Objects = {}
    for name in splits(root):
        if name == "trainval":
            continue
        for sample in (dataset := open_dataset(root, name)):
            key = name, sample.image_path.read_bytes().hex()
            boxes = np.round(sample.target.boxes.numpy(), digits) + 0.0
            labels = [dataset.class_names[label] for label in sample.target.labels.tolist()]
            found[key] = [(label, tuple(box)) for label, box in zip(labels, boxes.tolist(), strict=True)]
    return found


@pytest.mark.parametrize("source", MAKERS)
@pytest.mark.parametrize("target", ["voc", "coco", "yolo"])
def test_every_format_becomes_every_other(source: str, target: str, tmp_path: Path) -> None:
    root = MAKERS[source](tmp_path / "data")
    done = convert_dataset(root, target, tmp_path / "out")
    assert objects_of(tmp_path / "out") == objects_of(root)
    assert done.objects == {name: count for name, count in done.objects.items() if count > 0}
    assert sum(done.images.values()) == len(objects_of(root))


TOOLS: dict[str, Callable[[Path], object]] = {name: export[0] for name, export in EXPORTS.items()}
TOOLS |= {"labelme": make_labelme, "VIA": make_via, "Label Studio": make_label_studio}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_exports_of_every_tool_become_coco_and_yolo(tool: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    TOOLS[tool](root)
    names = splits(root)
    convert_dataset(root, "coco", tmp_path / "coco")
    assert objects_of(tmp_path / "coco") == objects_of(root)
    done = convert_dataset(tmp_path / "coco", "yolo", tmp_path / "yolo", splits=names[:1])
    assert sum(done.images.values()) == sum(split == names[0] for split, _ in objects_of(root))
    assert sorted(map(str, objects_of(tmp_path / "yolo").values())) == sorted(
        str(found) for (split, _), found in objects_of(root).items() if split == names[0]
    )


@pytest.mark.parametrize("form", ["voc", "coco", "yolo"])
def test_a_round_trip_ends_where_it_began(form: str, tmp_path: Path) -> None:
    root = MAKERS[form](tmp_path / "data")
    before = root
    for number, target in enumerate(["coco", "yolo", "voc", "coco", "voc", "yolo", form]):
        convert_dataset(before, target, after := tmp_path / str(number))
        before = after
    assert objects_of(before) == objects_of(root)
    names = open_dataset(root, "train").class_names
    assert set(open_dataset(before, "train").class_names) == set(names)


def first_image(root: Path) -> ImageAnnotation:
    (split,) = find_format(root).read(root, ["train"], raise_problem)
    image: ImageAnnotation = split.images[0]
    return image


def test_what_voc_cannot_hold_is_counted(tmp_path: Path) -> None:
    root = make_masked_coco(tmp_path / "data")
    set_entry("train", "annotations", 0, iscrowd=1)(root)
    set_entry("train", "annotations", 1, bbox=[1, 2, 0, 5])(root)
    done = convert_dataset(root, "voc", tmp_path / "out")
    assert done.changed == {conversion.MASKS: 6, conversion.CROWD_TO_VOC: 1, conversion.NO_BOX: 1}
    assert first_image(tmp_path / "out").objects[0].difficult


def test_what_yolo_cannot_hold_is_counted(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "data")
    set_entry("train", "annotations", 0, iscrowd=1)(root)
    set_entry("train", "annotations", 1, bbox=[-5, 2, 30, 20])(root)
    set_entry("train", "annotations", 2, bbox=[WIDTH + 1, 2, 30, 20])(root)
    done = convert_dataset(root, "yolo", tmp_path / "out")
    assert done.changed == {conversion.CROWD_TO_YOLO: 1, conversion.CLIPPED: 1, conversion.OUTSIDE: 1}
    boxes = [sample.target.boxes.tolist() for sample in open_dataset(tmp_path / "out", "train")]
    assert [len(image) for image in boxes] == [0, 1, 0, 1, 1]
    assert boxes[1][0] == pytest.approx([0, 2, 25, 22], abs=0.01)


def test_difficult_objects_are_ignored_in_coco(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "data")
    path = root / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<pose>", "<difficult>1</difficult><pose>", 1))
    done = convert_dataset(root, "coco", tmp_path / "out")
    assert done.changed == {conversion.DIFFICULT_TO_COCO: 1}
    assert [obj.crowd for obj in first_image(tmp_path / "out").objects] == [True, False]
    assert convert_dataset(root, "yolo", tmp_path / "yolo").changed == {conversion.DIFFICULT_TO_YOLO: 1}
    back = convert_dataset(tmp_path / "out", "voc", tmp_path / "back")
    assert back.changed == {conversion.CROWD_TO_VOC: 1}
    assert [obj.difficult for obj in first_image(tmp_path / "back").objects] == [True, False]


@pytest.mark.parametrize("make", [make_masked_coco, make_mask_pngs])
def test_masks_stay_in_coco(make: Callable[[Path], Path], tmp_path: Path) -> None:
    pytest.importorskip("hotcoco")
    root = make(tmp_path / "data")
    assert convert_dataset(root, "coco", tmp_path / "out").changed == {}
    for split in splits(root):
        before, after = (open_dataset(path, split, masks=True) for path in (root, tmp_path / "out"))
        for one, other in zip(before, after, strict=True):
            assert one.target.masks is not None
            assert other.target.masks is not None
            assert one.target.masks.counts == other.target.masks.counts


def test_annotations_of_the_stored_pixels_become_upright(tmp_path: Path) -> None:
    pytest.importorskip("hotcoco")
    root = make_masked_coco(tmp_path / "data")
    exif = Image.Exif()
    exif[0x0112] = 6
    path = root / "images/train/0.png"
    Image.open(path).save(path, exif=exif)
    before = open_dataset(root, "train", masks=True)[0].target
    for target in ("coco", "voc", "yolo"):
        out = tmp_path / target
        convert_dataset(root, target, out)
        image = first_image(out)
        assert image.image_size == (WIDTH, HEIGHT)
        assert image.objects[0].box == pytest.approx(before.boxes[0].tolist(), abs=0.01)
        assert image.objects[0].box != pytest.approx([1, 2, 31, 22], abs=1)
    after = open_dataset(tmp_path / "coco", "train", masks=True)[0].target
    assert before.masks is not None
    assert after.masks is not None
    assert after.masks.counts == before.masks.counts


def test_names_that_collide_in_one_folder_are_renamed(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "data")  # train and val both have 0.png and 1.png
    done = convert_dataset(root, "voc", tmp_path / "out")
    assert done.renamed == {"images/val/0.png": "images_val_0.png", "images/val/1.png": "images_val_1.png"}
    assert objects_of(tmp_path / "out") == objects_of(root)


@pytest.mark.parametrize("name", ["ÄÖ 猫", "a b", "photo 1", "new\nline", "x" * 240, "tab\tname", "#1 'q' \"z\""])
@pytest.mark.parametrize("target", ["voc", "coco", "yolo"])
def test_names_of_any_kind(name: str, target: str, tmp_path: Path) -> None:
    root = make_yolo(tmp_path / "data")
    for folder, suffix in (("images", "png"), ("labels", "txt")):
        (root / folder / "train" / f"0.{suffix}").rename(root / folder / "train" / f"{name}.{suffix}")
    append("labels/train/1.txt", "0 0.2 0.2 0.1 0.1\n")(root)
    convert_dataset(root, target, tmp_path / "out")
    assert objects_of(tmp_path / "out") == objects_of(root)


def test_names_that_differ_only_in_case_do_not_meet(tmp_path: Path) -> None:
    root = make_yolo(tmp_path / "data")
    write_image(root / "images/train/A.png", 77)
    write_image(root / "images/train/a.jpg.png", 78)
    write_image(root / "images/train/a.png", 79)
    convert_dataset(root, "voc", tmp_path / "out")
    stems = [path.stem.lower() for path in (tmp_path / "out/JPEGImages").iterdir()]
    assert len(stems) == len(set(stems)) == 10


def test_splits_of_yolo_have_its_names(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "data")
    done = convert_dataset(root, "yolo", tmp_path / "out")
    assert done.unions == ("trainval",)
    assert list(done.images) == ["test", "train", "val"]
    (root / "ImageSets/Main/val_night.txt").write_text("a\n")
    with pytest.raises(UsageError, match="YOLO has the splits train, val and test, and .* has .*val_night"):
        convert_dataset(root, "yolo", tmp_path / "out2")
    done = convert_dataset(root, "yolo", tmp_path / "out2", splits=["train", "val_night"])
    assert done.images == {"train": 6, "val": 1}
    with pytest.raises(UsageError, match="has no split 'tran', did you mean 'train'"):
        convert_dataset(root, "coco", tmp_path / "out3", splits=["tran"])
    assert convert_dataset(root, "coco", tmp_path / "out3", splits=["all"]).images == {"all": 10}


def test_splits_without_images_are_named(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "d")
    edit(root, "val", lambda content: content.update(images=[], annotations=[]))
    done = convert_dataset(root, "yolo", tmp_path / "out")
    assert done.empty == ("val",)
    assert set(done.images) == {"train"}


def test_a_split_file_can_be_converted(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "data")
    path = write_split_file(root, {"train": 0.6, "val": 0.4}, 0, tmp_path / "splits.json")
    assert convert_dataset(path, "yolo", tmp_path / "out").images == {"train": 6, "val": 4}
    assert objects_of(tmp_path / "out") == objects_of(path)


def test_links_are_links_and_copies_are_not(tmp_path: Path) -> None:
    root = make_yolo(tmp_path / "data")
    assert convert_dataset(root, "coco", tmp_path / "links", link=True).linked == 7
    assert os.path.samefile(tmp_path / "links/images/0.png", root / "images/train/0.png")
    assert convert_dataset(root, "coco", tmp_path / "copies").linked == 0
    assert not os.path.samefile(tmp_path / "copies/images/0.png", root / "images/train/0.png")


def test_nothing_is_left_of_a_conversion_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_voc(tmp_path / "data")
    out = tmp_path / "out"
    monkeypatch.setattr(conversion, "_ROUNDING", -1.0)
    with pytest.raises(ValueError, match=r"\.png' of the split .* does not read back"):
        convert_dataset(root, "coco", out)
    monkeypatch.undo()
    voc_lines("a", (1, 1, 20, 30), name="a\tb&lt;")(root)
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        convert_dataset(root, "coco", root / "JPEGImages")
    with pytest.raises(ValueError, match="lies inside the data folder"):
        convert_dataset(root, "coco", root / "new")
    (root / "JPEGImages/b.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"b\.png is not an image"):
        convert_dataset(root, "coco", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_class_names_that_voc_cannot_hold_are_refused(tmp_path: Path) -> None:
    root = make_yolo(tmp_path / "data")
    (root / "data.yaml").write_text('train: images/train\nnames: [" cat", dog]\n')
    with pytest.raises(ValueError, match="VOC cannot hold the class name ' cat'"):
        convert_dataset(root, "voc", tmp_path / "out")
    assert convert_dataset(root, "coco", tmp_path / "out").images == {"train": 5}


def test_class_names_that_yaml_would_read_as_something_else(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "data")
    for split in ("train", "val"):
        set_entry(split, "categories", 0, name="no: 'yes' #1")(root)
    convert_dataset(root, "yolo", tmp_path / "out")
    assert open_dataset(tmp_path / "out", "train").class_names == ("no: 'yes' #1",)


def test_coco_has_no_category_0_and_keeps_its_own_ids(tmp_path: Path) -> None:
    root = make_yolo(tmp_path / "data")
    convert_dataset(root, "coco", tmp_path / "out")
    content = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert [category["id"] for category in content["categories"]] == [1, 2]
    root = make_masked_coco(tmp_path / "coco")
    convert_dataset(root, "coco", tmp_path / "again")
    content = json.loads((tmp_path / "again/annotations/instances_train.json").read_text())
    assert content["categories"] == [{"id": 7, "name": "cat"}]
    assert content["annotations"][0]["segmentation"] == BOX_MASK


def test_the_command_says_what_became_of_the_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_coco(tmp_path / "data")
    set_entry("train", "annotations", 0, iscrowd=1)(root)
    convert_command(root, tmp_path / "out", to="yolo", link=True, json_file=str(tmp_path / "report.json"))
    text = capsys.readouterr().out
    assert "crowds left out: 1" in text
    assert "7 of 7 image files are hard links" in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["images"] == {"train": 5, "val": 2}
    assert report["changed"] == {conversion.CROWD_TO_YOLO: 1}


def annotate_train_again(root: Path, **values: object) -> Path:
    """A second file for the training images, which annotates one of them otherwise."""
    content = json.loads((root / "annotations/instances_train.json").read_text())
    content["annotations"][0].update(values)
    (root / "annotations/instances_second.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("target", ["coco", "yolo"])
def test_each_split_keeps_its_own_annotation_of_an_image(target: str, tmp_path: Path) -> None:
    root = annotate_train_again(make_coco(tmp_path / "data"), bbox=[5, 6, 7, 8])
    (root / "annotations/instances_second.json").rename(root / "annotations/instances_test.json")
    for number in range(5):
        os.link(root / f"images/train/{number}.png", root / f"images/{number}.png")
    shutil.rmtree(root / "images/train")
    convert_dataset(root, target, tmp_path / "out")
    assert objects_of(tmp_path / "out") == objects_of(root)
    assert open_dataset(tmp_path / "out", "test")[0].target.boxes.tolist() == [pytest.approx([5, 6, 12, 14], abs=0.01)]


def test_voc_refuses_two_annotations_of_an_image(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "data")
    for path in (root / "images/train").iterdir():
        path.rename(root / "images" / path.name)
    annotate_train_again(root, bbox=[5, 6, 7, 8])
    message = r"splits second, train annotate 0\.png differently, and VOC has one .* with --split"
    with pytest.raises(UsageError, match=message):
        convert_dataset(root, "voc", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    annotate_train_again(root)
    assert convert_dataset(root, "voc", tmp_path / "out").images == {"second": 5, "train": 5, "val": 2}


def test_an_image_of_two_splits_is_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_voc(tmp_path / "data")
    (root / "ImageSets/Main/night.txt").write_text("a\nb\n")
    convert_command(root, tmp_path / "out", to="coco", link=True)
    assert "10 of 10 image files are hard links" in capsys.readouterr().out
