from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as oracle

from vovnet.data.check import check_dataset, write_cleaned_copy
from vovnet.data.dataset import raise_problem
from vovnet.data.formats import open_dataset, splits
from vovnet.data.readers.mask_png import parse_numbers, read, to_objects, write
from vovnet.masks import RleMasks, decode, from_coco

NUMBERS = np.array(
    [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 3, 3, 0],
        [0, 0, 0, 3, 3, 0],
        [0, 0, 0, 3, 3, 7],
    ],
    dtype=np.uint8,
)


def write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (4, 6)) -> None:
    write_png(path, np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def make(root: Path) -> Path:
    """Three images in one split, the last without objects."""
    for seed, stem in enumerate("abc"):
        write_image(root / f"images/{stem}.png", seed)
        write_png(root / f"masks/{stem}.png", NUMBERS if stem < "c" else np.zeros_like(NUMBERS))
    return root


def test_boxes_areas_and_masks_come_from_the_numbers(tmp_path: Path) -> None:
    data = open_dataset(make(tmp_path), masks=True)
    assert (data.format, data.split, data.class_names, data.category_ids) == ("mask_png", "all", ("object",), (1,))
    first, _, last = data
    assert (first.image_id, first.image_size) == ("a", (4, 6))
    assert first.target.boxes.tolist() == [[0, 0, 2, 2], [3, 1, 5, 4], [5, 3, 6, 4]]
    assert first.target.area.tolist() == [3, 6, 1]
    assert first.target.labels.tolist() == [0, 0, 0]
    assert isinstance(first.target.masks, RleMasks)
    expected = torch.from_numpy(np.stack([number == NUMBERS for number in (1, 3, 7)]))
    assert decode(first.target.masks).bool().equal(expected)
    assert last.target.masks == RleMasks((), (4, 6))


def test_only_bitmaps_need_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    assert open_dataset(tmp_path)[0].target.masks is None
    masks = open_dataset(tmp_path, masks=True)[0].target.masks
    assert isinstance(masks, RleMasks)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "vovnet\[eval\]"'):
        decode(masks)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 8)])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_objects_are_those_of_pycocotools(shape: tuple[int, int], count: int) -> None:
    """Few numbers on few pixels: runs over several columns, whole columns, first and last pixels, full images."""
    rng = np.random.default_rng(count)
    for _ in range(20):
        numbers = rng.integers(0, count + 1, shape).astype(np.int32)
        objects = to_objects(numbers, "cat")
        assert [obj.index + 1 for obj in objects] == sorted(set(numbers[numbers > 0].tolist()))
        for obj in objects:
            code = oracle.encode(np.asfortranarray(numbers == obj.index + 1).astype(np.uint8))
            x, y, width, height = oracle.toBbox(code)
            assert obj.box == (x, y, x + width, y + height)
            assert obj.area == oracle.area(code)
            assert from_coco(obj.mask, shape) == code["counts"]


def in_one_folder(root: Path) -> None:
    write_image(root / "images/a.jpg")
    write_png(root / "masks/a.png", NUMBERS)


def as_downloaded(root: Path) -> None:
    write_image(root / "PNGImages/a.png")
    write_png(root / "PedMasks/a_mask.png", NUMBERS)


def in_folders_by_split(root: Path) -> None:
    for seed, split in enumerate(("train", "val")):
        write_image(root / f"images/{split}/a.png", seed)
        write_png(root / f"masks/{split}/a.png", NUMBERS if split == "val" else NUMBERS[::-1].copy())


def with_masks_together(root: Path) -> None:
    write_image(root / "images/train/b.png", 1)
    write_image(root / "images/val/a.png")
    write_png(root / "masks/b_mask.png", NUMBERS[::-1].copy())
    write_png(root / "masks/a_mask.png", NUMBERS)


@pytest.mark.parametrize(
    ("layout", "split_names"),
    [
        (in_one_folder, ("all",)),
        (as_downloaded, ("all",)),
        (in_folders_by_split, ("train", "val")),
        (with_masks_together, ("train", "val")),
    ],
)
def test_layouts(tmp_path: Path, layout: Callable[[Path], None], split_names: tuple[str, ...]) -> None:
    layout(tmp_path)
    for folder in list(tmp_path.iterdir()):
        (folder / ".thumbnails").mkdir()
    assert splits(tmp_path) == split_names
    (sample,) = open_dataset(tmp_path, split_names[-1])
    assert (sample.image_path.stem, len(sample.target)) == ("a", 3)
    assert check_dataset(tmp_path, workers=1).problems == ()


