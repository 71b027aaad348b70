"""Splits have the proportions that were asked for, in images and in every class, and keep together what belongs so."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from vovnet.cli.data_split import parse_fractions
from vovnet.cli.data_split import split as split_command
from vovnet.data.formats import open_dataset
from vovnet.data.splits.grouping import group_images
from vovnet.data.splits.near_duplicates import alike_pairs, small_pictures
from vovnet.data.splits.stratifying import stratify
from vovnet.data.splitting import check_fractions, divide
from vovnet.errors import UsageError

from ...small_voc import BCCD
from .small_datasets import make_voc, make_yolo, write_split_file

SHARES = (0.8, 0.1, 0.1)


def random_groups(seed: int, count: int, largest: int) -> tuple[list[Counter[str]], list[int]]:
    """Groups of images with two classes each at most, some of which are rare."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, largest + 1, count).tolist()
    names, weights = list("abcdef"), np.array([50, 30, 10, 6, 3, 1]) / 100
    groups = []
    for size in sizes:
        images: Counter[str] = Counter()
        for _ in range(size):
            images.update(set(random.choice(names, random.integers(1, 3), p=weights)))
        groups.append(images)
    return groups, sizes


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("largest", [1, 5])
def test_fractions_and_classes_are_as_asked(seed: int, largest: int) -> None:
    groups, sizes = random_groups(seed, 300, largest)
    split_of = stratify(groups, sizes, SHARES, seed)
    assert split_of == stratify(groups, sizes, SHARES, seed)
    images, held = Counter(), [Counter() for _ in SHARES]
    for split, size, classes in zip(split_of, sizes, groups, strict=True):
        images[split] += size
        held[split].update(classes)
    total = sum(sizes)
    for split, share in enumerate(SHARES):
        assert abs(images[split] - share * total) <= largest
    for name, count in sum(held, Counter()).items():
        assert held[0][name] > 0
        occurrences = sum(name in group for group in groups)
        assert held[1][name] > 0 or occurrences < 2
        if count > 100:
            assert abs(held[1][name] / count - 0.1) < 0.05
            assert abs(held[2][name] / count - 0.1) < 0.05


def test_another_seed_gives_other_splits() -> None:
    groups, sizes = random_groups(0, 100, 1)
    assert stratify(groups, sizes, SHARES, 0) != stratify(groups, sizes, SHARES, 1)


def test_a_class_of_two_groups_is_in_train_and_val_and_one_of_one_group_in_train() -> None:
    groups = [Counter("a")] * 40 + [Counter("ab"), Counter("ab"), Counter("ac")]
    split_of = stratify(groups, [1] * 43, (0.9, 0.05, 0.05), 0)
    assert sorted(split_of[40:42]) == [0, 1]
    assert split_of[42] == 0


def test_each_split_has_an_image_even_of_few() -> None:
    for count in (3, 4, 7):
        assert set(stratify([Counter("a")] * count, [1] * count, SHARES, 0)) == {0, 1, 2}


def test_a_dataset_is_partitioned_whatever_the_order_of_its_files(tmp_path: Path) -> None:
    root = make_yolo(tmp_path / "data")
    division = divide(root, {"train": 0.5, "val": 0.5})
    names = [name for part in division.members.values() for name in part]
    assert sorted(names) == sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    # The same images in lists, the last one first.
    (root / "list.txt").write_text("\n".join(f"./{name}" for name in sorted(names, reverse=True)) + "\n")
    (root / "data.yaml").write_text("train: list.txt\nnames: [cat, dog]\n")
    assert divide(root, {"train": 0.5, "val": 0.5}).members == division.members