def test_the_class_is_named_in_a_file(tmp_path: Path) -> None:
    (make(tmp_path) / "classes.txt").write_text("person\n\n")
    assert open_dataset(tmp_path).class_names == ("person",)
    (tmp_path / "classes.txt").write_text("person\ncar\n")
    with pytest.raises(ValueError, match=r"classes\.txt must hold one class name, got 2.*COCO format"):
        open_dataset(tmp_path)


def test_a_coco_file_wins(tmp_path: Path) -> None:
    content = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": []}
    (make(tmp_path) / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_text(json.dumps(content))
    assert open_dataset(tmp_path).format == "coco"


@pytest.mark.parametrize("dtype", [np.uint16, np.bool_])
def test_numbers_of_16_bits_and_of_one(tmp_path: Path, dtype: type) -> None:
    numbers = (NUMBERS.astype(np.uint16) * 300).astype(dtype)
    write_png(tmp_path / "m.png", numbers)
    assert (parse_numbers(tmp_path / "m.png") == numbers).all()


def test_a_palette_only_colours_the_numbers(tmp_path: Path) -> None:
    mask = Image.fromarray(NUMBERS).convert("P")
    mask.putpalette([200, 30, 30] * 256)
    mask.save(tmp_path / "m.png")
    assert (parse_numbers(tmp_path / "m.png") == NUMBERS).all()


def without_mask(root: Path) -> None:
    (root / "masks/a.png").unlink()


def cut_short(root: Path) -> None:
    path = root / "masks/a.png"
    path.write_bytes(path.read_bytes()[:-25])


def no_image(root: Path) -> None:
    (root / "masks/a.png").write_text("hello")


def broken_link(root: Path) -> None:
    (root / "masks/a.png").unlink()
    (root / "masks/a.png").symlink_to("nowhere.png")


def empty_file(root: Path) -> None:
    (root / "masks/a.png").write_bytes(b"")


def in_colour(root: Path) -> None:
    write_png(root / "masks/a.png", np.stack([NUMBERS] * 3, axis=2))


def turned(root: Path) -> None:
    write_png(root / "masks/a.png", NUMBERS.T)


def broken_image(root: Path) -> None:
    (root / "images/a.png").write_text("hello")


def twice(root: Path) -> None:
    write_image(root / "images/a.tif", 9)


@pytest.mark.parametrize(
    ("spoil", "kind", "file", "message"),
    [
        (without_mask, "missing-annotation", "a.png", r"there is no mask a\.png or a_mask\.png"),
        (cut_short, "bad-annotation", "a.png", "is damaged or cut short"),
        (no_image, "bad-annotation", "a.png", "is not an image"),
        (empty_file, "bad-annotation", "a.png", "is empty"),
        (broken_link, "bad-annotation", "a.png", "is a link that leads nowhere"),
        (in_colour, "bad-annotation", "a.png", "one channel of object numbers, got an image in mode RGB"),
        (turned, "mask-size", "a.png", r"has 4 × 6 pixels \(width × height\), a\.png has 6 × 4"),
        (broken_image, "unreadable-image", "a.png", "is not an image"),
        (twice, "listed-twice", "a.tif", "another image of this folder has the name a"),
    ],
)
def test_problems(tmp_path: Path, spoil: Callable[[Path], None], kind: str, file: str, message: str) -> None:
    root, out = make(tmp_path / "d"), tmp_path / "out"
    spoil(root)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_dataset(root)
    (problem,) = check_dataset(root, workers=1).problems
    assert (problem.kind, Path(problem.image).name) == (kind, file)
    write_cleaned_copy(check_dataset(root, workers=1), out)
    assert check_dataset(out, workers=1).problems == ()
    kept = "abc" if spoil is twice else "bc"
    assert [sample.image_id for sample in open_dataset(out, masks=True)] == list(kept)


def test_a_mask_is_not_to_blame_for_a_lack_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "d")

    def fail(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(OSError, match=r"a\.png needs more memory"):
        check_dataset(root, workers=1)


def test_a_mask_without_image_is_found_but_stops_nobody(tmp_path: Path) -> None:
    root, out = make(tmp_path / "d"), tmp_path / "out"
    write_png(root / "masks/z.png", NUMBERS)
    assert len(open_dataset(root)) == 3
    (problem,) = check_dataset(root, workers=1).problems
    assert (problem.kind, problem.image) == ("annotation-without-image", "masks/z.png")
    write_cleaned_copy(check_dataset(root, workers=1), out)
    assert check_dataset(out, workers=1).problems == ()


def test_the_cleaned_copy_keeps_masks_as_they_are_but_for_objects_left_out(tmp_path: Path) -> None:
    root, out = make(tmp_path / "d"), tmp_path / "out"
    (root / "classes.txt").write_text("person")
    report = check_dataset(root, workers=1)
    write_cleaned_copy(report, out)
    assert (out / "masks/a.png").read_bytes() == (root / "masks/a.png").read_bytes()
    assert open_dataset(out).class_names == ("person",)
    report = check_dataset(root, workers=1, class_names=["dog"])
    assert report.count_by_kind() == {"unknown-class": 6}
    write_cleaned_copy(report, tmp_path / "other")
    left = [(path.relative_to(tmp_path / "other").as_posix()) for path in sorted((tmp_path / "other").rglob("*.png"))]
    assert left == ["images/c.png", "masks/c.png"]  # the others show objects that are no longer annotated


@pytest.mark.parametrize("factor", [1, 100])
def test_an_object_left_out_becomes_background(tmp_path: Path, factor: int) -> None:
    root, out = make(tmp_path / "d"), tmp_path / "out"
    write_png(root / "masks/a.png", NUMBERS.astype(np.uint16) * factor)
    (split,) = read(root, ["all"], raise_problem)
    first, *others = split.images
    first = replace(first, objects=(first.objects[0], first.objects[2]))
    write(root, [replace(split, images=(first, *others))], out)
    assert (parse_numbers(out / "masks/a.png") == np.where(NUMBERS == 3, 0, NUMBERS.astype(int) * factor)).all()
    assert (out / "masks/b.png").read_bytes() == (root / "masks/b.png").read_bytes()


def test_every_file_that_is_no_image_is_a_problem(tmp_path: Path) -> None:
    make(tmp_path)
    for name in ("d.heic", "e", "f.raw", "._a.png", "notes.txt"):
        (tmp_path / "images" / name).write_bytes(b"x")
    (tmp_path / "masks/._a.png").write_bytes(b"x")
    report = check_dataset(tmp_path, workers=1)
    assert report.count_by_kind() == {"skipped-file": 3}
    assert [len(split.images) for split in report.clean] == [3]


@pytest.mark.parametrize("folder", ["thumbnails", "dir.png", "@eaDir"])
def test_a_folder_without_images_hides_no_image(tmp_path: Path, folder: str) -> None:
    make(tmp_path / "d")
    (tmp_path / "d/images" / folder).mkdir()
    report = check_dataset(tmp_path / "d", workers=1)
    assert (report.problems, splits(tmp_path / "d")) == ((), ("all",))
    write_cleaned_copy(report, tmp_path / "out")
    assert len(open_dataset(tmp_path / "out")) == 3


def test_images_beside_the_folders_of_splits_are_a_split(tmp_path: Path) -> None:
    make(tmp_path)
    for seed, split in enumerate(("train", "val")):
        write_image(tmp_path / f"images/{split}/{split}.png", 10 + seed)
        write_png(tmp_path / f"masks/{split}/{split}.png", NUMBERS)
    (tmp_path / "images/test").mkdir()
    assert splits(tmp_path) == ("test", "train", "val", "all")
    assert [len(open_dataset(tmp_path, split)) for split in ("train", "val", "all")] == [1, 1, 3]
    assert check_dataset(tmp_path, workers=1).count_by_kind() == {"empty-split": 1}


@pytest.mark.parametrize(("text", "encoding"), [("car", "utf-16"), ("汽车", "gb2312"), ("car\0", "utf-8")])
def test_class_names_that_are_no_utf_8_name_the_file(tmp_path: Path, text: str, encoding: str) -> None:
    (make(tmp_path) / "classes.txt").write_text(text, encoding=encoding)
    with pytest.raises(ValueError, match=r"classes\.txt .*: save it as UTF-8"):
        open_dataset(tmp_path)