def test_bccd_is_stratified_and_no_copy_crosses(tmp_path: Path) -> None:
    path = write_split_file(BCCD, {"train": 0.7, "val": 0.15, "test": 0.15}, 0, tmp_path / "splits.json")
    shares = {}
    for split in ("train", "val", "test"):
        dataset = open_dataset(path, split)
        labels = Counter(label for sample in dataset for label in sample.target.labels.tolist())
        shares[split] = [labels[label] / labels.total() for label in range(3)]
    for split in ("val", "test"):
        assert np.allclose(shares[split], shares["train"], atol=0.05)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], dict[str, list[Path]]]:
    """Images of BCCD, and copies of the first ones by kind."""
    folder = tmp_path_factory.mktemp("copies")
    originals = sorted((BCCD / "JPEGImages").glob("*.jpg"))[:60]
    made: dict[str, list[Path]] = {"half": [], "quality": [], "png": [], "mirrored": [], "other": []}
    for number, path in enumerate(originals[:20]):
        image = Image.open(path)
        for kind, copy, suffix, options in (
            ("half", image.resize((image.width // 2, image.height // 2)), "jpg", {"quality": 90}),
            ("quality", image, "jpg", {"quality": 35}),
            ("png", image.filter(ImageFilter.GaussianBlur(1)), "png", {}),
            ("mirrored", image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "png", {}),
        ):
            target = folder / f"{number}_{kind}.{suffix}"
            copy.save(target, **options)
            made[kind].append(target)
    return originals, made


@pytest.mark.parametrize("kind", ["half", "quality", "png"])
def test_copies_in_other_size_and_quality_are_found(
    kind: str, copies: tuple[list[Path], dict[str, list[Path]]]
) -> None:
    originals, made = copies
    pictures, readable = small_pictures([*originals, *made[kind]])
    assert readable.all()
    pairs = {tuple(pair) for pair in alike_pairs(pictures)[0].tolist()}
    assert {(number, len(originals) + number) for number in range(20)} <= pairs


def test_mirrored_and_other_images_are_not_copies(copies: tuple[list[Path], dict[str, list[Path]]]) -> None:
    originals, made = copies
    pairs = alike_pairs(small_pictures([*originals, *made["mirrored"]])[0])[0].tolist()
    assert [pair for pair in pairs if max(pair) >= len(originals)] == []
    assert len(pairs) <= 3  # BCCD itself has a few images that nobody could tell apart


def test_exif_turned_copies_are_found(tmp_path: Path) -> None:
    path = sorted((BCCD / "JPEGImages").glob("*.jpg"))[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=90)
    assert alike_pairs(small_pictures([path, tmp_path / "turned.jpg"])[0])[0].tolist() == [[0, 1]]


def test_a_chain_of_alike_images_does_not_swallow_the_dataset() -> None:
    # A camera whose picture changes a little each time: every one is like the next, the first is unlike the last.
    random = np.random.default_rng(0)
    ends = random.integers(0, 256, (2, 256)).astype(float)
    steps = np.linspace(0, 1, 400)[:, None]
    pictures = np.rint(ends[0] * (1 - steps) + ends[1] * steps).astype(np.uint8)
    names = [f"{number:03}.jpg" for number in range(400)]
    grouping = group_images(names, pictures, most=20)
    sizes = np.bincount(grouping.groups)
    assert sizes.max() == 20
    assert grouping.torn > 0
    copies = group_images(names, np.repeat(pictures[:4], 100, axis=0), most=20)
    assert sorted(np.bincount(copies.groups)) in ([100] * 4, [400])  # equal ones stay together, however many


def test_names_that_say_what_an_image_was_made_of() -> None:
    names = [
        "train/street_jpg.rf.0123456789abcdef0123456789abcdef.jpg",
        "valid/street_jpg.rf.fedcba98765432100123456789abcdef.jpg",
        "train/park_mp4-12_jpg.rf.0123456789abcdef0123456789abcde0.jpg",
        "train/park_mp4-13_jpg.rf.0123456789abcdef0123456789abcde1.jpg",
        "a/harbour_frame_000001.png",
        "b/harbour_frame_000200.png",
        "IMG_0001.jpg",
        "IMG_0002.jpg",
        "000001.jpg",
        "000002.jpg",
    ]
    grouping = group_images(names, most=2)
    assert grouping.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 4, 5, 6]
    assert grouping.by_name == 6


def test_a_name_that_most_images_share_tells_nothing() -> None:
    grouping = group_images([f"frame_{number}.jpg" for number in range(10)], most=2)
    assert len(set(grouping.groups.tolist())) == 10


def test_a_pattern_of_the_user_comes_first(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "data")
    division = divide(root, {"train": 0.5, "val": 0.5}, pattern=r"/([abc]|[def]|[gh])")
    assert division.grouping.by_name == 0
    division = divide(root, {"train": 0.5, "val": 0.5}, pattern=r"/(?:([abc])|x)")
    assert division.grouping.by_name == 0
    division = divide(root, {"train": 0.7, "val": 0.3}, pattern=r"(JPEG)Images/[abcdef]")
    assert division.grouping.by_name == 6
    (together,) = {split for split, names in division.members.items() if "JPEGImages/a.png" in names}
    assert {f"JPEGImages/{stem}.png" for stem in "abcdef"} <= set(division.members[together])
    for wrong, message in (("(", "no regular expression"), ("zzz", "fits no image")):
        with pytest.raises(UsageError, match=message):
            divide(root, {"train": 0.5, "val": 0.5}, pattern=wrong)
    with pytest.raises(ValueError, match=r"no image is left for the split val: 10 images in 1 group"):
        divide(root, {"train": 0.5, "val": 0.5}, pattern="JPEG")


def test_unreadable_images_are_in_no_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_voc(tmp_path / "data")
    (root / "JPEGImages/c.png").write_bytes(b"no image")
    division = divide(root, {"train": 0.5, "val": 0.5})
    assert division.unreadable == ("JPEGImages/c.png",)
    assert division.count == 9
    assert "1 image that cannot be read belong" in caplog.text.replace("images", "image")


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"train": 0.8}, "two splits or more"),
        ({"train": 1.2, "val": -0.2}, "above 0"),
        ({"train": 0.8, "val": 0.1}, r"add up to 1 or to 100, got 0.8 \+ 0.1 = 0.9"),
        ({"train": float("nan"), "val": 0.1}, "above 0"),
        ({"train": 0.5, "": 0.5}, "printable name"),
    ],
)
def test_fractions_that_make_no_sense(fractions: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_fractions(fractions)


def test_percentages_are_fractions() -> None:
    assert check_fractions({"train": 80, "val": 20}) == {"train": 0.8, "val": 0.2}
    assert parse_fractions("80/10/10") == {"train": 80, "val": 10, "test": 10}
    for wrong in ("0.8", "a/b", "", "1/2/3/4"):
        with pytest.raises(UsageError, match="expected two or three fractions"):
            parse_fractions(wrong)


def test_the_command_says_what_it_did_and_replaces_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_voc(tmp_path / "data")
    shutil.copy(root / "JPEGImages/a.png", root / "JPEGImages/j.png")
    monkeypatch.chdir(tmp_path)
    split_command(root, "0.6/0.4", json_file="report.json")
    text = capsys.readouterr().out
    assert "kept together because they are nearly equal: 2 images" in text
    assert "split file: data-splits.json" in text
    assert json.loads(Path("report.json").read_text())["images"] == {"train": 6, "val": 4}
    before = Path("data-splits.json").read_bytes()
    with pytest.raises(FileExistsError, match="data-splits.json exists: name another"):
        split_command(root, "0.6/0.4", seed=1)
    assert Path("data-splits.json").read_bytes() == before


def test_the_command_names_the_file_after_the_whole_folder_and_a_command_to_paste(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_voc(tmp_path / "my cells.v4-coco")
    monkeypatch.chdir(tmp_path)
    split_command(Path("my cells.v4-coco"), "0.6/0.4")
    assert "next: vovnet train 'my cells.v4-coco-splits.json'" in capsys.readouterr().out
    assert Path("my cells.v4-coco-splits.json").is_file()
